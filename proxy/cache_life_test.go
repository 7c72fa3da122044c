package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-edge/sluice/edgecache"
	"github.com/sluice-edge/sluice/routing"
)

// A QUERY is answered from the cache by its content as well.
func TestCacheQuery(t *testing.T) {
	var n atomic.Int64
	addr, _ := cached(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("Content-Type"), b)
	})
	query := func(content, kind string) answer {
		a := try(addr, "QUERY", "/x", content, "Content-Type: "+kind)
		if a.err != nil {
			t.Fatal(a.err)
		}
		return a
	}
	for i, c := range []struct{ content, kind string }{{"a", "t/a"}, {"b", "t/a"}, {"a", "t/b"}} {
		want := "QUERY " + c.kind + " " + c.content
		if a := query(c.content, c.kind); a.body != want || a.cacheStatus() != "fwd=uri-miss; stored" {
			t.Errorf("%q, %s", a.body, a.Header)
		}
		if a := query(c.content, c.kind); a.body != want || a.cacheStatus() != "hit" || n.Load() != int64(i+1) {
			t.Errorf("again: %q, %s", a.body, a.Header)
		}
	}
}

// Over HTTP/2 it is the same walk.
func TestCacheHTTP2(t *testing.T) {
	var n atomic.Int64
	url, client := over2(t, Spec{
		Cache:    newCache(t),
		Routes:   []Route{{Name: "all", Match: routing.Match{Path: "/*"}, Backend: "up", Cache: defaultCache()}},
		Backends: backends(map[string]any{"up": to(origin(t, says(&n, strings.Repeat("x", 40<<10), "Cache-Control: max-age=60", `ETag: "v1"`)))}),
	})
	for _, c := range []struct {
		fields []string
		status int
		length int
	}{{nil, 200, 40 << 10}, {nil, 200, 40 << 10}, {[]string{"Range", "bytes=1-10"}, 206, 10}, {[]string{"If-None-Match", `"v1"`}, 304, 0}} {
		res := call(t, client, request(t, "GET", url+"/x", nil, c.fields...))
		if body := text(t, res); res.StatusCode != c.status || len(body) != c.length {
			t.Errorf("%v: %d, %d bytes", c.fields, res.StatusCode, len(body))
		}
	}
	if n.Load() != 1 {
		t.Errorf("%d requests", n.Load())
	}
}

// What is stored outlives a generation, and what is under way as well.
func TestCacheOutlivesReload(t *testing.T) {
	var n atomic.Int64
	cache := newCache(t)
	spec := Spec{
		Cache:    cache,
		Routes:   []Route{{Name: "all", Match: routing.Match{Path: "/*"}, Backend: "up", Cache: defaultCache()}},
		Backends: backends(map[string]any{"up": to(origin(t, says(&n, "hello", "Cache-Control: max-age=60")))}),
	}
	addr, p := serveProxy(t, spec)
	demand(t, addr, "GET", "/x")
	g, err := p.Build(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	p.Swap(g)
	if a := demand(t, addr, "GET", "/x"); a.cacheStatus() != "hit" {
		t.Errorf("after a reload: %s", a.Header)
	}
	if err := cache.Purge(edgecache.Purge{Kind: edgecache.PurgeURL, Value: "http://example.com/x"}); err != nil {
		t.Fatal(err)
	}
	if a := demand(t, addr, "GET", "/x"); a.cacheStatus() == "hit" || n.Load() != 2 {
		t.Errorf("after a purge: %s", a.Header)
	}
}

// Run ends fetches that nobody waits for any more.
func TestCacheEndsWithProxy(t *testing.T) {
	stuck := newGate()
	defer close(stuck.open)
	addr, p := cached(t, func(w http.ResponseWriter, r *http.Request) {
		stuck.arrived <- struct{}{}
		<-stuck.open
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
	receive(t, "the fetch", stuck.arrived)
	cancel()
	if err := receive(t, "the end of Run", ended); err != nil {
		t.Error(err)
	}
}
