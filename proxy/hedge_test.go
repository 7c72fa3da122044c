package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/routing"
)

// A silent origin tells of each request and answers when it is let, or never:
// until its client has gone.
type silent struct {
	url  string
	got  chan string   // the bodies of requests that are waiting
	left chan struct{} // one for each that was canceled
	let  chan int      // a status for one of those that wait
}

func newSilent(t *testing.T) *silent {
	s := &silent{got: make(chan string, 100), left: make(chan struct{}, 100), let: make(chan int)}
	s.url = origin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.got <- string(body)
		select {
		case status := <-s.let:
			w.WriteHeader(status)
			io.WriteString(w, "late")
		case <-r.Context().Done():
			s.left <- struct{}{}
		case <-time.After(20 * time.Second):
		}
	})
	return s
}

// hedged is a backend whose first target is asked first.
func hedged(after time.Duration, urls ...string) HTTP {
	h := to(urls...)
	h.Hedge = Hedge{After: after, Max: 1}
	h.Balance = routing.Balance{Policy: "round_robin"}
	return h
}

// run serves one backend on every path and returns the proxy besides.
func run(t *testing.T, h HTTP) (addr string, p *Proxy) {
	t.Helper()
	return serveProxy(t, Spec{Backends: backends(map[string]any{"up": h}), Routes: []Route{{Name: "all", Match: routing.Match{Path: "/*"}, Backend: "up"}}})
}

func count(p *Proxy, line string) string {
	var b bytes.Buffer
	p.stats.set.WritePrometheus(&b)
	for one := range strings.Lines(b.String()) {
		if rest, ok := strings.CutPrefix(one, line+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func receive[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		buf := make([]byte, 1<<20)
		t.Fatalf("waited in vain for %s\n%s", what, buf[:runtime.Stack(buf, true)])
	}
	return v
}

// idle waits until no target has an exchange under way and none is lost.
func idle(t *testing.T, p *Proxy) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for {
		busy := p.stats.inFlight.Load()
		for _, b := range p.gen.Load().Backends() {
			for _, target := range b.Targets {
				busy += target.InFlight
			}
		}
		if busy == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d are still under way", busy)
		}
		runtime.Gosched()
	}
}

const plainGet = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

func TestHedgeWins(t *testing.T) {
	slow := newSilent(t)
	firsts, bodies := make(chan string, 10), make(chan string, 10)
	quick := origin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select { // else, on a busy machine, the first may be canceled before it is sent
		case first := <-slow.got:
			firsts <- first
		case <-r.Context().Done():
			return
		}
		bodies <- string(body)
		w.Header().Set("X-Seen", r.Header.Get("X-Mine"))
		w.Header().Set("Content-Length", "50000")
		io.WriteString(w, strings.Repeat("quick", 10_000))
	})
	for _, raw := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\nX-Mine: 1\r\nConnection: close\r\n\r\n",
		"PUT / HTTP/1.1\r\nHost: a\r\nX-Mine: 1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
	} {
		addr, p := run(t, hedged(time.Millisecond, slow.url, quick))
		got := ask(t, addr, raw)
		if !strings.Contains(got, "200 OK") || !strings.Contains(got, "X-Seen: 1") || !strings.HasSuffix(got, strings.Repeat("quick", 10_000)) {
			t.Fatalf("got\n%.300s", got)
		}
		_, body, _ := strings.Cut(raw, "\r\n\r\n")
		if one, other := receive(t, "the first", firsts), receive(t, "the hedge", bodies); one != body || other != body {
			t.Errorf("bodies %q and %q, want %q", one, other, body)
		}
		receive(t, "the loser's end", slow.left)
		idle(t, p)
		if n := count(p, `sluice_hedges_total{backend="up",outcome="won"}`); n != "1" {
			t.Errorf("won %q times", n)
		}
		if n := count(p, fmt.Sprintf(`sluice_attempts_total{backend="up",target=%q,outcome="canceled"}`, slow.url)); n != "1" {
			t.Errorf("%q losers were counted", n)
		}
	}
}

func TestHedgeLoses(t *testing.T) {
	first, second := newSilent(t), newSilent(t)
	addr, p := run(t, hedged(time.Millisecond, first.url, second.url))
	answer := make(chan string, 1)
	go func() { answer <- ask(t, addr, plainGet) }()
	receive(t, "the first", first.got)
	receive(t, "the hedge", second.got)
	first.let <- 200
	if got := receive(t, "an answer", answer); !strings.Contains(got, "200 OK") || !strings.HasSuffix(got, "late") {
		t.Errorf("got\n%s", got)
	}
	receive(t, "the hedge's end", second.left)
	idle(t, p)
	if n := count(p, `sluice_hedges_total{backend="up",outcome="lost"}`); n != "1" {
		t.Errorf("lost %q times", n)
	}
}

func TestHedgeAfterBadAnswers(t *testing.T) {
	t.Run("the first fails, the hedge answers", func(t *testing.T) {
		first, second := newSilent(t), newSilent(t)
		addr, p := run(t, hedged(time.Millisecond, first.url, second.url))
		answer := make(chan string, 1)
		go func() { answer <- ask(t, addr, plainGet) }()
		receive(t, "the first", first.got)
		receive(t, "the hedge", second.got)
		first.let <- 503
		second.let <- 200
		if got := receive(t, "an answer", answer); !strings.Contains(got, "200 OK") {
			t.Errorf("got\n%s", got)
		}
		idle(t, p)
	})
	t.Run("both fail", func(t *testing.T) {
		first, second := newSilent(t), newSilent(t)
		addr, p := run(t, hedged(time.Millisecond, first.url, second.url))
		answer := make(chan string, 1)
		go func() { answer <- ask(t, addr, plainGet) }()
		receive(t, "the first", first.got)
		receive(t, "the hedge", second.got)
		first.let <- 503
		second.let <- 502
		got := receive(t, "an answer", answer)
		if !strings.Contains(got, " 503 ") && !strings.Contains(got, " 502 ") || !strings.HasSuffix(got, "late") {
			t.Errorf("no target's answer stands:\n%s", got)
		}
		idle(t, p)
	})
	t.Run("both break", func(t *testing.T) {
		addr, p := run(t, hedged(time.Millisecond, once(t, ""), once(t, "")))
		defer idle(t, p)
		if got := ask(t, addr, plainGet); !strings.Contains(got, "502 Bad Gateway") {
			t.Errorf("got\n%s", got)
		}
	})
}

func TestHedgeOnlyWhereSafe(t *testing.T) {
	for _, c := range []struct{ name, raw string }{
		{"POST", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"},
		{"a body of unknown length", "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n"},
		{"a body over retry.max_body", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nConnection: close\r\n\r\n123456789"},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := newSilent(t)
			var asked atomic.Int32
			other := origin(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
			h := hedged(time.Nanosecond, first.url, other)
			h.Retry = Retry{Attempts: 2, On: []string{"connect"}, Budget: 1, MaxBody: 8}
			addr, p := run(t, h)
			answer := make(chan string, 1)
			go func() { answer <- ask(t, addr, c.raw) }()
			receive(t, "the request", first.got)
			first.let <- 200
			receive(t, "an answer", answer)
			idle(t, p)
			if n := asked.Load(); n != 0 {
				t.Errorf("another target was asked %d times", n)
			}
		})
	}
	t.Run("no budget", func(t *testing.T) {
		first := newSilent(t)
		var asked atomic.Int32
		other := origin(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
		h := hedged(time.Nanosecond, first.url, other)
		addr, p := run(t, h)
		spent := p.gen.Load().backends["up"].Backend.(*httpBackend).budget
		for spent.Withdraw(time.Now()) {
		}
		answer := make(chan string, 1)
		go func() { answer <- ask(t, addr, plainGet) }()
		receive(t, "the request", first.got)
		first.let <- 200
		receive(t, "an answer", answer)
		idle(t, p)
		if n := asked.Load(); n != 0 {
			t.Errorf("another target was asked %d times", n)
		}
	})
}

// get makes the exchange one of a GET without a connection.
func (x *Exchange) get() {
	x.Request.Method, x.Request.Target, x.Request.Host, x.Request.Version, x.Request.Scheme = []byte("GET"), []byte("/"), []byte("a"), "1.1", "http"
	x.Request.Fields = append(x.Request.Fields, Field{Name: []byte("Host"), Value: []byte("a")})
}

func TestHedgeEndsWithItsClient(t *testing.T) {
	first, second := newSilent(t), newSilent(t)
	p := build(t, Spec{Backends: backends(map[string]any{"up": hedged(time.Millisecond, first.url, second.url)}), Routes: []Route{{Match: routing.Match{Path: "/*"}, Backend: "up"}}})
	x := p.open()
	x.get()
	done := make(chan struct{})
	go func() { p.walk(x); close(done) }()
	receive(t, "the first", first.got)
	receive(t, "the hedge", second.got)
	x.Cancel(context.Canceled)
	receive(t, "the walk's end", done)
	if x.Response.Status != statusClientGone {
		t.Errorf("status %d", x.Response.Status)
	}
	receive(t, "the first's end", first.left)
	receive(t, "the hedge's end", second.left)
	p.finish(x)
	idle(t, p)
}

// Every moment of a race may be the one in which its client leaves.
func TestHedgeCanceledAtAnyTime(t *testing.T) {
	h := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }
	spec := hedged(time.Microsecond, origin(t, h), origin(t, h), origin(t, h))
	spec.Hedge.Max, spec.Retry = 2, Retry{Attempts: 3, On: []string{"connect", "reset"}, Budget: 1, MaxBody: 8}
	p := build(t, Spec{Backends: backends(map[string]any{"up": spec}), Routes: []Route{{Match: routing.Match{Path: "/*"}, Backend: "up"}}})
	statuses := map[int]int{}
	for i := range 300 {
		x := p.open()
		x.get()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			for range i * 20 {
				runtime.Gosched()
			}
			x.Cancel(errors.New("left"))
		}()
		p.walk(x)
		if x.Response.Body != nil {
			io.Copy(io.Discard, x.Response.Body)
		}
		statuses[x.Response.Status]++
		<-gone
		p.finish(x)
	}
	idle(t, p)
	if statuses[200]+statuses[statusClientGone] != 300 {
		t.Errorf("statuses %v", statuses)
	}
}
