package users

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzSigned: what was not sealed does not open, and what was comes back.
func FuzzSigned(f *testing.F) {
	s := newSigner([]byte("0123456789abcdef"))
	f.Add("cursor", "eu-west\x00\x00", "1 a", s.seal("cursor", "eu-west\x00\x00", "1 a"))
	f.Add("token", "", "", "")
	f.Add("token", "", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, purpose, bound, text, other string) {
		sealed := s.seal(purpose, bound, text)
		if len(sealed) <= maxSigned {
			if got, ok := s.open(purpose, bound, sealed); !ok || got != text {
				t.Errorf("%q, %v", got, ok)
			}
			if _, ok := s.open(purpose+"x", bound, sealed); ok {
				t.Error("it opens for another purpose")
			}
			if _, ok := s.open(purpose, bound+"x", sealed); ok {
				t.Error("it opens for another list")
			}
		}
		if got, ok := s.open(purpose, bound, other); ok && s.seal(purpose, bound, got) != other {
			t.Errorf("%q opens as %q, of which the signature is another", other, got)
		}
	})
}

// FuzzUser: what passes comes out as JSON, as UTF-8, and passes again unchanged.
func FuzzUser(f *testing.F) {
	f.Add([]byte(`{"name":"Ada","email":"ada@example.com","region":"eu-west","attributes":{"a":[1,{"b":null}]},"password":"12345678"}`))
	f.Add([]byte(`{"name":"\ud83d\ude00","email":"ÄDA@bücher.example","attributes":{"":""}}`))
	f.Add([]byte(`{"name":"\ud800","email":5}`))
	f.Add([]byte(`{"name":"a","name":"b"} x`))
	f.Add([]byte("{\"attributes\":{\"a\":\"\xff\"}}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parseObject(body)
		if err != nil {
			return
		}
		if p, err := mergePatch(User{Name: "N", Email: "n@example.com", Attributes: []byte(`{"a":{"b":1}}`)}, o); err == nil {
			if !json.Valid(p.user.AppendJSON(nil)) {
				t.Errorf("patched to %s", p.user.AppendJSON(nil))
			}
		}
		d, err := parseUser(o, false)
		if err != nil {
			return
		}
		text := d.user.AppendJSON(nil)
		var back User
		if err := json.Unmarshal(text, &back); err != nil || !utf8.Valid(text) {
			t.Fatalf("%s: %v", text, err)
		}
		if back.Name != d.user.Name || back.Email != d.user.Email || back.Region != d.user.Region {
			t.Errorf("%q comes back as %+v", text, back)
		}
		if err := tidy(&back); err != nil || !bytes.Equal(back.AppendJSON(nil), text) {
			t.Errorf("%s does not pass again: %v", text, err)
		}
		norm, err := NormalEmail(d.user.Email)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := NormalEmail(norm); err != nil || again != norm {
			t.Errorf("the normal form of %q is %q, and of that %q, %v", d.user.Email, norm, again, err)
		}
	})
}

func FuzzPreconditions(f *testing.F) {
	for _, list := range []string{`"1"`, `W/"1", "2"`, `*`, `"1`, `,,"3",`, `"a" "b"`} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		for _, tag := range tags(list) {
			if len(tag) < 2 || tag[len(tag)-1] != '"' {
				t.Errorf("%q has the tag %q", list, tag)
			}
		}
		noneMatch(list, `"1"`)
	})
}
