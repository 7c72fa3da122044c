package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-edge/sluice/edgecache"
	"github.com/sluice-edge/sluice/routing"
)

// A heldSecond is a second level that has nothing, and takes as long as it is held.
type heldSecond struct{ held atomic.Pointer[gate] }

func (s *heldSecond) Get(context.Context, edgecache.Key, string) *edgecache.Resource {
	if g := s.held.Load(); g != nil {
		g.arrived <- struct{}{}
		<-g.open
	}
	return nil
}
func (s *heldSecond) Put(edgecache.Key, string, *edgecache.Entry) {}
func (s *heldSecond) Delete(edgecache.Key)                        {}

// A doubter is a Purger that doubts what was asked for before a number.
type doubter struct {
	*edgecache.Purges
	before atomic.Uint64
}

func (d *doubter) Verdict(r *edgecache.Resource, e *edgecache.Entry) edgecache.Verdict {
	if e.Purges < d.before.Load() {
		return edgecache.Doubted
	}
	return d.Purges.Verdict(r, e)
}

// cachedBy is cached with another second level and purger.
func cachedBy(t *testing.T, second edgecache.Second, h http.HandlerFunc) (addr string, c *edgecache.Cache, d *doubter) {
	t.Helper()
	store, err := edgecache.NewMemory(16 << 20)
	if err != nil {
		t.Fatal(err)
	}
	purges, err := edgecache.NewPurges(edgecache.PurgesConfig{Memory: store, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	d = &doubter{Purges: purges}
	if c, err = edgecache.New(edgecache.Config{Store: store, Second: second, Purger: d, Underway: 16 << 20, Revalidations: 4}); err != nil {
		t.Fatal(err)
	}
	addr, _ = serveProxy(t, Spec{
		Cache:    c,
		Routes:   []Route{{Name: "all", Match: routing.Match{Path: "/*"}, Backend: "up", Cache: defaultCache()}},
		Backends: backends(map[string]any{"up": to(origin(t, h))}),
	})
	return addr, c, d
}

// What is purged while it is on its way to be validated is not made new by that, nor
// served because the origin fails.
func TestCachePurgeBeforeValidation(t *testing.T) {
	for name, fails := range map[string]bool{"validated": false, "the origin fails": true} {
		t.Run(name, func(t *testing.T) {
			var body atomic.Value
			var failing atomic.Bool
			body.Store("old")
			second := &heldSecond{}
			addr, c, _ := cachedBy(t, second, func(w http.ResponseWriter, r *http.Request) {
				if failing.Load() {
					w.WriteHeader(503)
					return
				}
				w.Header().Set("Cache-Control", "no-cache")
				if fails {
					w.Header().Set("Cache-Control", "max-age=1, stale-if-error=3600")
					w.Header().Set("Age", "5")
				}
				w.Header().Set("ETag", `"same"`)
				if r.Header.Get("If-None-Match") != "" {
					w.WriteHeader(304)
					return
				}
				io.WriteString(w, body.Load().(string))
			})
			demand(t, addr, "GET", "/x")
			g := newGate()
			second.held.Store(&g)
			waits := make(chan answer, 1)
			go func() { waits <- try(addr, "GET", "/x", "") }()
			<-g.arrived
			body.Store("new")
			failing.Store(fails)
			if err := c.Purge(edgecache.Purge{Kind: edgecache.PurgeURL, Value: "http://example.com/x"}); err != nil {
				t.Fatal(err)
			}
			second.held.Store(nil)
			close(g.open)
			for _, a := range []answer{<-waits, demand(t, addr, "GET", "/x")} {
				if a.err != nil || a.body == "old" || !fails && a.body != "new" {
					t.Errorf("%d %q, %v", a.StatusCode, a.body, a.err)
				}
			}
		})
	}
}

// A HEAD is no validation: what is in doubt stays so.
func TestCacheHeadLeavesDoubt(t *testing.T) {
	var n atomic.Int64
	addr, c, d := cachedBy(t, nil, says(&n, "hello", "Cache-Control: max-age=60"))
	demand(t, addr, "GET", "/x")
	if err := c.Purge(edgecache.Purge{Kind: edgecache.PurgeURL, Value: "http://example.com/other"}); err != nil {
		t.Fatal(err)
	}
	d.before.Store(c.Sequence())
	demand(t, addr, "HEAD", "/x")
	if a := demand(t, addr, "GET", "/x"); a.cacheStatus() == "hit" || n.Load() != 3 {
		t.Errorf("%s after %d requests", a.cacheStatus(), n.Load())
	}
}

// A response that was asked for before a purge, and takes long, does not take the
// place of one that was asked for after it.
func TestCacheSlowIsNotNew(t *testing.T) {
	var n atomic.Int64
	g := newGate()
	addr, c, _ := cachedBy(t, nil, func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Length", "10")
		fmt.Fprintf(w, "%05d", i)
		if i == 1 {
			w.(http.Flusher).Flush()
			g.arrived <- struct{}{}
			<-g.open
		}
		fmt.Fprintf(w, "%05d", i)
	})
	slow := make(chan answer, 1)
	go func() { slow <- try(addr, "GET", "/x", "") }()
	<-g.arrived
	if err := c.Purge(edgecache.Purge{Kind: edgecache.PurgeURL, Value: "http://example.com/x"}); err != nil {
		t.Fatal(err)
	}
	if a := demand(t, addr, "GET", "/x"); a.body != "0000200002" {
		t.Fatalf("%q", a.body)
	}
	close(g.open)
	if a := <-slow; a.err != nil || a.body != "0000100001" {
		t.Fatalf("%q, %v", a.body, a.err)
	}
	if a := demand(t, addr, "GET", "/x"); a.body != "0000200002" || a.cacheStatus() != "hit" {
		t.Errorf("%q, %s", a.body, a.cacheStatus())
	}
}

// Parts that do not hold what they say, or are of several representations, never
// make a response together, nor does one that was cut pass for whole.
func TestCachePartsOfNothing(t *testing.T) {
	for name, c := range map[string]struct {
		etags         []string // of one request after the other
		more          int      // by how much Content-Range says too much
		asked, thanks []string
	}{
		"cut at its end":                   {[]string{`"a"`}, 1, []string{"bytes=0-9"}, []string{"bytes=0-3", "bytes=0-9", ""}},
		"cut at its end, of an open range": {[]string{`"a"`}, 1, []string{"bytes=5-"}, []string{"bytes=5-7", "bytes=-3", ""}},
		"mixed":                            {[]string{`"a"`, `"b"`, `"c"`}, 0, []string{"bytes=0-4", "bytes=5-9"}, []string{"", "bytes=0-9"}},
		"mixed, and weak":                  {[]string{`W/"a"`}, 0, []string{"bytes=0-4", "bytes=5-9"}, []string{"", "bytes=0-9"}},
		"mixed, and overrunning":           {[]string{`"a"`, `"b"`}, 1, []string{"bytes=0-4", "bytes=-5"}, []string{"", "bytes=0-8"}},
		"without validators":               {[]string{""}, 0, []string{"bytes=0-4", "bytes=5-9"}, []string{"", "bytes=0-9"}},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int64
			addr, _ := cached(t, func(w http.ResponseWriter, r *http.Request) {
				i := int(n.Add(1)) - 1
				content := strings.Repeat(string(rune('a'+i)), 10)
				w.Header().Set("Cache-Control", "max-age=60")
				if tag := c.etags[min(i, len(c.etags)-1)]; tag != "" {
					w.Header().Set("ETag", tag)
				}
				ranges, _ := parseRange(r.Header.Get("Range"), 10)
				if len(ranges) != 1 {
					io.WriteString(w, content)
					return
				}
				one, more := ranges[0], 0
				if one.start+one.length == 10 { // it says that there are 10, and sends fewer
					more = c.more
				}
				w.Header().Set("Content-Range", one.contentRange(10))
				w.WriteHeader(206)
				io.WriteString(w, content[one.start:one.start+one.length-int64(more)])
			})
			for _, asked := range c.asked {
				demand(t, addr, "GET", "/x", "Range: "+asked)
			}
			for _, asked := range c.thanks {
				fields := []string{"X: y"}
				if asked != "" {
					fields = []string{"Range: " + asked}
				}
				a := demand(t, addr, "GET", "/x", fields...)
				if len(a.body) > 0 && strings.Trim(a.body, a.body[:1]) != "" {
					t.Errorf("%s: a mixture, %q", asked, a.body)
				}
				if asked == "" && (a.StatusCode != 200 || len(a.body) != 10) {
					t.Errorf("the whole is %d, %q", a.StatusCode, a.body)
				}
				if c.more > 0 && len(c.etags) == 1 && a.cacheStatus() == "hit" && a.StatusCode == 206 {
					t.Errorf("%s is answered with what was cut: %q", asked, a.body)
				}
			}
		})
	}
}
