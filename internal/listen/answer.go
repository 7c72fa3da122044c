package listen

import "net"

// Answers reports whether Answer may be called: there is nothing between the
// response and the socket.
func (c *Conn) Answers() bool { return c.secure == nil && !c.raw.Load() }

// Answer writes a whole response to the request that was handed out last, in one
// system call, and has what fasthttp will write for it dropped: fasthttp takes
// responses apart to put them together again. Nothing of earlier responses can
// still be in fasthttp's buffer, see Conn.
func (c *Conn) Answer(head, body []byte) error {
	c.muted = true
	if len(body) == 0 {
		_, err := c.write(head)
		return err
	}
	c.pieces = [2][]byte{head, body}
	c.vector = c.pieces[:]
	_, err := c.vector.WriteTo(c.TCPConn)
	c.vector, c.pieces = nil, [2][]byte{}
	return err
}

// Write is TCPConn.Write, but for what was answered already.
func (c *Conn) Write(p []byte) (int, error) {
	if c.muted {
		c.muted = false
		return len(p), nil
	}
	return c.write(p)
}

// An answering is the state of Answer.
type answering struct {
	muted  bool // what fasthttp writes next is dropped
	pieces [2][]byte
	vector net.Buffers
}
