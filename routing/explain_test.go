package routing

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

func TestExplain(t *testing.T) {
	rules := []Rule{
		{Name: "all"},
		{Name: "orders", Match: Match{Hosts: []string{"www.example.com"}, Path: "/orders/*"}},
		{Name: "either", Match: Match{Hosts: []string{"www.example.com", "*.example.org"}}},
		{Name: "exact", Match: Match{Hosts: []string{"api.example.com"}, Path: "/x", Methods: []string{"GET"}}},
		{Name: "write", Match: Match{Hosts: []string{"api.example.com"}, Path: "/orders/{id}", Methods: []string{"PATCH"}}},
		{Name: "canary", Match: Match{Path: "/orders/*", Headers: map[string]string{"X-Canary": "1"}}},
		{Name: "expr", Match: Match{Path: "/orders/*", Headers: map[string]string{"X-Canary": "re:^[12]$"}}},
		{Name: "v", Match: Match{Path: "/orders/*", Query: map[string]string{"v": "a b"}}},
		{Name: "w", Match: Match{Path: "/orders/*", Query: map[string]string{"w": "present"}}},
		{Name: "office", Match: Match{Path: "/orders/*", ClientIPs: []string{"10.0.0.0/8", "192.0.2.1"}}},
		{Match: Match{Path: "/orders/*"}},
		{Name: "below", Match: Match{Path: "/other/*"}, Priority: 1},
		{Name: "re", Match: Match{Path: "re:^/[0-9]"}},
	}
	r := &Request{Host: "API.example.com:80", Path: "/orders/7", Method: "POST", Query: "v=a%20c",
		Fields: header{"x-canary": "3"}, ClientIP: netip.MustParseAddr("192.0.2.7")}
	want := []string{
		"below: path: /orders/7 is not below /other/*",
		"exact: path: /orders/7 is not /x",
		"write: method: POST is not PATCH",
		"orders: host: api.example.com is not www.example.com",
		"either: host: api.example.com is not one of www.example.com, *.example.org",
		"re: path: /orders/7 does not match re:^/[0-9]",
		`canary: header X-Canary: "3" is not "1"`,
		`v: query v: "a c" is not "a b"`,
		`expr: header X-Canary: "3" does not match re:^[12]$`,
		"w: query w: is absent",
		"office: client_ips: 192.0.2.7 is not in one of 10.0.0.0/8, 192.0.2.1/32",
		": taken",
		"all: precedence: route #10 comes first",
	}
	if got := explained(rules, mustTable(t, rules...), r); !slices.Equal(got, want) {
		t.Errorf("got:\n%q\nwant:\n%q", got, want)
	}
}

func TestExplainAmbiguous(t *testing.T) {
	rules := append(paths("/admin/*", "/*"), Rule{Name: "put", Match: Match{Path: "/put", Methods: []string{"PUT"}}})
	table := mustTable(t, rules...)
	for path, want := range map[string][]string{
		"/x/..;/admin": {"put: path: /x/..;/admin is not /put",
			"/admin/*: path: /x/..;/admin is not below /admin/*; but with the path read as /admin, this route comes first",
			"/*: path: ambiguous, some servers read it as /admin, which goes to route /admin/*"},
		"/..;/x": {"put: path: /..;/x is not /put", "/admin/*: path: /..;/x is not below /admin/*",
			"/*: path: ambiguous, some servers read it as leading above the root, or it mixes too many notations"},
	} {
		if got := explained(rules, table, &Request{Path: path, Ambiguous: true}); !slices.Equal(got, want) {
			t.Errorf("%s: got:\n%q\nwant:\n%q", path, got, want)
		}
	}
}

func explained(rules []Rule, table *Table, r *Request) (out []string) {
	for _, w := range table.Explain(r) {
		if w.Taken {
			w.Reason = "taken"
		}
		out = append(out, fmt.Sprintf("%s: %s", rules[w.Route].Name, w.Reason))
	}
	return out
}

// TestMatchAsInTheFile holds the names under which the admin API shows a match
// to those of the file.
func TestMatchAsInTheFile(t *testing.T) {
	for _, c := range []struct {
		match Match
		want  string
	}{
		{Match{Path: "/a/*"}, `{"path":"/a/*"}`},
		{
			Match{Hosts: []string{"a"}, Methods: []string{"GET"}, Headers: map[string]string{"X": "1"}, Query: map[string]string{"q": "present"}, ClientIPs: []string{"10.0.0.0/8"}},
			`{"hosts":["a"],"methods":["GET"],"headers":{"X":"1"},"query":{"q":"present"},"client_ips":["10.0.0.0/8"]}`,
		},
	} {
		got, err := json.Marshal(c.match)
		if err != nil || string(got) != c.want {
			t.Errorf("%s, %v, want %s", got, err, c.want)
		}
	}
}
