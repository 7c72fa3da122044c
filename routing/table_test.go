package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// header is a Fields for tests.
type header map[string]string

func (h header) Lookup(name string) (string, bool) {
	for k, v := range h {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return "", false
}

func (h header) Nth(name string, n int) (string, bool) {
	if n > 0 {
		return "", false
	}
	return h.Lookup(name)
}

func mustTable(t testing.TB, rules ...Rule) *Table {
	t.Helper()
	table, err := NewTable(rules)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// paths makes rules of paths alone.
func paths(list ...string) (rules []Rule) {
	for _, p := range list {
		rules = append(rules, Rule{Name: p, Match: Match{Path: p}})
	}
	return rules
}

// hosts makes rules of hosts alone.
func hosts(list ...string) (rules []Rule) {
	for _, h := range list {
		m := Match{}
		if h != "" {
			m.Hosts = strings.Split(h, ",")
		}
		rules = append(rules, Rule{Name: h, Match: m})
	}
	return rules
}

// winner names what a table says: the rule, "-", "400", or "405" and what is
// allowed. It says so if Explain says otherwise.
func winner(rules []Rule, table *Table, r *Request) string {
	res := table.Match(r)
	if fault := contradiction(res, table.Explain(r)); fault != "" {
		return fault
	}
	switch res.Outcome {
	case Found:
		return rules[res.Route].Name
	case MethodNotAllowed:
		return "405 " + strings.Join(res.Allow, " ")
	case Ambiguous:
		return "400"
	}
	return "-"
}

// contradiction returns what why says other than res, or "".
func contradiction(res Result, why []Why) string {
	taken, seen := false, map[int]bool{}
	for _, w := range why {
		switch late := strings.HasPrefix(w.Reason, "precedence:"); {
		case w.Taken != (res.Outcome == Found && res.Route == w.Route):
			return fmt.Sprintf("%+v, but %+v", res, w)
		case w.Taken == (w.Reason != ""), seen[w.Route]:
			return fmt.Sprintf("a wrong reason: %+v", w)
		case late && !taken && res.Outcome != Ambiguous:
			return fmt.Sprintf("out of order: %+v", w)
		}
		taken, seen[w.Route] = taken || w.Taken, true
	}
	return ""
}

// eachOrder runs f on the rules as they are and in reverse: only ties may
// depend on the order.
func eachOrder(t *testing.T, rules []Rule, f func(rules []Rule, table *Table)) {
	t.Helper()
	f(rules, mustTable(t, rules...))
	reversed := slices.Clone(rules)
	slices.Reverse(reversed)
	f(reversed, mustTable(t, reversed...))
}

func TestMatchPath(t *testing.T) {
	rules := paths("/", "/x", "/x/", "/x/*", "/x/y/*", "/x/{id}", "/x/{id}/z", "/x/y/{id}", "/x/{a}/{b}",
		"/{t}/x/*", "/p/{id}/*", "/p/me/*", "re:^/r/[0-9]+$", "re:[.]php$", "/r/*", "/r/7", "/{a}/{b}/{c}/*", "/ü b/*", "/%7Bk%7D", "/50%25")
	for path, want := range map[string]string{
		"/":              "/",
		"/x":             "/x",
		"/x/":            "/x/",
		"/x/1":           "/x/{id}",
		"/x/1/z":         "/x/{id}/z",
		"/x/1/2":         "/x/{a}/{b}",
		"/x/1/2/3":       "/x/*",
		"/x/y":           "/x/{id}",
		"/x/y/":          "/x/y/*",
		"/x/y/z":         "/x/y/{id}", // as literal as /x/{id}/z, and earlier
		"/x//":           "/x/*",
		"/xy":            "-",
		"/q/x":           "/{t}/x/*",
		"/q/x/1":         "/{t}/x/*",
		"//x":            "-", // a parameter is never empty
		"/x/x":           "/x/{id}",
		"/x/x/1/1":       "/{t}/x/*", // as literal as /x/*, and longer
		"/p/1":           "/p/{id}/*",
		"/p/1/2":         "/p/{id}/*",
		"/p/me":          "/p/me/*",
		"/p/me/2":        "/p/me/*",
		"/p/":            "-",
		"/x/y/z/w":       "/x/y/*", // two literals against three segments
		"/r/1/2":         "/r/*",
		"/n/1/2/3":       "/{a}/{b}/{c}/*",
		"/r/1":           "re:^/r/[0-9]+$",
		"/r/7":           "/r/7",
		"/r/a":           "/r/*",
		"/r/x.php":       "re:[.]php$",
		"/other/x.php":   "re:[.]php$",
		"/ü b/c":         "/ü b/*",
		"/{k}":           "/%7Bk%7D",
		"/50%25":         "/50%25",
		"*":              "-",
		"":               "-",
		"/X":             "-",
		"/x/1/z/":        "/x/*",
		"/x/y/z/w/v/u/t": "/x/y/*",
	} {
		eachOrder(t, rules, func(rules []Rule, table *Table) {
			if got := winner(rules, table, &Request{Path: path, Method: "GET"}); got != want {
				t.Errorf("%s goes to %s, want %s", path, got, want)
			}
		})
	}
}

func TestMatchHost(t *testing.T) {
	rules := hosts("example.com", "www.example.com", "*.example.com", "*.a.example.com", "Upper.Example.ORG.", "[::1]",
		"2001:db8::1,10.0.0.1", "*.net,x.net", "")
	for host, want := range map[string]string{
		"example.com":          "example.com",
		"EXAMPLE.com:8080":     "example.com",
		"example.com.":         "example.com",
		"example.com.:443":     "example.com",
		"www.example.com":      "www.example.com",
		"w.example.com":        "*.example.com",
		"a.example.com":        "*.example.com",
		"b.a.example.com":      "*.a.example.com",
		"d.c.b.a.EXAMPLE.com.": "*.a.example.com",
		".example.com":         "",
		"notexample.com":       "",
		"upper.example.org":    "Upper.Example.ORG.",
		"[::1]":                "[::1]",
		"[0:0::1]:8443":        "[::1]",
		"[2001:DB8::1]:80":     "2001:db8::1,10.0.0.1",
		"10.0.0.1:80":          "2001:db8::1,10.0.0.1",
		"[::2]":                "",
		"[::1":                 "",
		"x.net":                "*.net,x.net",
		"net":                  "",
		"":                     "",
		strings.Repeat("AB.", 300) + "Example.com": "*.example.com",
	} {
		eachOrder(t, rules, func(rules []Rule, table *Table) {
			if got := winner(rules, table, &Request{Host: host, Path: "/", Method: "GET"}); got != want {
				t.Errorf("%.40s goes to %q, want %q", host, got, want)
			}
		})
	}
}

func TestMatchConditions(t *testing.T) {
	rules := []Rule{
		{Name: "all", Match: Match{Path: "/*"}},
		{Name: "get", Match: Match{Path: "/*", Methods: []string{"GET"}}},
		{Name: "head", Match: Match{Path: "/*", Methods: []string{"HEAD"}}},
		{Name: "get or post", Match: Match{Path: "/*", Methods: []string{"GET", "POST"}}},
		{Name: "query", Match: Match{Path: "/*", Methods: []string{"QUERY"}}},
		{Name: "canary", Match: Match{Path: "/*", Headers: map[string]string{"X-Canary": "1"}}},
		{Name: "canary re", Match: Match{Path: "/*", Headers: map[string]string{"X-Canary": "re:^[0-9]$"}}},
		{Name: "canary any", Match: Match{Path: "/*", Headers: map[string]string{"X-Canary": "present"}}},
		{Name: "v2", Match: Match{Path: "/*", Query: map[string]string{"v b": "ü&"}}},
		{Name: "v re", Match: Match{Path: "/*", Query: map[string]string{"v b": "re:^a b+$"}}},
		{Name: "v2 canary", Match: Match{Path: "/*", Query: map[string]string{"v b": "present"}, Headers: map[string]string{"x-canary": "1"}}},
		{Name: "office", Match: Match{Path: "/office/*", ClientIPs: []string{"10.0.0.0/8", "2001:db8::/32"}}},
		{Name: "desk", Match: Match{Path: "/office/*", ClientIPs: []string{"10.1.2.3", "10.1.3.0/24"}}},
		{Name: "v4in6", Match: Match{Path: "/office/*", ClientIPs: []string{"::ffff:192.0.2.0/120"}}},
	}
	for _, c := range []struct {
		want string
		r    Request
	}{
		{"get", Request{Method: "GET"}},
		{"head", Request{Method: "HEAD"}},
		{"get or post", Request{Method: "POST"}},
		{"query", Request{Method: "QUERY"}},
		{"all", Request{Method: "BREW"}},
		{"all", Request{Method: "get"}},
		{"canary", Request{Method: "GET", Fields: header{"x-canary": "1"}}},
		{"canary re", Request{Method: "GET", Fields: header{"x-canary": "2"}}},
		{"canary any", Request{Method: "GET", Fields: header{"x-canary": ""}}},
		{"v2", Request{Method: "PUT", Query: "a=1&v+b=%C3%bc%26"}},
		{"v2", Request{Method: "PUT", Query: "v%20b=%C3%BC%26&v+b=2"}},
		{"all", Request{Method: "PUT", Query: "v+b=2&v+b=%C3%BC%26"}},
		{"v re", Request{Method: "PUT", Query: "v+b=a+bb"}},
		{"all", Request{Method: "PUT", Query: "v+b=a%zzbb&&="}},
		{"v2 canary", Request{Method: "PUT", Query: "x&v+b", Fields: header{"X-Canary": "1"}}},
		{"office", Request{Path: "/office/x", Method: "PUT", ClientIP: netip.MustParseAddr("10.9.9.9")}},
		{"office", Request{Path: "/office", Method: "PUT", ClientIP: netip.MustParseAddr("2001:db8::7")}},
		{"desk", Request{Path: "/office", Method: "PUT", ClientIP: netip.MustParseAddr("10.1.2.3")}},
		{"desk", Request{Path: "/office", Method: "PUT", ClientIP: netip.MustParseAddr("::ffff:10.1.3.255")}},
		{"v4in6", Request{Path: "/office", Method: "PUT", ClientIP: netip.MustParseAddr("192.0.2.1")}},
		{"all", Request{Path: "/office", Method: "PUT", ClientIP: netip.MustParseAddr("192.0.3.1")}},
		{"all", Request{Path: "/office", Method: "PUT"}},
	} {
		if c.r.Path == "" {
			c.r.Path = "/"
		}
		eachOrder(t, rules, func(rules []Rule, table *Table) {
			if got := winner(rules, table, &c.r); got != c.want {
				t.Errorf("%+v goes to %s, want %s", c.r, got, c.want)
			}
		})
	}
}

func TestPriority(t *testing.T) {
	rules := []Rule{
		{Name: "exact", Match: Match{Hosts: []string{"a.example.com"}, Path: "/x"}},
		{Name: "prefix", Match: Match{Hosts: []string{"a.example.com"}, Path: "/x/*"}, Priority: 1},
		{Name: "re", Match: Match{Hosts: []string{"*.example.com"}, Path: "re:^/x"}, Priority: 2},
		{Name: "catch-all", Match: Match{Headers: map[string]string{"X-All": "present"}}, Priority: 10},
		{Name: "last", Match: Match{Hosts: []string{"a.example.com"}, Path: "/x"}, Priority: -1},
		{Name: "any", Match: Match{}},
	}
	eachOrder(t, rules, func(rules []Rule, table *Table) {
		for want, r := range map[string]*Request{
			"catch-all": {Host: "a.example.com", Path: "/x", Fields: header{"X-All": ""}},
			"re":        {Host: "a.example.com", Path: "/x"},
			"any":       {Host: "example.org", Path: "/x"},
		} {
			if got := winner(rules, table, r); got != want {
				t.Errorf("%s%s goes to %s, want %s", r.Host, r.Path, got, want)
			}
		}
	})
}

// TestTies: what nothing else tells apart, the order of the rules does.
func TestTies(t *testing.T) {
	rules := []Rule{{Name: "1", Match: Match{Path: "/a/{x}"}}, {Name: "2", Match: Match{Path: "/a/{y}"}}}
	if got := winner(rules, mustTable(t, rules...), &Request{Path: "/a/b"}); got != "1" {
		t.Errorf("goes to %s, want 1", got)
	}
}

func TestMethodNotAllowed(t *testing.T) {
	rules := []Rule{
		{Name: "read", Match: Match{Path: "/x", Methods: []string{"GET"}}},
		{Name: "write", Match: Match{Path: "/x/*", Methods: []string{"POST", "QUERY"}}},
		{Name: "canary", Match: Match{Path: "/x", Methods: []string{"DELETE"}, Headers: map[string]string{"X-Canary": "1"}}},
		{Name: "expr", Match: Match{Path: "re:^/x", Methods: []string{"PATCH"}}},
		{Name: "put", Match: Match{Path: "/y", Methods: []string{"PUT"}}},
	}
	table := mustTable(t, rules...)
	for want, r := range map[string]*Request{
		"405 GET HEAD PATCH POST QUERY":        {Path: "/x", Method: "PUT"},
		"405 DELETE GET HEAD PATCH POST QUERY": {Path: "/x", Method: "PUT", Fields: header{"x-canary": "1"}},
		"405 PATCH POST QUERY":                 {Path: "/x/y", Method: "GET"},
		"read":                                 {Path: "/x", Method: "HEAD"},
		"expr":                                 {Path: "/xy", Method: "PATCH"},
		"-":                                    {Path: "/z", Method: "GET"},
	} {
		if got := winner(rules, table, r); got != want {
			t.Errorf("%s %s ends in %s, want %s", r.Method, r.Path, got, want)
		}
	}
}

func TestEmptyTable(t *testing.T) {
	table := mustTable(t)
	if res := table.Match(&Request{Host: "a", Path: "/", Method: "GET"}); res.Outcome != NoRoute {
		t.Errorf("an empty table says %v", res.Outcome)
	}
	if why := table.Explain(&Request{Path: "/"}); why != nil {
		t.Errorf("an empty table explains %v", why)
	}
}

// TestFaults holds every fault, in the order in which they are reported.
func TestFaults(t *testing.T) {
	one := func(m Match) []Rule { return []Rule{{}, {Match: m}} }
	for _, c := range []struct {
		rules []Rule
		want  []string // fields of rule 1
	}{
		{one(Match{Hosts: []string{"ok.example", "", "*", "a:80", "a..b", "a.*.b", "ü.de", "a b", "http://x", "[fe80::1%eth0]", "*.", strings.Repeat("a", 64), strings.Repeat("a.", 130)}}),
			[]string{"match.hosts[1]", "match.hosts[2]", "match.hosts[3]", "match.hosts[4]", "match.hosts[5]", "match.hosts[6]",
				"match.hosts[7]", "match.hosts[8]", "match.hosts[9]", "match.hosts[10]", "match.hosts[11]", "match.hosts[12]"}},
		{one(Match{Methods: []string{"GET", "get", "", "A B", "BREW", "brew"}}), []string{"match.methods[1]", "match.methods[2]", "match.methods[3]"}},
		{one(Match{Headers: map[string]string{"X-Canary": "re:(", "": "1", "A:": "present", "B": "re:", "C": "a\nb"}}),
			[]string{"match.headers.", "match.headers.A:", "match.headers.B", "match.headers.C", "match.headers.X-Canary"}},
		{one(Match{Query: map[string]string{"v": "re:[", "w": "1"}}), []string{"match.query.v"}},
		{one(Match{ClientIPs: []string{"10.0.0.0/33", "x", "10.0.0.0/8", "fe80::1%eth0", "::ffff:1.2.3.4/64"}}),
			[]string{"match.client_ips[0]", "match.client_ips[1]", "match.client_ips[3]", "match.client_ips[4]"}},
		{one(Match{Hosts: []string{"*"}, Path: "x", Methods: []string{"get"}}), []string{"match.hosts[0]", "match.path", "match.methods[0]"}},
	} {
		_, err := NewTable(c.rules)
		if got := fieldsOf(t, err); !slices.Equal(got, c.want) {
			t.Errorf("%+v\n has faults in %q\nwant          %q\n%v", c.rules[1].Match, got, c.want, err)
		}
	}
	for _, path := range []string{"x", "re:", "re:(", "/x*", "/*/x", "/a//b", "//*", "/{a}/{a}", "/{}", "/a{b}", "/{a}b",
		"/{a b}", "/a?b", "/a#b", "/../a", "/a/.", "/%2e%2e/b", "/%zz", "/a\\b", "/a\x01", "/\xff", "/%252f", "*", "/**"} {
		_, err := NewTable(one(Match{Path: path}))
		if got := fieldsOf(t, err); !slices.Equal(got, []string{"match.path"}) {
			t.Errorf("the path %q has faults in %q", path, got)
		}
	}
}

func fieldsOf(t *testing.T, err error) (fields []string) {
	t.Helper()
	if err == nil {
		return nil
	}
	for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
		var fault *RuleError
		if !errors.As(err, &fault) || fault.Rule != 1 || fault.Err == nil {
			t.Fatalf("%v is not a fault of rule 1", err)
		}
		fields = append(fields, fault.Field)
	}
	return fields
}
