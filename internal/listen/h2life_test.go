package listen

import (
	"crypto/tls"
	"errors"
	"io"
	"syscall"
	"testing"

	"golang.org/x/net/http2"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

// Workers are used again, and end when there is nothing for them to do.
func TestWorkers(t *testing.T) {
	began, held := make(chan struct{}), make(chan struct{})
	s := serving(t, func(st *Stream) {
		if st.Target() == "/held" {
			began <- struct{}{}
			<-held
		}
		answer(5)(st)
	})
	f := newFramer(t, s)
	ask := func(path string) {
		f.open(path, true)
		f.data(5)
	}
	idle := func() int {
		s.workers.mu.Lock()
		defer s.workers.mu.Unlock()
		return len(s.workers.idle)
	}
	for range 50 {
		ask("/")
		until(t, "a worker", func() bool { return idle() > 0 })
	}
	if n := idle(); n > 3 { // one may be asked for while another is on its way back
		t.Errorf("%d workers for one request at a time", n)
	}
	const many = 20
	for range many {
		f.open("/held", true)
	}
	for range many {
		<-began
	}
	for range 5 { // the workers are all busy: others are made
		ask("/")
	}
	close(held)
	f.data(5 * many)
	until(t, "idle workers", func() bool { return idle() > many })
	s.workers.trim(s.clock.Load() + 1)
	if n := idle(); n != 0 {
		t.Errorf("%d workers are left", n)
	}
	ask("/")
}

// A drain is announced first; what the client had sent by the time it heard of
// that is served, and nothing later.
func TestDrainHTTP2(t *testing.T) { ways2(t, testDrainHTTP2) }

func testDrainHTTP2(t *testing.T, way Config) {
	began, held := make(chan struct{}), make(chan struct{})
	s := start(t, way, Handlers{HTTP2: func(st *Stream) {
		if st.Target() == "/held" {
			close(began)
			<-held
		}
		answer(5)(st)
	}})
	f := newFramer(t, s)
	f.open("/held", true)
	<-began
	h := s.conns.all()[0].h2.Load()
	h.mu.Lock()
	h.patience = patience // a slow machine is not a slow client
	h.mu.Unlock()
	done := shutdown(t.Context(), s)
	wantLast := func(last uint32) {
		t.Helper()
		f.until("GOAWAY", func(fr http2.Frame) bool {
			g, ok := fr.(*http2.GoAwayFrame)
			if ok && (g.ErrCode != http2.ErrCodeNo || g.LastStreamID != last) {
				t.Fatalf("%v, want the last stream %d", g, last)
			}
			return ok
		})
	}
	wantLast(h2.MaxID)
	late := f.open("/late", true) // before it is known that we have heard
	last, answered := uint32(0), false
	f.until("the answer and another GOAWAY", func(fr http2.Frame) bool {
		switch fr := fr.(type) {
		case *http2.PingFrame:
			f.must(f.WritePing(true, fr.Data))
		case *http2.DataFrame:
			answered = fr.StreamID == late && fr.StreamEnded()
		case *http2.GoAwayFrame:
			last = fr.LastStreamID
		}
		return answered && last > 0
	})
	if last != late {
		t.Errorf("the last stream is %d, want %d", last, late)
	}
	f.must(f.WriteData(f.open("/too-late", false), true, []byte("body")))
	if _, ended := f.settle(); len(ended) > 0 {
		t.Errorf("%v were answered", ended)
	}
	select {
	case <-done:
		t.Error("Shutdown did not wait")
	default:
	}
	close(held)
	f.data(5)
	for { // the rest is the end
		fr, err := f.ReadFrame()
		if err != nil {
			break
		}
		t.Errorf("got %v", fr)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A client that says GOAWAY is served to the end, and let go.
func TestClientGoesAway(t *testing.T) {
	s := serving(t, answer(5))
	f := newFramer(t, s)
	f.open("/", true)
	f.must(f.WriteGoAway(0, http2.ErrCodeNo, nil))
	f.data(5)
	f.wantGoAway(http2.ErrCodeNo)
	until(t, "no connection", func() bool { return s.Stats() == Stats{} })
}

// Frames that were under way to a stream that was reset here harm nobody; those
// to a stream that ended in order are an error.
func TestLateFrames(t *testing.T) {
	s := serving(t, answer(5))
	f := newFramer(t, s)
	id := f.open("/", false)
	f.data(5)
	f.wantReset(id, http2.ErrCodeNo) // the rest is not needed
	f.must(f.WriteData(id, false, []byte("late")))
	f.must(f.WriteWindowUpdate(id, 1))
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block("/"), EndHeaders: true, EndStream: true}))
	f.must(f.WriteRSTStream(id, http2.ErrCodeCancel))
	f.open("/", true)
	f.data(5)
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.id - 2, BlockFragment: f.block("/"), EndHeaders: true, EndStream: true}))
	f.wantGoAway(http2.ErrCodeProtocol)
}

// A handler that gives up has its stream reset, and one whose client has gone
// learns of it wherever it waits.
func TestStreamEnds(t *testing.T) {
	ended := make(chan error, 1)
	s := serving(t, func(st *Stream) {
		switch st.Target() {
		case "/give-up":
			st.Begin(200)
			_ = st.Send([]byte("half"), false) // the client tells
		case "/read":
			_, err := io.ReadAll(st)
			ended <- err
		case "/write":
			st.Begin(200)
			ended <- st.Send(make([]byte, 1<<20), true)
		case "/interrupted":
			st.Interrupt()
			_, err := st.Read(make([]byte, 1))
			ended <- err
		}
	})
	f := newFramer(t, s)
	f.wantReset(f.open("/give-up", true), http2.ErrCodeInternal)
	for _, path := range []string{"/read", "/write"} {
		id := f.open(path, false)
		if path == "/write" {
			f.data(h2FirstWindow - 4) // and the half before it
		}
		f.settle()
		f.must(f.WriteRSTStream(id, http2.ErrCodeCancel))
		if err := <-ended; !errors.Is(err, ErrClientGone) {
			t.Errorf("%s: %v", path, err)
		}
	}
	id := f.open("/interrupted", false)
	if err := <-ended; !errors.Is(err, errInterrupted) {
		t.Error(err)
	}
	f.wantReset(id, http2.ErrCodeInternal)
}

// Expect: 100-continue is answered once somebody reads.
func TestContinueHTTP2(t *testing.T) {
	s := serving(t, func(st *Stream) {
		if st.Target() == "/read" {
			_, _ = io.Copy(io.Discard, st) // the client tells
		}
		answer(5)(st)
	})
	for path, interim := range map[string]bool{"/read": true, "/not": false} {
		f := newFramer(t, s)
		f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(path, "expect", "100-continue"), EndHeaders: true}))
		heads := 0
		f.until("a response", func(fr http2.Frame) bool {
			if fr.Header().Type == http2.FrameHeaders {
				if heads++; heads == 1 && interim {
					f.must(f.WriteData(1, true, []byte("body")))
				}
			}
			return fr.Header().Type == http2.FrameData
		})
		if interim != (heads == 2) {
			t.Errorf("%s: %d heads", path, heads)
		}
	}
}

// Cookies come in one piece, names in lower case, and Host not at all.
func TestFieldsHTTP2(t *testing.T) {
	got := make(chan []h2Field, 1)
	s := serving(t, func(st *Stream) {
		fields := []h2Field{{"", st.Method() + " " + st.Target() + " " + st.Authority()}}
		for i := 0; ; i++ {
			name, value, ok := st.Field(i)
			if !ok {
				break
			}
			fields = append(fields, h2Field{name, value})
		}
		got <- fields
		answer(1)(st)
	})
	f := newFramer(t, s)
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: f.block(
		"/a", "x", "1", "cookie", "a=1", "host", "a.example", "x", "2", "cookie", "b=2", "cookie", "c=3")}))
	want := []h2Field{{"", "POST /a a.example"}, {"x", "1"}, {"cookie", "a=1; b=2; c=3"}, {"x", "2"}}
	if fields := <-got; len(fields) != len(want) {
		t.Errorf("got %q", fields)
	} else {
		for i := range want {
			if fields[i] != want[i] {
				t.Errorf("got %q, want %q", fields[i], want[i])
			}
		}
	}
}

// TLS 1.2 with a cipher suite that is none for HTTP/2 is refused (RFC 9113,
// section 9.2.2).
func TestWeakCipherHTTP2(t *testing.T) {
	s := start(t, Config{HTTP2: true, TLS: standardTLS(t)}, Handlers{HTTP2: answer(5)})
	for suite, code := range map[uint16]http2.ErrCode{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: http2.ErrCodeNo, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA: http2.ErrCodeInadequateSecurity,
	} {
		conn := tls.Client(dialRaw(t, s), &tls.Config{
			InsecureSkipVerify: true, NextProtos: []string{"h2"}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite},
		})
		f := framerOver(t, conn, conn)
		if code != http2.ErrCodeNo {
			f.wantGoAway(code)
			continue
		}
		f.open("/", true)
		f.data(5)
	}
}

// A small request costs no allocation.
func TestServingHTTP2DoesNotAllocate(t *testing.T) {
	name, value, body := []byte("server"), []byte("test"), []byte("hello")
	s := serving(t, func(st *Stream) {
		st.Begin(200)
		st.Add(name, value)
		_ = st.Send(body, true) // the client tells
	})
	f := newFramer(t, s)
	for range 10 { // what is sent is indexed by then
		f.open("/", true)
		f.data(5)
	}
	request := h2.AppendHeaders(nil, 0, f.block("/"), true, h2.MinFrame)
	file, err := f.tcp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd := int(file.Fd())
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	// The response is written in one piece.
	if n := testing.AllocsPerRun(500, func() {
		request[8], request[7], request[6] = byte(f.id), byte(f.id>>8), byte(f.id>>16)
		f.id += 2
		_, _ = syscall.Write(fd, request)
		_, _ = syscall.Read(fd, buf) // see readBare
	}); n > 0 && !raceEnabled {
		t.Errorf("%v allocations a request", n)
	}
}
