package upstream

import (
	"io"

	"golang.org/x/sys/unix"
)

// A relay is the state of a body that the kernel moves, in one call that nobody
// looks into. So its deadline is not renewed by each read; the sweeper asks the
// kernel instead whether bytes came meanwhile, and only when it passes. Under
// Pool.mu.
type relay struct {
	on       bool
	idle     int64
	hard     int64
	received uint64 // on the connection, when last asked
	all      uint64 // what that is when the whole body has come
}

// relay has w take the rest of the body from the connection.
func (c *wire) relay(w io.ReaderFrom) (int64, error) {
	cn := c.conn
	c.startRelay()
	c.from = io.LimitedReader{R: cn.tcp, N: c.rest}
	n, err := w.ReadFrom(&c.from)
	c.endRelay()
	taken := c.rest - c.from.N
	c.rest = c.from.N
	switch {
	case c.rest == 0 && err == nil:
		return n, nil
	case err == nil && taken == n:
		err = io.ErrUnexpectedEOF
	case err == nil:
		return n, io.ErrShortWrite
	case !cn.tainted() && !c.wasAborted() && cn.readable():
		// The target is well, so it was w.
		return n, err
	}
	return n, c.bodyError(err)
}

func (c *wire) startRelay() {
	cn, p := c.conn, c.pool
	if at := c.until(p.cfg.Idle); at > 0 {
		received, unread := cn.received()
		r := relay{
			on: true, idle: int64(p.cfg.Idle), hard: c.hard,
			received: received, all: received - unread + uint64(c.rest),
		}
		p.mu.Lock()
		cn.relay = r
		p.mu.Unlock()
		cn.head.set(at)
	}
}

func (c *wire) endRelay() {
	c.conn.head.set(0)
	c.pool.mu.Lock()
	c.conn.relay.on = false
	c.pool.mu.Unlock()
}

func (c *wire) wasAborted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aborted
}

// readable reports whether the connection has bytes to read, or none yet, but
// neither its end nor an error.
func (c *conn) readable() bool {
	n, err := c.peek()
	return n > 0 || err == unix.EAGAIN
}

func (c *conn) peek() (n int, err error) {
	failed := c.raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	if failed != nil {
		return 0, failed
	}
	return n, err
}

// relayAlive is asked by the sweeper. When the phase is over but the target is
// not to blame, as bytes of it lie unread or more came since it was last asked,
// relayAlive begins another phase.
func (c *conn) relayAlive(now int64) bool {
	at := c.head.at.Load()
	if at <= 0 || at >= now {
		return true
	}
	r := &c.relay
	if r.hard > 0 && r.hard < now {
		return false
	}
	received, unread := c.received()
	if unread == 0 && received == r.received && received < r.all {
		return false
	}
	r.received = received
	next := now + r.idle
	if r.hard > 0 {
		next = min(next, r.hard)
	}
	c.head.at.CompareAndSwap(at, next)
	return true
}
