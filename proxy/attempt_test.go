package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/routing"
)

// A counted origin counts its requests and answers with its name and the body,
// with whatever status it is told.
type counted struct {
	url    string
	asked  atomic.Int64
	status atomic.Int64
}

func newCounted(t *testing.T, name string, status int) *counted {
	c := &counted{}
	c.status.Store(int64(status))
	c.url = origin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.asked.Add(1)
		w.WriteHeader(int(c.status.Load()))
		fmt.Fprintf(w, "%s%s", name, body)
	})
	return c
}

// unwatched is Health without ejection.
func unwatched() Health {
	return Health{Passive: health.Passive{ConsecutiveFailures: 5, Ejection: time.Hour}}
}

func sized(method, body string) string {
	return fmt.Sprintf("%s / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", method, len(body), body)
}

func status(answer string) int {
	if len(answer) < 12 {
		return 0
	}
	n, _ := strconv.Atoi(answer[9:12])
	return n
}

func TestRetries(t *testing.T) {
	retry := func(on ...string) Retry {
		return Retry{Attempts: 2, On: on, Budget: 1, MaxBody: 8}
	}
	usual := retry("connect", "reset", "502", "503", "504")
	impatient := usual
	impatient.PerAttemptTimeout = 20 * time.Millisecond
	once1 := usual
	once1.Attempts = 1
	late := retry("timeout")
	late.PerAttemptTimeout = 20 * time.Millisecond
	for _, c := range []struct {
		name, first  string // refused, reset, silent, or a status
		method, body string
		retry        Retry
		status       int
		again        bool // whether the other target is asked
	}{
		{"connect, GET", "refused", "GET", "", usual, 200, true},
		{"connect, POST", "refused", "POST", "abc", usual, 200, true},
		{"connect, a long POST", "refused", "POST", "longer than 8", usual, 200, true},
		{"connect, not wanted", "refused", "GET", "", retry("503"), 502, false},
		{"reset, GET", "reset", "GET", "", usual, 200, true},
		{"reset, DELETE", "reset", "DELETE", "", usual, 200, true},
		{"reset, POST", "reset", "POST", "abc", usual, 502, false},
		{"reset, PATCH", "reset", "PATCH", "abc", usual, 502, false},
		{"reset, PUT", "reset", "PUT", "abc", usual, 200, true},
		{"reset, PUT of max_body", "reset", "PUT", "12345678", usual, 200, true},
		{"reset, PUT over max_body", "reset", "PUT", "123456789", usual, 502, false},
		{"reset, not wanted", "reset", "GET", "", retry("connect"), 502, false},
		{"one attempt", "reset", "GET", "", once1, 502, false},
		{"503, GET", "503", "GET", "", usual, 200, true},
		{"503, POST", "503", "POST", "abc", usual, 503, false},
		{"500 stands", "500", "GET", "", usual, 500, false},
		{"500, where wanted", "500", "GET", "", retry("500"), 200, true},
		{"404 stands", "404", "GET", "", usual, 404, false},
		{"timeout counts as 504", "silent", "GET", "", impatient, 200, true},
		{"timeout by its name", "silent", "GET", "", late, 200, true},
		{"timeout, POST", "silent", "POST", "abc", impatient, 504, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var first string
			switch c.first {
			case "refused":
				first = nowhere(t)
			case "reset":
				first = origin(t, func(_ http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					panic(http.ErrAbortHandler)
				})
			case "silent":
				first = newSilent(t).url
			default:
				n, _ := strconv.Atoi(c.first)
				first = newCounted(t, "first", n).url
			}
			other := newCounted(t, "other:", 200)
			h := to(first, other.url)
			h.Retry, h.Health = c.retry, unwatched()
			addr, p := run(t, h)
			got := ask(t, addr, sized(c.method, c.body))
			if status(got) != c.status {
				t.Fatalf("got\n%s", got)
			}
			if c.again != (other.asked.Load() == 1) {
				t.Errorf("the other target was asked %d times", other.asked.Load())
			}
			if c.again && (!strings.HasSuffix(got, "\r\nother:"+c.body) || strings.Contains(got, "first")) {
				t.Errorf("got\n%s", got)
			}
			idle(t, p)
		})
	}
}

// An answer that would be retried stands where nobody else can be asked.
func TestRetryWithoutAnotherTarget(t *testing.T) {
	bad := newCounted(t, "bad", 503)
	h := to(bad.url, nowhere(t))
	h.Retry = Retry{Attempts: 2, On: []string{"connect", "503"}, Budget: 1}
	h.Health = Health{Passive: health.Passive{ConsecutiveFailures: 1, Ejection: time.Hour, MaxEjected: .5}}
	addr, p := run(t, h)
	second := p.gen.Load().backends["up"].Backend.(*httpBackend).pool.Load().targets[1]
	second.observe(health.Ticket{}, health.Failed, time.Now())
	if got := ask(t, addr, plainGet); !strings.HasSuffix(got, "bad") {
		t.Errorf("the answer does not stand:\n%s", got)
	}
	if n := bad.asked.Load(); n != 1 {
		t.Errorf("the only target was asked %d times", n)
	}
	idle(t, p)
}

// A connection may close just when a request comes: that request goes again, on
// a new one, if it may come twice.
func TestStaleConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // the second request of a connection meets its end
				defer c.Close()
				r := bufio.NewReader(c)
				if _, err := http.ReadRequest(r); err == nil {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
					http.ReadRequest(r)
				}
			}()
		}
	}()
	for method, want := range map[string]int{"GET": 200, "POST": 502} {
		addr, p := run(t, to("http://"+ln.Addr().String()))
		if got := ask(t, addr, sized("GET", "")); status(got) != 200 {
			t.Fatalf("got\n%s", got)
		}
		idle(t, p)
		if got := ask(t, addr, sized(method, "")); status(got) != want {
			t.Errorf("%s: got\n%s", method, got)
		}
		idle(t, p)
	}
}

// That a request went again to a target whose connection had closed takes nothing
// from its attempts: there is still one for another target.
func TestStaleConnectionThenAnother(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var asked atomic.Int64
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // answers the first request of all, and hangs up at every other
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					if _, err := http.ReadRequest(r); err != nil || asked.Add(1) > 1 {
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
				}
			}()
		}
	}()
	h := to("http://"+ln.Addr().String(), newCounted(t, "good", 200).url)
	h.Retry = Retry{Attempts: 2, On: []string{"reset"}, Budget: 1, Backoff: 1}
	h.Health = unwatched()
	addr, p := run(t, h)
	for _, want := range []string{"bad", "good", "good"} {
		if got := ask(t, addr, plainGet); status(got) != 200 || last(got) != want {
			t.Errorf("want %s, got\n%s", want, got)
		}
		idle(t, p)
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("the bad target was asked %d times, want once, on the connection that was there, and once on another", n)
	}
}

func TestRetryBudget(t *testing.T) {
	a, b := newCounted(t, "a", 503), newCounted(t, "b", 503)
	h := to(a.url, b.url)
	h.Retry = Retry{Attempts: 5, On: []string{"503"}, Budget: .2, Backoff: 1}
	h.Health = unwatched()
	addr, p := run(t, h)
	const requests = 200
	for range requests {
		if got := ask(t, addr, plainGet); status(got) != 503 {
			t.Fatalf("got\n%s", got)
		}
	}
	if n := a.asked.Load() + b.asked.Load(); n > requests*12/10 || n <= requests {
		t.Errorf("%d attempts for %d requests", n, requests)
	}
	idle(t, p)
}

func breaker(failures int, open time.Duration) *health.Breaker {
	return &health.Breaker{MaxFailures: failures, MinRequests: 1, Window: time.Second, OpenFor: open, HalfOpenRequests: 1}
}

func TestBreakerOpens(t *testing.T) {
	bad := newCounted(t, "sick", 500)
	h := to(bad.url)
	h.Breaker, h.Health = breaker(2, time.Hour), unwatched()
	addr, p := run(t, h)
	for i, want := range []int{500, 500, 503, 503} {
		got := ask(t, addr, plainGet)
		if status(got) != want || want == 503 && (!strings.Contains(got, "\r\nRetry-After: 3600\r\n") || strings.Contains(got, "sick")) {
			t.Errorf("request %d got\n%s", i, got)
		}
	}
	if n := bad.asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	idle(t, p)
}

func TestBreakerFallsBack(t *testing.T) {
	bad := newCounted(t, "bad", 500)
	h := to(bad.url)
	h.Breaker, h.Health, h.Fallback = breaker(1, time.Hour), unwatched(), Fallback{Backend: "spare"}
	spare := newCounted(t, "spare:", 200)
	addr, p := serveProxy(t, Spec{Backends: backends(map[string]any{"up": h, "spare": to(spare.url)}), Routes: []Route{{Match: routing.Match{Path: "/*"}, Backend: "up"}}})
	if got := ask(t, addr, plainGet); status(got) != 500 {
		t.Errorf("got\n%s", got)
	}
	for range 3 {
		if got := ask(t, addr, sized("POST", "abc")); !strings.HasSuffix(got, "spare:abc") {
			t.Errorf("got\n%s", got)
		}
	}
	idle(t, p)
}

func TestBreakerRecovers(t *testing.T) {
	sick := newCounted(t, "sick", 500)
	h := to(sick.url)
	h.Breaker, h.Health = breaker(1, 30*time.Millisecond), unwatched()
	addr, p := run(t, h)
	attend(t, p)
	ask(t, addr, plainGet)
	if s := p.gen.Load().Backends()[0]; s.Breaker != "open" || s.Targets[0].Breaker != "open" {
		t.Errorf("breakers are %s and %s", s.Breaker, s.Targets[0].Breaker)
	}
	sick.status.Store(200)
	eventually(t, "an answer", func() bool { return status(ask(t, addr, plainGet)) == 200 })
	if s := p.gen.Load().Backends()[0]; s.Breaker != "closed" || s.Targets[0].Breaker != "closed" {
		t.Errorf("breakers are %s and %s", s.Breaker, s.Targets[0].Breaker)
	}
	idle(t, p)
}

// One bad target costs its failures and nobody an answer; the backend's own
// breaker goes by what clients get.
func TestBreakerOfOneTarget(t *testing.T) {
	bad, good := newCounted(t, "bad", 503), newCounted(t, "good", 200)
	h := to(bad.url, good.url)
	h.Breaker, h.Health = breaker(2, time.Hour), unwatched()
	h.Retry = Retry{Attempts: 2, On: []string{"503"}, Budget: 1}
	addr, p := run(t, h)
	for range 20 {
		if got := ask(t, addr, plainGet); status(got) != 200 {
			t.Fatalf("got\n%s", got)
		}
	}
	s := p.gen.Load().Backends()[0]
	if bad.asked.Load() != 2 || s.Breaker != "closed" || s.Targets[0].Breaker != "open" {
		t.Errorf("asked %d times; breakers are %s and %s", bad.asked.Load(), s.Breaker, s.Targets[0].Breaker)
	}
	idle(t, p)
}

// A panic in an attempt gives the place in a half-open breaker back: the next
// request is let through at once.
func TestBreakerAfterPanic(t *testing.T) {
	sick := newCounted(t, "sick", 500)
	h := to(sick.url)
	h.Breaker, h.Health = breaker(1, 500*time.Millisecond), unwatched()
	addr, p := run(t, h)
	attend(t, p)
	ask(t, addr, plainGet)
	sick.status.Store(200)
	one := p.gen.Load().backends["up"].Backend.(*httpBackend).pool.Load().targets[0]
	stats := one.stats
	one.stats = nil // the first use of it is a panic, once the answer is there
	eventually(t, "a panic", func() bool { return status(ask(t, addr, plainGet)) == 500 })
	one.stats = stats
	if got := ask(t, addr, plainGet); status(got) != 200 {
		t.Errorf("after a panic got\n%s", got)
	}
	if s := p.gen.Load().Backends()[0]; s.Breaker != "closed" || s.Targets[0].Breaker != "closed" {
		t.Errorf("breakers are %s and %s", s.Breaker, s.Targets[0].Breaker)
	}
	idle(t, p)
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond) // lint:sleep polls for what no event tells of
	}
}

func TestEjection(t *testing.T) {
	bad, good := newCounted(t, "bad", 500), newCounted(t, "good", 200)
	h := to(bad.url, good.url)
	h.Health = Health{Passive: health.Passive{ConsecutiveFailures: 3, Ejection: time.Hour, MaxEjected: .5}}
	addr, p := run(t, h)
	for range 30 {
		ask(t, addr, plainGet)
	}
	if n := bad.asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
	if s := p.gen.Load().Backends()[0].Targets[0]; s.Available || s.Ejected == "" || s.Ejections != 1 {
		t.Errorf("the target is %+v", s)
	}
	idle(t, p)
}

func TestEjectionEnds(t *testing.T) {
	sick, good := newCounted(t, "sick", 500), newCounted(t, "good", 200)
	h := to(sick.url, good.url)
	h.Health = Health{Passive: health.Passive{ConsecutiveFailures: 1, Ejection: 20 * time.Millisecond, MaxEjected: .5}}
	addr, p := run(t, h)
	attend(t, p)
	ask(t, addr, plainGet)
	sick.status.Store(200)
	eventually(t, "the target's return", func() bool { return strings.HasSuffix(ask(t, addr, plainGet), "sick") })
	idle(t, p)
}

// Checks that were good all along do not see what requests fail by, and leave
// an ejection alone; checks that see the target fail and recover end it.
func TestChecksEndEjection(t *testing.T) {
	good := newCounted(t, "good", 200)
	var checks, requests atomic.Int64
	checks.Store(200)
	requests.Store(500)
	url := origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			w.WriteHeader(int(checks.Load()))
			return
		}
		w.WriteHeader(int(requests.Load()))
		fmt.Fprint(w, "sick")
	})
	h := to(url, good.url)
	var active health.Active
	active.SetDefaults()
	active.Interval = 20 * time.Millisecond
	h.Health = Health{Active: &active, Passive: health.Passive{ConsecutiveFailures: 1, Ejection: time.Hour, MaxEjected: .5}}
	addr, p := run(t, h)
	attend(t, p)
	at := func() (s health.State, ejected bool) {
		for _, t := range p.gen.Load().backends["up"].Backend.(*httpBackend).pool.Load().targets {
			if t.spec.URL == url {
				times, left := t.outlier.Ejected(time.Now())
				s, ejected = t.checked.State(), times > 0 && left > 0
			}
		}
		return s, ejected
	}
	eventually(t, "the ejection", func() bool { ask(t, addr, plainGet); _, out := at(); return out })
	requests.Store(200)
	before, _ := at()
	eventually(t, "more good checks", func() bool { s, _ := at(); return s.Successes > before.Successes+20 })
	if _, out := at(); !out {
		t.Fatal("back, though no check had failed")
	}
	checks.Store(500)
	eventually(t, "bad checks", func() bool { s, _ := at(); return s.Failures > 0 })
	checks.Store(200)
	eventually(t, "the target's return", func() bool { return strings.HasSuffix(ask(t, addr, plainGet), "sick") })
	idle(t, p)
}
