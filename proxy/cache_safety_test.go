package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/routing"
)

// echo answers with what an origin saw of a request, storable for a minute.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=60")
	for _, name := range []string{"Vary", "Set-Cookie"} {
		if v := r.Header.Get("Say-" + name); v != "" {
			w.Header().Set(name, v)
		}
	}
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s at %s for %v with %q", r.Method, r.RequestURI, r.Host, r.Header, body)
}

// Each of these tries to leave something in the cache that others, who ask
// plainly, would then get.
func TestCachePoisoning(t *testing.T) {
	for name, attack := range map[string]struct {
		target, body string
		fields       []string
	}{
		"X-Forwarded-Host":       {"/x", "", []string{"X-Forwarded-Host: evil"}},
		"X-Forwarded-Scheme":     {"/x", "", []string{"X-Forwarded-Scheme: evil"}},
		"X-Forwarded-Proto":      {"/x", "", []string{"X-Forwarded-Proto: evil"}},
		"X-Forwarded-Port":       {"/x", "", []string{"X-Forwarded-Port: evil"}},
		"Forwarded":              {"/x", "", []string{"Forwarded: host=evil"}},
		"X-Host":                 {"/x", "", []string{"X-Host: evil"}},
		"X-Original-URL":         {"/x", "", []string{"X-Original-URL: /evil"}},
		"X-Rewrite-URL":          {"/x", "", []string{"X-Rewrite-URL: /evil"}},
		"X-HTTP-Method-Override": {"/x", "", []string{"X-HTTP-Method-Override: evil"}},
		"X-Method-Override":      {"/x", "", []string{"X-Method-Override: evil"}},
		"fat GET":                {"/x", "evil=1", nil},
		"query":                  {"/x?evil=1", "", nil},
		"parameter cloaking":     {"/x?a=1;evil=1", "", nil},
		"fragment in the query":  {"/x?%23evil", "", nil},
		"port in Host":           {"/x", "", []string{"!example.com:8081evil"}},
		"encoded question mark":  {"/x%3Fevil", "", nil},
		"Host of another case":   {"/x", "", []string{"!EXAMPLE.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := cached(t, echo)
			fields := attack.fields
			if len(fields) > 0 && fields[0][0] == '!' { // another Host
				raw := "GET " + attack.target + " HTTP/1.1\r\nHost: " + strings.TrimSuffix(fields[0][1:], "evil") + "\r\nConnection: close\r\n\r\n"
				ask(t, addr, raw)
			} else if a := try(addr, "GET", attack.target, attack.body, fields...); a.err != nil {
				t.Fatal(a.err)
			}
			if a := demand(t, addr, "GET", "/x"); strings.Contains(strings.ToLower(a.body), "evil") || strings.Contains(a.body, "8081") || strings.Contains(a.body, "EXAMPLE") || a.StatusCode != 200 {
				t.Errorf("poisoned: %d %s", a.StatusCode, a.body)
			}
		})
	}
}

// Each of these is a response for one client alone, which nobody else may get.
func TestCacheDeception(t *testing.T) {
	for name, c := range map[string]struct {
		cache  func(*Cache)
		target string
		victim []string
		says   []string
	}{
		"no word, a cookie, ttl.default": {func(c *Cache) { c.TTL.Default = time.Hour }, "/account/x.css", []string{"Cookie: s=victim"}, nil},
		"an estimate, a cookie":          {nil, "/account/x.css", []string{"Cookie: s=victim"}, []string{"Last-Modified: Tue, 01 Jan 2019 00:00:00 GMT"}},
		"no word, Authorization":         {func(c *Cache) { c.TTL.Default = time.Hour }, "/account", []string{"Authorization: victim"}, nil},
		"Authorization, max-age":         {nil, "/account", []string{"Authorization: victim"}, []string{"Cache-Control: max-age=60"}},
		"Set-Cookie":                     {nil, "/login", []string{"X-Who: victim"}, []string{"Cache-Control: max-age=60", "Set-Cookie: s=victim"}},
		"Set-Cookie, ttl.default":        {func(c *Cache) { c.TTL.Default = time.Hour }, "/login", []string{"X-Who: victim"}, []string{"Set-Cookie: s=victim"}},
		"private":                        {func(c *Cache) { c.TTL.Min = time.Hour }, "/account", []string{"X-Who: victim"}, []string{"Cache-Control: private"}},
		"no-store":                       {func(c *Cache) { c.TTL.Min = time.Hour }, "/account", []string{"X-Who: victim"}, []string{"Cache-Control: no-store"}},
		"Vary: Cookie":                   {nil, "/account", []string{"Cookie: s=victim"}, []string{"Cache-Control: max-age=60", "Vary: Cookie"}},
		"Vary: *":                        {nil, "/account", []string{"X-Who: victim"}, []string{"Cache-Control: max-age=60", "Vary: *"}},
		"Vary by what the gateway adds":  {nil, "/account", []string{"X-Who: victim"}, []string{"Cache-Control: max-age=60", "Vary: X-Forwarded-For"}},
		"private in CDN-Cache-Control":   {nil, "/account", []string{"X-Who: victim"}, []string{"Cache-Control: max-age=60", "CDN-Cache-Control: private"}},
	} {
		t.Run(name, func(t *testing.T) {
			edit := func(*Cache) {}
			if c.cache != nil {
				edit = c.cache
			}
			addr, _ := cached(t, func(w http.ResponseWriter, r *http.Request) {
				for _, f := range c.says {
					name, value, _ := strings.Cut(f, ": ")
					w.Header().Add(name, value)
				}
				fmt.Fprintf(w, "%v", r.Header)
			}, edit)
			if a := demand(t, addr, "GET", c.target, c.victim...); !strings.Contains(a.body, "victim") {
				t.Fatalf("the victim got %q", a.body)
			}
			for range 2 {
				if a := demand(t, addr, "GET", c.target); strings.Contains(a.body, "victim") {
					t.Errorf("somebody else got %q, %s", a.body, a.Header)
				}
			}
		})
	}
}

// What could be read as another path, or is more than one resource, has a key of
// its own.
func TestCachePathsStayApart(t *testing.T) {
	addr, _ := cached(t, echo)
	seen := map[string]string{}
	for _, target := range []string{"/account", "/account/", "/account;x.css", "/account%3Bx.css", "/account/x.css", "/account//x.css", "/Account", "/account?x.css", "/account%3Fx.css", "/account%23x.css", "/account/%78.css"} {
		a := demand(t, addr, "GET", target)
		if other, ok := seen[a.body]; ok && target != "/account/%78.css" {
			t.Errorf("%s and %s are one response: %s", other, target, a.body)
		}
		if want := strings.Replace(target, "%78", "x", 1); !strings.Contains(a.body, "GET "+want+" at") {
			t.Errorf("%s: the origin was asked for something else: %s", target, a.body)
		}
		seen[a.body] = target
	}
}

// Errors that one request brings about are nobody else's.
func TestCacheErrorsAreNotSpread(t *testing.T) {
	for _, status := range []int{400, 403, 405, 413, 414, 431, 500, 501, 502, 503, 504} {
		addr, _ := cached(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Bad") != "" {
				w.WriteHeader(status)
				return
			}
			io.WriteString(w, "good")
		}, func(c *Cache) { c.TTL.Default, c.TTL.Min = time.Hour, time.Minute })
		demand(t, addr, "GET", "/x", "X-Bad: 1")
		if a := demand(t, addr, "GET", "/x"); a.StatusCode != 200 {
			t.Errorf("%d was stored", status)
		}
	}
}

// A client cannot empty the cache, nor go past it, unless the route lets him.
func TestCacheClientDirectives(t *testing.T) {
	for _, heard := range []bool{false, true} {
		var n atomic.Int64
		addr, _ := cached(t, says(&n, "x", "Cache-Control: max-age=60"), func(c *Cache) { c.ClientDirectives = heard })
		demand(t, addr, "GET", "/x")
		for _, fields := range [][]string{{"Cache-Control: no-cache"}, {"Cache-Control: max-age=0"}, {"Cache-Control: min-fresh=100"}, {"Pragma: no-cache"}} {
			a := demand(t, addr, "GET", "/x", fields...)
			if want := !heard || fields[0] == "Pragma: no-cache"; (a.cacheStatus() == "hit") != want {
				t.Errorf("heard %v, %v: %s", heard, fields, a.Header)
			}
		}
		if a := demand(t, addr, "GET", "/y", "Cache-Control: only-if-cached"); a.StatusCode != 504 {
			t.Errorf("only-if-cached: %d", a.StatusCode)
		}
	}
}

// Cache-Status says why a request is forwarded (RFC 9211, section 2.2).
func TestCacheStatusSaysWhy(t *testing.T) {
	addr, _ := cached(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", `"v1"`)
		if r.URL.Path == "/varied" {
			w.Header().Set("Vary", "X-A")
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("abcdefghijklmnopqrstuvwxyz"))
	}, func(c *Cache) { c.ClientDirectives = true })
	for _, c := range []struct{ path, first, field, want string }{
		{"/new", "", "X-A: 1", "fwd=uri-miss"},
		{"/varied", "X-A: 1", "X-A: 2", "fwd=vary-miss"},
		{"/part", "Range: bytes=0-9", "Range: bytes=5-14", "fwd=partial"},
		{"/whole", "Range: bytes=0-9", "X-A: 1", "fwd=partial"},
		{"/asked", "X-A: 1", "Cache-Control: no-cache", "fwd=request"},
		{"/private", "X-A: 1", "Authorization: Basic YTpi", "fwd=request"},
	} {
		if c.first != "" {
			demand(t, addr, "GET", c.path, c.first)
		}
		a := demand(t, addr, "GET", c.path, c.field)
		if got, _, _ := strings.Cut(a.cacheStatus(), "; stored"); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s, then %s: %s, want %s", c.path, c.field, a.Header.Get("Cache-Status"), c.want)
		}
	}
}

// Compressed variants are kept apart.
func TestCacheVariants(t *testing.T) {
	var n atomic.Int64
	addr, _ := cached(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "zipped")
			return
		}
		io.WriteString(w, "plain")
	})
	for range 2 {
		if a := demand(t, addr, "GET", "/x", "Accept-Encoding: gzip, br"); a.body != "zipped" {
			t.Errorf("gzip: %q", a.body)
		}
		if a := demand(t, addr, "GET", "/x"); a.body != "plain" {
			t.Errorf("plain: %q", a.body)
		}
		if a := demand(t, addr, "GET", "/x", "Accept-Encoding: br,GZIP"); a.body != "zipped" {
			t.Errorf("the same in another spelling: %q", a.body)
		}
	}
	if n.Load() != 2 {
		t.Errorf("%d requests", n.Load())
	}
}

// Only who is named may have something forgotten.
func TestCachePurgeMethod(t *testing.T) {
	for _, c := range []struct {
		from   string
		status int
		asked  int64
	}{{"127.0.0.1/32", 200, 2}, {"10.0.0.0/8", 403, 1}, {"", 200, 1}} {
		var n atomic.Int64
		h := says(&n, "x", "Cache-Control: max-age=60")
		spec := Spec{
			Cache: newCache(t), Routes: []Route{{Name: "all", Match: routing.Match{Path: "/*", Methods: []string{"GET", "PURGE"}}, Backend: "up", Cache: defaultCache()}},
			Backends: backends(map[string]any{"up": to(origin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "GET" {
					h(w, r)
				}
			}))}),
		}
		if c.from != "" {
			spec.Purgers = []netip.Prefix{netip.MustParsePrefix(c.from)}
		}
		addr := serve(t, spec)
		demand(t, addr, "GET", "/x")
		if a := demand(t, addr, "PURGE", "/x"); a.StatusCode != c.status {
			t.Errorf("from %q: %d %s", c.from, a.StatusCode, a.body)
		}
		// Where PURGE is a method like others, it changes something as far as one
		// can know.
		demand(t, addr, "GET", "/x")
		if got := n.Load(); got != c.asked && c.from != "" {
			t.Errorf("from %q: the origin was asked %d times", c.from, got)
		}
	}
}

// A folder's files go through the cache like everything else.
func TestCacheFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.txt")
	if err := os.WriteFile(file, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	addr := serve(t, Spec{
		Cache:    newCache(t),
		Routes:   []Route{{Name: "all", Match: routing.Match{Path: "/f/*"}, Backend: "up", Rewrite: Rewrite{StripPrefix: "/f"}, Cache: defaultCache(func(c *Cache) { c.TTL.Default = time.Minute })}},
		Backends: backends(map[string]any{"up": Files{Root: dir}}),
	})
	demand(t, addr, "GET", "/f/a.txt")
	if err := os.WriteFile(file, []byte("two!"), 0o644); err != nil {
		t.Fatal(err)
	}
	if a := demand(t, addr, "GET", "/f/a.txt"); a.body != "one" || a.cacheStatus() != "hit" {
		t.Errorf("%q, %s", a.body, a.Header)
	}
	if a := demand(t, addr, "GET", "/f/b.txt"); a.StatusCode != 404 {
		t.Errorf("what is not there: %d", a.StatusCode)
	}
}

// The response to a POST that names its own URL answers a GET; one that could be
// about something else does not.
func TestCachePost(t *testing.T) {
	for _, c := range []struct {
		location string
		fields   []string
		hit      bool
	}{{"/x", nil, true}, {"/y", nil, false}, {"", nil, false}, {"/x", []string{"X-Original-URL: /y"}, false}} {
		addr, _ := cached(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Location", c.location)
			io.WriteString(w, r.Method)
		})
		if a := try(addr, "POST", "/x", "body", c.fields...); a.err != nil || a.body != "POST" {
			t.Fatalf("%v, %q", a.err, a.body)
		}
		if a := demand(t, addr, "GET", "/x"); (a.body == "POST") != c.hit {
			t.Errorf("Content-Location %q, %v: %q, %s", c.location, c.fields, a.body, a.Header)
		}
	}
}
