package routing

import (
	"strings"
	"testing"
)

// FuzzNewTable: what NewTable accepts takes what it was written for.
func FuzzNewTable(f *testing.F) {
	f.Add("/a/{b}/*", "*.example.com", "10.0.0.0/8", "re:^a+")
	f.Add("/a b/%41%2f/ü", "[::1]", "::ffff:10.0.0.1", "present")
	f.Add("re:^/x", "Example.COM.", "2001:db8::/32", "1")
	f.Fuzz(func(t *testing.T, path, host, client, value string) {
		m := Match{Path: path, Hosts: []string{host}, ClientIPs: []string{client}, Query: map[string]string{"q": value}}
		_, err := NewTable([]Rule{{}, {Match: m}})
		if err != nil {
			fieldsOf(t, err)
			return
		}
		table := mustTable(t, Rule{Match: Match{Path: path, Hosts: []string{host}}})
		p, _ := parsePattern(path)
		h, _ := parseHost(host)
		r := &Request{Host: h.name, Path: "/"}
		if h.wild {
			r.Host = "any.other." + h.name
		}
		switch {
		case p.kind == regexPath:
			return
		case len(p.segs) > 0:
			r.Path = ""
			for _, seg := range p.segs {
				if seg.param {
					seg.literal = "7"
				}
				r.Path += "/" + seg.literal
			}
		}
		if res := table.Match(r); res.Outcome != Found || !p.matches(r.Path) {
			t.Fatalf("%q on %q does not take %q on %q", path, host, r.Path, r.Host)
		}
		normal, _, err := keep.Normalize(nil, encode([]byte(r.Path)))
		if err != nil || string(normal) != r.Path {
			t.Fatalf("%q takes %q, which is no normal form but %q, %v", path, r.Path, normal, err)
		}
	})
}

// TestRegexpLiteral: the literal that an expression begins with must never keep
// a path from an expression that takes it.
func TestRegexpLiteral(t *testing.T) {
	for expr, want := range map[string]string{
		"^/api/v[0-9]+$": "/api/v",
		"^/api":          "/api",
		"^/apis?$":       "/api",
		"^/api|/x":       "",
		"^(/api|/x)":     "", // /api or /x: no literal in common
		"^(/api|/apx)":   "",
		"(?i)^/api":      "",
		"(?m)^/api":      "",
		"/api":           "",
		"^":              "",
		"^$":             "",
		"^.*x":           "",
		`^\Q/a.b\E/`:     "/a.b/",
	} {
		re, got, err := parseRegexp(expr)
		if err != nil || got != want {
			t.Errorf("%s begins with %q, %v, want %q", expr, got, err, want)
		}
		for _, path := range strings.Fields("/api /apis /api/v1 /x /apx /a.b/ /API x") {
			if re.MatchString(path) && !strings.HasPrefix(path, got) {
				t.Errorf("%s takes %s, but is not tried", expr, path)
			}
		}
	}
}
