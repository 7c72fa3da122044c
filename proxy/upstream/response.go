package upstream

import (
	"errors"
	"io"
	"net"
)

// How a response body is framed.
const (
	bodyNone = iota
	bodyLength
	bodyChunked
	bodyToEnd
	bodyUpgrade  // a 101, whose connection nobody asked for yet
	bodyUpgraded // and somebody did
)

// errEnd is the end of the stream where a read found it.
var errEnd = io.EOF

// readHead reads to the end of the final response head.
func (c *wire) readHead() error {
	start, interims := 0, 0
	for {
		n, done, err := c.head.parse(c.in[c.r:c.w])
		c.r += n
		switch {
		case err != nil:
			return protocolError(err)
		case done && c.r-start > maxHead, !done && c.w-start > maxHead:
			return protocolError(errHeadSize)
		case done && (c.head.status >= 200 || c.head.status == 101):
			return c.finishHead()
		case done:
			if interims++; interims > maxInterims {
				return protocolError(errInterims)
			}
			if tell := c.Request.Interim; tell != nil && c.head.status != 100 {
				tell(c.head.status, c.head.fields)
			}
			c.head.reset()
			start = c.r
			continue
		}
		if c.w == len(c.in) {
			c.makeRoom(start)
			start = 0
		}
		if n, err = c.conn.nc.Read(c.in[c.w:]); n == 0 {
			return err
		}
		c.w += n
	}
}

// makeRoom moves the head that began at start to a new buffer. What is parsed of
// it keeps pointing into the old one, which nobody writes to any more.
func (c *wire) makeRoom(start int) {
	size := len(c.in)
	if c.w-start > size/2 {
		size *= 2
	}
	b := make([]byte, size)
	c.w = copy(b, c.in[start:c.w])
	c.r -= start
	c.in = b
}

func (c *wire) finishHead() error {
	h := &c.head
	if err := c.frame(); err != nil {
		return protocolError(err)
	}
	if !c.sender.answered(c) && c.mode == bodyUpgrade {
		return protocolError(errUpgradeBody)
	}
	c.conn.head.set(0)
	c.final = true
	c.Response.Status = h.status
	c.Response.Fields = h.fields
	c.Response.ContentLength = c.rest
	if c.mode == bodyChunked || c.mode == bodyToEnd {
		c.Response.ContentLength = -1
	}
	return nil
}

// frame decides how long the body is (RFC 9112, section 6.3).
func (c *wire) frame() error {
	h := &c.head
	c.mode, c.rest = bodyNone, 0
	switch {
	case h.status == 101:
		if len(c.Request.Upgrade) == 0 {
			return errUnasked
		}
		if h.http10 || !equalFoldBytes(h.upgrade, c.Request.Upgrade) {
			return errOtherUpgrade
		}
		c.mode = bodyUpgrade
	case h.status == 204, h.status == 304, string(c.Request.Method) == "HEAD":
	case h.chunked:
		c.mode = bodyChunked
		c.chunks.reset()
	case h.length > 0:
		c.mode, c.rest = bodyLength, h.length
	case h.length < 0:
		c.mode = bodyToEnd
	}
	return nil
}

func (c *wire) upgraded() (conn net.Conn, early []byte) {
	if c.mode != bodyUpgrade {
		return nil, nil
	}
	c.sender.finish(c)
	c.mode = bodyUpgraded
	cn := c.detach()
	c.pool.forget(cn)
	c.pool.busy.Add(-1)
	if c.r < c.w {
		early = append(early, c.in[c.r:c.w]...)
	}
	return cn.nc, early
}

// failure says what err, met on the connection, means. Who ended the call on
// purpose comes before what the connection said then.
func (c *wire) failure(err error) *Error {
	c.mu.Lock()
	canceled, body := c.canceled, c.sender.err
	c.mu.Unlock()
	cn := c.conn
	var e *Error
	switch {
	case canceled != nil:
		return canceledError(canceled)
	case body != nil:
		return &Error{Type: typeRequest, RequestBody: true, Err: body}
	case errors.As(err, &e):
		return e
	case cn.write.passed():
		return &Error{Type: typeWriteTime, Err: errWriteTime}
	case cn.head.passed() && !c.final:
		return &Error{Type: typeResponseTime, Err: errHeadTime}
	case cn.head.passed():
		return &Error{Type: typeReadTime, Err: errReadTime}
	case cn.tls != nil && !gone(err):
		return &Error{Type: typeTLS, Err: err}
	case c.final || c.w > 0:
		return &Error{Type: typeIncomplete, Err: err}
	}
	return &Error{Type: typeTerminated, Stale: cn.used && gone(err), Err: err}
}

func canceledError(err error) *Error {
	return &Error{Type: typeTerminated, Canceled: true, Err: err}
}
