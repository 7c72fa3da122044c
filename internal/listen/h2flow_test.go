package listen

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"golang.org/x/net/http2"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

// serving runs a server of HTTP/2 without TLS.
func serving(t testing.TB, handler func(*Stream)) *Server {
	t.Helper()
	return start(t, Config{HTTP2: true}, Handlers{HTTP2: handler})
}

// answer is a handler that sends so many bytes.
func answer(n int) func(*Stream) {
	return func(st *Stream) {
		st.Begin(200)
		_ = st.Send(bytes.Repeat([]byte("x"), n), true) // the client tells
	}
}

// settle reads up to the answer to a PING, and returns how many bytes of DATA
// came before on each stream, and which streams ended.
func (f *framer) settle() (data map[uint32]int, ended map[uint32]bool) {
	f.t.Helper()
	data, ended = map[uint32]int{}, map[uint32]bool{}
	f.must(f.WritePing(false, [8]byte{'s'}))
	f.until("PING", func(fr http2.Frame) bool {
		if d, ok := fr.(*http2.DataFrame); ok {
			data[d.StreamID] += len(d.Data())
			ended[d.StreamID] = ended[d.StreamID] || d.StreamEnded()
		}
		if r, ok := fr.(*http2.RSTStreamFrame); ok {
			f.t.Errorf("RST_STREAM of %d: %v", r.StreamID, r.ErrCode)
		}
		p, ok := fr.(*http2.PingFrame)
		return ok && p.IsAck()
	})
	return data, ended
}

// data reads so many bytes of DATA on any streams.
func (f *framer) data(n int) {
	f.t.Helper()
	f.until("DATA", func(fr http2.Frame) bool {
		if d, ok := fr.(*http2.DataFrame); ok {
			if n -= len(d.Data()); n < 0 {
				f.t.Fatalf("%d bytes more than the window", -n)
			}
		}
		return n == 0
	})
}

// wantReset reads up to a stream's RST_STREAM.
func (f *framer) wantReset(id uint32, code http2.ErrCode) {
	f.t.Helper()
	f.until("RST_STREAM", func(fr http2.Frame) bool {
		r, ok := fr.(*http2.RSTStreamFrame)
		if ok && (r.StreamID != id || r.ErrCode != code) {
			f.t.Fatalf("%v, want stream %d and %v", r, id, code)
		}
		return ok
	})
}

// A response comes in whatever pieces the client opens its window for.
func TestTinyWindows(t *testing.T) {
	const size, step = 100, 3
	f := newFramer(t, serving(t, answer(size)))
	f.must(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}))
	id := f.open("/", true)
	f.data(1)
	for got := 1; got < size; got += step {
		if data, _ := f.settle(); data[id] > 0 {
			t.Fatalf("%d bytes beyond the window", data[id])
		}
		f.must(f.WriteWindowUpdate(id, step))
		f.data(min(step, size-got))
	}
	f.id = id + 2
	f.must(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: size}))
	f.open("/", true) // the first has ended in order
	f.data(size)
}

// All streams share the connection's window, and each gets its part of it.
func TestConnectionWindow(t *testing.T) {
	const streams, part = 4, h2.MinFrame
	f := newFramer(t, serving(t, answer(1<<20)))
	f.must(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	for range streams {
		f.open("/", true)
	}
	begun, bytes := 0, 0
	f.until("all responses", func(fr http2.Frame) bool {
		switch fr := fr.(type) {
		case *http2.HeadersFrame:
			begun++
		case *http2.DataFrame:
			bytes += len(fr.Data())
		}
		return begun == streams && bytes == h2FirstWindow
	})
	f.settle()
	total := map[uint32]int{}
	for range 3 * streams {
		f.must(f.WriteWindowUpdate(0, part))
		left := part
		f.until("DATA", func(fr http2.Frame) bool {
			if d, ok := fr.(*http2.DataFrame); ok {
				left -= len(d.Data())
				total[d.StreamID] += len(d.Data())
			}
			return left <= 0
		})
		if left < 0 {
			t.Fatalf("%d bytes beyond the window", -left)
		}
	}
	if len(total) != streams {
		t.Errorf("only these were served: %v", total)
	}
}

// A window that SETTINGS made negative has to be filled up first (RFC 9113,
// section 6.9.2).
func TestNegativeWindow(t *testing.T) {
	f := newFramer(t, serving(t, answer(1000)))
	initial := func(n uint32) {
		f.must(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n}))
	}
	initial(100)
	id := f.open("/", true)
	f.data(100)
	initial(10) // -90
	quiet := func(when string) {
		t.Helper()
		if data, _ := f.settle(); data[id] > 0 {
			t.Fatalf("%s: %d bytes beyond the window", when, data[id])
		}
	}
	quiet("negative")
	f.must(f.WriteWindowUpdate(id, 90))
	quiet("at 0")
	f.must(f.WriteWindowUpdate(id, 5))
	f.data(5)
	initial(0) // -10
	initial(17)
	f.data(7)
	quiet("again")
	f.must(f.WriteWindowUpdate(id, 1000-112))
	f.data(1000 - 112)
}

// Windows that exceed 2^31-1 end the stream, or the connection.
func TestWindowOverflow(t *testing.T) {
	s := serving(t, answer(1<<20))
	f := newFramer(t, s)
	id := f.open("/", true)
	f.data(h2FirstWindow)
	f.must(f.WriteWindowUpdate(id, 1<<31-1)) // at 0: as many as may be
	f.settle()
	f.must(f.WriteWindowUpdate(id, 1))
	f.wantReset(id, http2.ErrCodeFlowControl)
	f.must(f.WriteWindowUpdate(0, 1<<31-1))
	f.must(f.WriteWindowUpdate(0, 1))
	f.wantGoAway(http2.ErrCodeFlowControl)

	f = newFramer(t, s)
	id = f.open("/", true)
	f.data(h2FirstWindow)
	f.must(f.WriteWindowUpdate(id, 1<<31-1))
	f.must(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2FirstWindow + 1}))
	f.wantGoAway(http2.ErrCodeFlowControl)
}

// Clients that send more than their windows hold are stopped.
func TestClientExceedsWindow(t *testing.T) {
	held := make(chan struct{})
	defer close(held)
	s := serving(t, func(*Stream) { <-held })
	frame := make([]byte, h2FrameSize)
	f := newFramer(t, s)
	id := f.open("/", false)
	for range h2StreamWindow / h2FrameSize {
		f.must(f.WriteData(id, false, frame))
	}
	f.settle()
	f.must(f.WriteData(id, false, frame[:1]))
	f.wantReset(id, http2.ErrCodeFlowControl)

	f = newFramer(t, s)
	for range h2ConnWindow / h2StreamWindow {
		id := f.open("/", false)
		for range h2StreamWindow / h2FrameSize {
			f.must(f.WriteData(id, false, frame))
		}
	}
	f.settle()
	f.must(f.WriteData(f.open("/", false), false, frame[:1]))
	f.wantGoAway(http2.ErrCodeFlowControl)
}

// A body is taken as the handler reads it, and what nobody reads is given back to
// the connection's window when its stream ends.
func TestBackPressure(t *testing.T) {
	read, done := make(chan int), make(chan error)
	s := serving(t, func(st *Stream) {
		for n := range read {
			_, err := io.ReadFull(st, make([]byte, n))
			done <- err
		}
		st.Begin(200)
		_ = st.Send(nil, true) // the client tells
	})
	f := newFramer(t, s)
	frame := make([]byte, h2FrameSize)
	id := f.open("/", false)
	for range h2StreamWindow / h2FrameSize {
		f.must(f.WriteDataPadded(id, false, frame[:len(frame)-100], make([]byte, 99)))
	}
	more := 0
	updates := func() {
		f.must(f.WritePing(false, [8]byte{}))
		f.until("PING", func(fr http2.Frame) bool {
			if w, ok := fr.(*http2.WindowUpdateFrame); ok && w.StreamID == id {
				more += int(w.Increment)
			}
			p, ok := fr.(*http2.PingFrame)
			return ok && p.IsAck()
		})
	}
	if updates(); more != 0 {
		t.Fatalf("a window of %d bytes for nothing", more)
	}
	read <- h2StreamWindow / 2
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if updates(); more < h2StreamWindow/2 || more > h2StreamWindow/2+400 {
		t.Fatalf("a window of %d bytes for half of the body and its padding", more)
	}
	close(read)
	f.wantReset(id, http2.ErrCodeNo)
	h := s.conns.all()[0].h2.Load()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.window+h.unsaid != h2ConnWindow {
		t.Errorf("of the connection's window %d bytes are lost", h2ConnWindow-h.window-h.unsaid)
	}
}

// Content-Length and DATA have to agree (RFC 9113, section 8.1.1).
func TestLengthDisagrees(t *testing.T) {
	read := make(chan error, 1)
	s := serving(t, func(st *Stream) {
		_, err := io.Copy(io.Discard, st)
		read <- err
		st.Begin(200)
		_ = st.Send(nil, true) // the client tells
	})
	for _, c := range []struct {
		name, length string
		pieces       []string
		want         http2.ErrCode
	}{
		{"agrees", "5", []string{"ab", "cde"}, http2.ErrCodeNo}, {"too short", "5", []string{"ab", "cd"}, http2.ErrCodeProtocol},
		{"too long", "5", []string{"ab", "cdef"}, http2.ErrCodeProtocol}, {"not empty", "0", []string{"a"}, http2.ErrCodeProtocol},
		{"empty", "0", []string{""}, http2.ErrCodeNo},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFramer(t, s)
			block := f.block("/", "content-length", c.length)
			f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}))
			for i, piece := range c.pieces {
				f.must(f.WriteData(1, i == len(c.pieces)-1, []byte(piece)))
			}
			f.until("the end", func(fr http2.Frame) bool {
				if r, ok := fr.(*http2.RSTStreamFrame); ok && (r.ErrCode != c.want || c.want == http2.ErrCodeNo) {
					t.Errorf("RST_STREAM with %v", r.ErrCode)
				}
				return fr.Header().Type == http2.FrameRSTStream || fr.Header().Type == http2.FrameHeaders
			})
			if err := <-read; (err == nil) != (c.want == http2.ErrCodeNo) {
				t.Errorf("the handler read %v", err)
			}
		})
	}
}

// Neither a handler that waits nor a client that opens no window for one stream
// holds up others.
func TestHeadOfLine(t *testing.T) {
	ways2(t, func(t *testing.T, way Config) {
		held := make(chan struct{})
		defer close(held)
		s := start(t, way, Handlers{HTTP2: func(st *Stream) {
			switch st.Target() {
			case "/held":
				<-held
			case "/large":
				answer(1 << 20)(st)
			default:
				answer(5)(st)
			}
		}})
		f := newFramer(t, s)
		f.must(f.WriteWindowUpdate(0, 1<<30))
		for range h2Streams/2 - 1 {
			f.open("/held", true)
			f.open("/large", true)
		}
		for range 20 {
			want := f.open("/small", true)
			f.until("an answer", func(fr http2.Frame) bool {
				d, ok := fr.(*http2.DataFrame)
				return ok && d.StreamID == want && d.StreamEnded()
			})
		}
	})
}

// A handler that sends what it must not is told, and its client gets no broken
// frames.
func TestResponseOrder(t *testing.T) {
	faults := make(chan [4]error, 1)
	f := newFramer(t, serving(t, func(st *Stream) {
		var got [4]error
		_, got[0] = st.Write([]byte("early"))
		got[1] = st.End()
		st.Begin(103)
		st.Add([]byte("Link"), []byte("</a>"))
		if err := st.Send(nil, false); err != nil {
			t.Error(err)
		}
		st.Begin(200)
		if err := st.Send([]byte("a"), false); err != nil {
			t.Error(err)
		}
		if _, err := st.Write([]byte("b")); err != nil {
			t.Error(err)
		}
		st.Add([]byte("X-Sum"), []byte("1"))
		if err := st.End(); err != nil {
			t.Error(err)
		}
		_, got[2] = st.Write([]byte("late"))
		got[3] = st.Send(nil, true)
		faults <- got
	}))
	f.open("/", true)
	kinds := ""
	f.until("the end", func(fr http2.Frame) bool {
		switch fr := fr.(type) {
		case *http2.HeadersFrame:
			kinds += "H"
			return fr.StreamEnded()
		case *http2.DataFrame:
			kinds += string(fr.Data())
		}
		return false
	})
	if kinds != "HHabH" {
		t.Errorf("the client got %s", kinds)
	}
	got := <-faults
	for i, want := range []error{errUnheaded, errUnheaded, errEnded, errEnded} {
		if !errors.Is(got[i], want) {
			t.Errorf("%d: %v, want %v", i, got[i], want)
		}
	}
}
