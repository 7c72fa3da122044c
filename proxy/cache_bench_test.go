package proxy

import (
	"bufio"
	"context"
	"net"
	"runtime"
	"testing"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

const storableAnswer = "HTTP/1.1 200 OK\r\nServer: raw\r\nDate: Tue, 24 Nov 2026 04:00:00 GMT\r\nContent-Type: text/plain\r\n" +
	"Cache-Control: max-age=86400\r\nETag: \"v1\"\r\nVary: Accept-Encoding\r\nContent-Length: 5\r\n\r\nhello"

// startCached serves one route to target through a cache and returns a
// connection to it.
func startCached(tb testing.TB, target string) net.Conn {
	transport := upstream.NewTransport()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- transport.Run(ctx) }()
	tb.Cleanup(func() { cancel(); <-done })
	p, err := New(Config{Kinds: Kinds(), Transport: transport})
	if err != nil {
		tb.Fatal(err)
	}
	g, err := p.Build(Spec{
		Cache:  newCache(tb),
		Routes: []Route{{Name: "all", Match: routing.Match{Path: "/*"}, Backend: "up", Cache: defaultCache(func(c *Cache) { c.TTL.Max = 0; c.TTL.Min = 1 << 50 })}},
		Backends: map[string]BackendSpec{"up": {Decode: func(into any) error {
			into.(*HTTP).Targets = []Target{{URL: target, Weight: 1}}
			return nil
		}}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	p.Swap(g)
	tb.Cleanup(g.Close)
	ln := fasthttputil.NewInmemoryListener()
	server := &fasthttp.Server{
		Handler: p.Handle, StreamRequestBody: true, MaxRequestBodySize: 1, DisablePreParseMultipartForm: true,
		NoDefaultServerHeader: true, NoDefaultDate: true, NoDefaultContentType: true,
	}
	go server.Serve(ln)
	tb.Cleanup(func() { server.Shutdown() })
	c, err := ln.Dial()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

func BenchmarkCacheHit(b *testing.B) {
	c := startCached(b, startRaw(b, storableAnswer))
	r := bufio.NewReader(c)
	roundTrips(b, c, r, 100)
	b.ReportAllocs()
	b.ResetTimer()
	roundTrips(b, c, r, b.N)
}

// TestCacheHitAllocates holds a hit to no allocation at all.
func TestCacheHitAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := startCached(t, startRaw(t, storableAnswer))
	r := bufio.NewReader(c)
	roundTrips(t, c, r, 200)
	const n = 5000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	roundTrips(t, c, r, n)
	runtime.ReadMemStats(&after)
	// A garbage collection empties the pools, which is not the exchange's doing.
	if per := float64(after.Mallocs-before.Mallocs) / n; per > 0.1 {
		t.Errorf("%.2f allocations a hit, want 0", per)
	}
}
