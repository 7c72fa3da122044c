package upstream

import (
	"io"
	"sync"
)

const (
	copyBuffer = 32 << 10
	// relayMin is from how many bytes on it pays to have the kernel move them.
	relayMin = 64 << 10
)

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// Buffered returns the whole response body without copying it, if its length
// is known and all of it has come with the head; an empty body always has. It
// takes nothing away: Read would give the same bytes. They live until the call
// is closed, and Close then pools the connection.
func (c *Call) Buffered() ([]byte, bool) {
	switch {
	case c.pool == nil || c.err != nil:
	case c.mode == bodyNone:
		return nil, true
	case c.mode == bodyLength && c.rest <= int64(c.w-c.r):
		end := c.r + int(c.rest)
		return c.in[c.r:end:end], true
	}
	return nil, false
}

// Read reads the response body, without its chunked coding. It returns io.EOF
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
	switch c.mode {
	case bodyLength:
		return c.readLength(p)
	case bodyChunked:
		return c.readChunked(p)
	case bodyToEnd:
		return c.readToEnd(p)
	}
	return 0, io.EOF
}

// Trailers returns the trailer section, once Read has returned io.EOF or
// WriteTo has returned.
func (c *Call) Trailers() []Field { return c.Response.Trailer }

func (c *Call) readLength(p []byte) (int, error) {
	if c.rest == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > c.rest {
		p = p[:c.rest]
	}
	n, err := c.takeBuffered(p), error(nil)
	if n == 0 {
		if n, err = c.receive(p); err != nil {
			return 0, c.bodyError(err)
		}
	}
	c.rest -= int64(n)
	return n, nil
}

func (c *Call) readToEnd(p []byte) (int, error) {
	if n := c.takeBuffered(p); n > 0 {
		return n, nil
	}
	n, err := c.receive(p)
	if err == io.EOF {
		c.err = io.EOF
		return 0, io.EOF
	}
	if err != nil {
		return 0, c.bodyError(err)
	}
	return n, nil
}

// readChunked decodes what is buffered into p, or reads into p and decodes
// where it lies, which always uses up what was read.
func (c *Call) readChunked(p []byte) (int, error) {
	for !c.chunks.done() {
		src, buffered := c.in[c.r:c.w], c.r < c.w
		if !buffered {
			n, err := c.receive(p)
			if err != nil {
				return 0, c.bodyError(err)
			}
			src = p[:n]
		}
		put, took, err := c.dechunk(p, src)
		if buffered {
			c.r += took
		}
		if put > 0 {
			return put, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.EOF
}

// dechunk decodes src into p, which may be the same memory. An error is that of
// all later reads too.
func (c *Call) dechunk(p, src []byte) (put, took int, err error) {
	put, took, err = c.chunks.decode(p, src)
	if err != nil {
		c.err = protocolError(err)
		return put, took, c.err
	}
	if c.chunks.done() {
		c.excess = took < len(src)
		c.Response.Trailer = c.head.unnamed(c.chunks.trailer)
	}
	return put, took, nil
}

func (c *Call) takeBuffered(p []byte) int {
	n := copy(p, c.in[c.r:c.w])
	c.r += n
	return n
}

// receive reads from the connection, at least one byte or an error.
func (c *Call) receive(p []byte) (int, error) {
	cn := c.conn
	at := c.until(c.pool.cfg.Idle)
	cn.head.set(at)
	n, err := cn.nc.Read(p)
	cn.head.set(0)
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// bodyError makes err that of all later reads.
func (c *Call) bodyError(err error) error {
	c.err = c.failure(err)
	return c.err
}

type flusher interface{ Flush() error }

// WriteTo writes the rest of the response body to w. A body of known length
// that comes over plain TCP is given to w's ReadFrom, if it has one, in a form
// that net.TCPConn moves without copying (splice). A body of unknown length is
// flushed after each read if w has a Flush method that returns an error.
//
// An *Error is the target's fault, or Cancel's; any other error is w's. Time
// runs only while the target is waited for: a w that blocks is its owner's to
// bound, and to make return after Cancel.
func (c *Call) WriteTo(w io.Writer) (int64, error) {
	var flush flusher
	if c.Response.ContentLength < 0 {
		flush, _ = w.(flusher)
	}
	written, err := c.writeBuffered(w, flush)
	if err != nil {
		return written, err
	}
	if c.pool != nil && c.mode == bodyLength && c.rest >= relayMin && c.err == nil && c.conn.tcp != nil {
		if to, ok := w.(io.ReaderFrom); ok {
			n, err := c.relay(to)
			return written + n, err
		}
	}
	return c.copy(w, flush, written)
}

// copy writes what Read returns to w.
func (c *Call) copy(w io.Writer, flush flusher, written int64) (int64, error) {
	if c.mode == bodyLength && c.rest == 0 && c.err == nil {
		return written, nil
	}
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

// writeBuffered writes what came with the head straight from the buffer.
func (c *Call) writeBuffered(w io.Writer, flush flusher) (int64, error) {
	b := c.in[c.r:c.w]
	if c.pool == nil || c.err != nil || len(b) == 0 {
		return 0, nil
	}
	switch c.mode {
	case bodyLength:
		b = b[:min(int64(len(b)), c.rest)]
		c.rest -= int64(len(b))
		c.r += len(b)
	case bodyToEnd:
		c.r += len(b)
	case bodyChunked:
		// In its place. An error is Read's to return, after these bytes.
		put, took, _ := c.dechunk(b, b)
		c.r += took
		b = b[:put]
	default:
		return 0, nil
	}
	if len(b) == 0 {
		return 0, nil
	}
	n, err := writeFlush(w, flush, b)
	return int64(n), err
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
