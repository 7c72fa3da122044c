//lint:file-ignore SA1019 as in h2.go

package listen

import (
	"io"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
)

// A malformed request that http2.Server answers itself is reset, too (RFC 9113,
// section 8.1.1); the 400 of a handler is a response like others.
func TestMalformedHTTP2(t *testing.T) { ways2(t, testMalformedHTTP2) }

func testMalformedHTTP2(t *testing.T, way Config) {
	s := start(t, way, Handlers{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no", http.StatusBadRequest)
	})})
	f := newFramer(t, s)
	for range 3 {
		own := f.open("/", true)
		id := f.id
		f.id += 2
		f.until("a response", func(fr http2.Frame) bool { return fr.Header().StreamID == own && fr.Header().Type == http2.FrameData })
		f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block("/", "connection", "keep-alive"), EndHeaders: true, EndStream: true}))
		data := false
		f.until("RST_STREAM", func(fr http2.Frame) bool {
			r, ok := fr.(*http2.RSTStreamFrame)
			if ok && (r.StreamID != id || r.ErrCode != http2.ErrCodeProtocol || !data) {
				t.Errorf("%v, after the response %v", r, data)
			}
			data = data || fr.Header().StreamID == id && fr.Header().Type == http2.FrameData
			return ok
		})
	}
	if h := s.conns.all()[0].h2.Load(); h.out.resets.Load() != 3 || h.out.bad.Load() != 0 {
		t.Errorf("%d resets, %d of handlers not seen", h.out.resets.Load(), h.out.bad.Load())
	}
}

// Of a setting that comes several times the last counts.
func TestSettingsTwice(t *testing.T) { ways2(t, testSettingsTwice) }

func testSettingsTwice(t *testing.T, way Config) {
	s := start(t, way, Handlers{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "four bytes and more")
	})})
	f := newFramer(t, s)
	f.must(f.WriteSettings(
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 14},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4}))
	id := f.open("/", true)
	f.until("DATA", func(fr http2.Frame) bool {
		d, ok := fr.(*http2.DataFrame)
		if ok && (d.StreamID != id || string(d.Data()) != "four") {
			t.Errorf("got %q", d.Data())
		}
		return ok
	})
}

// The frames are found however the bytes are cut.
func TestFrameReader(t *testing.T) {
	var stream []byte
	add := func(kind http2.FrameType, flags http2.Flags, id byte, payload ...byte) {
		stream = append(stream, 0, 0, byte(len(payload)), byte(kind), byte(flags), 0, 0, 0, id)
		stream = append(stream, payload...)
	}
	add(http2.FrameSettings, 0, 0)
	add(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, 1, 2, 3, 4, 5, 6)
	add(http2.FrameData, http2.FlagDataPadded, 1, 3, 0, 0, 0)
	add(http2.FrameRSTStream, 0, 1, 0, 0, 0, 8)
	add(http2.FrameData, http2.FlagDataEndStream, 3)
	for size := 1; size <= len(stream); size++ {
		var open openStreams
		in, out := inFrames{open: &open, maxHead: 1 << 10}, outFrames{open: &open}
		for from := 0; from < len(stream); from += size {
			piece := stream[from:min(from+size, len(stream))]
			if reason := in.see(piece, 1, &out); reason != "" {
				t.Fatal(reason)
			}
			if n, malformed := out.see(piece); n != len(piece) || malformed != 0 {
				t.Fatal(n, malformed)
			}
		}
		if in.count != (struct{ resets, settings, pings, priorities, updates, empty, unknown, requests int64 }{1, 1, 0, 0, 0, 1, 0, 1}) {
			t.Errorf("in pieces of %d: %+v", size, in.count)
		}
		if out.data.Load() != 2 || out.resets.Load() != 0 || in.headSince.Load() != 0 || open.before(2) != 0 {
			t.Errorf("in pieces of %d: %d DATA, %d resets", size, out.data.Load(), out.resets.Load())
		}
	}
}

// Streams and connections go on while certificates and limits change, and all
// of them hear of a shutdown.
func TestChangesUnderHTTP2(t *testing.T) { ways2(t, testChangesUnderHTTP2) }

func testChangesUnderHTTP2(t *testing.T, way Config) {
	s := start(t, way, Handlers{HTTP: echo2})
	old := newFramer(t, s)
	id := old.open("/slow", false)
	old.must(old.WriteData(id, false, []byte("abc")))
	until(t, "the old connection", func() bool { return s.Stats().HTTP2 == 1 })

	next := way
	if way.TLS != nil {
		next.TLS = standardTLS(t)
	}
	next.MaxHeaderBytes = 2 << 10
	s.SetLimits(next)
	fresh := newFramer(t, s)
	old.must(old.WriteData(id, true, []byte("def")))
	for _, f := range []*framer{old, fresh} {
		want := f.open("/next", true)
		got := map[uint32]string{}
		f.until("the end of a response", func(fr http2.Frame) bool {
			d, ok := fr.(*http2.DataFrame)
			if ok {
				got[d.StreamID] += string(d.Data())
			}
			return ok && d.StreamEnded() && d.StreamID == want
		})
		if got[want] != "HTTP/2.0 POST /next " {
			t.Errorf("got %v", got)
		}
	}
	until(t, "two connections", func() bool { return s.Stats().Idle == 2 && s.Stats().HTTP2 == 2 })
	done := shutdown(t.Context(), s)
	old.wantGoAway(http2.ErrCodeNo)
	fresh.wantGoAway(http2.ErrCodeNo)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A client that neither reads nor sends more does not hold its connection open,
// although a write to it is blocked.
func TestBlockedWriteHTTP2(t *testing.T) { ways2(t, testBlockedWriteHTTP2) }

func testBlockedWriteHTTP2(t *testing.T, way Config) {
	s := start(t, way, Handlers{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, 64<<20)) // until the connection ends
	})})
	f := newFramer(t, s)
	f.must(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
	f.must(f.WriteWindowUpdate(0, 1<<30))
	f.open("/", true)
	var sent int64
	until(t, "a blocked write", func() bool {
		conns := s.conns.all()
		if len(conns) == 0 || conns[0].h2.Load() == nil {
			return false
		}
		waiting, _ := conns[0].sent()
		before := sent
		sent = conns[0].h2.Load().out.data.Load()
		return waiting > 0 && sent > 10 && sent == before
	})
	if err := f.tcp.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	until(t, "no connection", func() bool { return s.Stats() == Stats{} })
}

// FuzzFrames checks that what is counted does not depend on how the bytes are
// cut.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08"), uint(9))
	f.Add([]byte("\x00\x00\x02\x01\x00\x00\x00\x00\x01ab\x00\x00\x00\x09\x04\x00\x00\x00\x01"), uint(3))
	f.Add([]byte("\x00\x00\x04\x00\x08\x00\x00\x00\x01\x03\x00\x00\x00\xff\xff\xff\x00\x00\x00\x00\x00\x01"), uint(1))
	f.Fuzz(func(t *testing.T, b []byte, size uint) {
		type seen struct {
			reason string
			in     inFrames
			data   int64
			resets int64
			open   int
		}
		look := func(size int) *seen {
			var open openStreams
			s := &seen{in: inFrames{open: &open, maxHead: 1 << 10}}
			out := outFrames{open: new(openStreams)}
			for from := 0; from < len(b) && s.reason == ""; from += size {
				piece := b[from:min(from+size, len(b))]
				s.reason = s.in.see(piece, 1, &out)
				for len(piece) > 0 {
					n, _ := out.see(piece)
					piece = piece[n:]
				}
			}
			s.data, s.resets, s.open = out.data.Load(), out.resets.Load(), open.before(2)
			return s
		}
		whole, pieces := look(max(len(b), 1)), look(int(size%64)+1)
		if whole.reason != pieces.reason || whole.in.count != pieces.in.count || whole.in.inHead != pieces.in.inHead || whole.open != pieces.open {
			t.Fatalf("whole: %q %+v, in pieces: %q %+v", whole.reason, whole.in.count, pieces.reason, pieces.in.count)
		}
		if whole.reason == "" && (whole.data != pieces.data || whole.resets != pieces.resets) {
			t.Fatalf("whole: %d DATA, %d resets, in pieces: %d, %d", whole.data, whole.resets, pieces.data, pieces.resets)
		}
	})
}
