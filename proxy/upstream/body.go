package upstream

import "io"

// relayMin is from how many bytes on it pays to have the kernel move them.
const relayMin = 64 << 10

func (c *wire) buffered() ([]byte, bool) {
	switch {
	case c.mode == bodyNone:
		return nil, true
	case c.mode == bodyLength && c.rest <= int64(c.w-c.r):
		end := c.r + int(c.rest)
		return c.in[c.r:end:end], true
	}
	return nil, false
}

func (c *wire) read(p []byte) (int, error) {
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

func (c *wire) readLength(p []byte) (int, error) {
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

func (c *wire) readToEnd(p []byte) (int, error) {
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
func (c *wire) readChunked(p []byte) (int, error) {
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
func (c *wire) dechunk(p, src []byte) (put, took int, err error) {
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

func (c *wire) takeBuffered(p []byte) int {
	n := copy(p, c.in[c.r:c.w])
	c.r += n
	return n
}

// receive reads from the connection, at least one byte or an error.
func (c *wire) receive(p []byte) (int, error) {
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
func (c *wire) bodyError(err error) error {
	c.err = c.failure(err)
	return c.err
}

func (c *wire) writeTo(w io.Writer, flush flusher) (int64, error) {
	written, err := c.writeBuffered(w, flush)
	if err != nil {
		return written, err
	}
	if c.mode == bodyLength && c.err == nil {
		if c.rest == 0 {
			return written, nil
		}
		if to, ok := w.(io.ReaderFrom); ok && c.rest >= relayMin && c.conn.tcp != nil {
			n, err := c.relay(to)
			return written + n, err
		}
	}
	return c.copy(w, flush, written)
}

// writeBuffered writes what came with the head straight from the buffer.
func (c *wire) writeBuffered(w io.Writer, flush flusher) (int64, error) {
	b := c.in[c.r:c.w]
	if c.err != nil || len(b) == 0 {
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
