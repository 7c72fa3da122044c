package upstream

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestReuse(t *testing.T) {
	p := pool(t, Config{URL: serve(t, answers(ok, ok, ok))})
	c := get("/")
	for i := range 3 {
		must(t, c, p)
		wantStats(t, p, 1, 0, 1, uint64(i))
		wantBody(t, c, "ok")
		c.Close()
		c.Close()
		wantStats(t, p, 1, 1, 1, uint64(i))
	}
}

func TestLastUsedFirst(t *testing.T) {
	p := pool(t, Config{URL: serve(t, answers(ok, ok, ok))})
	var calls [3]*Call
	var conns [3]*conn
	for i := range calls {
		calls[i] = get("/")
		must(t, calls[i], p)
		conns[i] = calls[i].wire.conn
	}
	for _, c := range calls {
		c.Close()
	}
	wantStats(t, p, 3, 3, 3, 0)
	must(t, calls[0], p)
	if calls[0].wire.conn != conns[2] {
		t.Error("not the connection used last")
	}
	calls[0].Close()
}

// Of the connections beyond IdleConnections those are closed that a whole
// stretch between two looks has not needed.
func TestSpareConnections(t *testing.T) {
	tr := NewTransport() // whose Run would look as well
	p, err := tr.Pool(Config{URL: serve(t, answers(ok, ok, ok)), IdleConnections: 1, Connect: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	long := func() int64 { return p.t.now() - int64(time.Hour) }
	use := func(n int) {
		t.Helper()
		calls := make([]*Call, n)
		for i := range calls {
			calls[i] = get("/")
			must(t, calls[i], p)
		}
		for _, c := range calls {
			wantBody(t, c, "ok")
			c.Close()
		}
	}
	use(4)
	p.closeIdle(long())
	wantStats(t, p, 4, 4, 4, 0) // all four were needed since the pool began
	use(3)
	p.closeIdle(long())
	wantStats(t, p, 3, 3, 4, 3)
	p.closeIdle(long())
	wantStats(t, p, 1, 1, 4, 3) // IdleConnections are kept
	use(2)
	wantStats(t, p, 2, 2, 5, 4)
}

// TestUnquiet has the target close or speak on an unused connection: the next
// call must see nothing of it.
func TestUnquiet(t *testing.T) {
	for name, spoil := range map[string]func(p *peer){
		"close":   func(p *peer) { p.Close() },
		"reset":   func(p *peer) { p.reset() },
		"half":    func(p *peer) { p.Conn.(*net.TCPConn).CloseWrite() },
		"speaks":  func(p *peer) { p.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison") },
		"one bit": func(p *peer) { p.send("\n") },
	} {
		for _, stream := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				now := make(chan bool)
				p := pool(t, Config{URL: serve(t, func(p *peer) {
					p.request()
					p.send(ok)
					<-now
					spoil(p)
					p.ended()
				}, answers(ok))})
				c := get("/")
				must(t, c, p)
				c.Close()
				close(now)
				eventually(t, "the target spoils the connection", func() bool { return spoiled(p.idle[0]) })
				if stream {
					c = post(strings.NewReader("body"), 4)
				}
				must(t, c, p)
				wantBody(t, c, "ok")
				c.Close()
				wantStats(t, p, 1, 1, 2, 0)
			})
		}
	}
}

func TestStale(t *testing.T) {
	for name, end := range map[string]func(p *peer){"close": func(p *peer) { p.Close() }, "reset": func(p *peer) { p.reset() }} {
		for _, x := range []string{"GET", "POST at hand", "POST"} {
			t.Run(name+" "+x, func(t *testing.T) {
				p := pool(t, Config{URL: serve(t, func(p *peer) {
					p.request()
					p.send(ok)
					p.request()
					end(p)
				})})
				c := get("/")
				must(t, c, p)
				c.Close()
				if x != "GET" {
					c = post(strings.NewReader("body"), 4)
					c.BodyAtHand = x == "POST at hand"
				}
				e := wantError(t, do(t, c, p), "connection_terminated")
				if !e.Stale || e.Unsent || e.Canceled || e.RequestBody {
					t.Errorf("%+v", e)
				}
				wantStats(t, p, 0, 0, 1, 1)
			})
		}
	}
}

func TestNotStale(t *testing.T) {
	p := pool(t, Config{URL: serve(t, func(p *peer) {
		p.request()
		p.send(ok)
		p.request()
		p.send("H")
	}, func(p *peer) { p.request() })})
	c := get("/")
	must(t, c, p)
	c.Close()
	if e := wantError(t, do(t, c, p), "http_response_incomplete"); e.Stale || e.Unsent {
		t.Errorf("%+v", e)
	}
	if e := wantError(t, do(t, c, p), "connection_terminated"); e.Stale || e.Unsent {
		t.Errorf("on a new connection: %+v", e)
	}
}

func TestMaxConnections(t *testing.T) {
	p := pool(t, Config{URL: serve(t, answers(ok, ok)), MaxConnections: 2})
	a, b, c := get("/"), get("/"), get("/")
	must(t, a, p)
	must(t, b, p)
	if e := wantError(t, do(t, c, p), "connection_limit_reached"); !e.Unsent {
		t.Errorf("%+v", e)
	}
	wantStats(t, p, 2, 0, 2, 0)
	a.Close()
	must(t, c, p)
	wantStats(t, p, 2, 0, 2, 1)
	c.Cancel(nil)
	c.Close()
	b.Close()
	wantStats(t, p, 1, 1, 2, 1)
}

// TestMaxConnectionsParallel counts at the target.
func TestMaxConnectionsParallel(t *testing.T) {
	var mu sync.Mutex
	open, most := 0, 0
	p := pool(t, Config{MaxConnections: 3, URL: serve(t, func(p *peer) {
		mu.Lock()
		open++
		most = max(most, open)
		mu.Unlock()
		for i := 0; i < 3 && p.head() != ""; i++ {
			if i == 2 { // the last answer of a connection says so
				mu.Lock()
				open--
				mu.Unlock()
				p.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
				return
			}
			p.send(ok)
		}
	})})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := get("/")
			for range 100 {
				if err := c.Do(p); err == nil {
					c.Close()
				} else if err.(*Error).Type != "connection_limit_reached" {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if most > 3 {
		t.Errorf("%d connections at once", most)
	}
	if s := p.Stats(); s.InUse != 0 || s.Open != s.Idle {
		t.Errorf("%+v", s)
	}
}

func TestRelease(t *testing.T) {
	ended := make(chan bool, 9)
	tr := NewTransport()
	cfg := Config{URL: serve(t, func(p *peer) {
		answers(ok, ok)(p)
		ended <- true
	})}
	p, err := tr.Pool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Connect = time.Second // the default
	same, err := tr.Pool(cfg)
	if err != nil || same != p {
		t.Fatal("equal configurations are two pools")
	}
	cfg.Header = time.Minute
	if other, err := tr.Pool(cfg); err != nil || other == p {
		t.Fatal("different configurations are one pool")
	}
	cfg.Header = 0
	a, b := get("/"), get("/")
	must(t, a, p)
	must(t, b, p)
	a.Close()
	p.Release()
	wantStats(t, p, 2, 1, 2, 0)
	p.Release()
	<-ended
	wantStats(t, p, 1, 0, 2, 0)
	if again, _ := tr.Pool(cfg); again == p {
		t.Error("a released pool comes back")
	}
	wantBody(t, b, "ok")
	b.Close()
	<-ended
	wantStats(t, p, 0, 0, 2, 0)
	must(t, a, p) // a late attempt of an old generation
	wantBody(t, a, "ok")
	a.Close()
	<-ended
	wantStats(t, p, 0, 0, 3, 0)
}

func TestLateCallIsSwept(t *testing.T) {
	tr := NewTransport()
	p, _ := tr.Pool(Config{URL: serve(t, answers(ok))})
	p.Release()
	tr.sweep(tr.now(), true)
	if len(tr.swept) != 0 {
		t.Fatal("a released pool without connections is swept")
	}
	c := get("/")
	must(t, c, p)
	tr.sweep(tr.now(), true)
	if len(tr.swept) != 1 {
		t.Fatal("a call on a released pool is not swept")
	}
	c.Close()
	tr.sweep(tr.now(), true)
	if len(tr.swept) != 0 {
		t.Fatal("still swept")
	}
}

func TestPoolIdle(t *testing.T) {
	ended := make(chan bool)
	p := pool(t, Config{PoolIdle: time.Millisecond, URL: serve(t, func(p *peer) { answers(ok)(p); close(ended) })})
	c := get("/")
	must(t, c, p)
	c.Close()
	within(t, func() { <-ended })
	eventually(t, "the connection is counted out", func() bool { return p.Stats().Open == 0 })
}

func TestRunEnds(t *testing.T) {
	ended := make(chan bool)
	tr := NewTransport()
	p, _ := tr.Pool(Config{URL: serve(t, func(p *peer) { answers(ok)(p); close(ended) })})
	c := get("/")
	must(t, c, p)
	c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- tr.Run(ctx) }()
	cancel()
	within(t, func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
		<-ended
	})
	wantStats(t, p, 0, 0, 1, 0)
}

func TestStirs(t *testing.T) {
	tr := NewTransport()
	p, _ := tr.Pool(Config{URL: serve(t, func(p *peer) { p.ended() }), Header: time.Millisecond})
	if d := tr.pause(calmSweeps); d != sweepRest || !tr.resting.Load() {
		t.Fatal("does not rest")
	}
	p.busy.Add(1)
	if d := tr.pause(calmSweeps); d != sweepTick || tr.resting.Load() {
		t.Fatal("rests with a call in flight")
	}
	p.busy.Add(-1)
	tr.pause(calmSweeps)
	go tr.stir()
	within(t, func() { <-tr.wake })
	if tr.resting.Load() {
		t.Fatal("rests on")
	}
}

func BenchmarkSweep1000(b *testing.B) {
	tr := NewTransport()
	for i := range 1000 {
		if _, err := tr.Pool(Config{URL: "http://127.0.0.1:80", Header: time.Duration(i)}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		tr.sweep(tr.now(), false)
	}
}
