package upstream

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// gate is a body whose Read blocks until it is interrupted or fed.
type gate struct {
	feed    chan string
	stop    chan struct{}
	entered chan struct{} // closed by the first Read
	reads   int
}

var errInterrupted = errors.New("interrupted")

func newGate() *gate {
	return &gate{make(chan string, 8), make(chan struct{}), make(chan struct{}), 0}
}

func (g *gate) Read(p []byte) (int, error) {
	if g.reads++; g.reads == 1 {
		close(g.entered)
	}
	select {
	case s, open := <-g.feed:
		if !open {
			return 0, io.EOF
		}
		return copy(p, s), nil
	case <-g.stop:
		return 0, errInterrupted
	}
}

func (g *gate) interrupt() { close(g.stop) }

func TestRequestBytes(t *testing.T) {
	big := strings.Repeat("0123456789", 20000)
	trailer := func() []Field { return []Field{{[]byte("A"), []byte("b")}, {[]byte("C"), []byte("")}} }
	const length = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: "
	const chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, x := range []struct {
		name    string
		body    io.Reader
		length  int
		atHand  bool
		trailer func() []Field
		want    string
	}{
		{"length", strings.NewReader("body"), 4, false, nil, length + "4\r\n\r\nbody"},
		{"length at hand", strings.NewReader("body"), 4, true, nil, length + "4\r\n\r\nbody"},
		{"one byte a read", iotest.OneByteReader(strings.NewReader("body")), 4, false, nil, length + "4\r\n\r\nbody"},
		{"longer than its length", strings.NewReader("body and more"), 4, false, nil, length + "4\r\n\r\nbody"},
		{"longer, at hand", strings.NewReader("body and more"), 4, true, nil, length + "4\r\n\r\nbody"},
		{"end with data", iotest.DataErrReader(strings.NewReader("body")), 4, false, nil, length + "4\r\n\r\nbody"},
		{"large", strings.NewReader(big), 200000, false, nil, length + "200000\r\n\r\n" + big},
		{"large at hand", strings.NewReader(big), 200000, true, nil, length + "200000\r\n\r\n" + big},
		{"announced but empty", nil, 0, false, nil, length + "0\r\n\r\n"},
		{"chunked", strings.NewReader("body"), -1, false, nil, chunked + "4\r\nbody\r\n0\r\n\r\n"},
		{"chunked, end with data", iotest.DataErrReader(strings.NewReader("body")), -1, false, nil, chunked + "4\r\nbody\r\n0\r\n\r\n"},
		{"chunked at hand", strings.NewReader("body body body body"), -1, true, nil, chunked + "13\r\nbody body body body\r\n0\r\n\r\n"},
		{"chunked, one byte a read", iotest.OneByteReader(strings.NewReader("ab")), -1, false, nil, chunked + "1\r\na\r\n1\r\nb\r\n0\r\n\r\n"},
		{"chunked, empty", strings.NewReader(""), -1, false, nil, chunked + "0\r\n\r\n"},
		{"chunked at hand, empty", strings.NewReader(""), -1, true, nil, chunked + "0\r\n\r\n"},
		{"chunked, no body", nil, -1, false, nil, chunked + "0\r\n\r\n"},
		{"trailer", strings.NewReader("body"), -1, false, trailer, chunked + "4\r\nbody\r\n0\r\nA: b\r\nC: \r\n\r\n"},
		{"trailer at hand", strings.NewReader("body"), -1, true, trailer, chunked + "4\r\nbody\r\n0\r\nA: b\r\nC: \r\n\r\n"},
		{"chunked, large at hand", strings.NewReader(big[:70000]), -1, true, nil,
			chunked + "10000\r\n" + big[:65536] + "\r\n1170\r\n" + big[65536:70000] + "\r\n0\r\n\r\n"},
	} {
		t.Run(x.name, func(t *testing.T) {
			got := make(chan string, 1)
			p := pool(t, Config{URL: serve(t, func(p *peer) {
				got <- p.request()
				p.send(ok)
				p.ended()
			})})
			c := post(x.body, x.length)
			c.BodyAtHand = x.atHand
			c.Request.Trailer = x.trailer
			must(t, c, p)
			if s := <-got; s != x.want {
				t.Errorf("sent %.200q; want %.200q", s, x.want)
			}
			wantBody(t, c, "ok")
			if !c.RequestSent() {
				t.Error("request is not sent")
			}
			c.Close()
			wantStats(t, p, 1, 1, 1, 0)
		})
	}
}

func TestManyReadsChunked(t *testing.T) {
	big := strings.Repeat("0123456789", 50000)
	got := make(chan int, 1)
	p := pool(t, Config{URL: serve(t, func(p *peer) {
		p.head()
		n := 0
		for s := ""; !strings.HasPrefix(s, "0"); {
			s, _ = p.in.ReadString('\n')
			if s == "8000\r\n" || len(s) > 6 {
				t.Errorf("chunk size line %q", s)
			}
			m := 0
			for _, c := range strings.ToLower(strings.TrimSpace(s)) {
				m = m*16 + strings.IndexRune("0123456789abcdef", c)
			}
			p.in.Discard(m + 2)
			n += m
		}
		got <- n
		p.send(ok)
		p.ended()
	})})
	c := post(strings.NewReader(big), -1)
	must(t, c, p)
	if n := <-got; n != len(big) {
		t.Errorf("%d bytes arrived", n)
	}
	c.Close()
	wantStats(t, p, 1, 1, 1, 0)
}

func TestRequestBodyFails(t *testing.T) {
	bad := errors.New("bad")
	for _, x := range []struct {
		name   string
		body   io.Reader
		length int
		atHand bool
		want   error
	}{
		{"length", io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(bad)), 5, false, bad},
		{"short", strings.NewReader("ab"), 5, false, errShortBody},
		{"short at hand", strings.NewReader("ab"), 5, true, errShortBody},
		{"none", nil, 5, false, errShortBody},
		{"at hand", iotest.ErrReader(bad), 5, true, bad},
		{"chunked", io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(bad)), -1, false, bad},
		{"chunked at hand", iotest.ErrReader(bad), -1, true, bad},
		{"no progress", neverReader{}, 5, false, io.ErrNoProgress},
	} {
		t.Run(x.name, func(t *testing.T) {
			got := make(chan string, 1)
			p := pool(t, Config{URL: serve(t, func(p *peer) {
				b, _ := io.ReadAll(p.in)
				got <- string(b)
			})})
			c := post(x.body, x.length)
			c.BodyAtHand = x.atHand
			e := wantError(t, do(t, c, p), "http_request_error")
			if !e.RequestBody || !errors.Is(e, x.want) || e.Stale {
				t.Errorf("%+v", e)
			}
			if e.Unsent != (x.atHand || x.body == nil) {
				t.Errorf("unsent is %v", e.Unsent)
			}
			if e.Unsent {
				return
			}
			if s := <-got; strings.Contains(s, "0\r\n\r\n") {
				t.Errorf("the body was ended: %q", s)
			}
			wantStats(t, p, 0, 0, 1, 0)
		})
	}
}

type neverReader struct{}

func (neverReader) Read([]byte) (int, error) { return 0, nil }

// TestEarlyResponse has the target answer before the body is there.
func TestEarlyResponse(t *testing.T) {
	for _, x := range []struct {
		name   string
		length int
		script func(p *peer)
	}{
		{"and wait", 1 << 20, func(p *peer) { p.head(); p.send(ok); p.ended() }},
		{"and wait, chunked", -1, func(p *peer) { p.head(); p.send(ok); p.ended() }},
		{"and close", 1 << 20, func(p *peer) { p.head(); p.send(ok) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			g := newGate()
			p := pool(t, Config{URL: serve(t, x.script)})
			c := post(g, x.length)
			c.Interrupt = g.interrupt
			g.feed <- "some"
			must(t, c, p)
			if c.RequestSent() {
				t.Error("the request is said to be sent")
			}
			wantBody(t, c, "ok")
			within(t, func() { c.Close() })
			wantStats(t, p, 0, 0, 1, 0)
		})
	}
}

// zeros never ends and never blocks.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestEarlyResponseToFlood has the target stop reading, so that the writer
// blocks in a write, and then answer.
func TestEarlyResponseToFlood(t *testing.T) {
	for _, length := range []int{1 << 40, -1} {
		p := pool(t, Config{URL: serve(t, func(p *peer) {
			p.head()
			p.in.Discard(1 << 20)
			p.send("HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\n")
			p.send("much")
			p.ended()
		})})
		c := post(zeros{}, length)
		must(t, c, p)
		if c.Status != 413 {
			t.Errorf("status %d", c.Status)
		}
		wantBody(t, c, "much")
		within(t, func() { c.Close() })
		wantStats(t, p, 0, 0, 1, 0)
	}
}

// TestClosedDuringUpload has the target answer and close at once, so that
// writes fail while the answer is there to read.
func TestClosedDuringUpload(t *testing.T) {
	for range 20 {
		fed := make(chan bool)
		p := pool(t, Config{URL: serve(t, func(p *peer) {
			p.head()
			p.send(ok)
			close(fed)
		})})
		g := newGate()
		c := post(io.MultiReader(strings.NewReader("some"), &after{fed, zeros{}}), 1<<40)
		c.Interrupt = g.interrupt
		must(t, c, p)
		wantBody(t, c, "ok")
		within(t, func() { c.Close() })
	}
}

// after waits for the channel before each Read.
type after struct {
	c chan bool
	io.Reader
}

func (a *after) Read(p []byte) (int, error) { <-a.c; return a.Reader.Read(p) }

// TestCloseDuringUpload ends calls whose target neither reads nor answers, by
// every means, while the writer blocks in a write or in Body.Read.
func TestCloseDuringUpload(t *testing.T) {
	g := newGate()
	blocked := make(chan bool)
	p := pool(t, Config{URL: serve(t, func(p *peer) { p.head(); <-blocked })})
	defer close(blocked)
	for _, body := range []io.Reader{zeros{}, g} {
		c := post(body, -1)
		if body == io.Reader(g) {
			c.Interrupt = g.interrupt
		}
		done := make(chan error)
		go func() { done <- c.Do(p) }()
		if body == io.Reader(g) {
			<-g.entered
		} else {
			eventually(t, "the write blocks", func() bool { return c.wire.sender.wrote.Load() })
		}
		c.Cancel(nil)
		within(t, func() {
			if e := wantError(t, <-done, "connection_terminated"); !e.Canceled || e.Unsent {
				t.Errorf("%+v", e)
			}
		})
		wantStats(t, p, 0, 0, p.Stats().Dials, 0)
	}
}

func TestTargetDiesDuringUpload(t *testing.T) {
	g := newGate()
	p := pool(t, Config{URL: serve(t, func(p *peer) { p.head(); p.reset() })})
	c := post(g, 100)
	c.Interrupt = g.interrupt
	wantError(t, do(t, c, p), "connection_terminated")
	select {
	case <-g.stop:
	default:
		// The write of the head failed or the body was never asked for.
		if g.reads > 0 {
			t.Error("not interrupted")
		}
	}
	wantStats(t, p, 0, 0, 1, 0)
}
