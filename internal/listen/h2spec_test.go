package listen

import (
	"io"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
)

// A malformed request that is answered is reset, too (RFC 9113, section 8.1.1);
// the 400 of a handler is a response like others.
func TestMalformedHTTP2(t *testing.T) { ways2(t, testMalformedHTTP2) }

func testMalformedHTTP2(t *testing.T, way Config) {
	s := start(t, way, Handlers{HTTP2: face(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no", http.StatusBadRequest)
	}))})
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
	if n := s.conns.all()[0].h2.Load().out.resets.Load(); n != 3 {
		t.Errorf("%d resets", n)
	}
}

// Of a setting that comes several times the last counts.
func TestSettingsTwice(t *testing.T) { ways2(t, testSettingsTwice) }

func testSettingsTwice(t *testing.T, way Config) {
	s := start(t, way, Handlers{HTTP2: face(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "four bytes and more")
	}))})
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

// Streams and connections go on while certificates and limits change, and all
// of them hear of a shutdown.
func TestChangesUnderHTTP2(t *testing.T) { ways2(t, testChangesUnderHTTP2) }

func testChangesUnderHTTP2(t *testing.T, way Config) {
	s := start(t, way, Handlers{HTTP2: face(echo2)})
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
	s := start(t, way, Handlers{HTTP2: face(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, 64<<20)) // until the connection ends
	}))})
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
