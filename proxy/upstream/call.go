package upstream

import (
	"io"
	"net"
	"sync"
	"time"
)

// A Call is one attempt at a target. Its life is: fill in Request, Do, look at
// Response, Read or WriteTo or Buffered, Close; then Reset, or Do again. The
// zero value is ready. All methods but Cancel belong to one goroutine.
//
// While a streamed request body is being written another goroutine of the call
// may be inside Request.Body.Read. It is gone when Close has returned, or Do
// with an error. To end it, the call first makes every write to the target
// return, then calls Request.Interrupt if the goroutine is inside Read, and
// then waits. Without Interrupt the caller must make Body.Read return by other
// means, before Close; and Do may return its error only once Body.Read has
// returned.
type Call struct {
	Request
	Response

	pool *Pool
	via  carrier // set while pool is
	hard int64   // Request.Deadline in terms of Transport.now
	err  error   // of the body, for every later Read
	wire wire

	mu       sync.Mutex // guards via against Cancel as well
	state    int
	canceled error // by Cancel
}

// A carrier takes a call to its target and the answer back. There are two: a
// wire, which is one connection of HTTP/1, and a stream, which is one of many
// on a connection of HTTP/2. They have what the call needs of its protocol;
// what the caller sees, and whether it was canceled, is the Call's own.
type carrier interface {
	// exchange sends the request and returns with the final head in Response.
	exchange() *Error
	// unsent reports whether no byte of the request can have reached the target.
	unsent() bool
	// sent is Call.RequestSent.
	sent() bool
	// read is Call.Read before the first error.
	read(p []byte) (int, error)
	writeTo(w io.Writer, flush flusher) (int64, error)
	buffered() ([]byte, bool)
	upgraded() (net.Conn, []byte)
	// abortLocked makes whatever waits for the target return, and does not
	// wait itself. Call.mu is held.
	abortLocked()
	// close ends the call, with Call.closeLocked, and gives back to the pool
	// what the carrier had of it.
	close()
}

// States of a Call, for Cancel.
const (
	stateFresh  = iota // Cancel will stop the Do to come
	stateOpen          // Cancel aborts
	stateClosed        // Cancel does nothing
)

// Do sends Request to a connection of p and returns once the final response
// head is read, or the 101 that Request.Upgrade asked for. The error is always
// an *Error, and the call is closed then. A call that is still open is closed
// first.
func (c *Call) Do(p *Pool) error {
	if c.pool != nil {
		c.Close()
	}
	err := c.begin(p)
	if err == nil {
		err = c.via.exchange()
	}
	if err != nil {
		via := c.via
		c.Close() // whatever was still writing has come to its end then
		err.Unsent = err.Unsent || via.unsent()
		return err
	}
	return nil
}

func (c *Call) begin(p *Pool) *Error {
	p.busy.Add(1)
	p.t.stir()
	c.pool = p
	c.hard = p.t.at(c.Request.Deadline)
	c.err = nil
	c.Response = Response{}
	c.mu.Lock()
	c.state = stateOpen
	c.via = p.carrier(c)
	canceled := c.canceled
	c.mu.Unlock()
	if canceled != nil {
		return canceledError(canceled)
	}
	if c.hard > 0 && c.hard <= c.pool.t.now() {
		return &Error{Type: typeResponseTime, Err: errDeadline}
	}
	return nil
}

// RequestSent reports whether the whole request, with its body, is written or
// on the point of being so. When it is false after a Do without error, a final
// response came first: over HTTP/1 the rest of the body stays unread in
// Request.Body, over HTTP/2 it goes on being sent after a 2xx, until Close. At
// the end of the call it tells whether the client's connection can serve another
// request.
func (c *Call) RequestSent() bool { return c.via != nil && c.via.sent() }

// until is the moment d from now, or the call's deadline if that is earlier; 0
// for never.
func (c *Call) until(d time.Duration) int64 { return c.pool.until(d, c.hard) }

// Extend replaces Request.Deadline for what is left of a call whose Do has
// returned; zero for none.
func (c *Call) Extend(deadline time.Time) {
	if c.pool != nil {
		c.hard = c.pool.t.at(deadline)
	}
}

// Cancel ends the call from any goroutine, at any time: a Do, Read or WriteTo
// returns an *Error with Canceled and err in it. Before Do it stops the Do to
// come; after Close it does nothing, so that it never meets a connection that
// serves someone else. A Cancel that is meant for a call that was closed must
// not come after Reset.
func (c *Call) Cancel(err error) {
	if err == nil {
		err = errCanceled
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == stateClosed || c.canceled != nil {
		return
	}
	c.canceled = err
	if c.via != nil {
		c.via.abortLocked()
	}
}

// Close ends the call. The connection goes back to the pool if the request was
// written and the response read to its end, with nothing left over, and both
// sides mean to go on; else it is closed. See Call for the goroutine that may be
// reading Request.Body. Close of a closed call does nothing. It returns nil.
func (c *Call) Close() error {
	if c.pool == nil {
		return nil
	}
	c.via.close()
	return nil
}

// closeLocked ends what Cancel can reach.
func (c *Call) closeLocked() {
	c.pool, c.via, c.canceled, c.state = nil, nil, nil, stateClosed
}

// Reset closes the call and makes it a zero value again that keeps its
// buffers.
func (c *Call) Reset() {
	c.Close()
	c.Request = Request{}
	c.Response = Response{}
	c.wire.trim()
	c.mu.Lock()
	c.state, c.canceled = stateFresh, nil
	c.mu.Unlock()
}

// Upgraded gives the connection of a 101 to the caller, with the bytes that
// came behind the head. It is the caller's to close, Cancel and deadlines no
// longer reach it; it counts among the open ones until the call is closed,
// which leaves the connection alone. Upgraded returns nil when there was no
// 101, or the second time.
func (c *Call) Upgraded() (conn net.Conn, early []byte) {
	if c.pool == nil {
		return nil, nil
	}
	return c.via.upgraded()
}

// Buffered returns the whole response body without copying it, if its length
// is known and all of it has come with the head; an empty body always has. It
// takes nothing away: Read would give the same bytes. They live until the call
// is closed, and Close then pools the connection.
func (c *Call) Buffered() ([]byte, bool) {
	if c.pool == nil || c.err != nil {
		return nil, false
	}
	return c.via.buffered()
}

// Read reads the response body, without its transfer coding. It returns io.EOF
// at the end of the body, and an *Error of type http_response_incomplete when
// the connection ends before it, connection_read_timeout when nothing came for
// Config.Idle or the call's deadline passed.
func (c *Call) Read(p []byte) (int, error) {
	switch {
	case c.err != nil:
		return 0, c.err
	case c.pool == nil:
		return 0, errClosed
	case len(p) == 0:
		return 0, nil
	}
	return c.via.read(p)
}

// Trailers returns the trailer section, once Read has returned io.EOF or
// WriteTo has returned.
func (c *Call) Trailers() []Field { return c.Response.Trailer }

type flusher interface{ Flush() error }

// WriteTo writes the rest of the response body to w. A body of known length
// that comes over plain TCP with HTTP/1 is given to w's ReadFrom, if it has one,
// in a form that net.TCPConn moves without copying (splice). A body of unknown
// length is flushed after each read if w has a Flush method that returns an
// error.
//
// An *Error is the target's fault, or Cancel's; any other error is w's. Time
// runs only while the target is waited for: a w that blocks is its owner's to
// bound, and to make return after Cancel.
func (c *Call) WriteTo(w io.Writer) (int64, error) {
	var flush flusher
	if c.Response.ContentLength < 0 {
		flush, _ = w.(flusher)
	}
	if c.pool == nil {
		return c.copy(w, flush, 0)
	}
	return c.via.writeTo(w, flush)
}

const copyBuffer = 32 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// copy writes what Read returns to w.
func (c *Call) copy(w io.Writer, flush flusher, written int64) (int64, error) {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := c.Read(buf[:])
		if n > 0 {
			m, err := writeFlush(w, flush, buf[:n])
			if written += int64(m); err != nil {
				return written, err
			}
		}
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

func writeFlush(w io.Writer, flush flusher, b []byte) (int, error) {
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err == nil && flush != nil {
		err = flush.Flush()
	}
	return n, err
}
