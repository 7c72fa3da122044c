package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/routing"
)

// attend runs the proxy until the test ends.
func attend(t *testing.T, p *Proxy) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func one(h HTTP) Spec {
	return Spec{Backends: backends(map[string]any{"up": h}), Routes: []Route{{Name: "all", Match: routing.Match{Path: "/*"}, Backend: "up"}}}
}

// reload puts spec in the place of what p serves.
func reload(t *testing.T, p *Proxy, spec Spec) {
	t.Helper()
	g, err := p.Build(spec)
	if err != nil {
		t.Fatal(err)
	}
	p.Swap(g)
	t.Cleanup(g.Close)
}

func last(answer string) string {
	_, body, _ := strings.Cut(answer, "\r\n\r\n")
	return body
}

func cookieIn(answer string) string {
	_, rest, _ := strings.Cut(answer, "Set-Cookie: ")
	value, _, _ := strings.Cut(rest, ";")
	return value
}

func with(field string) string {
	return "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + field + "\r\n\r\n"
}

func TestSticky(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, b, c := newCounted(t, "a", 200), newCounted(t, "b", 200), newCounted(t, "c", 200)
	urls := map[string]string{"a": a.url, "b": b.url, "c": c.url}
	h := to(a.url, b.url, c.url)
	h.Sticky = &routing.StickyCookie{Cookie: "at", TTL: time.Hour, SecretFile: secret}
	addr, p := run(t, h)
	first := ask(t, addr, plainGet)
	cookie, mine := cookieIn(first), last(first)
	if !strings.HasPrefix(cookie, "at=") || !strings.Contains(first, "; HttpOnly; SameSite=Lax\r\n") {
		t.Fatalf("got\n%s", first)
	}
	stays := func(t *testing.T, addr string) {
		t.Helper()
		for range 6 {
			if got := ask(t, addr, with("Cookie: x=1; "+cookie)); last(got) != mine || cookieIn(got) != "" {
				t.Fatalf("was at %s, got\n%s", mine, got)
			}
		}
	}
	t.Run("the same target", func(t *testing.T) { stays(t, addr) })
	t.Run("in another Cookie field", func(t *testing.T) {
		for range 6 {
			if got := ask(t, addr, with("Cookie: x=1\r\nCookie: y=2; "+cookie)); last(got) != mine || cookieIn(got) != "" {
				t.Fatalf("was at %s, got\n%s", mine, got)
			}
		}
	})
	t.Run("another gateway with the secret", func(t *testing.T) {
		other, _ := run(t, h)
		stays(t, other)
	})
	t.Run("over a reload", func(t *testing.T) {
		reload(t, p, one(h))
		stays(t, addr)
	})
	t.Run("over a reload, without a secret", func(t *testing.T) {
		h := h
		h.Sticky = &routing.StickyCookie{Cookie: "at", TTL: time.Hour}
		addr, p := run(t, h)
		first := ask(t, addr, plainGet)
		reload(t, p, one(h))
		for range 6 {
			if got := ask(t, addr, with("Cookie: "+cookieIn(first))); last(got) != last(first) || cookieIn(got) != "" {
				t.Fatalf("was at %s, got\n%s", last(first), got)
			}
		}
	})
	t.Run("forged", func(t *testing.T) {
		forged := []byte(cookie)
		forged[len(forged)-10] ^= 1
		seen := map[string]bool{}
		for range 6 {
			got := ask(t, addr, with("Cookie: "+string(forged)))
			seen[last(got)] = true
			if cookieIn(got) == "" {
				t.Fatalf("no new cookie in\n%s", got)
			}
		}
		if len(seen) != 3 {
			t.Errorf("a forged cookie led to %v", seen)
		}
	})
	t.Run("draining", func(t *testing.T) {
		if err := p.gen.Load().Drain("up", strings.TrimPrefix(urls[mine], "http://"), true); err != nil {
			t.Fatal(err)
		}
		stays(t, addr)
		for range 6 {
			if got := ask(t, addr, plainGet); last(got) == mine {
				t.Errorf("a new client came to the draining target")
			}
		}
		reload(t, p, one(h))
		if !p.gen.Load().Backends()[0].Targets[strings.Index("abc", mine)].Draining {
			t.Error("a reload ended draining")
		}
		if err := p.gen.Load().Drain("up", urls[mine], false); err != nil {
			t.Fatal(err)
		}
		eventually(t, "new clients", func() bool { return last(ask(t, addr, plainGet)) == mine })
		for _, wrong := range [][2]string{{"no", urls[mine]}, {"up", "http://nowhere"}} {
			if err := p.gen.Load().Drain(wrong[0], wrong[1], true); err == nil {
				t.Errorf("%v could be drained", wrong)
			}
		}
	})
	t.Run("stale", func(t *testing.T) {
		rest := h
		rest.Targets = nil
		for name, url := range urls {
			if name != mine {
				rest.Targets = append(rest.Targets, Target{URL: url, Weight: 1})
			}
		}
		reload(t, p, one(rest))
		got := ask(t, addr, with("Cookie: "+cookie))
		if last(got) == mine || cookieIn(got) == "" || cookieIn(got) == cookie {
			t.Errorf("got\n%s", got)
		}
	})
	t.Run("Secure over TLS", func(t *testing.T) {
		x := p.open()
		x.get()
		x.Request.Scheme, x.Request.TLS = "https", &tls.ConnectionState{}
		p.walk(x)
		if v, _ := x.Response.Header.Lookup("Set-Cookie"); !strings.HasSuffix(v, "; Secure") {
			t.Errorf("the cookie is %q", v)
		}
		p.finish(x)
	})
	idle(t, p)
}

func TestHashPolicies(t *testing.T) {
	for _, policy := range []string{"ring_hash", "maglev"} {
		t.Run(policy, func(t *testing.T) {
			var key routing.Key
			if err := key.UnmarshalText([]byte("header:X-User")); err != nil {
				t.Fatal(err)
			}
			h := to(newCounted(t, "a", 200).url, newCounted(t, "b", 200).url, newCounted(t, "c", 200).url)
			h.Balance = routing.Balance{Policy: policy, Hash: key}
			addr, p := run(t, h)
			backwards := h
			backwards.Targets = []Target{h.Targets[2], h.Targets[0], h.Targets[1]}
			other, _ := run(t, backwards)
			seen := map[string]int{}
			for i := range 40 {
				raw := with(fmt.Sprintf("X-User: %d", i))
				at := last(ask(t, addr, raw))
				if again, there := last(ask(t, addr, raw)), last(ask(t, other, raw)); again != at || there != at {
					t.Errorf("user %d was at %s, %s and, by another gateway, %s", i, at, again, there)
				}
				seen[at]++
			}
			if len(seen) != 3 {
				t.Errorf("40 users are at %v", seen)
			}
			at := last(ask(t, addr, plainGet))
			for range 5 { // all from one address
				if again := last(ask(t, addr, plainGet)); again != at {
					t.Errorf("without the header: %s, then %s", at, again)
				}
			}
			idle(t, p)
		})
	}
}

func TestPrioritiesAndPanic(t *testing.T) {
	a, b, spare := newCounted(t, "a", 200), newCounted(t, "b", 200), newCounted(t, "s", 200)
	h := to(a.url, b.url, spare.url)
	h.Targets[2].Priority = 1
	h.Health = Health{Passive: health.Passive{ConsecutiveFailures: 5, Ejection: time.Hour, MaxEjected: 1}, PanicThreshold: .3}
	addr, p := run(t, h)
	seen := func() (names string) {
		has := map[string]bool{}
		for range 12 {
			has[last(ask(t, addr, plainGet))] = true
		}
		for _, name := range []string{"a", "b", "s"} {
			if has[name] {
				names += name
			}
		}
		return names
	}
	targets := p.gen.Load().backends["up"].Backend.(*httpBackend).pool.Load().targets
	eject := func(t *target) {
		for range 5 {
			t.observe(health.Ticket{}, health.Failed, time.Now())
		}
	}
	for _, step := range []struct {
		eject int
		want  string
	}{{-1, "ab"}, {0, "b"}, {1, "s"}, {2, "abs"}} {
		if step.eject >= 0 {
			eject(targets[step.eject])
		}
		if got := seen(); got != step.want {
			t.Errorf("after target %d was ejected: %q, want %q", step.eject, got, step.want)
		}
	}
	if !p.gen.Load().Backends()[0].Panic {
		t.Error("the API does not tell of panic")
	}
	idle(t, p)
}

func TestConcurrency(t *testing.T) {
	s := newSilent(t)
	h := to(s.url)
	h.Concurrency = limiter.Concurrency{Max: 1, Queue: 1}
	addr, p := serveProxy(t, Spec{Backends: backends(map[string]any{"up": h}), Routes: []Route{
		{Name: "low", Match: routing.Match{Path: "/low"}, Backend: "up"},
		{Name: "high", Match: routing.Match{Path: "/high"}, Backend: "up", Priority: 5},
		{Name: "short", Match: routing.Match{Path: "/short"}, Backend: "up", Timeout: 10 * time.Millisecond},
	}})
	b := p.gen.Load().backends["up"].Backend.(*httpBackend)
	send := func(path string) chan string {
		answer := make(chan string, 1)
		go func() { answer <- ask(t, addr, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") }()
		return answer
	}
	waiting := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprint(n, " waiting"), func() bool { return b.gate.Waiting() == n })
	}
	shed := func(what, got string) {
		t.Helper()
		if status(got) != 503 || !strings.Contains(got, "\r\nRetry-After: 1\r\n") || !strings.Contains(got, "error=connection_limit_reached") {
			t.Errorf("%s got\n%s", what, got)
		}
	}
	first := send("/low")
	receive(t, "the first", s.got)
	x := p.open() // of whose two ends the context's comes first
	x.route, x.deadline = p.gen.Load().routes[0], time.Now().Add(time.Millisecond)
	x.Context()
	x.deadline = time.Time{}
	if err := b.enter(x, time.Now()); problemOf(err).Status != 503 {
		t.Errorf("a client that is still there was taken for gone: %v", err)
	}
	p.finish(x)
	for range 10 { // its time, and nothing else, is over
		shed("who waited too long", receive(t, "an answer", send("/short")))
	}
	low := send("/low")
	waiting(1)
	shed("who found the queue full", receive(t, "an answer", send("/low")))
	high := send("/high")
	shed("who was displaced", receive(t, "an answer", low))
	waiting(1)
	s.let <- 200
	receive(t, "the first answer", first)
	receive(t, "the second", s.got)
	s.let <- 200
	if got := receive(t, "an answer", high); status(got) != 200 {
		t.Errorf("who displaced got\n%s", got)
	}
	idle(t, p)
	if n := b.gate.InFlight(); n != 0 {
		t.Errorf("%d places are lost", n)
	}
	for reason, want := range map[string]string{"full": "1", "displaced": "1", "queue_timeout": "11", "adaptive": "0"} {
		if got := count(p, fmt.Sprintf(`sluice_shed_total{backend="up",reason=%q}`, reason)); got != want {
			t.Errorf("%s were shed for %s, want %s", got, reason, want)
		}
	}
	if got := count(p, `sluice_queue_seconds_count{backend="up"}`); got != "13" {
		t.Errorf("%s have waited", got) // those that were displaced and too late, and one that was not
	}
}

// A client that leaves while it waits leaves the queue, too.
func TestConcurrencyWaiterLeaves(t *testing.T) {
	s := newSilent(t)
	h := to(s.url)
	h.Concurrency = limiter.Concurrency{Max: 1, Queue: 1}
	p := build(t, one(h))
	b := p.gen.Load().backends["up"].Backend.(*httpBackend)
	walk := func() (*Exchange, chan struct{}) {
		x, done := p.open(), make(chan struct{})
		x.get()
		go func() { p.walk(x); close(done) }()
		return x, done
	}
	x, walked := walk()
	receive(t, "the first", s.got)
	y, left := walk()
	eventually(t, "a waiter", func() bool { return b.gate.Waiting() == 1 })
	y.Cancel(context.Canceled)
	receive(t, "the waiter's end", left)
	if y.Response.Status != statusClientGone || b.gate.Waiting() != 0 || b.gate.InFlight() != 1 {
		t.Errorf("status %d, %d wait, %d in flight", y.Response.Status, b.gate.Waiting(), b.gate.InFlight())
	}
	p.finish(y)
	s.let <- 200
	receive(t, "the first's end", walked)
	p.finish(x)
	if b.gate.InFlight() != 0 {
		t.Errorf("%d places are lost", b.gate.InFlight())
	}
	idle(t, p)
}

func TestStateOverReload(t *testing.T) {
	bad, good, slow := newCounted(t, "bad", 500), newCounted(t, "good", 200), newSilent(t)
	h := to(bad.url, good.url)
	h.Health = Health{Passive: health.Passive{ConsecutiveFailures: 1, Ejection: time.Hour, MaxEjected: .5}}
	broken := to(newCounted(t, "x", 500).url)
	broken.Breaker, broken.Health = breaker(1, time.Hour), unwatched()
	spec := func() Spec {
		return Spec{Backends: backends(map[string]any{"up": h, "broken": broken, "slow": to(slow.url)}), Routes: []Route{
			{Name: "up", Match: routing.Match{Path: "/*"}, Backend: "up"},
			{Name: "broken", Match: routing.Match{Path: "/broken"}, Backend: "broken"},
			{Name: "slow", Match: routing.Match{Path: "/slow"}, Backend: "slow"},
		}}
	}
	addr, p := serveProxy(t, spec())
	attend(t, p)
	line := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" }
	ask(t, addr, line("/broken"))
	for range 2 {
		ask(t, addr, plainGet)
	}
	answer := make(chan string, 1)
	go func() { answer <- ask(t, addr, line("/slow")) }()
	receive(t, "the slow request", slow.got)
	for range 3 {
		reload(t, p, spec())
		infos := p.gen.Load().Backends() // broken, slow, up
		if infos[0].Breaker != "open" || infos[0].Targets[0].Breaker != "open" || infos[1].Targets[0].InFlight != 1 || infos[2].Targets[0].Ejected == "" || infos[2].Targets[0].Available {
			t.Errorf("after a reload: %+v", infos)
		}
		if got := ask(t, addr, line("/broken")); status(got) != 503 {
			t.Errorf("the open breaker let through:\n%s", got)
		}
		for range 4 {
			if got := ask(t, addr, plainGet); last(got) != "good" {
				t.Errorf("the ejected target answered:\n%s", got)
			}
		}
	}
	slow.let <- 200
	if got := receive(t, "the slow answer", answer); status(got) != 200 {
		t.Errorf("got\n%s", got)
	}
	idle(t, p)
}
