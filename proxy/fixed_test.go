package proxy

import "testing"

func TestRedirectTo(t *testing.T) {
	for to, good := range map[string]bool{
		"https://example.com{uri}": true, "{scheme}://{host}/x": true, "{uri}": true, "/": true, "/new{path}?{query}": true, "myapp://open": true, "https://{host}{uri}": true,
		"example.com": false, "example.com/x": false, "www{uri}": false, "//evil.example{uri}": false, `/\evil.example`: false, "javascript:alert(1)": false, "https:///x": false,
	} {
		if err := checkLocation(to); (err == nil) != good {
			t.Errorf("%q: %v", to, err)
		}
	}
}
