package upstream

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// inFlight starts a call and returns where its outcome comes.
func inFlight(c *Call, p *Pool) <-chan error {
	done := make(chan error, 1)
	go func() { done <- c.Do(p) }()
	return done
}

func await(t *testing.T, done <-chan error) (err error) {
	t.Helper()
	within(t, func() { err = <-done })
	return err
}

// TestGoAway has a target say after two requests that it looks at the first
// alone, which it answers: the second goes to another link, if its body is
// still to be had, and else may be sent elsewhere.
func TestGoAway(t *testing.T) {
	for name, code := range map[string]http2.ErrCode{"GET": http2.ErrCodeNo, "at hand": http2.ErrCodeEnhanceYourCalm, "stream": http2.ErrCodeNo} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan bool)
			b, g := get("/"), newGate()
			if name != "GET" {
				b = post(strings.NewReader("body"), 4)
				b.BodyAtHand = true
			}
			if name == "stream" {
				b = post(g, 4)
				b.Interrupt = g.interrupt
			}
			p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
				first := f.request()
				f.request()
				if name == "stream" {
					<-g.entered
				}
				f.locked(func() { f.WriteGoAway(first, code, nil) })
				f.answer(first)
				f.drain()
				close(closed)
			}, (*framed).answerAll)))
			a := get("/")
			first := inFlight(a, p)
			eventually(t, "the first call is on its link", a.onLink)
			err := await(t, inFlight(b, p))
			if name == "stream" {
				if e := wantError(t, err, "destination_unavailable"); !e.Unsent || e.Stale || e.Canceled {
					t.Errorf("%+v", e)
				}
			} else if err != nil {
				t.Error(err)
			} else {
				wantBody(t, b, "ok")
			}
			b.Close()
			if err := await(t, first); err != nil {
				t.Fatal(err)
			}
			ask(t, p) // on another link
			wantBody(t, a, "ok")
			a.Close()
			within(t, func() { <-closed })
			wantIdle(t, p, 1)
		})
	}
}

// onLink reports whether the call has sent its request.
func (c *Call) onLink() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.via.(*stream)
	if !ok {
		return false
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.index >= 0
}

// TestGoAwayBeforeAll has the first request of every link not looked at. That is
// tried a few times, and once where the target is said to be at fault.
func TestGoAwayBeforeAll(t *testing.T) {
	for code, dials := range map[http2.ErrCode]int{http2.ErrCodeNo: maxLinks, http2.ErrCodeInternal: 1} {
		p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
			f.request()
			f.locked(func() { f.WriteGoAway(0, code, nil) })
			f.drain()
		})))
		if e := wantError(t, do(t, get("/"), p), "destination_unavailable"); !e.Unsent {
			t.Errorf("%+v", e)
		}
		if s := p.Stats(); s.Dials != uint64(dials) {
			t.Errorf("%v: %+v", code, s)
		}
	}
}

// TestSpentLink has the only link that is allowed say that it is going away,
// and stay open.
func TestSpentLink(t *testing.T) {
	said := make(chan bool)
	cfg := h2c(serveFrames(t, nil, func(f *framed) {
		f.answer(f.request())
		f.locked(func() { f.WriteGoAway(1, http2.ErrCodeNo, nil) })
		close(said)
		f.drain()
	}, (*framed).answerAll))
	cfg.MaxConnections = 1
	p := pool(t, cfg)
	ask(t, p)
	<-said
	eventually(t, "the GOAWAY has come", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.mux.links) == 0 || !p.mux.links[0].cc.CanTakeNewRequest()
	})
	ask(t, p)
	wantIdle(t, p, 1)
	if s := p.Stats(); s.Dials != 2 {
		t.Errorf("%+v", s)
	}
}

func TestResets(t *testing.T) {
	for _, x := range []struct {
		name   string
		code   http2.ErrCode
		head   bool
		err    string
		unsent bool
	}{
		{"refused", http2.ErrCodeRefusedStream, false, "destination_unavailable", true},
		{"before the head", http2.ErrCodeInternal, false, "connection_terminated", false},
		{"in the body", http2.ErrCodeInternal, true, "http_response_incomplete", false},
		{"refused too late", http2.ErrCodeRefusedStream, true, "http_response_incomplete", false},
		{"without an error, too early", http2.ErrCodeNo, true, "http_response_incomplete", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
				f.answer(f.request())
				s := f.request()
				if x.unsent { // it is tried again
					f.locked(func() { f.WriteRSTStream(s, x.code) })
					s = f.request()
				}
				if x.head {
					f.head(s, false, ":status: 200")
					f.data(s, false, "some")
				}
				f.locked(func() { f.WriteRSTStream(s, x.code) })
				f.answerAll()
			})))
			ask(t, p)
			c := get("/")
			err := do(t, c, p)
			if x.head {
				if err != nil {
					t.Fatal(err)
				}
				_, err = body(t, c)
			}
			if e := wantError(t, err, x.err); e.Unsent != x.unsent || e.Stale || e.Canceled || e.Timeout() {
				t.Errorf("%+v", e)
			}
			c.Close()
			ask(t, p)
			if s := p.Stats(); s.Dials != 1 || s.Open != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestRefusedOnce has a target refuse a stream and then take it.
func TestRefusedOnce(t *testing.T) {
	for _, c := range []*Call{get("/"), post(strings.NewReader("body"), 4)} {
		c.BodyAtHand = true
		p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
			s := f.request()
			f.locked(func() { f.WriteRSTStream(s, http2.ErrCodeRefusedStream) })
			f.answerAll()
		})))
		must(t, c, p)
		wantBody(t, c, "ok")
		c.Close()
		wantIdle(t, p, 1)
	}
}

// TestResetAfterAnswer has the target answer whole and then ask for no more of
// the body, as RFC 9113 (section 8.1) allows.
func TestResetAfterAnswer(t *testing.T) {
	p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
		s := f.request()
		f.answer(s)
		f.locked(func() { f.WriteRSTStream(s, http2.ErrCodeNo) })
		f.answerAll()
	})))
	g := newGate()
	c := post(g, -1)
	c.Interrupt = g.interrupt
	must(t, c, p)
	wantBody(t, c, "ok")
	within(t, func() { c.Close() })
	ask(t, p)
	wantIdle(t, p, 1)
}

// TestCancelResetsStream has one of two calls on a link leave.
func TestCancelResetsStream(t *testing.T) {
	reset := make(chan uint32, 1)
	p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
		a, b := f.request(), f.request()
		f.head(b, false, ":status: 200")
		stream, code := f.reset()
		if code != http2.ErrCodeCancel {
			t.Errorf("reset with %v", code)
		}
		reset <- stream
		f.data(b, true, "ok")
		f.answerAll()
		_ = a
	})))
	a, b := get("/"), get("/")
	first := inFlight(a, p)
	eventually(t, "the first call is on its link", a.onLink)
	must(t, b, p)
	start := time.Now()
	a.Cancel(nil)
	within(t, func() {
		if s := <-reset; s != 1 {
			t.Errorf("stream %d is reset", s)
		}
	})
	t.Logf("reset after %v", time.Since(start))
	if e := wantError(t, await(t, first), "connection_terminated"); !e.Canceled || e.Unsent {
		t.Errorf("%+v", e)
	}
	wantBody(t, b, "ok")
	b.Close()
	ask(t, p)
	wantIdle(t, p, 1)
}

// TestSilence has a target that answers nothing any more, pings neither.
func TestSilence(t *testing.T) {
	for _, head := range []bool{false, true} {
		p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
			s := f.request()
			f.locked(func() { f.mute = true })
			if head {
				f.head(s, false, ":status: 200")
			}
			f.drain()
		}, (*framed).answerAll)))
		setPings(p, soon, soon)
		c := get("/")
		err := do(t, c, p)
		if head {
			if err != nil {
				t.Fatal(err)
			}
			_, err = body(t, c)
		}
		if e := wantError(t, err, "connection_read_timeout"); e.Unsent || e.Stale || !e.Timeout() {
			t.Errorf("%+v", e)
		}
		c.Close()
		wantIdle(t, p, 0)
		ask(t, p)
	}
}

// TestPingsKeepQuietLinks has a target that is silent but alive.
func TestPingsKeepQuietLinks(t *testing.T) {
	answer := make(chan bool)
	p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
		s := f.request()
		go func() { <-answer; f.answer(s) }()
		f.drain()
	})))
	setPings(p, soon/10, patience)
	c := get("/")
	done := inFlight(c, p)
	select {
	case err := <-done:
		t.Error(err)
	case <-time.After(5 * soon):
	}
	close(answer)
	if err := await(t, done); err != nil {
		t.Fatal(err)
	}
	wantBody(t, c, "ok")
	c.Close()
}

// TestWindowStall has the target open no window for a body. The link serves
// others meanwhile and afterwards.
func TestWindowStall(t *testing.T) {
	for _, length := range []int{1 << 20, -1} {
		reset := make(chan http2.ErrCode, 1)
		cfg := h2c(serveFrames(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 10}}, func(f *framed) {
			f.request()
			_, code := f.reset()
			reset <- code
			f.answerAll()
		}))
		cfg.Idle = soon
		p := pool(t, cfg)
		e := wantError(t, do(t, post(zeros{}, length), p), "connection_write_timeout")
		if e.Unsent || e.RequestBody || !e.Timeout() {
			t.Errorf("%+v", e)
		}
		within(t, func() {
			if code := <-reset; code != http2.ErrCodeCancel {
				t.Errorf("reset with %v", code)
			}
		})
		ask(t, p)
		wantIdle(t, p, 1)
	}
}

// TestWindowStallAfterHead is the same once the head is there, when x/net looks
// at no context any more.
func TestWindowStallAfterHead(t *testing.T) {
	for name, stop := range map[string]func(c *Call){
		"cancel": func(c *Call) { c.Cancel(nil) }, "close": func(c *Call) { c.Close() }, "time": nil,
	} {
		t.Run(name, func(t *testing.T) {
			reset := make(chan http2.ErrCode, 1)
			cfg := h2c(serveFrames(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 10}}, func(f *framed) {
				f.head(f.request(), false, ":status: 200")
				_, code := f.reset()
				reset <- code
				f.answerAll()
			}))
			if cfg.Idle = patience; stop == nil {
				cfg.Idle = soon
			}
			p := pool(t, cfg)
			c := post(zeros{}, -1)
			must(t, c, p)
			if stop != nil {
				go func() {
					if name == "cancel" {
						stop(c)
					}
				}()
			}
			if name != "close" {
				_, err := body(t, c)
				if err == nil {
					t.Error("no error")
				}
			}
			within(t, func() { c.Close() })
			within(t, func() { <-reset })
			ask(t, p)
			wantIdle(t, p, 1)
		})
	}
}

// TestWindowStallWithoutBody has the target answer without a body while it
// opens no window for the request's, and say nothing more: the stream ends all
// the same.
func TestWindowStallWithoutBody(t *testing.T) {
	reset := make(chan http2.ErrCode, 1)
	p := pool(t, h2c(serveFrames(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 10}}, func(f *framed) {
		stream := f.request()
		for _, data := f.next().(*http2.DataFrame); !data; _, data = f.next().(*http2.DataFrame) {
		}
		f.head(stream, true, ":status: 204")
		_, code := f.reset()
		reset <- code
		f.answerAll()
	})))
	c := post(zeros{}, -1)
	must(t, c, p)
	wantBody(t, c, "")
	within(t, func() { c.Close(); <-reset })
	ask(t, p)
	wantIdle(t, p, 1)
}

// TestStuckLink has a target stop reading at all, with windows so large that
// the link itself fills: calls still end in time.
func TestStuckLink(t *testing.T) {
	over := make(chan bool)
	cfg := h2c(serveFrames(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}}, func(f *framed) {
		f.locked(func() { f.WriteWindowUpdate(0, 1<<30) })
		f.request()
		<-over
	}))
	defer close(over)
	cfg.Idle, cfg.Header = 3*soon, 3*soon
	p := pool(t, cfg)
	a, b := post(zeros{}, -1), get("/")
	first := inFlight(a, p)
	eventually(t, "the first call is on its link", a.onLink)
	second := inFlight(b, p)
	wantError(t, await(t, first), "connection_write_timeout")
	wantError(t, await(t, second), "http_response_timeout")
}

func TestStreamLimits(t *testing.T) {
	t.Run("one", func(t *testing.T) {
		p := pool(t, h2c(serveFrames(t, maxStreams(1), func(f *framed) {
			for s := f.request(); s != 0; s = f.request() {
				f.head(s, false, ":status: 200|content-length: 2")
				f.data(s, true, "ok")
			}
		})))
		for range 20 { // in turn they share one link
			ask(t, p)
		}
		wantStats(t, p, 1, 1, 1, 19)
		var calls [5]*Call
		for i := range calls {
			calls[i] = get("/")
			must(t, calls[i], p)
		}
		wantStats(t, p, 5, 0, 5, 20)
		for _, c := range calls {
			wantBody(t, c, "ok")
			c.Close()
		}
		wantStats(t, p, 5, 5, 5, 20)
	})
	t.Run("one, and one connection", func(t *testing.T) {
		proceed := make(chan bool)
		cfg := h2c(serveFrames(t, maxStreams(1), func(f *framed) {
			s := f.request()
			f.head(s, false, ":status: 200|content-length: 2")
			<-proceed
			f.data(s, true, "ok")
			f.answerAll()
		}))
		cfg.MaxConnections = 1
		p := pool(t, cfg)
		a := get("/")
		must(t, a, p)
		if e := wantError(t, do(t, get("/"), p), "connection_limit_reached"); !e.Unsent {
			t.Errorf("%+v", e)
		}
		close(proceed)
		wantBody(t, a, "ok")
		a.Close()
		ask(t, p)
		wantStats(t, p, 1, 1, 1, 1)
	})
	t.Run("none", func(t *testing.T) {
		p := pool(t, h2c(serveFrames(t, maxStreams(0), (*framed).drain)))
		if e := wantError(t, do(t, get("/"), p), "destination_unavailable"); !e.Unsent {
			t.Errorf("%+v", e)
		}
		wantStats(t, p, 0, 0, 1, 0)
	})
	for name, max := range map[string]int{"ours": 0, "ours, and one connection": 1} {
		t.Run(name, func(t *testing.T) {
			release := make(chan bool)
			cfg := Config{MaxConnections: max}
			p := startTarget(t, "h2c", cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release; io.WriteString(w, "ok") }))
			calls := make([]*Call, linkStreams+1)
			var dones []<-chan error
			for i := range calls {
				calls[i] = get("/")
				dones = append(dones, inFlight(calls[i], p))
			}
			eventually(t, "all calls are on links", func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return len(p.mux.streams) == len(calls)
			})
			links := 2 - max
			if s := p.Stats(); s.Open != links || s.Dials != uint64(links) {
				t.Errorf("%+v", s)
			}
			close(release)
			for i, done := range dones {
				if err := await(t, done); err != nil {
					t.Fatal(err)
				}
				wantBody(t, calls[i], "ok")
				calls[i].Close()
			}
			wantIdle(t, p, links)
		})
	}
}

// TestLinkLost has connections end under calls.
func TestLinkLost(t *testing.T) {
	p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
		f.answer(f.request())
		f.request()
	}, func(f *framed) {
		f.request()
		f.request()
	}, func(f *framed) {
		f.head(f.request(), false, ":status: 200")
	}, func(f *framed) {
		f.head(f.request(), false, ":status: 103")
	})))
	ask(t, p)
	if e := wantError(t, do(t, get("/"), p), "connection_terminated"); !e.Stale || e.Unsent {
		t.Errorf("alone on a used link: %+v", e)
	}
	first := inFlight(get("/"), p)
	second := inFlight(get("/"), p)
	for _, done := range []<-chan error{first, second} {
		if e := wantError(t, await(t, done), "connection_terminated"); e.Stale || e.Unsent {
			t.Errorf("on a new link: %+v", e)
		}
	}
	c := get("/")
	must(t, c, p)
	_, err := body(t, c)
	wantError(t, err, "http_response_incomplete")
	c.Close()
	if e := wantError(t, do(t, get("/"), p), "http_response_incomplete"); e.Stale || e.Unsent {
		t.Errorf("after an interim head: %+v", e)
	}
	wantIdle(t, p, 0)
}

// TestClosedWhileUnused has the target close an unused link, with and without a
// word: the next call must not notice.
func TestClosedWhileUnused(t *testing.T) {
	for _, word := range []bool{false, true} {
		p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
			f.answer(f.request())
			if word {
				f.locked(func() { f.WriteGoAway(1, http2.ErrCodeNo, nil) })
			}
		})))
		for range 20 {
			ask(t, p)
			eventually(t, "the link is gone", func() bool { return p.Stats().Open == 0 })
		}
	}
}

func TestNotHTTP2(t *testing.T) {
	for name, x := range map[string]struct{ say, err string }{
		"HTTP/1":  {"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "http_protocol_error"},
		"nothing": {"", "connection_terminated"},
	} {
		t.Run(name, func(t *testing.T) {
			p := pool(t, h2c(serve(t, func(p *peer) { p.in.Peek(1); p.send(x.say); p.in.Discard(24) })))
			if e := wantError(t, do(t, get("/"), p), x.err); !e.Unsent {
				t.Errorf("%+v", e)
			}
			wantStats(t, p, 0, 0, 1, 0)
		})
	}
	t.Run("silence", func(t *testing.T) {
		cfg := h2c(serve(t, func(p *peer) { p.ended() }))
		cfg.Connect = soon
		p := pool(t, cfg)
		if e := wantError(t, do(t, get("/"), p), "connection_timeout"); !e.Unsent {
			t.Errorf("%+v", e)
		}
		wantStats(t, p, 0, 0, 1, 0)
	})
	for name, protos := range map[string][]string{"no ALPN": nil, "another": {"http/1.1"}} {
		t.Run(name, func(t *testing.T) {
			ca, cert := authority(t, "upstream.test")
			p := pool(t, Config{
				URL:      serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protos}, answers(ok)),
				Protocol: "h2", TLS: TLS{ServerName: "upstream.test", CAFile: ca},
			})
			if e := wantError(t, do(t, get("/"), p), "tls_protocol_error"); !e.Unsent {
				t.Errorf("%+v", e)
			}
			wantStats(t, p, 0, 0, 1, 0)
		})
	}
}

// TestSharedDial has many calls at once find no link.
func TestSharedDial(t *testing.T) {
	p := pool(t, h2c(serveFrames(t, nil, (*framed).answerAll)))
	var wg sync.WaitGroup
	for range linkStreams {
		wg.Go(func() {
			c := get("/")
			if err := c.Do(p); err != nil {
				t.Error(err)
			}
			c.Close()
		})
	}
	wg.Wait()
	if s := p.Stats(); s.Dials != 1 || s.InUse != 0 {
		t.Errorf("%+v", s)
	}
}

// TestSharedDialFails has those who wait for a link share why there is none,
// but not that the one who made it left.
func TestSharedDialFails(t *testing.T) {
	begun, speak := make(chan bool, 9), make(chan bool)
	p := pool(t, h2c(serve(t, func(p *peer) { begun <- true; <-speak; p.send(strings.Repeat("x", 99)); p.ended() })))
	owner := get("/")
	first := inFlight(owner, p)
	<-begun
	var others []<-chan error
	for range 3 {
		others = append(others, inFlight(get("/"), p))
	}
	eventually(t, "they wait", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.mux.dials) == 1 && p.mux.dials[0].waiting == 4
	})
	owner.Cancel(nil)
	if e := wantError(t, await(t, first), "connection_terminated"); !e.Canceled || !e.Unsent {
		t.Errorf("%+v", e)
	}
	within(t, func() { <-begun }) // another of them dials
	close(speak)
	for _, done := range others {
		if e := wantError(t, await(t, done), "http_protocol_error"); !e.Unsent || e.Canceled {
			t.Errorf("%+v", e)
		}
	}
	wantStats(t, p, 0, 0, 2, 0)
}

func TestLinksAreReleased(t *testing.T) {
	closed := make(chan bool, 9)
	tr := NewTransport()
	cfg := h2c(serveFrames(t, maxStreams(1), func(f *framed) { f.answerAll(); closed <- true }))
	p, err := tr.Pool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := tr.Pool(cfg); err != nil || same != p {
		t.Fatal("equal configurations are two pools")
	}
	other := cfg
	other.Protocol = ""
	if q, err := tr.Pool(other); err != nil || q == p {
		t.Fatal("two protocols share a pool")
	}
	a, b := get("/"), get("/")
	must(t, a, p)
	must(t, b, p)
	a.Close()
	p.Release()
	wantStats(t, p, 2, 1, 2, 0)
	p.Release()
	<-closed
	wantStats(t, p, 1, 0, 2, 0)
	wantBody(t, b, "ok")
	b.Close()
	<-closed
	wantIdle(t, p, 0)
	tr.sweep(tr.now(), true)
	if len(tr.swept) != 1 { // the other one
		t.Error("a released pool without links is swept")
	}
	must(t, a, p) // a late attempt of an old generation
	tr.sweep(tr.now(), true)
	if len(tr.swept) != 2 {
		t.Error("a call on a released pool is not swept")
	}
	wantBody(t, a, "ok")
	a.Close()
	<-closed
	wantIdle(t, p, 0)
}

func TestLinksFallIdle(t *testing.T) {
	cfg := h2c(serveFrames(t, maxStreams(1), (*framed).answerAll))
	cfg.IdleConnections = 2
	p := pool(t, cfg)
	var calls [4]*Call
	for i := range calls {
		calls[i] = get("/")
		must(t, calls[i], p)
	}
	for _, c := range calls {
		c.Close()
	}
	wantIdle(t, p, 2)
	p.closeIdle(p.t.now() - int64(time.Hour))
	wantIdle(t, p, 2)
	a := get("/")
	must(t, a, p)
	p.closeIdle(p.t.now())
	wantStats(t, p, 1, 0, 4, 1)
	wantBody(t, a, "ok")
	a.Close()
}

func TestNoUpgradeOverHTTP2(t *testing.T) {
	p := pool(t, h2c(serveFrames(t, nil, (*framed).drain)))
	c := get("/")
	c.Upgrade = []byte("websocket")
	if e := wantError(t, do(t, c, p), "http_upgrade_failed"); !e.Unsent {
		t.Errorf("%+v", e)
	}
	if conn, _ := c.Upgraded(); conn != nil {
		t.Error("upgraded")
	}
	wantStats(t, p, 0, 0, 0, 0)
}

// TestBothWays has request and response go on beside each other, as streams of
// gRPC do, and end with trailers.
func TestBothWays(t *testing.T) {
	for _, carrier := range []string{"h2c", "h2"} {
		p := startTarget(t, carrier, Config{Idle: patience}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Te") != "trailers" {
				t.Errorf("TE is %q", r.Header["Te"])
			}
			w.(http.Flusher).Flush()
			for b := make([]byte, 99); ; {
				n, err := r.Body.Read(b)
				w.Write(bytes.ToUpper(b[:n]))
				w.(http.Flusher).Flush()
				if err != nil {
					break
				}
			}
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		}))
		g := newGate()
		c := post(g, -1)
		c.TrailersWanted = true
		must(t, c, p)
		if c.RequestSent() {
			t.Error("the request is said to be sent")
		}
		for range 3 {
			g.feed <- "abc"
			b := make([]byte, 3)
			within(t, func() {
				if _, err := io.ReadFull(c, b); err != nil || string(b) != "ABC" {
					t.Errorf("%q, %v", b, err)
				}
			})
		}
		close(g.feed)
		wantBody(t, c, "")
		if s := fieldString(c.Trailers()); s != "Grpc-Status=0;" {
			t.Errorf("trailers are %q", s)
		}
		if !c.RequestSent() {
			t.Error("the request is not sent")
		}
		c.Close()
		wantStats(t, p, 1, 1, 1, 0)
	}
}

// TestTrailersOnly is an answer of gRPC that is all head.
func TestTrailersOnly(t *testing.T) {
	p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
		for s := f.request(); s != 0; s = f.request() {
			f.head(s, true, ":status: 200|content-type: application/grpc|grpc-status: 12")
		}
	})))
	for _, c := range []*Call{get("/"), post(strings.NewReader("body"), -1)} {
		must(t, c, p)
		if s := fieldString(c.Response.Fields); s != "Content-Type=application/grpc;Grpc-Status=12;" || c.Response.ContentLength != 0 {
			t.Errorf("head is %s, length %d", s, c.Response.ContentLength)
		}
		if b, whole := c.Buffered(); !whole || len(b) != 0 {
			t.Error("not an empty body")
		}
		wantBody(t, c, "")
		c.Close()
	}
	wantIdle(t, p, 1)
}

// TestClientCertificate has a target that wants one, over both protocols.
func TestClientCertificate(t *testing.T) {
	serverCA, serverCert := authority(t, "upstream.test")
	clientCA, clientCert := authority(t, "client.test")
	certFile, keyFile := clientCA, filepath.Join(t.TempDir(), "key.pem")
	der, err := x509.MarshalPKCS8PrivateKey(clientCert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	leaf, _ := x509.ParseCertificate(clientCert.Certificate[0])
	roots.AddCert(leaf)
	for _, protocol := range []string{"http1", "h2"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, r.TLS.PeerCertificates[0].DNSNames, " ", r.ProtoMajor)
			}),
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots},
			ErrorLog:  nil,
		}
		ended := make(chan struct{})
		go func() { defer close(ended); server.ServeTLS(l, "", "") }()
		t.Cleanup(func() { server.Close(); <-ended })
		cfg := Config{URL: "https://" + l.Addr().String(), Protocol: protocol, TLS: TLS{ServerName: "upstream.test", CAFile: serverCA}}
		e, ok := do(t, get("/"), pool(t, cfg)).(*Error)
		if !ok || e.Type != "tls_protocol_error" && e.Type != "connection_terminated" {
			t.Errorf("%s without a certificate: %+v", protocol, e)
		}
		if protocol == "h2" && !e.Unsent {
			t.Errorf("sent to a target that refuses us: %+v", e)
		}
		cfg.TLS.CertFile, cfg.TLS.KeyFile = certFile, keyFile
		c := get("/")
		must(t, c, pool(t, cfg))
		wantBody(t, c, map[string]string{"http1": "[client.test] 1", "h2": "[client.test] 2"}[protocol])
		c.Close()
	}
}

func TestConfigErrors(t *testing.T) {
	ca, _ := authority(t, "upstream.test")
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for _, x := range []struct {
		cfg  Config
		key  string
		says string
	}{
		{Config{URL: "ftp://a"}, "url", "scheme"},
		{Config{URL: "http://a", Protocol: "h2"}, "protocol", "not an https://"},
		{Config{URL: "unix:/a", Protocol: "h2"}, "protocol", "not an https://"},
		{Config{URL: "https://a", Protocol: "h2c"}, "protocol", "is an https://"},
		{Config{URL: "https://a", Protocol: "h3"}, "protocol", "none of"},
		{Config{URL: "https://a", TLS: TLS{CAFile: missing}}, "tls.ca_file", missing},
		{Config{URL: "https://a", TLS: TLS{CertFile: ca}}, "tls.key_file", "without its key"},
		{Config{URL: "https://a", TLS: TLS{KeyFile: ca}}, "tls.cert_file", "without its certificate"},
		{Config{URL: "https://a", TLS: TLS{CertFile: missing, KeyFile: ca}}, "tls.cert_file", missing},
		{Config{URL: "https://a", TLS: TLS{CertFile: ca, KeyFile: missing}}, "tls.key_file", missing},
		{Config{URL: "https://a", TLS: TLS{CertFile: ca, KeyFile: ca}}, "tls.cert_file", ca},
	} {
		_, err := NewTransport().Pool(x.cfg)
		var e *ConfigError
		if !errors.As(err, &e) || e.Key != x.key || !strings.Contains(e.Error(), x.says) {
			t.Errorf("%+v: %v", x.cfg, err)
		}
	}
}
