package listen

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

// h2Pending is how many bytes may wait to be written before handlers wait.
const h2Pending = 64 << 10

var h2Outputs = sync.Pool{New: func() any { b := make([]byte, 0, 16<<10); return &b }}

// h2Out is what goes to the client. Frames are appended to buf; one goroutine at
// a time writes, all that there is. Guarded by h.mu, but for what is counted.
type h2Out struct {
	buf     []byte
	spare   []byte // is being written, or nothing
	busy    bool   // somebody writes, or is about to
	called  bool   // a worker has been called to write
	err     error  // nothing can be written any more
	failed  atomic.Bool
	enc     h2.Encoder
	block   []byte    // memory for header sections
	initial int64     // window of new streams
	window  int64     // bytes that the client takes
	waiting h2Queue   // streams with something to send, for turns of window and room
	space   sync.Cond // there may be room again, or nobody is busy

	data   atomic.Int64 // DATA frames
	resets atomic.Int64 // streams that were reset because of what the client did
}

func (o *h2Out) init(mu *sync.Mutex) {
	o.space.L = mu
	o.initial, o.window = h2FirstWindow, h2FirstWindow
}

// room is how many bytes may be appended; a little more does no harm.
func (o *h2Out) room() int { return h2Pending - len(o.buf) }

// idle reports whether there is something to write and nobody does.
func (o *h2Out) idle() bool { return len(o.buf) > 0 && !o.busy }

// fail has nothing be written any more.
func (o *h2Out) fail(err error) {
	if o.err == nil {
		o.err = err
		o.failed.Store(true)
	}
	o.buf = o.buf[:0]
}

// flush writes what there is, unless somebody does.
func (h *h2Conn) flush() { h.write(false) }

// flushAll goes on for as long as there is something.
func (h *h2Conn) flushAll() { h.write(true) }

// write leaves what others append while it writes to a worker, unless all is set:
// a handler must not end up writing for busier ones.
func (h *h2Conn) write(all bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if all {
		h.out.called = false
	}
	if !h.out.idle() {
		return
	}
	h.out.busy = true
	for first := true; len(h.out.buf) > 0 && h.out.err == nil && (first || all); first = false {
		h.mu.Unlock()
		runtime.Gosched() // others that are ready append what they have
		h.mu.Lock()
		h.writeOnce()
	}
	h.out.busy = false
	if h.out.err != nil {
		h.out.buf = h.out.buf[:0]
	}
	h.out.space.Broadcast()
	h.handOverLocked()
}

// writeOnce writes all that has been appended by now. With mu held, which it lets
// go of meanwhile.
func (h *h2Conn) writeOnce() {
	out := &h.out
	b := out.buf
	if out.spare == nil {
		out.spare = *h2Outputs.Get().(*[]byte)
	}
	out.buf, out.spare = out.spare[:0], nil
	h.mu.Unlock()
	_, err := h.c.sendWhole(b)
	h.mu.Lock()
	out.spare = b[:0]
	if err != nil {
		out.fail(err)
		h.wakeAll()
		h.mu.Unlock()
		h.c.nudge() // whoever reads ends the connection
		h.mu.Lock()
		return
	}
	out.space.Broadcast()
	h.admit()
}

// release gives memory back while there is nothing to write. With mu held.
func (o *h2Out) release() {
	if o.busy || len(o.buf) > 0 {
		return
	}
	for _, b := range []*[]byte{&o.buf, &o.spare} {
		if 0 < cap(*b) && cap(*b) <= 2*h2Pending {
			one := (*b)[:0]
			h2Outputs.Put(&one)
		}
		*b = nil
	}
}

// flushed returns when all has been written, or cannot be.
func (h *h2Conn) flushed() {
	h.flushAll()
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.out.busy || len(h.out.buf) > 0 && h.out.err == nil {
		h.out.space.Wait()
	}
}

// handOver has somebody else write what the reader has to say: a client that does
// not read must not keep it from reading.
func (h *h2Conn) handOver() {
	h.mu.Lock()
	h.handOverLocked()
	h.mu.Unlock()
}

func (h *h2Conn) handOverLocked() {
	if h.out.idle() && !h.out.called {
		h.out.called = true
		h.s.workers.run(h2Work{h: h})
	}
}

// admit gives the stream that has waited longest its turn, if there is something
// to be had. With mu held.
func (h *h2Conn) admit() {
	for h.out.window > 0 && h.out.room() > 0 {
		st := h.out.waiting.pop()
		if st == nil {
			return
		}
		st.queued = false
		if !st.gone && st.window > 0 {
			st.turn = true
			st.cond.Broadcast()
			return
		}
		st.cond.Broadcast()
	}
}

// h2Queue is a queue of streams.
type h2Queue struct {
	list []*Stream
	from int
}

func (q *h2Queue) none() bool { return q.from == len(q.list) }

func (q *h2Queue) push(st *Stream) {
	if q.from > 0 && len(q.list) == cap(q.list) {
		n := copy(q.list, q.list[q.from:])
		clear(q.list[n:])
		q.list, q.from = q.list[:n], 0
	}
	q.list = append(q.list, st)
}

// drop takes a stream out that does not wait any more.
func (q *h2Queue) drop(st *Stream) {
	if !st.queued {
		return
	}
	st.queued = false
	if i := slices.Index(q.list[q.from:], st); i >= 0 {
		q.list = slices.Delete(q.list, q.from+i, q.from+i+1)
	}
}

// pop is the first, nil if there is none.
func (q *h2Queue) pop() *Stream {
	if q.none() {
		q.list, q.from = q.list[:0], 0
		return nil
	}
	st := q.list[q.from]
	q.list[q.from] = nil
	q.from++
	return st
}
