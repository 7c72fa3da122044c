package proxy

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

// startRaw answers every request of a connection with answer, allocating
// nothing for each.
func startRaw(tb testing.TB, answer string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf, answer := make([]byte, 4096), []byte(answer)
				for n := 0; ; {
					m, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					if n += m; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						n = 0
						if _, err := c.Write(answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

// startProxy serves one route to target and returns a connection to it.
func startProxy(tb testing.TB, target string) *fasthttputil.InmemoryListener {
	return startProxyTo(tb, func(h *HTTP) { h.Targets = []Target{{URL: target, Weight: 1}} })
}

func startProxyTo(tb testing.TB, configure func(*HTTP)) *fasthttputil.InmemoryListener {
	return startSpec(tb, Spec{
		Routes: []Route{{Name: "all", Match: routing.Match{Path: "/*"}, Backend: "up"}},
		Backends: map[string]BackendSpec{"up": {Decode: func(into any) error {
			configure(into.(*HTTP))
			return nil
		}}},
	})
}

func startSpec(tb testing.TB, spec Spec) *fasthttputil.InmemoryListener {
	transport := upstream.NewTransport()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- transport.Run(ctx) }()
	tb.Cleanup(func() { cancel(); <-done })
	p, err := New(Config{Kinds: Kinds(), Transport: transport})
	if err != nil {
		tb.Fatal(err)
	}
	g, err := p.Build(spec)
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
	return ln
}

const (
	smallGet    = "GET /a/b?c=d HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n"
	smallAnswer = "HTTP/1.1 200 OK\r\nServer: raw\r\nDate: Tue, 24 Nov 2026 04:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
)

// roundTrips sends n requests one after the other and reads their answers.
func roundTrips(tb testing.TB, c net.Conn, r *bufio.Reader, n int) {
	get := []byte(smallGet)
	for range n {
		if _, err := c.Write(get); err != nil {
			tb.Fatal(err)
		}
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				tb.Fatal(err)
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := r.Discard(5); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkForward(b *testing.B) {
	c, err := startProxy(b, startRaw(b, smallAnswer)).Dial()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	roundTrips(b, c, r, 10)
	b.ReportAllocs()
	b.ResetTimer()
	roundTrips(b, c, r, b.N)
}

// TestForwardAllocates holds the forwarding of a small request to no allocation
// at all, in both directions together.
func TestForwardAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, after := range map[string]time.Duration{"plain": 0, "ready to hedge": time.Hour} {
		t.Run(name, func(t *testing.T) { forwardAllocates(t, after) })
	}
}

func forwardAllocates(t *testing.T, hedge time.Duration) {
	one, other := startRaw(t, smallAnswer), startRaw(t, smallAnswer)
	c, err := startProxyTo(t, func(h *HTTP) { h.Targets, h.Hedge.After = to(one, other).Targets, hedge }).Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	roundTrips(t, c, r, 200)
	const n = 5000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	roundTrips(t, c, r, n)
	runtime.ReadMemStats(&after)
	// A garbage collection empties the pools, which is not the exchange's doing.
	if per := float64(after.Mallocs-before.Mallocs) / n; per > 0.1 {
		t.Errorf("%.2f allocations an exchange, want 0", per)
	}
}
