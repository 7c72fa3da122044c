package routing

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var keep = Paths{EncodedSlash: EncodedSlashKeep}

func TestNormalize(t *testing.T) {
	for _, c := range []struct {
		paths     Paths
		raw, want string
		ambiguous bool
	}{
		{Paths{}, "/", "/", false},
		{Paths{}, "/a/b.c/~d_e-f/g@h:i!$&'()*+,=j", "/a/b.c/~d_e-f/g@h:i!$&'()*+,=j", false},
		{Paths{}, "/.well-known/...", "/.well-known/...", false},
		{Paths{}, "/a/./b/../c", "/a/c", false},
		{Paths{}, "/a/b/..", "/a/", false},
		{Paths{}, "/a/b/.", "/a/b/", false},
		{Paths{}, "/a/..", "/", false},
		{Paths{}, "/a/%2e%2E/b", "/b", false},
		{Paths{}, "/a/.%2e/b/%2e", "/b/", false},
		{Paths{}, "/%41dmin", "/Admin", false},
		{Paths{}, "/a%20b", "/a b", false},
		{Paths{}, "/%c3%bc%E2%82%ac", "/ü€", false},
		{Paths{}, "/100%25", "/100%25", false},
		{Paths{}, "/100%25zz", "/100%25zz", false},
		{Paths{}, "/100%2541", "/100%2541", true},
		{Paths{}, "/%25%34%31", "/%2541", true},
		{Paths{}, "/%25C3%25BC", "/%25C3%25BC", true},
		{Paths{}, "/a//b", "/a//b", true},
		{Paths{}, "//", "//", true},
		{Paths{}, "/a//", "/a//", true},
		{Paths{MergeSlashes: true}, "/a//b///", "/a/b/", false},
		{Paths{MergeSlashes: true}, "//", "/", false},
		{Paths{MergeSlashes: true}, "/a//./b", "/a/b", false},
		{Paths{}, "/a;v=1/b", "/a;v=1/b", true},
		{Paths{}, "/..;/b", "/..;/b", true},
		{Paths{}, "/a%3Bb", "/a;b", true},
		{Paths{}, "/a%3fb", "/a?b", true},
		{Paths{}, "/a%23b", "/a#b", true},
		{keep, "/a%2fb", "/a%2Fb", true},
		{keep, "/a%2F%25", "/a%2F%25", true},
		{Paths{}, "/{a}|^`\"<>", "/{a}|^`\"<>", false},
	} {
		got, ambiguous, err := c.paths.Normalize(nil, []byte(c.raw))
		if err != nil || string(got) != c.want || ambiguous != c.ambiguous {
			t.Errorf("%+v: %s is %s, %v, %v; want %s, %v", c.paths, c.raw, got, ambiguous, err, c.want, c.ambiguous)
		}
	}
}

func TestNormalizeRefuses(t *testing.T) {
	for raw, want := range map[string]*PathError{
		"":                    errNoSlash,
		"a":                   errNoSlash,
		"*":                   errNoSlash,
		"%2fa":                errNoSlash,
		"/a#b":                errByte,
		"/a?b":                errByte,
		"/a b":                errByte,
		"/ü":                  errByte,
		"/a\x00":              errControl,
		"/a\tb":               errControl,
		"/a\x7f":              errControl,
		"/%00":                errControl,
		"/%0d%0a":             errControl,
		"/account%0a.css":     errControl,
		"/%7f":                errControl,
		"/%c2%85":             errUTF8,
		"/a\\b":               errBackslash,
		"/a%5cb":              errBackslash,
		"/%":                  errPercent,
		"/%2":                 errPercent,
		"/%2/a":               errPercent,
		"/%zz":                errPercent,
		"/%u002f":             errPercent,
		"/%+1":                errPercent,
		"/a%2fb":              errEncodedSlash,
		"/account/..%2fx.css": errEncodedSlash,
		"/%2F":                errEncodedSlash,
		"/%c0%af":             errUTF8,
		"/%c0%ae%c0%ae/":      errUTF8,
		"/%e0%80%af":          errUTF8,
		"/%ff":                errUTF8,
		"/%c3/%bc":            errUTF8,
		"/%ed%a0%80":          errUTF8,
		"/%252f":              errDoubled,
		"/%25%32%66":          errDoubled,
		"/%255C":              errDoubled,
		"/%252e%252e/":        errDoubled,
		"/%2500":              errDoubled,
		"/%250a":              errDoubled,
		"/%257f":              errDoubled,
		"/%2525":              errDoubled,
		"/%25%25":             errDoubled,
		"/%25252f":            errDoubled,
		"/%253b":              errDoubled,
		"/%253F":              errDoubled,
		"/%2523":              errDoubled,
		"/%25c0%25af":         errDoubled,
		"/%25af":              errDoubled,
		"/%25c2%2585":         errDoubled,
		"/%25e2%25":           errDoubled,
		"/..":                 errAboveRoot,
		"/../":                errAboveRoot,
		"/a/../../b":          errAboveRoot,
		"/./..":               errAboveRoot,
		"/%2e%2e":             errAboveRoot,
		"//..":                errDots,
		"/a//../b":            errDots,
		"/a/..;/../b":         errDots,
		"/a;x/../b":           errDots,
		"/a%3fb/../c":         errDots,
		"/a%23b/../c":         errDots,
	} {
		_, _, err := Paths{}.Normalize(nil, []byte(raw))
		var fault *PathError
		if !errors.As(err, &fault) || fault != want {
			t.Errorf("%q: %v, want %v", raw, err, want)
		}
	}
	for _, raw := range []string{"/a/..%2fb", "/a%2f..", "/%2f.", "/.;x%2fb", "/a%2fb/../c"} {
		if got, _, err := keep.Normalize(nil, []byte(raw)); err != error(errDots) {
			t.Errorf("keep: %q is %q, %v", raw, got, err)
		}
	}
	if _, _, err := (Paths{MergeSlashes: true}).Normalize(nil, []byte("/a//../b")); err != error(errDots) {
		t.Errorf("merged before a dot segment: %v", err)
	}
}

// TestEveryByte: every byte, raw and encoded, is either refused or decoded.
func TestEveryByte(t *testing.T) {
	for c := range 256 {
		printable := c >= ' ' && c < 0x7f && c != '\\'
		_, _, err := Paths{}.Normalize(nil, []byte{'/', byte(c)})
		if want := printable && !strings.ContainsRune(" #?%", rune(c)); want != (err == nil) {
			t.Errorf("raw %q: %v", rune(c), err)
		}
		got, _, err := Paths{}.Normalize(nil, fmt.Appendf(nil, "/a%%%02x", c))
		want := "/a" + string(rune(c))
		if c == '%' {
			want = "/a%25"
		}
		if printable && c != '/' {
			if err != nil || string(got) != want {
				t.Errorf("encoded %q: %q, %v", rune(c), got, err)
			}
		} else if err == nil {
			t.Errorf("encoded 0x%02x is %q", c, got)
		}
	}
}

func TestValidatePaths(t *testing.T) {
	for _, s := range []string{"", "reject", "keep"} {
		if err := (Paths{EncodedSlash: s}).Validate(); err != nil {
			t.Error(err)
		}
	}
	if err := (Paths{EncodedSlash: "decode"}).Validate(); err == nil {
		t.Error("decode is taken")
	}
}

// TestNormalizeBuffer: what buf holds already stays, and nothing is copied that
// need not be.
func TestNormalizeBuffer(t *testing.T) {
	buf := append(make([]byte, 0, 64), "kept"...)
	got, _, _ := Paths{}.Normalize(buf, []byte("/a/../%62"))
	if string(got) != "/b" || string(buf[:6]) != "kept/b" {
		t.Errorf("got %q in %q", got, buf[:6])
	}
	raw := []byte("/plain/path")
	if got, _, _ := (Paths{}).Normalize(buf, raw); &got[0] != &raw[0] {
		t.Error("a plain path is copied")
	}
}

// encode writes a normal form as a request target would hold it.
func encode(normal []byte) (raw []byte) {
	for _, c := range normal {
		if c <= ' ' || c >= 0x7f || c == '#' || c == '?' {
			raw = fmt.Appendf(raw, "%%%02x", c)
		} else {
			raw = append(raw, c)
		}
	}
	return raw
}

// checkNormal holds what is true of every path.
func checkNormal(t *testing.T, p Paths, raw []byte) {
	t.Helper()
	before := bytes.Clone(raw)
	normal, ambiguous, err := p.Normalize(make([]byte, 0, 16), raw)
	if !bytes.Equal(raw, before) {
		t.Fatalf("%q was written to", before)
	}
	if err != nil {
		if _, ok := err.(*PathError); !ok || normal != nil || ambiguous {
			t.Fatalf("%q: %q, %v, %v", raw, normal, ambiguous, err)
		}
		return
	}
	if len(normal) == 0 || normal[0] != '/' || !utf8.Valid(normal) || bytes.ContainsFunc(normal, unicode.IsControl) || bytes.ContainsRune(normal, '\\') {
		t.Fatalf("%q has the normal form %q", raw, normal)
	}
	for seg := range strings.SplitSeq(string(normal[1:]), "/") {
		if seg == "." || seg == ".." {
			t.Fatalf("%q has a dot segment in %q", raw, normal)
		}
	}
	if p.MergeSlashes && bytes.Contains(normal, []byte("//")) {
		t.Fatalf("%q has a run of slashes in %q", raw, normal)
	}
	for i, c := range normal {
		kept := p.EncodedSlash == EncodedSlashKeep && bytes.HasPrefix(normal[i:], encodedSlash)
		if c == '%' && !kept && !bytes.HasPrefix(normal[i:], percent) {
			t.Fatalf("%q has a percent sign by itself in %q", raw, normal)
		}
	}
	again, ambiguous2, err := p.Normalize(nil, encode(normal))
	if err != nil || !bytes.Equal(again, normal) || ambiguous2 != ambiguous {
		t.Fatalf("%q is %q (%v), and that is %q (%v), %v", raw, normal, ambiguous, again, ambiguous2, err)
	}
	if !ambiguous {
		readings(string(normal), func(reading string, _ bool) bool {
			t.Fatalf("%q is not ambiguous, but can be read as %q", normal, reading)
			return false
		})
	}
}

// FuzzNormalize: a normal form is its own normal form, and holds none of what
// it must not hold.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%41%2e%2f;//..", "/%25%32%66", "/%c3%bc%25C3%25BC", "/a%2Fb/./c", "/..;/x", "/%3f%23 "} {
		f.Add([]byte(s), true, true)
		f.Add([]byte(s), false, false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, keepSlash, merge bool) {
		p := Paths{MergeSlashes: merge}
		if keepSlash {
			p.EncodedSlash = EncodedSlashKeep
		}
		checkNormal(t, p, raw)
	})
}

// pieces are what random paths are made of.
var pieces = []string{"/", "/", "/", "a", "b", ".", "..", "/..", "%2e", "%2F", "%5c", "%25", "25", "2f", "41", "%41", ";", "%3b", "//",
	"%20", "%c3%bc", "%C0%af", "?", "%3f", "\x01", "%0a", "%", "%252", "%25c3%25bc", "~", "/.;", "/..;"}

func randomPath(r *rand.Rand) string {
	var b strings.Builder
	b.WriteByte('/')
	for range r.Intn(8) {
		b.WriteString(pieces[r.Intn(len(pieces))])
	}
	return b.String()
}

func TestNormalizeProperties(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for range 30_000 {
		p := Paths{MergeSlashes: r.Intn(2) == 0}
		if r.Intn(2) == 0 {
			p.EncodedSlash = EncodedSlashKeep
		}
		checkNormal(t, p, []byte(randomPath(r)))
	}
}
