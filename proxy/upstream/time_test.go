package upstream

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// soon is a time-out that will pass.
const soon = 30 * time.Millisecond

func TestTimeouts(t *testing.T) {
	silent := func(p *peer) { p.ended() }
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
	for _, x := range []struct {
		name   string
		cfg    Config
		script func(p *peer)
		call   func() *Call
		read   string
		err    string
	}{
		{"header", Config{Header: soon}, silent, func() *Call { return get("/") }, "", "http_response_timeout"},
		{"header after part of it", Config{Header: soon}, func(p *peer) { p.request(); p.send("HTTP/1.1 200"); p.ended() },
			func() *Call { return get("/") }, "", "http_response_timeout"},
		{"header after 103", Config{Header: soon}, func(p *peer) { p.request(); p.send("HTTP/1.1 103 E\r\n\r\n"); p.ended() },
			func() *Call { return get("/") }, "", "http_response_timeout"},
		{"header after a body", Config{Header: soon}, func(p *peer) { p.ended() },
			func() *Call { return post(strings.NewReader("body"), 4) }, "", "http_response_timeout"},
		{"header after chunks", Config{Header: soon}, func(p *peer) { p.ended() },
			func() *Call { return post(strings.NewReader("body"), -1) }, "", "http_response_timeout"},
		{"deadline before the head", Config{}, silent, func() *Call {
			c := get("/")
			c.Request.Deadline = time.Now().Add(soon)
			return c
		}, "", "http_response_timeout"},
		{"deadline during upload", Config{Idle: time.Hour}, func(p *peer) { p.ended() }, func() *Call {
			g := newGate()
			c := post(g, 4)
			c.Interrupt = g.interrupt
			c.Request.Deadline = time.Now().Add(soon)
			return c
		}, "", "http_response_timeout"},
		{"deadline long ago", Config{}, silent, func() *Call {
			c := get("/")
			c.Request.Deadline = time.Now().Add(-time.Hour)
			return c
		}, "", "http_response_timeout"},
		{"stalled upload", Config{Idle: soon}, nil, func() *Call { return post(zeros{}, 1<<40) }, "", "connection_write_timeout"},
		{"idle body", Config{Idle: soon}, func(p *peer) { p.request(); p.send(head); p.ended() }, func() *Call { return get("/") }, "Read", "connection_read_timeout"},
		{"idle body, WriteTo", Config{Idle: soon}, func(p *peer) { p.request(); p.send(head); p.ended() }, func() *Call { return get("/") }, "WriteTo", "connection_read_timeout"},
		{"idle body, splice", Config{Idle: soon}, func(p *peer) { p.request(); p.send(head); p.ended() }, func() *Call { return get("/") }, "splice", "connection_read_timeout"},
		{"deadline in the body", Config{}, func(p *peer) { p.request(); p.send(head); p.ended() }, func() *Call {
			c := get("/")
			c.Request.Deadline = time.Now().Add(patience / 50)
			return c
		}, "Read", "connection_read_timeout"},
		{"deadline in the body, splice", Config{Idle: time.Hour}, func(p *peer) { p.request(); p.send(head); p.ended() }, func() *Call {
			c := get("/")
			c.Request.Deadline = time.Now().Add(patience / 50)
			return c
		}, "splice", "connection_read_timeout"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			done := make(chan bool)
			script := x.script
			if script == nil { // reads no body
				script = func(p *peer) { p.head(); <-done }
			}
			x.cfg.URL = serve(t, script)
			defer close(done)
			p := pool(t, x.cfg)
			c := x.call()
			err := do(t, c, p)
			if x.read != "" {
				if err != nil {
					t.Fatal(err)
				}
				within(t, func() { _, err = take(t, c, x.read) })
			}
			if e := wantError(t, err, x.err); !e.Timeout() || e.Stale || e.Canceled || e.RequestBody {
				t.Errorf("%+v", e)
			}
			c.Close()
			wantStats(t, p, 0, 0, p.Stats().Dials, 0)
		})
	}
}

// TestSlowTakerIsNotBlamed has a client that takes nothing for several times
// Idle while the kernel moves the body, with and without bytes to move.
func TestSlowTakerIsNotBlamed(t *testing.T) {
	const size = 64 << 20
	p := pool(t, Config{Idle: 10 * soon, URL: serve(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
		b := make([]byte, 1<<20)
		for range 64 {
			p.Conn.Write(b)
		}
		p.ended()
	})})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := get("/")
	must(t, c, p)
	cn := c.wire.conn
	done := make(chan error, 1)
	go func() {
		n, err := c.WriteTo(server)
		if n != size {
			t.Errorf("%d bytes", n)
		}
		c.Close()
		server.Close()
		done <- err
	}()
	// The sweeper renews the phase by itself: seeing it do so often is seeing
	// the time pass.
	var last int64
	for n := 0; n < 3; {
		eventually(t, "the phase is renewed", func() bool {
			at := cn.head.at.Load()
			renewed := at != last && at > 0
			last = at
			if at == expired {
				t.Fatal("the target is blamed")
			}
			return renewed
		})
		n++
	}
	if n, err := io.Copy(io.Discard, client); n != size {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	wantStats(t, p, 1, 1, 1, 0)
}

// TestSlowReaderIsNotBlamed has a caller that comes back to Read late.
func TestSlowReaderIsNotBlamed(t *testing.T) {
	p := pool(t, Config{Header: time.Hour, Idle: time.Nanosecond, URL: serve(t, answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ok))})
	c := get("/")
	must(t, c, p)
	p.expire(p.t.now() + int64(2*time.Hour))
	wantBody(t, c, "ok")
	c.Close()
	p.expire(p.t.now() + int64(2*time.Hour))
	must(t, c, p)
	c.Close()
	wantStats(t, p, 1, 1, 1, 1)
}

func TestConnectTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tr := NewTransport() // connecting is bounded without Run
	p, _ := tr.Pool(Config{URL: "https://" + l.Addr().String(), Connect: soon})
	// The kernel accepts the connection, but nobody answers the handshake.
	e := wantError(t, do(t, get("/"), p), "connection_timeout")
	if !e.Unsent || !e.Timeout() {
		t.Errorf("%+v", e)
	}
	wantStats(t, p, 0, 0, 1, 0)
	c := get("/")
	c.Request.Deadline = time.Now().Add(soon)
	p, _ = tr.Pool(Config{URL: "https://" + l.Addr().String(), Connect: time.Hour})
	wantError(t, do(t, c, p), "connection_timeout")
}

func TestCancel(t *testing.T) {
	cause := io.ErrNoProgress // any
	t.Run("before", func(t *testing.T) {
		p := pool(t, Config{URL: serve(t, answers(ok, ok))})
		c := get("/")
		c.Cancel(cause)
		e := wantError(t, do(t, c, p), "connection_terminated")
		if !e.Canceled || !e.Unsent || e.Err != cause {
			t.Errorf("%+v", e)
		}
		wantStats(t, p, 0, 0, 0, 0)
		must(t, c, p) // the cancellation is used up
		c.Close()
		c.Cancel(cause)
		must(t, c, p)
		c.Close()
		wantStats(t, p, 1, 1, 1, 1)
		c.Reset()
		c.Cancel(cause)
		if e := wantError(t, do(t, c, p), "connection_terminated"); !e.Canceled {
			t.Errorf("%+v", e)
		}
	})
	t.Run("dial", func(t *testing.T) {
		begun := make(chan bool)
		p := pool(t, Config{Connect: time.Hour, URL: "https" + serve(t, func(p *peer) { p.in.Peek(1); close(begun); p.ended() })[4:]})
		c := get("/")
		go func() { <-begun; c.Cancel(cause) }()
		if e := wantError(t, do(t, c, p), "connection_terminated"); !e.Canceled || !e.Unsent {
			t.Errorf("%+v", e)
		}
		wantStats(t, p, 0, 0, 1, 0)
	})
	t.Run("head", func(t *testing.T) {
		begun := make(chan bool)
		p := pool(t, Config{URL: serve(t, func(p *peer) { p.request(); close(begun); p.ended() })})
		c := get("/")
		go func() { <-begun; c.Cancel(cause); c.Cancel(nil) }()
		if e := wantError(t, do(t, c, p), "connection_terminated"); !e.Canceled || e.Unsent || e.Err != cause {
			t.Errorf("%+v", e)
		}
		wantStats(t, p, 0, 0, 1, 0)
	})
	for _, via := range []string{"Read", "WriteTo", "splice"} {
		t.Run("body by "+via, func(t *testing.T) {
			p := pool(t, Config{URL: serve(t, func(p *peer) {
				p.request()
				p.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
				p.ended()
			})})
			c := get("/")
			must(t, c, p)
			go c.Cancel(cause)
			var err error
			within(t, func() { _, err = take(t, c, via) })
			if e := wantError(t, err, "connection_terminated"); !e.Canceled {
				t.Errorf("%+v", e)
			}
			c.Close()
			wantStats(t, p, 0, 0, 1, 0)
		})
	}
}

// TestCancelRace cancels calls at any moment from other goroutines, on
// connections that many share, and wants no other call to notice.
func TestCancelRace(t *testing.T) {
	p := pool(t, Config{Header: patience, Idle: patience, URL: serve(t, func(p *peer) {
		for p.request() != "" {
			p.send(ok)
		}
	})})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := get("/")
			for j := range 300 {
				ctx, cancel := context.WithCancel(context.Background())
				hit := i%2 == 0
				if i%4 == 0 {
					c.Request = post(strings.NewReader("body"), 4).Request
				}
				done := make(chan bool)
				if hit {
					go func() { defer close(done); <-ctx.Done(); c.Cancel(nil) }()
				}
				if j%3 == 0 {
					cancel()
				}
				err := c.Do(p)
				if err != nil && !(hit && err.(*Error).Canceled) && !err.(*Error).Stale {
					t.Errorf("%+v", err)
				}
				if j%3 == 1 {
					cancel()
				}
				if err == nil {
					b, _ := io.ReadAll(struct{ io.Reader }{c})
					if string(b) != "ok" && !hit {
						t.Errorf("body is %q", b)
					}
				}
				c.Close()
				cancel()
				if hit {
					<-done
				}
			}
		})
	}
	wg.Wait()
	if s := p.Stats(); s.InUse != 0 || s.Open != s.Idle {
		t.Errorf("%+v", s)
	}
}
