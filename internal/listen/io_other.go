//go:build !linux

package listen

import "os"

type transfer struct{}

func (c *Conn) initTransfers() {}

func (c *Conn) readSocket(p []byte) (int, error) { return c.TCPConn.Read(p) }

func (c *Conn) readNow(p []byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func (c *Conn) write(p []byte) (int, error) { return c.TCPConn.Write(p) }
