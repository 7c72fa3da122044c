package listen

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

func TestExpiry(t *testing.T) { ways(t, testExpiry) }

func testExpiry(t *testing.T, way Config) {
	s := start(t, way.with(Config{HeaderTimeout: 300 * time.Millisecond, IdleTimeout: 400 * time.Millisecond}), Handlers{})
	silent := dial(t, s)
	silent.wantEnd()

	slow := dial(t, s)
	slow.send("GET / HTTP/1.1\r\n")
	res := slow.want(408, "too long")
	if res.Header.Get("Content-Type") != "application/problem+json" {
		t.Error(res.Header)
	}
	slow.wantEnd()

	idle := dial(t, s)
	idle.send(get(""))
	idle.want(200, "")
	idle.send("\r\n") // as old clients do behind a body
	idle.wantEnd()

	second := dial(t, s)
	second.send(get("") + "GET / HTTP/1.1\r\nHost: a\r\n")
	second.want(200, "")
	second.want(408, "")
	second.wantEnd()
}

// A connection that has been idle for long enough to be parked goes on.
func TestParked(t *testing.T) { ways(t, testParked) }

func testParked(t *testing.T, way Config) {
	s := start(t, way.with(Config{}), Handlers{})
	c, half := dial(t, s), dial(t, s)
	c.send(get(""))
	c.want(200, "")
	half.send("GET /half HTTP/1.1\r\nHo")
	until(t, "parking", func() bool {
		n := 0
		for _, c := range s.conns.all() {
			if c.parked.Load() {
				n++
			}
		}
		return n == 2 && s.Stats().Idle == 1
	})
	c.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n")
	c.want(200, "GET /again")
	half.send("st: a\r\n\r\n")
	half.want(200, "GET /half")
}

func TestPace(t *testing.T) {
	var p pace
	feed := func(d time.Duration, rate, wanted int64) (slow bool) {
		bytes := p.bytes
		for range int(d / (100 * time.Millisecond)) {
			bytes += rate / 10
			slow = slow || p.tooSlow(100*time.Millisecond, bytes, wanted)
		}
		return slow
	}
	if feed(9*time.Second, 0, 240) {
		t.Error("too early")
	}
	if !feed(2*time.Second, 0, 240) {
		t.Error("not found")
	}
	p = pace{}
	if feed(60*time.Second, 300, 240) {
		t.Error("fast enough")
	}
}

func TestSlowBody(t *testing.T) { ways(t, testSlowBody) }

func testSlowBody(t *testing.T, way Config) {
	s := start(t, way.with(Config{MinBodyRate: 240}), Handlers{})
	c := dial(t, s)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
	until(t, "a reader", func() bool { return len(s.conns.all()) == 1 && s.conns.all()[0].waiting.Load() })
	conn := s.conns.all()[0]
	conn.slow.Store(true) // as the sweeper does, see TestPace
	conn.nudge()
	c.want(408, "slowly")
	c.wantEnd()
}

// canceler tells what it was canceled with.
type canceler chan error

func (c canceler) Cancel(err error) {
	select {
	case c <- err:
	default:
	}
}

func TestClientLeaves(t *testing.T) { ways(t, testClientLeaves) }

func testClientLeaves(t *testing.T, way Config) {
	for _, reset := range []bool{false, true} {
		began, got := make(chan struct{}), make(chan time.Time, 1)
		s := start(t, way.with(Config{}), Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
			x := make(canceler, 1)
			c := own(ctx.Conn())
			c.Attach(x)
			close(began)
			select {
			case err := <-x:
				if errors.Is(err, ErrClientGone) {
					got <- time.Now()
				}
			case <-time.After(patience):
			}
			c.Detach()
		}})
		c := dial(t, s)
		c.send(get(""))
		<-began
		left := time.Now()
		if reset {
			_ = c.tcp.SetLinger(0) // Close then resets
		}
		c.Close()
		select {
		case at := <-got:
			if d := at.Sub(left); d > 500*time.Millisecond {
				t.Errorf("noticed after %v", d)
			}
		case <-time.After(patience):
			t.Fatal("not noticed")
		}
	}
}

// Nothing is canceled by the end of a connection that an exchange no longer
// has to do with.
func TestDetached(t *testing.T) { ways(t, testDetached) }

func testDetached(t *testing.T, way Config) {
	x := make(canceler, 1)
	s := start(t, way.with(Config{}), Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
		c := own(ctx.Conn())
		c.Attach(x)
		for end := time.Now().Add(patience); c.begun.Load() != watchedNow && time.Now().Before(end); {
			time.Sleep(time.Millisecond) // lint:sleep polls for what the sweeper brings about
		}
		c.Detach()
	}})
	for range 3 {
		c := dial(t, s)
		c.send(get(""))
		c.want(200, "")
		c.Close()
	}
	until(t, "no connection", func() bool { return s.Stats() == Stats{} })
	select {
	case err := <-x:
		t.Errorf("canceled: %v", err)
	default:
	}
}

func TestWriteStall(t *testing.T) { ways(t, testWriteStall) }

func testWriteStall(t *testing.T, way Config) {
	ended := make(chan error, 1)
	s := start(t, way.with(Config{WriteStall: 400 * time.Millisecond}), Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(func(c net.Conn) {
			buf := make([]byte, 1<<20)
			for {
				if _, err := c.Write(buf); err != nil {
					ended <- err
					return
				}
			}
		})
	}})
	c := dial(t, s)
	c.send(get(""))
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("still writing")
	}
	until(t, "no connection", func() bool { return s.Stats() == Stats{} })
}

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32",
		"2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := network(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
