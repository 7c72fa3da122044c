package routing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// keyOf reads parts as YAML has them.
func keyOf(t testing.TB, parts ...string) (k Key) {
	t.Helper()
	for _, text := range parts {
		var p Part
		if err := p.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		k = append(k, p)
	}
	return k
}

// claims is a Claims for tests.
type claims map[string]string

func (c claims) Claim(name string) (string, bool) { v, ok := c[name]; return v, ok }

func TestParts(t *testing.T) {
	full := &Request{
		Host: "API.Example.com:8443", Path: "/a/b", Query: "v=1%32&v=3&e=&x%20y=z+z", Route: "orders",
		Fields:   header{"X-User-ID": "42", "Cookie": "a=1; session=s%3d;b = 2 ;c=\"q\"", "X-Empty": ""},
		ClientIP: netip.MustParseAddr("2001:db8:1:2:3:4:5:6"),
		Claims:   claims{"sub": "jo"}, TLSSubject: "CN=jo", TLSName: "jo.example.com",
	}
	for _, c := range []struct{ part, want string }{
		{"ip", "\x20\x01\x0d\xb8\x00\x01\x00\x02"},
		{"host", "api.example.com"},
		{"path", "/a/b"},
		{"route", "orders"},
		{"header:x-user-id", "42"},
		{"header:X-Empty", ""},
		{"cookie:session", "s%3d"},
		{"cookie:b", "2"},
		{"cookie:c", `"q"`},
		{"query:v", "12"},
		{"query:e", ""},
		{"query:x y", "z z"},
		{"jwt:sub", "jo"},
		{"tls:subject", "CN=jo"},
		{"tls:san", "jo.example.com"},
	} {
		k := keyOf(t, c.part)
		want := append(binary.AppendUvarint(nil, uint64(len(c.want))+1), c.want...)
		if got, ok := k.Append([]byte("before"), full); !ok || string(got) != "before"+string(want) {
			t.Errorf("%s: %q, %v, want %q", c.part, got, ok, want)
		}
		if got, ok := k.Append(nil, &Request{}); c.part != "path" && (ok || string(got) != "\x00" || len(k.Missing(&Request{})) != 1) {
			t.Errorf("%s of an empty request: %q, %v", c.part, got, ok)
		}
	}
	want := `ip 2001:db8:1:2::/64, host "api.example.com", header:x-user-id "42", no cookie:s, query:v "12"`
	if got := keyOf(t, "ip", "host", "header:X-User-ID", "cookie:s", "query:v").Describe(full); got != want {
		t.Errorf("described as %s, want %s", got, want)
	}
	if got := keyOf(t, "ip", "host").Describe(&Request{ClientIP: netip.MustParseAddr("::ffff:192.0.2.1")}); got != "ip 192.0.2.1, no host" {
		t.Errorf("described as %s", got)
	}
	absent := keyOf(t, "header:X-Other", "cookie:Session", "cookie:s", "query:w", "jwt:iss", "ip")
	if got := absent.Missing(full); len(got) != 5 || got[0].String() != "header:x-other" {
		t.Errorf("missing: %v", got)
	}
}

// TestCookieFields reads a cookie out of whichever Cookie field has it, as origins
// do.
func TestCookieFields(t *testing.T) {
	r := &Request{Fields: flat{"Cookie", "a=1", "X-A", "x", "cookie", "b=2; c=3", "Cookie", "b=4"}}
	if got := keyOf(t, "cookie:a", "cookie:b", "cookie:c", "cookie:d").Describe(r); got != `cookie:a "1", cookie:b "2", cookie:c "3", no cookie:d` {
		t.Errorf("got %s", got)
	}
}

func TestKeyFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                "no part of a request",
		"IP":              `did you mean "ip"`,
		" ip":             `did you mean "ip"`,
		"header":          "header:NAME",
		"header:":         "needs a name",
		"header:a b":      "not the name of a header",
		"cookie:a=b":      "not the name of a cookie",
		"ip:1":            "no part",
		"tls:issuer":      "no part",
		"Header:X-User-I": "did you mean",
		"uri":             "it is one of ip, host",
	} {
		var k Key
		if err := k.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || k != nil {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	var k Key
	if err := k.UnmarshalText([]byte("header:X-User-ID")); err != nil || k.String() != "header:x-user-id" {
		t.Errorf("%v, %v", k, err)
	}
	if (Key{}).Validate() == nil {
		t.Error("no parts are taken for a key")
	}
	var at interface{ Field() string }
	if err := keyOf(t, "ip", "header:A", "header:a").Validate(); !errors.As(err, &at) || at.Field() != "[2]" {
		t.Errorf("%v", err)
	}
}

// TestKeyIsYAML holds Key to what internal/config asks of a type that is a
// scalar or a list.
func TestKeyIsYAML(t *testing.T) {
	if k := reflect.TypeFor[Key](); k.Kind() != reflect.Slice || k.Elem().Kind() != reflect.Struct {
		t.Error("config would not read a list of parts")
	}
	for i := range reflect.TypeFor[Part]().NumField() {
		if reflect.TypeFor[Part]().Field(i).IsExported() {
			t.Error("config would take a part for a mapping")
		}
	}
}

func TestHashFallsBackToAddress(t *testing.T) {
	k := keyOf(t, "header:X-User-ID", "path")
	of := func(ip, user string) (uint64, bool) {
		r := &Request{Path: "/x", ClientIP: netip.MustParseAddr(ip)}
		if user != "" {
			r.Fields = header{"X-User-ID": user}
		}
		return k.Hash(r)
	}
	a, ok := of("192.0.2.1", "jo")
	b, _ := of("192.0.2.2", "jo")
	if a != b || !ok {
		t.Error("the address counts though the header is there")
	}
	c, ok := of("192.0.2.1", "")
	d, _ := of("192.0.2.2", "")
	e, _ := of("::ffff:192.0.2.2", "")
	if c == d || ok || d != e {
		t.Error("the address does not stand in for the missing header")
	}
	if f, _ := of("192.0.2.1", "\xc0\x00\x02\x01"); f == c {
		t.Error("a header can pass for the address")
	}
	six, _ := of("2001:db8::1", "")
	same, _ := of("2001:db8::ffff:1", "")
	other, _ := of("2001:db8:0:1::1", "")
	if six != same || six == other {
		t.Error("IPv6 does not count by its first 64 bits")
	}
	if h, _ := keyOf(t, "path").Hash(&Request{Path: "/x"}); h != 0x516d36f2c45f4d4 {
		t.Errorf("%#x: another version of the gateway hashes otherwise", h)
	}
}

// TestKeysDoNotCollide makes tuples of parts that like to run into each other,
// and reads what was appended back.
func TestKeysDoNotCollide(t *testing.T) {
	names := []string{"a", "b", "c"}
	var k Key
	for _, n := range names {
		k = append(k, Part{kind: byHeader, name: n})
	}
	seen := map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		f := header{}
		var tuple []string
		for _, n := range names {
			if rapid.Bool().Draw(t, "there") {
				f[n] = rapid.StringMatching("[\x00\x01\x02\x03a]{0,4}|a{125,130}").Draw(t, n)
				tuple = append(tuple, fmt.Sprintf("%q", f[n]))
			} else {
				tuple = append(tuple, "missing")
			}
		}
		out, complete := k.Append(nil, &Request{Fields: f})
		if complete != (len(f) == len(names)) {
			t.Fatalf("%v is complete: %v", tuple, complete)
		}
		text := fmt.Sprint(tuple)
		if other, ok := seen[string(out)]; ok && other != text {
			t.Fatalf("%s and %s are both %q", other, text, out)
		}
		seen[string(out)] = text
		for i, rest := 0, out; i < len(tuple); i++ {
			n, used := binary.Uvarint(rest)
			back := "missing"
			if rest = rest[used:]; n > 0 {
				back, rest = fmt.Sprintf("%q", rest[:n-1]), rest[n-1:]
			}
			if back != tuple[i] {
				t.Fatalf("%s, want %s", back, tuple[i])
			}
		}
	})
}

func FuzzPart(f *testing.F) {
	for _, s := range []string{"ip", "header:X", "query:a b", "tls:san", "jwt:", "cookie:a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var p, again Part
		if p.UnmarshalText([]byte(s)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(p.String())); err != nil || again != p {
			t.Fatalf("%q is written as %q, which is %+v, %v", s, p, again, err)
		}
	})
}

// FuzzQueryPart holds the decoding in place to that of conditions.
func FuzzQueryPart(f *testing.F) {
	f.Add("a=1", "a")
	f.Add("a=%zz+%41", "a")
	f.Fuzz(func(t *testing.T, query, name string) {
		out, ok := (Key{{kind: byQuery, name: name}}).Append(nil, &Request{Query: query})
		v, want := parameterOf(query, name)
		if ok != want {
			t.Fatal(ok)
		}
		if text := unescaped(v); ok && string(out) != string(appendPart(nil, decodedBytewise(v))) {
			t.Fatalf("%q, want %q", out, text)
		}
	})
}

func decodedBytewise(s string) (out []byte) {
	for s != "" {
		var c byte
		c, s = nextUnescaped(s)
		out = append(out, c)
	}
	return out
}

// flat is a Fields without allocations.
type flat []string

func (f flat) Lookup(name string) (string, bool) { return f.Nth(name, 0) }

func (f flat) Nth(name string, n int) (string, bool) {
	for i := 0; i < len(f); i += 2 {
		if strings.EqualFold(f[i], name) {
			if n--; n < 0 {
				return f[i+1], true
			}
		}
	}
	return "", false
}

func fullRequest() *Request {
	return &Request{
		Host: "api.example.com:8443", Path: "/a/b", Query: "a=1&v=%32", Route: "orders",
		Fields:   flat{"X-User-ID", "42", "Cookie", "a=1; session=0123456789abcdef"},
		ClientIP: netip.MustParseAddr("192.0.2.1"), Claims: claims{"sub": "jo"},
	}
}

func TestKeyDoesNotAllocate(t *testing.T) {
	k := keyOf(t, "ip", "host", "path", "route", "header:X-User-ID", "header:X-None", "cookie:session", "query:v", "jwt:sub", "tls:san")
	r := fullRequest()
	buf := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(1000, func() {
		k.Hash(r)
		buf, _ = k.Append(buf[:0], r)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if missing := k.Missing(r); !slices.Equal(missing, keyOf(t, "header:X-None", "tls:san")) {
		t.Errorf("missing: %v", missing)
	}
}

func BenchmarkKeyHash(b *testing.B) {
	for _, part := range []string{"ip", "host", "header:X-User-ID", "cookie:session", "query:v"} {
		b.Run(part, func(b *testing.B) {
			k, r := keyOf(b, part), fullRequest()
			b.ReportAllocs()
			for b.Loop() {
				k.Hash(r)
			}
		})
	}
}
