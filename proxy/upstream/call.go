package upstream

import (
	"context"
	"io"
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

	pool   *Pool
	hard   int64 // Request.Deadline in terms of Transport.now
	in     []byte
	r, w   int // of in: what is read and not yet used
	out    []byte
	head   head
	final  bool // the final head is read
	mode   int  // how the response body is framed
	rest   int64
	excess bool // bytes came after the end of the response
	chunks dechunker
	from   io.LimitedReader // of a relay
	err    error            // of the body, for every later Read
	sender sender

	mu         sync.Mutex
	state      int
	conn       *conn
	canceled   error // by Cancel
	aborted    bool  // conn's deadlines are in the past
	cancelDial context.CancelFunc
}

// States of a Call, for Cancel.
const (
	stateFresh  = iota // Cancel will stop the Do to come
	stateOpen          // Cancel aborts
	stateClosed        // Cancel does nothing
)

const (
	initialBuffer = 8 << 10
	keptBuffer    = 16 << 10 // larger buffers are not kept for the next call
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
		err = c.exchange()
	}
	if err != nil {
		err.Unsent = err.Unsent || !c.sender.wrote.Load()
		c.Close()
		return err
	}
	return nil
}

func (c *Call) begin(p *Pool) *Error {
	c.mu.Lock()
	c.state = stateOpen
	canceled := c.canceled
	c.mu.Unlock()
	p.busy.Add(1)
	p.t.stir()
	c.pool = p
	c.hard = p.t.at(c.Request.Deadline)
	c.r, c.w = 0, 0
	c.out = c.out[:0]
	c.head.reset()
	c.final, c.excess, c.aborted, c.err = false, false, false, nil
	c.mode, c.rest = bodyNone, 0
	c.Response = Response{}
	c.sender.reset()
	if c.in == nil {
		c.in = make([]byte, initialBuffer)
	}
	if canceled != nil {
		return canceledError(canceled)
	}
	if c.hard > 0 && c.hard <= c.pool.t.now() {
		return &Error{Type: typeResponseTime, Err: errDeadline}
	}
	return nil
}

func (c *Call) exchange() *Error {
	c.appendHead()
	stream := c.Request.ContentLength != 0
	if stream && (c.Request.BodyAtHand || c.Request.Body == nil) {
		var err *Error
		if stream, err = c.appendBody(); err != nil {
			return err
		}
	}
	for {
		if err := c.connect(); err != nil {
			return err
		}
		err := c.send(stream)
		if err == errUnquiet {
			c.pool.unuse(c.detach())
			continue
		}
		if err != nil {
			return c.failure(err)
		}
		if err = c.readHead(); err != nil {
			return c.failure(err)
		}
		return nil
	}
}

// connect gives the call a connection, from the pool or a new one.
func (c *Call) connect() *Error {
	cn, err := c.pool.take()
	if err != nil {
		return &Error{Type: typeLimit, Err: err}
	}
	if cn == nil {
		if cn, err = c.dial(); err != nil {
			c.pool.free()
			return err.(*Error)
		}
		c.pool.add(cn)
	}
	c.mu.Lock()
	c.conn = cn
	canceled := c.canceled
	c.mu.Unlock()
	if canceled != nil {
		return c.failure(canceled)
	}
	return nil
}

func (c *Call) dial() (*conn, error) {
	limit := time.Now().Add(c.pool.cfg.Connect)
	if d := c.Request.Deadline; !d.IsZero() && d.Before(limit) {
		limit = d
	}
	ctx, cancel := context.WithDeadline(context.Background(), limit)
	defer cancel()
	c.mu.Lock()
	c.cancelDial = cancel
	canceled := c.canceled
	c.mu.Unlock()
	var cn *conn
	var err error
	if canceled == nil {
		if cn, err = c.pool.target.dial(ctx); usedUp(err) {
			c.pool.t.makeRoom()
			cn, err = c.pool.target.dial(ctx)
		}
	}
	c.mu.Lock()
	c.cancelDial = nil
	canceled = c.canceled
	c.mu.Unlock()
	if canceled != nil {
		if cn != nil {
			cn.close()
		}
		return nil, canceledError(canceled)
	}
	return cn, err
}

// send writes the request, or begins to, and may read the first bytes of the
// answer. errUnquiet means that another connection is to be taken.
func (c *Call) send(stream bool) error {
	cn := c.conn
	if stream {
		if cn.used && !cn.quiet() {
			return errUnquiet
		}
		cn.head.set(c.until(0))
		c.sender.start(c)
		return nil
	}
	cn.head.set(c.until(c.pool.cfg.Header))
	if cn.tls != nil {
		if cn.used && !cn.quiet() {
			return errUnquiet
		}
		// An error is no reason not to read: the answer may have come before.
		n, _ := cn.tls.Write(c.out)
		c.sender.sent(n, len(c.out))
		return nil
	}
	got, sent, err := cn.roundTrip(c.out, c.in)
	c.sender.sent(sent, len(c.out))
	if err != nil {
		return err
	}
	if c.w = got; got == 0 {
		return errEnd
	}
	return nil
}

// until is the moment d from now, or the call's deadline if that is earlier; 0
// for never.
func (c *Call) until(d time.Duration) int64 {
	if d <= 0 {
		return c.hard
	}
	at := c.pool.t.now() + int64(d)
	if c.hard > 0 && c.hard < at {
		return c.hard
	}
	return at
}

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
	if c.cancelDial != nil {
		c.cancelDial()
	}
	c.abortLocked()
}

// abortLocked makes every read and write of the connection return.
func (c *Call) abortLocked() {
	if c.conn != nil {
		c.aborted = true
		c.conn.abort()
	}
}

func (c *Call) detach() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	cn := c.conn
	c.conn = nil
	return cn
}

// Close ends the call. The connection goes back to the pool if the request was
// written and the response read to its end, with nothing left over, and both
// sides mean to go on; else it is closed. See Call for the goroutine that may be
// reading Request.Body. Close of a closed call does nothing. It returns nil.
func (c *Call) Close() error {
	p := c.pool
	if p == nil {
		return nil
	}
	sent := c.sender.finish(c)
	c.mu.Lock()
	cn, aborted := c.conn, c.aborted
	c.conn, c.canceled, c.state = nil, nil, stateClosed
	c.mu.Unlock()
	c.pool = nil
	switch {
	case c.mode == bodyUpgraded:
		p.free()
		return nil
	case cn == nil:
	case sent && !aborted && c.reusable(cn):
		p.put(cn)
	default:
		p.discard(cn)
	}
	p.busy.Add(-1)
	return nil
}

// reusable reports whether the response was taken to its end, or lies in the
// buffer to its end, and another may follow on the connection.
func (c *Call) reusable(cn *conn) bool {
	h := &c.head
	if !c.final || c.err != nil || c.excess || h.close || cn.tainted() {
		return false
	}
	if h.http10 && !(h.keepAlive && h.length >= 0) {
		return false
	}
	if h.status == 204 && (h.length > 0 || h.chunked) {
		return false // its body may be on the way
	}
	switch c.mode {
	case bodyNone:
		return c.r == c.w && cn.drained()
	case bodyLength:
		return c.rest == int64(c.w-c.r) && cn.drained()
	case bodyChunked:
		return c.chunks.done() && c.r == c.w && cn.drained()
	}
	return false
}

// Reset closes the call and makes it a zero value again that keeps its
// buffers.
func (c *Call) Reset() {
	c.Close()
	c.Request = Request{}
	c.Response = Response{}
	if len(c.in) > keptBuffer {
		c.in = nil
		clear(c.head.fields[:cap(c.head.fields)])
	}
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
	c.mu.Lock()
	c.state, c.canceled = stateFresh, nil
	c.mu.Unlock()
}
