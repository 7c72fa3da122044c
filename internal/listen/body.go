package listen

import (
	"io"

	"github.com/valyala/fasthttp"
)

// maxSkipped is how many bytes of a body that nobody wanted are read so that
// the connection can serve another request. A longer rest closes it.
const maxSkipped = 256 << 10

// A lengthBody is the body of a Conn's current request where Content-Length
// frames it. It passes fasthttp by, which would have the handler wait for the
// body's first byte.
type lengthBody Conn

// Body reads the current request's body where its length is known; nil where
// there is none or it is chunked: fasthttp has those. The end of the connection
// before the body's is io.ErrUnexpectedEOF.
func (c *Conn) Body() io.Reader {
	if !c.apart {
		return nil
	}
	return (*lengthBody)(c)
}

// Read reads at least one byte or returns an error; io.EOF comes with the last
// byte, as whoever knows the length reads no further.
func (b *lengthBody) Read(p []byte) (n int, err error) {
	c := (*Conn)(b)
	switch {
	case len(p) == 0:
		return 0, nil
	case c.ready > 0:
		n = copy(p, c.held[:c.ready])
		c.ready -= n
		c.drop(n)
	case c.err != nil:
		return 0, c.err
	case !c.g.done():
		n, err = c.direct(p)
	}
	if err == nil && c.ready == 0 && c.g.done() {
		err = io.EOF
	}
	return n, err
}

// unreadBody is how many bytes of such a body nobody has read yet.
func (c *Conn) unreadBody() int64 {
	if !c.apart {
		return 0
	}
	return c.g.left + int64(c.ready)
}

// skippable reports whether skipBody would succeed: there is not too much, and
// nobody has ended the reading with a deadline.
func (c *Conn) skippable() bool {
	left := c.unreadBody()
	if left == 0 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return left <= maxSkipped && c.foreign.IsZero()
}

// skipBody reads what is left of such a body, unless it is too much: then the
// connection ends here.
func (c *Conn) skipBody() error {
	if !c.skippable() {
		c.err = io.EOF
		return c.err
	}
	c.drop(c.ready)
	c.ready = 0
	if c.g.left > 0 {
		buf := make([]byte, 4<<10)
		for !c.g.done() {
			if _, err := c.direct(buf); err != nil {
				c.err = io.EOF // there is no request to answer
				return c.err
			}
		}
	}
	c.apart = false
	return nil
}

// bodiless tells fasthttp of a request whose body passes it by that it has none.
func bodiless(h *fasthttp.RequestHeader) (none fasthttp.RequestConfig) {
	if h.ContentLength() > 0 {
		h.SetContentLength(0)
	}
	return none
}
