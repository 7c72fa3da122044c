package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestDeadlineRace sweeps without pause over calls whose time is about as long
// as they take: whatever ends in time must be the answer to its own request.
func TestDeadlineRace(t *testing.T) {
	tr := NewTransport()
	p, err := tr.Pool(Config{Header: 150 * time.Microsecond, Idle: 100 * time.Microsecond, URL: serve(t, func(p *peer) {
		for {
			_, rest, _ := strings.Cut(p.request(), " ")
			target, _, found := strings.Cut(rest, " ")
			if !found {
				return
			}
			p.send("HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(target)) + "\r\n\r\n")
			p.send(target)
		}
	})})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	ctx, cancel := context.WithCancel(context.Background())
	var sweeper, callers sync.WaitGroup
	sweeper.Go(func() {
		for ctx.Err() == nil {
			tr.sweep(tr.now(), false)
		}
	})
	for i := range 6 {
		callers.Go(func() {
			c := get("/")
			for j := range 500 {
				want := "/" + strconv.Itoa(i*1000+j)
				c.Request.Target = []byte(want)
				if i%2 == 1 {
					c.Body, c.Request.ContentLength = strings.NewReader("x"), -1
				}
				err := c.Do(p)
				var got []byte
				if err == nil {
					got, err = io.ReadAll(struct{ io.Reader }{c})
				}
				if err == nil && string(got) != want {
					t.Errorf("%q is answered by %q", want, got)
				}
				if err != nil && !err.(*Error).Timeout() {
					t.Errorf("%+v", err)
				}
				c.Close()
			}
		})
	}
	callers.Wait()
	cancel()
	sweeper.Wait()
	if s := p.Stats(); s.InUse != 0 || s.Open != s.Idle {
		t.Errorf("%+v", s)
	}
}

// TestAnswerBeforeRequest has a target that answers at once and closes, as one
// without room does.
func TestAnswerBeforeRequest(t *testing.T) {
	p := pool(t, Config{Header: patience, URL: serve(t, func(p *peer) {
		p.send("HTTP/1.1 503 Full\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfull")
	})})
	for i := range 60 {
		c := get("/")
		if i%2 == 1 {
			c = post(strings.NewReader("body"), 4)
			c.BodyAtHand = i%4 == 1
		}
		must(t, c, p)
		wantBody(t, c, "full")
		c.Close()
	}
	if s := p.Stats(); s.Open != 0 {
		t.Errorf("%+v", s)
	}
}

// TestExtend has a call outlive the deadline it began with.
func TestExtend(t *testing.T) {
	p := pool(t, Config{URL: serve(t, answers("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"))})
	c := get("/")
	c.Request.Deadline = time.Now().Add(time.Hour)
	must(t, c, p)
	c.Extend(time.Now().Add(-time.Second))
	_, err := body(t, c)
	wantError(t, err, "connection_read_timeout")
	c.Close()
	c.Extend(time.Time{})
	if len(c.Trailers()) != 0 {
		t.Error("trailers of nothing")
	}
}

// TestReset has a call with large buffers begin anew.
func TestReset(t *testing.T) {
	p := pool(t, Config{URL: serve(t, answers("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 40000)+"\r\nContent-Length: 2\r\n\r\nok", ok))})
	c := post(strings.NewReader(strings.Repeat("x", 50000)), 50000)
	c.BodyAtHand = true
	must(t, c, p)
	wantBody(t, c, "ok")
	c.Reset()
	if c.wire.in != nil || c.wire.out != nil || c.Request.Method != nil || c.Response.Fields != nil || c.Status != 0 {
		t.Error("not reset")
	}
	c.Request = get("/").Request
	must(t, c, p)
	c.Reset()
	if c.wire.in == nil {
		t.Error("a small buffer is not kept")
	}
	wantStats(t, p, 1, 1, 1, 1)
}

// TestDoAgainCloses has Do on an open call close it first.
func TestDoAgainCloses(t *testing.T) {
	p := pool(t, Config{URL: serve(t, answers(ok, ok))})
	c := get("/")
	must(t, c, p)
	must(t, c, p)
	c.Close()
	wantStats(t, p, 1, 1, 1, 1)
}

// TestPartialWrite has the kernel take a request in pieces, or not at all.
func TestPartialWrite(t *testing.T) {
	big := strings.Repeat("0123456789", 6000)
	for _, reads := range []bool{true, false} {
		begin, done := make(chan bool), make(chan bool)
		p := pool(t, Config{Header: soon, URL: serve(t, func(p *peer) {
			p.Conn.(*net.TCPConn).SetReadBuffer(4096)
			p.request()
			p.send(ok)
			<-begin
			if reads {
				if r := p.request(); !strings.HasSuffix(r, big) {
					t.Errorf("%d bytes arrived", len(r))
				}
				p.send(ok)
			}
			<-done
		})})
		c := get("/")
		must(t, c, p)
		c.Close()
		if reads {
			p.cfg.Header = patience
		}
		p.idle[0].tcp.SetWriteBuffer(4096)
		c = post(strings.NewReader(big), len(big))
		c.BodyAtHand = true
		close(begin)
		if err := do(t, c, p); reads && err != nil {
			t.Error(err)
		} else if !reads {
			wantError(t, err, "http_response_timeout")
		}
		close(done)
		c.Close()
	}
}

// TestClientLeavesRelay has the client reset while the kernel moves the body:
// that is not the target's fault.
func TestClientLeavesRelay(t *testing.T) {
	p := pool(t, Config{Idle: patience, URL: serve(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		for b := make([]byte, 1<<16); ; {
			if _, err := p.Write(b); err != nil {
				return
			}
		}
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
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c := get("/")
	must(t, c, p)
	go func() {
		io.CopyN(io.Discard, client, 1<<20)
		client.(*net.TCPConn).SetLinger(0)
		client.Close()
	}()
	within(t, func() { _, err = c.WriteTo(server) })
	var e *Error
	if err == nil || errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
	c.Close()
	wantStats(t, p, 0, 0, 1, 0)
}

func TestUpgradeBeforeBody(t *testing.T) {
	p := pool(t, Config{URL: serve(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n")
		p.ended()
	})})
	g := newGate()
	c := post(g, 5)
	c.Upgrade, c.Interrupt = []byte("x"), g.interrupt
	wantError(t, do(t, c, p), "http_protocol_error")
	wantStats(t, p, 0, 0, 1, 0)
}
