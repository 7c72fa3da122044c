package listen

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// openStreams are those that a client has opened and that have not been closed.
type openStreams struct {
	mu   sync.Mutex
	list []openStream // the oldest first
	last uint32
	shut bool // those that come now are ignored
}

type openStream struct {
	id    uint32
	since int64 // on the server's clock
}

func (o *openStreams) add(id uint32, now int64) {
	o.mu.Lock()
	if id > o.last && !o.shut {
		o.last = id
		o.list = append(o.list, openStream{id, now})
	}
	o.mu.Unlock()
}

func (o *openStreams) remove(id uint32) {
	o.mu.Lock()
	if i := slices.IndexFunc(o.list, func(s openStream) bool { return s.id == id }); i >= 0 {
		o.list = slices.Delete(o.list, i, i+1)
	}
	o.mu.Unlock()
}

func (o *openStreams) close() {
	o.mu.Lock()
	o.shut = true
	o.mu.Unlock()
}

// before counts the streams that were opened before then.
func (o *openStreams) before(then int64) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, _ := slices.BinarySearchFunc(o.list, then, func(s openStream, then int64) int { return cmp.Compare(s.since, then) })
	return n
}

// outFrames are those that go to the client. One goroutine at a time writes.
type outFrames struct {
	frameReader
	open   *openStreams
	data   atomic.Int64 // DATA frames
	resets atomic.Int64 // streams that were reset because of what the client did
	last   uint32       // of those streams

	bad       atomic.Int64 // responses with status 400 that handlers have made and that have not been seen
	malformed []uint32     // streams that http2.Server itself answers with 400
}

// status400 is how a response with that status begins (RFC 7541, appendix A).
const status400 = 0x8c

// see notes what goes to the client. It stops behind the response to a request
// that http2.Server has found malformed, and returns that stream: it is to be
// reset (RFC 9113, section 8.1.1), which http2.Server leaves out where fields of
// connections are sent.
func (o *outFrames) see(p []byte) (n int, malformed uint32) {
	all := len(p)
	for len(p) > 0 {
		var what frameEvent
		p, what = o.next(p)
		f := o.frame()
		switch what {
		case frameBegins:
			o.begins(f)
		case frameShown:
			o.shown(f)
		}
		if o.have == frameHeaderLen && o.left == 0 && o.ended(f) {
			return all - len(p), f.stream
		}
	}
	return all, 0
}

func (o *outFrames) shown(f frame) {
	switch {
	case f.kind == http2.FrameRSTStream && f.stream != o.last:
		if provoked(http2.ErrCode(binary.BigEndian.Uint32(o.first[:]))) {
			o.last = f.stream
			o.resets.Add(1)
		}
	case f.kind == http2.FrameHeaders && o.first[0] == status400:
		if o.bad.Add(-1) < 0 {
			o.bad.Add(1)
			o.malformed = append(o.malformed, f.stream)
		}
	}
}

// ended reports whether f was the last of a malformed request's response.
func (o *outFrames) ended(f frame) bool {
	if len(o.malformed) == 0 || f.kind != http2.FrameData && f.kind != http2.FrameHeaders || !f.flags.Has(http2.FlagDataEndStream) {
		return false
	}
	i := slices.Index(o.malformed, f.stream)
	if i < 0 {
		return false
	}
	o.malformed = slices.Delete(o.malformed, i, i+1)
	o.resets.Add(1)
	return true
}

// resetFrame is RST_STREAM with PROTOCOL_ERROR.
func resetFrame(stream uint32) []byte {
	b := []byte{0, 0, 4, byte(http2.FrameRSTStream), 0}
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, uint32(http2.ErrCodeProtocol))
}

func (o *outFrames) begins(f frame) {
	switch f.kind {
	case http2.FrameData:
		o.data.Add(1)
		if f.flags.Has(http2.FlagDataEndStream) {
			o.open.remove(f.stream)
		}
	case http2.FrameHeaders:
		if f.flags.Has(http2.FlagHeadersEndStream) {
			o.open.remove(f.stream)
		}
	case http2.FrameRSTStream:
		o.open.remove(f.stream)
	case http2.FrameGoAway:
		o.open.close()
	}
}

// provoked reports whether a stream is reset with code for what its client did
// (CVE-2025-8671): the client can have that as cheaply as it resets streams
// itself.
func provoked(code http2.ErrCode) bool {
	return code != http2.ErrCodeNo && code != http2.ErrCodeInternal && code != http2.ErrCodeCancel
}
