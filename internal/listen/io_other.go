//go:build !linux

package listen

type transfer struct{}

func (c *Conn) initTransfers() {}

func (c *Conn) readSocket(p []byte) (int, error) { return c.TCPConn.Read(p) }
