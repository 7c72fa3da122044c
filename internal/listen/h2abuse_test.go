package listen

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A framer is a client that can do anything.
type framer struct {
	*http2.Framer
	t    testing.TB
	conn net.Conn
	tcp  *net.TCPConn
	enc  *hpack.Encoder
	buf  bytes.Buffer
	id   uint32
}

func newFramer(t testing.TB, s *Server) *framer {
	t.Helper()
	c := dialRaw(t, s)
	var nc net.Conn = c
	if s.limits.Load().tls != nil {
		nc = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	f := framerOver(t, nc, bufio.NewReader(nc))
	f.tcp = c
	return f
}

func framerOver(t testing.TB, nc net.Conn, r io.Reader) *framer {
	t.Helper()
	f := &framer{Framer: http2.NewFramer(nc, r), t: t, conn: nc, id: 1}
	f.AllowIllegalWrites = true
	f.enc = hpack.NewEncoder(&f.buf)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f.must(f.WriteSettings())
	return f
}

func (f *framer) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// block is a request's header section.
func (f *framer) block(path string, more ...string) []byte {
	f.buf.Reset()
	all := append([]string{":method", "POST", ":scheme", "https", ":authority", "a.example", ":path", path}, more...)
	for i := 0; i < len(all); i += 2 {
		_ = f.enc.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]}) // into memory
	}
	return f.buf.Bytes()
}

// open begins a request and returns its stream.
func (f *framer) open(path string, end bool) uint32 {
	id := f.id
	f.id += 2
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block(path), EndHeaders: true, EndStream: end}) // what is read tells
	return id
}

// until reads frames up to one for which ok holds.
func (f *framer) until(what string, ok func(http2.Frame) bool) {
	f.t.Helper()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			f.t.Fatalf("no %s: %v", what, err)
		}
		if ok(fr) {
			return
		}
	}
}

// goAway reads up to GOAWAY with code.
func (f *framer) goAway(code http2.ErrCode) {
	f.t.Helper()
	f.until("GOAWAY", func(fr http2.Frame) bool {
		g, ok := fr.(*http2.GoAwayFrame)
		if ok && g.ErrCode != code {
			f.t.Fatalf("GOAWAY with %v, want %v", g.ErrCode, code)
		}
		return ok
	})
}

// wantGoAway reads up to GOAWAY with code, and the end.
func (f *framer) wantGoAway(code http2.ErrCode) {
	f.t.Helper()
	f.goAway(code)
	for {
		if _, err := f.ReadFrame(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				f.t.Fatal("the connection stays open")
			}
			return
		}
	}
}

// An abuse does something so often.
type abuse struct {
	reason string
	most   int // how often nothing happens
	do     func(f *framer, n int)
}

func abuses() []abuse {
	// What is read tells whether writing went well.
	repeat := func(do func(f *framer)) func(*framer, int) {
		return func(f *framer, n int) {
			for range n {
				do(f)
			}
		}
	}
	onStream := func(do func(f *framer, id uint32)) func(*framer, int) {
		return func(f *framer, n int) {
			id := f.open("/", false)
			for range n {
				do(f, id)
			}
		}
	}
	raw := func(kind http2.FrameType, payload string) func(*framer, int) {
		return repeat(func(f *framer) { _ = f.WriteRawFrame(kind, 0, 0, []byte(payload)) })
	}
	return []abuse{
		{"reset", maxResets, repeat(func(f *framer) { _ = f.WriteRSTStream(f.open("/", true), http2.ErrCodeCancel) })},
		{"reset", maxResets, repeat(func(f *framer) { // CVE-2025-8671
			_ = f.WriteRawFrame(http2.FrameWindowUpdate, 0, f.open("/", false), []byte{0, 0, 0, 0})
		})},
		{"settings", maxSettings - 2, repeat(func(f *framer) { _ = f.WriteSettings() })},
		{"ping", maxPings - 1, repeat(func(f *framer) { _ = f.WritePing(false, [8]byte{}) })},
		{"priority", maxPriorities, repeat(func(f *framer) { _ = f.WritePriority(1, http2.PriorityParam{StreamDep: 3}) })},
		{"priority", maxPriorities, raw(framePriority, "\x00\x00\x00\x01u=1")},
		{"window_update", maxUpdates, repeat(func(f *framer) { _ = f.WriteWindowUpdate(0, 1) })},
		{"empty", maxEmpty, onStream(func(f *framer, id uint32) { _ = f.WriteData(id, false, nil) })},
		{"empty", maxEmpty, onStream(func(f *framer, id uint32) {
			_ = f.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, id, []byte{3, 0, 0, 0})
		})},
		{"unknown", maxUnknown, raw(0xbe, "x")},
		{"continuation", maxContinued - 1, func(f *framer, n int) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block("/"), EndStream: true})
			for range n {
				_ = f.WriteContinuation(1, false, nil)
			}
			_ = f.WriteContinuation(1, true, nil)
		}},
	}
}

// Each abuse ends the connection with ENHANCE_YOUR_CALM and is counted; just
// below the bound nothing happens.
func TestAbuse(t *testing.T) {
	ways2(t, func(t *testing.T, way Config) {
		s := start(t, way, Handlers{HTTP2: face(echo2)})
		for _, a := range abuses() {
			t.Run(a.reason, func(t *testing.T) {
				counted := func() int64 { return s.Abuses()[slices.Index(H2Abuses[:], a.reason)] }
				before := counted()
				f := newFramer(t, s)
				a.do(f, a.most)
				f.must(f.WritePing(false, [8]byte{'e', 'n', 'd'}))
				f.until("PING", func(fr http2.Frame) bool {
					if g, ok := fr.(*http2.GoAwayFrame); ok {
						t.Fatalf("GOAWAY with %v at the bound", g.ErrCode)
					}
					p, ok := fr.(*http2.PingFrame)
					return ok && p.Data[0] == 'e'
				})
				f = newFramer(t, s)
				a.do(f, 2*a.most+20)
				f.goAway(http2.ErrCodeEnhanceYourCalm) // and a second later its end
				if counted() != before+1 {
					t.Errorf("counted %v", s.Abuses())
				}
			})
		}
	})
}
