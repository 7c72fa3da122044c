package listen

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A client whose request is answered before its end may go on with it: it is not
// told to stop while it does.
func TestAnsweredEarly(t *testing.T) {
	s := serving(t, answer(5))
	f := newFramer(t, s)
	trailer := func(id uint32) {
		f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: trailers(f), EndHeaders: true, EndStream: true}))
	}
	for _, end := range []func(id uint32){
		func(id uint32) { f.must(f.WriteData(id, true, []byte("the rest"))) },
		trailer,
	} {
		id := f.open("/", false)
		f.data(5)
		f.must(f.WriteData(id, false, []byte("more")))
		end(id)
		f.settle() // without RST_STREAM
	}
	h := s.conns.all()[0].h2.Load()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.lingering) > 0 || len(h.streams) > 0 {
		t.Errorf("%d streams linger, %d are open", len(h.lingering), len(h.streams))
	}
	if h.window+h.unsaid != h2ConnWindow {
		t.Errorf("of the connection's window %d bytes are lost", h2ConnWindow-h.window-h.unsaid)
	}
}

func trailers(f *framer) []byte {
	f.buf.Reset()
	_ = f.enc.WriteField(hpack.HeaderField{Name: "x-sum", Value: "1"}) // into memory
	return f.buf.Bytes()
}

// One that leaves more requests open than it may is stopped, the earliest first.
func TestManyAnsweredEarly(t *testing.T) {
	f := newFramer(t, serving(t, answer(1)))
	for range maxAnswered + 1 {
		f.open("/", false)
		f.data(1)
	}
	f.wantReset(1, http2.ErrCodeNo)
}

// A head that is too large is answered, also where one field is.
func TestLargeField(t *testing.T) {
	for _, c := range []struct{ bound, field int }{{4 << 10, 5 << 10}, {4 << 10, 30 << 10}, {32 << 10, 40 << 10}} {
		f := newFramer(t, start(t, Config{HTTP2: true, MaxHeaderBytes: c.bound}, Handlers{HTTP2: face(echo2)}))
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		block := f.block("/", "x", strings.Repeat("#", c.field)) // Huffman codes make it no shorter
		first := block[:min(len(block), 16<<10)]
		block = block[len(first):]
		f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndHeaders: len(block) == 0, EndStream: true}))
		for len(block) > 0 {
			piece := block[:min(len(block), 16<<10)]
			block = block[len(piece):]
			f.must(f.WriteContinuation(1, len(block) == 0, piece))
		}
		f.until("a response", func(fr http2.Frame) bool {
			m, ok := fr.(*http2.MetaHeadersFrame)
			if ok && m.PseudoValue("status") != "431" {
				t.Errorf("a field of %d bytes where %d are the bound: %s", c.field, c.bound, m.PseudoValue("status"))
			}
			return ok
		})
	}
}
