package listen

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

// h2KeptBody is how much memory for bodies a stream keeps for the next request.
const h2KeptBody = 16 << 10

// errInterrupted is what Interrupt makes of a Read.
var errInterrupted = errors.New("listen: reading the body was interrupted")

// incoming is the side of a stream that the client sends. Guarded by h.mu.
type incoming struct {
	body        []byte // has come
	taken       int    // of it has been read
	received    int64  // bytes of the body so far
	recv        int64  // bytes that the client may send
	unsaid      int64  // those that it may send besides and has not been told of
	trailer     []h2Field
	interrupted bool
	deadline    time.Time
	timer       *time.Timer
	fault       *Violation

	reading bool  // the handler waits for the body
	read    int64 // bytes of it
	slow    bool  // it has been found too slow
	pace    pace  // the sweeper's own
}

// h2Data is the DATA frame that is coming in: it is passed on as it comes.
type h2Data struct {
	stream uint32
	left   int // bytes to come of the payload
	pad    int // the last of them, which are padding
	end    bool
}

// dataBegins judges a DATA frame, of which the header has come.
func (h *h2Conn) dataBegins(f h2.Header) (bool, error) {
	pad, head := 0, h2.HeaderLen
	if f.Flags.Has(http2.FlagDataPadded) {
		if f.Length == 0 {
			return false, http2.ConnectionError(http2.ErrCodeProtocol)
		}
		if head++; h.in.len() < head {
			return false, nil
		}
		pad = int(h.in.bytes()[h2.HeaderLen])
		if pad >= f.Length {
			return false, http2.ConnectionError(http2.ErrCodeProtocol)
		}
		h.abuse.nothing(f.Length == pad+1 && !f.Flags.Has(http2.FlagDataEndStream))
	}
	h.in.skip(head)
	h.counted = false
	h.data = h2Data{f.Stream, f.Length - (head - h2.HeaderLen), pad, f.Flags.Has(http2.FlagDataEndStream)}
	if code := h.allow(f, pad); code != http2.ErrCodeNo {
		return false, http2.ConnectionError(code)
	}
	if h.data.left == 0 {
		h.dataEnds()
		return true, nil
	}
	if h.data.left > h2SmallInput {
		h.in.want(h2LargeInput)
	}
	return true, nil
}

// allow holds a DATA frame to the windows and to what its stream may send.
func (h *h2Conn) allow(f h2.Header, pad int) http2.ErrCode {
	h.mu.Lock()
	defer h.mu.Unlock()
	size := int64(f.Length)
	if h.idle(f.Stream) {
		return http2.ErrCodeProtocol
	}
	if h.window -= size; h.window < 0 {
		return http2.ErrCodeFlowControl
	}
	waste := size - int64(h.data.left-pad) // padding, which nobody reads
	h.credit(waste)
	st := h.streams[f.Stream]
	switch {
	case st == nil:
		if !h.wasCut(f.Stream) {
			h.reset(f.Stream, http2.ErrCodeStreamClosed)
		}
		return http2.ErrCodeNo
	case st.remote:
		h.reset(st.id, http2.ErrCodeStreamClosed)
		return http2.ErrCodeNo
	case st.recv < size:
		h.reset(st.id, http2.ErrCodeFlowControl)
		return http2.ErrCodeNo
	case st.length >= 0 && st.received+size-waste > st.length:
		h.reset(st.id, http2.ErrCodeProtocol)
		return http2.ErrCodeNo
	}
	st.recv -= size
	st.credit(waste)
	return http2.ErrCodeNo
}

// dataComes passes on what has come of a DATA frame, and reports whether that
// was something.
func (h *h2Conn) dataComes() bool {
	p := h.in.bytes()
	if len(p) == 0 {
		return false
	}
	d := &h.data
	p = p[:min(len(p), d.left)]
	h.in.skip(len(p))
	body := p[:min(len(p), max(d.left-d.pad, 0))]
	d.left -= len(p)
	if len(body) > 0 {
		h.deliver(body)
	}
	if d.left == 0 {
		h.dataEnds()
	}
	return true
}

func (h *h2Conn) deliver(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.streams[h.data.stream]
	if st == nil {
		h.credit(int64(len(p)))
		return
	}
	if st.taken > 0 && len(st.body)+len(p) > cap(st.body) {
		st.body = st.body[:copy(st.body, st.body[st.taken:])]
		st.taken = 0
	}
	st.body = append(st.body, p...)
	st.received += int64(len(p))
	st.cond.Broadcast()
}

func (h *h2Conn) dataEnds() {
	if !h.data.end {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if st := h.streams[h.data.stream]; st != nil {
		h.remoteEnds(st)
	} else {
		h.lingered(h.data.stream)
	}
}

// remoteEnds is the end of what the client sends. With mu held.
func (h *h2Conn) remoteEnds(st *Stream) {
	if st.length >= 0 && st.received != st.length {
		h.reset(st.id, http2.ErrCodeProtocol) // RFC 9113, section 8.1.1
		return
	}
	st.remote = true
	st.cond.Broadcast()
	if st.local {
		h.close(st, nil)
	}
}

// credit gives the client back n bytes of the connection's window; it is told of
// many at once. With mu held.
func (h *h2Conn) credit(n int64) {
	if h.unsaid += n; h.unsaid >= h2ConnWindow/2 {
		h.out.buf = h2.AppendWindowUpdate(h.out.buf, 0, int(h.unsaid))
		h.window += h.unsaid
		h.unsaid = 0
	}
}

// credit is the same for the stream's window, while there is something to come.
func (st *Stream) credit(n int64) {
	if st.unsaid += n; st.unsaid >= h2StreamWindow/2 && !st.remote {
		st.h.out.buf = h2.AppendWindowUpdate(st.h.out.buf, st.id, int(st.unsaid))
		st.recv += st.unsaid
		st.unsaid = 0
	}
}

// Length is the length of the request's body in bytes: 0 without one, -1 for
// unknown.
func (st *Stream) Length() int64 {
	st.h.mu.Lock()
	defer st.h.mu.Unlock()
	if st.length < 0 && st.remote && st.received == 0 && len(st.trailer) == 0 {
		return 0
	}
	return st.length
}

// Body reads the request's body; see Read.
func (st *Stream) Body() io.Reader { return st }

// BodyReceived reports whether reading the body will not block.
func (st *Stream) BodyReceived() bool {
	st.h.mu.Lock()
	defer st.h.mu.Unlock()
	return st.remote
}

// BodyFault is what the client did wrong in the body, nil if nothing.
func (st *Stream) BodyFault() error {
	st.h.mu.Lock()
	defer st.h.mu.Unlock()
	if st.fault == nil {
		return nil
	}
	return st.fault
}

// Interrupt has Read fail from now on.
func (st *Stream) Interrupt() {
	st.h.mu.Lock()
	st.interrupted = true
	st.cond.Broadcast()
	st.h.mu.Unlock()
}

// Read reads what has come of the request's body, or waits for it. A client that
// was too slow, or sent a trailer that may not be one, is a *Violation.
func (st *Stream) Read(p []byte) (n int, err error) {
	h := st.h
	h.mu.Lock()
	for n == 0 && err == nil && len(p) > 0 {
		if n, err = st.take(p); n == 0 && err == nil {
			st.goOn()
			st.reading = true
			st.cond.Wait()
			st.reading = false
		}
	}
	say := h.out.idle()
	h.mu.Unlock()
	if say {
		h.flush()
	}
	return n, err
}

// take takes what is there; 0, nil is nothing yet. With mu held.
func (st *Stream) take(p []byte) (int, error) {
	switch {
	case st.interrupted:
		return 0, errInterrupted
	case st.gone && st.err != nil:
		return 0, st.err
	case st.taken < len(st.body):
		n := copy(p, st.body[st.taken:])
		st.read += int64(n)
		if st.taken += n; st.taken == len(st.body) {
			st.taken, st.body = 0, st.body[:0]
		}
		if !st.gone { // the rest has been credited
			st.h.credit(int64(n))
			st.credit(int64(n))
		}
		return n, nil
	case st.remote:
		return 0, st.bodyEnds()
	case st.gone:
		return 0, io.ErrUnexpectedEOF
	case st.slow:
		st.fault = errBodySlow
		return 0, errBodySlow
	case !st.deadline.IsZero() && !time.Now().Before(st.deadline):
		return 0, os.ErrDeadlineExceeded
	}
	return 0, nil
}

// bodyEnds judges the trailer section.
func (st *Stream) bodyEnds() error {
	if len(st.trailer) > maxTrailerField {
		st.fault = errTrailerLarge
		return st.fault
	}
	for _, f := range st.trailer {
		if !trailerAllowed([]byte(f.Name)) || !vetValue(f.Value) {
			st.fault = errTrailerField
			return st.fault
		}
	}
	return io.EOF
}

// goOn says 100 (Continue) to a client that waits for it. With mu held.
func (st *Stream) goOn() {
	if !st.expects || st.headed || st.received > 0 || st.gone {
		return
	}
	st.expects = false
	h := st.h
	h.out.block = h.out.enc.Status(h.out.enc.Begin(h.out.block[:0]), 100)
	h.out.buf = h2.AppendHeaders(h.out.buf, st.id, h.out.block, false, h2.MinFrame)
	h.handOverLocked()
}
