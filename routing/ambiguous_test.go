package routing

import (
	"slices"
	"strings"
	"testing"
)

// TestBypass sends raw paths past a stricter route.
func TestBypass(t *testing.T) {
	rules := append(paths("/*", "/admin/*", "/static/*", "/v/{id}", "/u/{id}/keys"),
		Rule{Name: "write", Match: Match{Path: "/write", Methods: []string{"POST"}}})
	table := mustTable(t, append(rules, paths("/write/*")...)...)
	rules = append(rules, paths("/write/*")...)
	for raw, want := range map[string]string{
		"/admin":               "/admin/*",
		"/x":                   "/*",
		"/x//y":                "/*",
		"/static/a//b;c/d%3f":  "/static/*",
		"//admin":              "400",
		"/x;/../admin":         "refused",
		"/x/..;/admin":         "400",
		"/..;/admin":           "400",
		"/x/.;/y":              "/*",
		"/x/..;a=b/admin":      "400",
		"/admin;x.css":         "400",
		"/admin;/x":            "400",
		"/;/admin":             "400",
		"/;x//admin":           "400",
		"/admin%3bx.css":       "400",
		"/admin%3fx.css":       "400",
		"/admin%23x.css":       "400",
		"/admin/a;b":           "/admin/*",
		"/%2561dmin":           "400",
		"/%61dmin":             "/admin/*",
		"/static/%2561":        "/static/*",
		"/static/..;/admin":    "400",
		"/static/..;/static/x": "/static/*",
		"/static/;/..;/admin":  "400",
		"/v/1;2":               "/v/{id}",
		"/v/1//":               "/*",
		"/v//1":                "400",
		"/v/a%2fb":             "/v/{id}", // the reading falls to /*, which is less strict
		"/u/a%2Fkeys":          "400",     // the reading is /u/{id}/keys
		"/admin%2Fx":           "400",
		"/x%2Fy":               "/*",
		"/x%2F..;/admin":       "refused",
		"/write;x":             "400", // the same rule would not take it, for its method
		"/static//;%3F%2541":   "400", // too many notations
		"/static//;%3F":        "/static/*",
	} {
		normal, ambiguous, err := keep.Normalize(nil, []byte(raw))
		got := "refused"
		if err == nil {
			got = winner(rules, table, &Request{Path: string(normal), Method: "GET", Ambiguous: ambiguous})
		}
		if got != want {
			t.Errorf("%s goes to %s, want %s", raw, got, want)
		}
	}
}

func TestReadings(t *testing.T) {
	for path, want := range map[string]string{
		"/a":        "",
		"":          "",
		"*":         "",
		"/a//b":     "/a/b",
		"/a;x/b":    "/a/b",
		"/a/;/b":    "/a//b /a/b",
		"/a/..;/b":  "/b",
		"/a/.;/b":   "/a/b",
		"/a/.;":     "/a/",
		"/..;/b":    "none",
		"/a?b#c":    "/a",
		"/a%2541":   "/aA",
		"/a%2Fb":    "/a/b",
		"/a%2F%2Fb": "/a//b /a/b",
		"/a//b;c":   "/a/b /a/b;c /a//b",
		"/%":        "",
		"/%25":      "",
		"/%254":     "",
	} {
		var got []string
		ok := readings(path, func(reading string, _ bool) bool {
			if !slices.Contains(got, reading) {
				got = append(got, reading)
			}
			return true
		})
		if !ok {
			got = []string{"none"}
		}
		slices.Sort(got)
		wanted := strings.Fields(want)
		slices.Sort(wanted)
		if !slices.Equal(got, wanted) {
			t.Errorf("%s is read as %q, want %q", path, got, wanted)
		}
	}
}

// TestReadingsAreBounded: a path of nothing but notations costs no more than
// its length times a constant.
func TestReadingsAreBounded(t *testing.T) {
	n := 0
	readings("/"+strings.Repeat("a;b//c%2F", 1000), func(string, bool) bool { n++; return true })
	if n == 0 || n > 1<<maxNotations {
		t.Errorf("%d readings", n)
	}
}
