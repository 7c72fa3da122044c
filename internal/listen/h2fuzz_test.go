package listen

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

// looseConn is a connection of HTTP/2 that nobody reads for: its frames are put
// in by hand, and its handlers wait until it ends.
func looseConn(t testing.TB) (h *h2Conn, end func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	held := make(chan struct{})
	s, err := New(Config{Address: ":0", HTTP2: true}, Handlers{Handle: hello, HTTP2: func(*Stream) { <-held }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.newConn(nc.(*net.TCPConn), s.limits.Load())
	if err != nil {
		t.Fatal(err)
	}
	h = newH2Conn(c)
	return h, func() {
		close(held)
		h.end(nil)
		nc.Close()
		client.Close()
		h.wait()
		s.workers.close()
	}
}

// put gives h bytes as if they had been read, in pieces.
func (h *h2Conn) put(b []byte, size int) error {
	for len(b) > 0 {
		n := copy(h.in.space(), b[:min(size, len(b))])
		h.in.to += n
		b = b[n:]
		if err := h.frames(); err != nil {
			return err
		}
	}
	return nil
}

func frameSeeds() (seeds [][]byte) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	head := func(fields ...string) []byte {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // into memory
		}
		return bytes.Clone(block.Bytes())
	}
	settings := h2.AppendSettings(nil, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	with := func(parts ...[]byte) { seeds = append(seeds, append(bytes.Clone(settings), bytes.Join(parts, nil)...)) }
	post := head(":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a", "content-length", "5")
	open := h2.AppendHeaders(nil, 1, post, false, h2.MinFrame)
	with(open, h2.AppendData(nil, 1, []byte("hello"), true))
	with(open, h2.AppendData(nil, 1, []byte("too much"), true), h2.AppendReset(nil, 1, 8))
	with(h2.AppendHeaders(nil, 1, post, true, 7), h2.AppendPing(nil, false, []byte("12345678")))
	with(open, h2.AppendHeaders(nil, 1, head("x-sum", "1"), true, h2.MinFrame))
	with(open, []byte("\x00\x00\x05\x00\x08\x00\x00\x00\x01\x02ab\x00\x00"), h2.AppendWindowUpdate(nil, 1, 5))
	with(h2.AppendGoAway(nil, 0, 0), h2.AppendSettingsAck(nil), h2.AppendWindowUpdate(nil, 0, 1<<31-1))
	with(h2.AppendData(nil, 3, bytes.Repeat([]byte("x"), 5000), false))
	return seeds
}

// FuzzFrames feeds frames to a connection: however they are cut, the outcome is
// the same, and no part of the windows gets lost.
func FuzzFrames(f *testing.F) {
	for i, seed := range frameSeeds() {
		f.Add(seed, uint(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, size uint) {
		look := func(size int) string {
			h, end := looseConn(t)
			defer end()
			err := h.put(b, size)
			h.mu.Lock()
			defer h.mu.Unlock()
			buffered := int64(0)
			for _, st := range h.streams {
				held := int64(len(st.body) - st.taken)
				buffered += held
				if st.recv+st.unsaid+held < h2StreamWindow-h2FrameSize || st.recv+st.unsaid+held > h2StreamWindow {
					t.Errorf("stream %d: %d bytes may come, %d are not said, %d are here", st.id, st.recv, st.unsaid, held)
				}
				if st.length >= 0 && st.received > st.length {
					t.Errorf("stream %d: %d bytes of %d", st.id, st.received, st.length)
				}
			}
			if err == nil && h.window+h.unsaid+buffered+int64(h.data.left) != h2ConnWindow {
				t.Errorf("%d bytes may come, %d are not said, %d are here, %d under way", h.window, h.unsaid, buffered, h.data.left)
			}
			var code http2.ConnectionError
			if err != nil && !errors.As(err, &code) {
				t.Errorf("%v", err)
			}
			return fmt.Sprint(err, h.last, h.abuse.count, h.block.open, h.greeted, h.untold, h.out.initial, h.out.window)
		}
		if whole, pieces := look(len(b)+1), look(int(size%64)+1); whole != pieces {
			t.Errorf("whole: %s\nin pieces: %s", whole, pieces)
		}
	})
}

// FuzzHead decodes header sections: what is let through, written as the head of
// an HTTP/1.1 request, is one request to the strict pass over HTTP/1 as well.
func FuzzHead(f *testing.F) {
	for _, fields := range [][]string{
		{":method", "GET", ":scheme", "https", ":path", "/a?b", ":authority", "a.example:1", "accept", "*/*"},
		{":method", "POST", ":scheme", "http", ":path", "/", "host", "a", "cookie", "a", "cookie", "b", "content-length", "10"},
		{":method", "OPTIONS", ":scheme", "http", ":path", "*", ":authority", "[::1]", "te", "trailers", "expect", "100-continue"},
		{":method", "GET", ":scheme", "http", ":path", "/ HTTP/1.1\r\nX: y", ":authority", "a"},
		{":method", "GET", ":scheme", "http", ":path", "/#", ":authority", "a", "x", "a\r\nb: c", "transfer-encoding", "chunked"},
	} {
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for i := 0; i < len(fields); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // into memory
		}
		f.Add(block.Bytes())
	}
	f.Fuzz(func(t *testing.T, section []byte) {
		var b h2Block
		b.init(defaultMaxHead)
		st := &Stream{length: -1}
		b.begin(h2.Header{Stream: 1}, st)
		if _, err := b.dec.Write(section); err != nil || b.dec.Close() != nil {
			return
		}
		b.join(st)
		if b.malformed(st) || vet(st) != nil {
			return
		}
		head := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n", st.method, st.target, st.authority)
		length := false
		for _, f := range st.fields {
			head = fmt.Appendf(head, "%s: %s\r\n", f.Name, f.Value)
			length = length || f.Name == "content-length"
		}
		head = append(head, "\r\n"...)
		if (st.length >= 0) != length {
			t.Errorf("a length of %d, by a field %v", st.length, length)
		}
		g := guard{maxHead: 2 * defaultMaxHead}
		g.next()
		n, v := g.feed(head)
		if len(st.fields) == maxFields && v == errFieldCount {
			return // Host is one more there
		}
		if v != nil || n != len(head) || g.inHead() || st.length > 0 && g.length != st.length {
			t.Errorf("%q: %v, %d of %d bytes, a length of %d", head, v, n, len(head), g.length)
		}
	})
}
