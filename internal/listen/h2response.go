package listen

import (
	"errors"
	"net"
	"net/http"

	"golang.org/x/net/http2"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

// errAbandoned is why a stream is closed whose response nobody takes.
var errAbandoned = errors.New("listen: the client does not take the response")

// errEnded is what a handler gets that goes on behind the end of its response.
var errEnded = errors.New("listen: the response has ended")

// errUnheaded is what a handler gets that begins with the body.
var errUnheaded = errors.New("listen: the response has no head")

// outgoing is the side of a stream that the handler sends. Guarded by h.mu.
type outgoing struct {
	window  int64 // bytes that the client takes
	headed  bool  // the head is out
	queued  bool  // in h.out.waiting
	turn    bool  // it has been taken from there
	writing int64 // since when the handler waits to write; 0: it does not
}

// h2Answer is a field of a response.
type h2Answer struct{ name, value []byte }

// Begin begins a response, or one that is interim (1xx): Add adds its fields, and
// Send sends it.
func (st *Stream) Begin(status int) {
	st.status = status
	st.answer = st.answer[:0]
}

// Add adds a field, or behind the response's head one of the trailer section that
// End sends. Its bytes must stay as they are until it is sent; the name is put
// into lower case.
func (st *Stream) Add(name, value []byte) {
	st.answer = append(st.answer, h2Answer{name, value})
}

// Send sends the head that Begin began, and body behind it; end says that this is
// all of the response. It waits until the client takes that much. What it was
// given may be used again when it returns.
func (st *Stream) Send(body []byte, end bool) error {
	h := st.h
	h.mu.Lock()
	err := st.send(body, end)
	say := !end && h.out.idle() // behind the end served sees to it
	h.mu.Unlock()
	if say {
		h.flush()
	}
	return err
}

func (st *Stream) send(body []byte, end bool) error {
	h := st.h
	interim := st.status < http.StatusOK
	if st.headed || st.local {
		return errEnded
	}
	if err := h.room(st); err != nil {
		return err
	}
	if !interim {
		st.headed = true
		st.secure()
	}
	block := h.out.enc.Status(h.out.enc.Begin(h.out.block[:0]), st.status)
	h.sendBlock(st, block, end && len(body) == 0 && !interim)
	if interim || len(body) == 0 && !end {
		return nil
	}
	if len(body) > 0 {
		if _, err := h.sendData(st, body, end); err != nil {
			return err
		}
	}
	if end {
		h.localEnds(st)
	}
	return nil
}

// secure adds what the listener asks for.
func (st *Stream) secure() {
	c := st.h.c
	if c.secure == nil {
		return
	}
	value := c.s.limits.Load().hsts
	if value == "" {
		return
	}
	for _, f := range st.answer {
		if len(f.name) == len(hstsField) && http.CanonicalHeaderKey(string(f.name)) == hstsField {
			return
		}
	}
	st.Add([]byte(hstsField), []byte(value))
}

// sendBlock appends the fields of st.answer to block and sends it. With mu held.
func (h *h2Conn) sendBlock(st *Stream, block []byte, end bool) {
	for _, f := range st.answer {
		block = h.out.enc.Field(block, f.name, f.value)
	}
	st.answer = st.answer[:0]
	h.out.block = block
	h.out.buf = h2.AppendHeaders(h.out.buf, st.id, block, end, h2.MinFrame)
}

// Write sends a part of the response's body. It waits until the client takes it.
func (st *Stream) Write(p []byte) (n int, err error) {
	h := st.h
	h.mu.Lock()
	if !st.headed {
		err = errUnheaded
	} else {
		n, err = h.sendData(st, p, false)
	}
	say := h.out.idle()
	h.mu.Unlock()
	if say {
		h.flush()
	}
	return n, err
}

// End ends the response, with the trailer fields that were added.
func (st *Stream) End() error {
	h := st.h
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !st.headed:
		return errUnheaded
	case st.local:
		return errEnded
	}
	if err := h.room(st); err != nil {
		return err
	}
	if len(st.answer) > 0 {
		h.sendBlock(st, h.out.enc.Begin(h.out.block[:0]), true)
	} else {
		h.out.buf = h2.AppendData(h.out.buf, st.id, nil, true)
		h.out.data.Add(1)
	}
	h.localEnds(st)
	return nil
}

// localEnds is the end of a response. With mu held.
func (h *h2Conn) localEnds(st *Stream) {
	st.local = true
	if st.remote && !st.broken {
		h.close(st, nil)
	}
}

// sendData sends p as DATA, and returns how much of it. With mu held.
func (h *h2Conn) sendData(st *Stream, p []byte, end bool) (n int, err error) {
	for n < len(p) {
		k, err := h.acquire(st, len(p)-n)
		if err != nil {
			return n, err
		}
		h.out.buf = h2.AppendData(h.out.buf, st.id, p[n:n+k], end && n+k == len(p))
		h.out.data.Add(1)
		n += k
		st.writing = 0
		h.admit()
	}
	return n, nil
}

// acquire waits until DATA of up to n bytes may be sent, and takes as much off the
// windows. Streams that wait for the connection have their turns. With mu held.
func (h *h2Conn) acquire(st *Stream, n int) (int, error) {
	out := &h.out
	for {
		if err := st.dead(); err != nil {
			out.waiting.drop(st)
			st.turn = false
			h.admit() // it may have been another's
			return 0, err
		}
		free := out.window > 0 && out.room() > 0
		switch {
		case st.window > 0 && free && (st.turn || out.waiting.none()):
			st.turn = false
			n = int(min(int64(n), int64(h2.MinFrame), st.window, out.window))
			st.window -= int64(n)
			out.window -= int64(n)
			return n, nil
		case st.turn:
			st.turn = false
			if st.window <= 0 {
				h.admit()
			}
		case st.window > 0 && !st.queued:
			st.queued = true
			out.waiting.push(st)
		default:
			h.pause(st, &st.cond)
		}
	}
}

// room waits until the buffer has room. With mu held.
func (h *h2Conn) room(st *Stream) error {
	for {
		if err := st.dead(); err != nil {
			return err
		}
		if h.out.room() > 0 {
			st.writing = 0
			return nil
		}
		h.pause(st, &h.out.space)
	}
}

// pause waits on cond, unless there is something to write and nobody else does.
// With mu held.
func (h *h2Conn) pause(st *Stream, cond interface{ Wait() }) {
	if st.writing == 0 {
		st.writing = max(h.s.clock.Load(), 1)
	}
	if h.out.idle() {
		h.mu.Unlock()
		h.flush()
		h.mu.Lock()
		return
	}
	cond.Wait()
}

// dead is why nothing can be sent any more; nil while it can.
func (st *Stream) dead() error {
	switch {
	case st.h.out.err != nil:
		return st.h.out.err
	case st.local:
		return errEnded
	case !st.gone:
		return nil
	case st.err != nil:
		return st.err
	}
	return net.ErrClosed
}

// served is after the handler has returned.
func (h *h2Conn) served(st *Stream) {
	h.mu.Lock()
	switch {
	case st.gone:
	case !st.local:
		h.reset(st.id, http2.ErrCodeInternal)
	case st.broken:
		h.reset(st.id, http2.ErrCodeProtocol)
	default:
		h.linger(st)
	}
	h.unref(st)
	if h.handlers--; h.handlers == 0 && h.closed {
		close(h.quiet)
	}
	h.mu.Unlock()
}

// reset ends a stream with RST_STREAM, and cancels what is attached. It need not
// be open. With mu held, which it lets go of meanwhile.
func (h *h2Conn) reset(id uint32, code http2.ErrCode) {
	h.out.buf = h2.AppendReset(h.out.buf, id, code)
	h.ignore(id)
	if provoked(code) {
		h.out.resets.Add(1)
	}
	if st := h.streams[id]; st != nil {
		err := error(ErrClientGone)
		if code == http2.ErrCodeCancel {
			err = errAbandoned
		}
		h.close(st, err)
		h.cancel(st, err)
	}
}

// ignore has what may be under way to a stream be passed over. With mu held.
func (h *h2Conn) ignore(id uint32) {
	h.cut[h.cuts%h2Cut] = id
	h.cuts++
}

// wasCut reports whether a stream is one of those to ignore. With mu held.
func (h *h2Conn) wasCut(id uint32) bool {
	for _, one := range h.cut[:min(h.cuts, h2Cut)] {
		if one == id {
			return true
		}
	}
	return h.lingers(id)
}

// close takes a stream off those that are open; err is what its handler gets to
// hear, if anything. With mu held.
func (h *h2Conn) close(st *Stream, err error) {
	st.gone, st.err = true, err
	h.credit(int64(len(st.body) - st.taken))
	delete(h.streams, st.id)
	st.cond.Broadcast()
	if h.out.room() <= 0 {
		h.out.space.Broadcast()
	}
	if len(h.streams) == 0 && !h.closed {
		h.c.enter(stateIdle)
	}
}
