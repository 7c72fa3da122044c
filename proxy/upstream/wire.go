package upstream

import (
	"context"
	"io"
	"time"
)

// A wire carries a call over a connection of HTTP/1 that the call has for
// itself meanwhile.
type wire struct {
	*Call

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
	sender sender

	// Under Call.mu.
	conn       *conn
	aborted    bool // conn's deadlines are in the past
	cancelDial context.CancelFunc
}

const (
	initialBuffer = 8 << 10
	keptBuffer    = 16 << 10 // larger buffers are not kept for the next call
)

// begin prepares for another call.
func (c *wire) begin() {
	c.r, c.w = 0, 0
	c.out = c.out[:0]
	c.head.reset()
	c.final, c.excess, c.aborted = false, false, false
	c.mode, c.rest = bodyNone, 0
	c.sender.reset()
	if c.in == nil {
		c.in = make([]byte, initialBuffer)
	}
}

// trim gives up what is too large to keep.
func (c *wire) trim() {
	if len(c.in) > keptBuffer {
		c.in = nil
		clear(c.head.fields[:cap(c.head.fields)])
	}
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
}

func (c *wire) exchange() *Error {
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
func (c *wire) connect() *Error {
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

func (c *wire) dial() (*conn, error) {
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
func (c *wire) send(stream bool) error {
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

func (c *wire) unsent() bool { return !c.sender.wrote.Load() }

// abortLocked stops a dial, and makes every read and write of the connection
// return.
func (c *wire) abortLocked() {
	if c.cancelDial != nil {
		c.cancelDial()
	}
	if c.conn != nil {
		c.aborted = true
		c.conn.abort()
	}
}

func (c *wire) detach() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	cn := c.conn
	c.conn = nil
	return cn
}

func (c *wire) close() {
	p := c.pool
	sent := c.sender.finish(c)
	c.mu.Lock()
	cn, aborted := c.conn, c.aborted
	c.conn = nil
	c.closeLocked()
	c.mu.Unlock()
	switch {
	case c.mode == bodyUpgraded:
		p.free()
		return
	case cn == nil:
	case sent && !aborted && c.reusable(cn):
		p.put(cn)
	default:
		p.discard(cn)
	}
	p.busy.Add(-1)
}

// reusable reports whether the response was taken to its end, or lies in the
// buffer to its end, and another may follow on the connection.
func (c *wire) reusable(cn *conn) bool {
	h := &c.head
	if !c.final || c.err != nil || c.excess || h.close || cn.tainted() {
		return false
	}
	if h.http10 && !(h.keepAlive && h.length >= 0) {
		return false
	}
	if h.status == 204 && (h.length > 0 || h.chunked || h.alien) {
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
