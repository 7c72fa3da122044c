package health

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// quick is checks in the rhythm of a test.
func quick(kind string) Active {
	a := defaultActive()
	a.Kind, a.Interval, a.Timeout, a.HealthyAfter, a.UnhealthyAfter = kind, 60*time.Millisecond, 30*time.Millisecond, 1, 2
	return a
}

// TestLife runs a checker of every kind over real sockets, has targets fall ill
// and recover, and counts what is left of it afterwards.
func TestLife(t *testing.T) {
	sick := new(atomic.Bool)
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case sick.Load():
			w.WriteHeader(500)
		case r.ProtoMajor == 2:
			script{200, "application/grpc", frame("\x08\x01"), "0", ""}.ServeHTTP(w, r)
		}
	})
	plain := h2c(t, answer)
	secured, _ := secure(t, "x", false, answer)
	web := httptest.NewServer(answer)
	defer web.Close()
	hung, _ := peer(t, "tcp", "127.0.0.1:0", silent)
	dead := refusing(t)
	before := runtime.NumGoroutine()

	events := make(chan Transition, 1000)
	c, err := NewChecker(Config{Report: func(x Transition) { events <- x }})
	if err != nil {
		t.Fatal(err)
	}
	var mortal, doomed []*Target
	for _, x := range []struct {
		kind, url string
		list      *[]*Target
	}{
		{"http", web.URL, &mortal}, {"http", secured.URL, &mortal}, {"grpc", plain.URL, &mortal},
		{"http", "http://" + hung, &doomed}, {"grpc", "http://" + hung, &doomed}, {"http", "https://" + hung, &doomed},
		{"tcp", "http://" + dead, &doomed}, {"http", "http://" + dead, &doomed},
	} {
		a := quick(x.kind)
		if x.list == &mortal { // a machine that is busy must not make them ill
			a.Interval, a.Timeout, a.UnhealthyAfter = 200*time.Millisecond, 200*time.Millisecond, 1
		}
		g, err := c.Group(x.kind+" "+x.url, a, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		*x.list = append(*x.list, add(t, g, x.url))
	}
	stop := run(t, c)
	defer stop()
	for range doomed {
		next(t, events, false)
	}
	sick.Store(true)
	for range mortal {
		next(t, events, false)
	}
	sick.Store(false)
	for range mortal {
		next(t, events, true)
	}
	for _, x := range doomed {
		if s := x.State(); s.Healthy || s.LastError == "" {
			t.Errorf("%s: %+v", x.name, s)
		}
	}
	stop()
	noMoreGoroutines(t, before)
}

// next waits for one transition; a slow machine may bring others.
func next(t *testing.T, events chan Transition, healthy bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case x := <-events:
			if x.Healthy == healthy {
				return
			}
		case <-deadline:
			t.Fatalf("no transition to healthy %v", healthy)
		}
	}
}

// TestHungResolver has names that never resolve beside a target that is well.
func TestHungResolver(t *testing.T) {
	silentDNS, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silentDNS.Close()
	d := dialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", silentDNS.LocalAddr().String())
	})
	d.Resolver.PreferGo = true
	well, checks := peer(t, "tcp", "127.0.0.1:0", func(c net.Conn) { c.Close() })
	before := runtime.NumGoroutine()
	c, err := NewChecker(Config{Dial: d.DialContext})
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Group("b", quick("tcp"), nil)
	if err != nil {
		t.Fatal(err)
	}
	web, err := c.Group("web", quick("http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var lost []*Target
	for _, name := range []string{"a", "b", "c", "d"} { // net does not end a look-up that two wait for
		lost = append(lost, add(t, g, "http://"+name+".tcp.invalid."), add(t, web, "http://"+name+".web.invalid."))
	}
	good := add(t, g, "http://"+well)
	stop := run(t, c)
	defer stop()
	until(t, "the resolver's targets are down", func() bool {
		for _, x := range lost {
			if x.Healthy() {
				return false
			}
		}
		return true
	})
	n := checks.Load()
	until(t, "the other target is checked", func() bool { return checks.Load() > n+5 })
	if s := good.State(); s.Checked.IsZero() {
		t.Errorf("%+v", s)
	}
	stop()
	noMoreGoroutines(t, before)
}

// TestRemovedConnections: what a removed target's connection held is let go.
func TestRemovedConnections(t *testing.T) {
	gone := make(chan struct{})
	address, _ := peer(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(c)
		close(gone)
	})
	c, err := NewChecker(Config{})
	if err != nil {
		t.Fatal(err)
	}
	a := defaultActive()
	g, err := c.Group("b", a, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	url := "http://localhost:" + port // a name, and the dialer that comes with the checker
	x := add(t, g, url)
	defer run(t, c)()
	until(t, "it is checked", func() bool { return !x.State().Checked.IsZero() })
	if s := x.State(); !s.Healthy {
		t.Fatalf("%+v", s)
	}
	g.Remove(url)
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the connection of a removed target stays")
	}
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// TestAskedWhileChecking asks for states from many goroutines as they change.
func TestAskedWhileChecking(t *testing.T) {
	r := newRecord(time.Now())
	p := &plan{Active: defaultActive()}
	var wg sync.WaitGroup
	turns := new(atomic.Int32)
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				fault := ""
				if (i/10+g)%2 == 0 {
					fault = "down"
				}
				if _, turned := r.note(fault, p, time.Now(), 0); turned {
					turns.Add(1)
				}
				if s := r.state.Load(); s.Successes > 0 && s.Failures > 0 {
					t.Errorf("%+v", s)
				}
			}
		})
	}
	wg.Wait()
	if s := r.state.Load(); s.Healthy != (turns.Load()%2 == 0) {
		t.Errorf("healthy %v after %d transitions", s.Healthy, turns.Load())
	}
}
