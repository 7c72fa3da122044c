package listen

import (
	"encoding/binary"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

// h2Block is the header section that is being decoded, into a stream that is not
// open yet; for trailers that is only where their fields are.
type h2Block struct {
	dec     *hpack.Decoder
	maxHead int
	open    bool // its end has not come
	stream  uint32
	end     bool // of the stream
	loop    bool // the stream depends on itself
	st      *Stream
	size    int  // as SETTINGS_MAX_HEADER_LIST_SIZE counts
	regular bool // a field that is no pseudo-header has come
	bad     bool // malformed (RFC 9113, section 8.1.1)
	pseudo  uint8
	cookies []string
	cookie  int // which field they are
}

const (
	pseudoMethod = 1 << iota
	pseudoScheme
	pseudoPath
	pseudoAuthority
)

func (b *h2Block) init(maxHead int) {
	b.maxHead = maxHead
	b.dec = hpack.NewDecoder(4096, b.field)
	b.dec.SetMaxStringLength(2 * (h2FrameSize + h2Blocks(maxHead))) // as much as a Huffman code can hold: field has a word to say first
}

func (h *h2Conn) headers(f h2.Header, p []byte) error {
	if f.Stream&1 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	p, ok := h2.Unpad(f, p)
	if !ok {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	b := &h.block
	b.begin(f, h.s.newStream(h))
	if f.Flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return http2.ConnectionError(http2.ErrCodeFrameSize)
		}
		b.loop = binary.BigEndian.Uint32(p)&h2.MaxID == f.Stream
		p = p[5:]
	}
	return h.fragment(f, p)
}

func (h *h2Conn) continuation(f h2.Header, p []byte) error { return h.fragment(f, p) }

// fragment decodes a part of the section, and opens the stream after the last.
func (h *h2Conn) fragment(f h2.Header, p []byte) error {
	b := &h.block
	_, err := b.dec.Write(p)
	if err == nil && f.Flags.Has(http2.FlagHeadersEndHeaders) {
		b.open = false
		err = b.dec.Close()
	}
	if err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	if b.open {
		return nil
	}
	st := b.st
	b.st = nil
	b.join(st)
	code, run := h.complete(st)
	if !run {
		h.s.freeStream(st)
	}
	if code != http2.ErrCodeNo {
		return http2.ConnectionError(code)
	}
	if run {
		h.s.workers.run(h2Work{h, st})
	}
	return nil
}

func (b *h2Block) begin(f h2.Header, st *Stream) {
	b.dec.SetEmitEnabled(true)
	b.open, b.stream, b.end, b.loop, b.st = true, f.Stream, f.Flags.Has(http2.FlagHeadersEndStream), false, st
	b.size, b.regular, b.bad, b.pseudo, b.cookies = 0, false, false, 0, b.cookies[:0]
}

// field is called for each field.
func (b *h2Block) field(f hpack.HeaderField) {
	st := b.st
	if b.size += int(f.Size()); b.size > b.maxHead {
		st.large = true
		b.dec.SetEmitEnabled(false) // it goes on for the sake of its table
		return
	}
	if strings.HasPrefix(f.Name, ":") {
		b.pseudoField(f)
		return
	}
	b.regular = true
	if !h2Name(f.Name) || !h2Value(f.Value) {
		b.bad = true
		return
	}
	switch f.Name {
	case "cookie": // clients may send it in crumbs (RFC 9113, section 8.2.3)
		if b.cookies = append(b.cookies, f.Value); len(b.cookies) > 1 {
			return
		}
		b.cookie = len(st.fields)
	case "content-length":
		g := guard{length: -1}
		if st.length < 0 && g.contentLength([]byte(f.Value)) == nil {
			st.length = g.length // else vet has a word to say
		}
	case "expect":
		st.expects = strings.EqualFold(f.Value, "100-continue")
	}
	st.fields = append(st.fields, h2Field{f.Name, f.Value})
}

func (b *h2Block) pseudoField(f hpack.HeaderField) {
	st, which := b.st, uint8(0)
	switch f.Name {
	case ":method":
		which, st.method = pseudoMethod, f.Value
	case ":scheme":
		which, st.scheme = pseudoScheme, f.Value
	case ":path":
		which, st.target = pseudoPath, f.Value
	case ":authority":
		which, st.authority = pseudoAuthority, f.Value
	}
	if which == 0 || b.pseudo&which != 0 || b.regular || !h2Value(f.Value) {
		b.bad = true
	}
	b.pseudo |= which
}

// join puts the cookies into one field.
func (b *h2Block) join(st *Stream) {
	if len(b.cookies) > 1 && !st.large {
		st.fields[b.cookie].Value = strings.Join(b.cookies, "; ")
	}
	clear(b.cookies)
}

// h2Name reports whether a name is a token without capitals (RFC 9113, section
// 8.2.1).
func h2Name(s string) bool {
	for i := range len(s) {
		if c := s[i]; class[c]&clsToken == 0 || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return s != ""
}

// h2Value reports whether a value has no control characters.
func h2Value(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// malformed reports whether the section is that of no request.
func (b *h2Block) malformed(st *Stream) bool {
	switch {
	case b.bad || b.loop || b.end && st.length > 0:
		return true
	case st.large:
		return false // it was not read to its end
	case st.method == "CONNECT":
		return b.pseudo != pseudoMethod|pseudoAuthority
	}
	return st.method == "" || st.target == "" || st.scheme != "http" && st.scheme != "https"
}

// complete decides what becomes of a section whose end has come. It reports
// whether st has been opened, or else the error of the connection, if it is one.
func (h *h2Conn) complete(st *Stream) (code http2.ErrCode, run bool) {
	b := &h.block
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.streams[b.stream]; old != nil {
		h.trailers(old, st)
		return http2.ErrCodeNo, false
	}
	if b.stream <= h.last {
		if h.wasCut(b.stream) {
			if b.end {
				h.lingered(b.stream)
			}
			return http2.ErrCodeNo, false // they were under way
		}
		return http2.ErrCodeProtocol, false
	}
	h.last = b.stream
	switch {
	case h.closed || h.final && b.stream > h.lastCall:
		h.ignore(b.stream)
		return http2.ErrCodeNo, false
	case h.handlers >= h2Handlers:
		h.reset(b.stream, http2.ErrCodeRefusedStream)
		return http2.ErrCodeNo, false
	case len(h.streams) >= h2Streams:
		code := http2.ErrCodeProtocol
		if h.untold > 0 { // it may not have heard of the bound
			code = http2.ErrCodeRefusedStream
		}
		h.reset(b.stream, code)
		return http2.ErrCodeNo, false
	case b.malformed(st):
		h.reset(b.stream, http2.ErrCodeProtocol)
		return http2.ErrCodeNo, false
	}
	h.open(st)
	return http2.ErrCodeNo, true
}

// open begins the stream of a request. With mu held.
func (h *h2Conn) open(st *Stream) {
	st.id, st.remote, st.window, st.recv = h.block.stream, h.block.end, h.out.initial, h2StreamWindow
	st.refs = 1
	if len(h.streams) == 0 {
		h.c.enter(stateActive)
	}
	h.streams[st.id] = st
	h.handlers++
}

// trailers ends the body of a stream with the fields of another. With mu held.
func (h *h2Conn) trailers(st, from *Stream) {
	b := &h.block
	switch {
	case st.remote:
		h.reset(st.id, http2.ErrCodeStreamClosed)
	case !b.end || b.bad || b.loop || b.pseudo != 0 || from.large:
		h.reset(st.id, http2.ErrCodeProtocol)
	default:
		st.trailer = append(st.trailer[:0], from.fields...)
		h.remoteEnds(st)
	}
}
