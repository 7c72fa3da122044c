package listen

import (
	"errors"
	"io"
	"os"
	"time"
)

const (
	parkAfter     = time.Second            // idle, until fasthttp lets go of its buffers
	parkHeadAfter = 200 * time.Millisecond // the same within a head
	drainNew      = time.Second            // for a new connection's request to come, in Shutdown
	refuseTimeout = time.Second
	lingerTimeout = 2 * time.Second
	lingerBytes   = 256 << 10
	maxLingering  = 1024
)

var past = time.Unix(1, 0)

// await waits, without any of fasthttp's buffers, until there is something for
// fasthttp to read; false means that c has to be closed.
func (c *Conn) await() bool {
	c.yielded = false
	if c.ready > 0 {
		return true
	}
	c.spare = nil // while nothing is held
	c.parked.Store(true)
	defer c.parked.Store(false)
	if len(c.held) > 0 {
		return c.advance() == nil
	}
	for {
		if c.secure != nil {
			if got, err := c.secure.glance(readReady); got {
				return c.advance() == nil
			} else if err != nil {
				return false
			} else if !parks {
				return true
			}
		}
		if !c.awaitReadable() {
			return false
		}
		if c.secure == nil {
			return true
		}
	}
}

// awaitReadable waits until something comes on the socket; false means that c
// has to be closed.
func (c *Conn) awaitReadable() bool {
	for {
		err := c.readable()
		if err == nil {
			return true
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = c.wake()
		}
		if err != nil {
			return false
		}
	}
}

// wake decides what it means that a Read was interrupted: nil if nothing.
func (c *Conn) wake() error {
	c.mu.Lock()
	foreign := !c.foreign.IsZero() && !time.Now().Before(c.foreign)
	if !foreign && !c.raw.Load() {
		_ = c.TCPConn.SetReadDeadline(c.foreign) // fails with the Read that follows
	}
	c.mu.Unlock()
	if foreign || c.raw.Load() {
		return os.ErrDeadlineExceeded
	}
	err := c.due(c.s.now())
	if err == io.EOF && c.pending() {
		return nil // a request won the race
	}
	return err
}

// due is what the clock says about c: io.EOF to close it silently, a Violation
// to answer, errYield to wait without buffers, nil to go on.
func (c *Conn) due(now int64) error {
	lim := c.s.limits.Load()
	age := time.Duration(now - c.since.Load())
	park := parkAfter
	switch c.in() {
	case stateHandshake:
		if age > lim.HandshakeTimeout {
			return errHandshakeSlow
		}
		if age > drainNew && c.s.draining.Load() {
			return io.EOF
		}
		return nil
	case stateNew:
		if age > lim.HeaderTimeout || age > drainNew && c.s.draining.Load() {
			return io.EOF
		}
	case stateIdle:
		if age > lim.IdleTimeout || c.s.draining.Load() {
			return io.EOF
		}
	case stateHead:
		park = parkHeadAfter
		if age > lim.HeaderTimeout {
			return errHeadSlow
		}
	default:
		if c.slow.Load() {
			return errBodySlow
		}
		return nil
	}
	if age > park && !c.parked.Load() {
		return errYield
	}
	return nil
}

// nudge interrupts the Read that c is in or will be in next.
func (c *Conn) nudge() {
	c.mu.Lock()
	if !c.raw.Load() {
		_ = c.TCPConn.SetReadDeadline(past) // fails only for a closed connection
	}
	c.mu.Unlock()
}

// abort resets the connection; its goroutines notice.
func (c *Conn) abort() {
	c.cancel(ErrClosed)
	_ = c.TCPConn.SetLinger(0) // it is closed either way
	_ = c.TCPConn.Close()
}

// dismiss ends the connection when the time to drain is over. An upgraded one
// ends in order, so that what was said through it arrives; a response that is
// cut must look so.
func (c *Conn) dismiss() {
	if c.raw.Load() {
		_ = c.TCPConn.Close() // its goroutines notice
		return
	}
	c.abort()
}

// Close ends the connection, unless fasthttp was only made to let go of it.
func (c *Conn) Close() error {
	if !c.yielded {
		c.end.Do(c.finish)
	}
	return nil
}

func (c *Conn) finish() {
	c.Detach()
	if c.unread() {
		c.linger()
	}
	c.bye()
	_ = c.TCPConn.Close() // there is nothing left to lose
	c.s.remove(c)
}

// unread reports whether the client may be sending what nobody will read:
// closing then resets the connection, and the response can be lost.
func (c *Conn) unread() bool {
	switch {
	case c.abrupt || c.raw.Load():
		return false
	case c.refused || len(c.held) > 0 || c.violation.Load() != nil:
		return true
	case !c.g.done() && !c.g.inHead():
		return c.err == nil
	}
	if c.secure != nil && c.h2.Load() == nil {
		if got, _ := c.secure.glance(readNothing); got {
			return true
		}
	}
	return c.pending()
}

// linger sends FIN and discards what still comes, within bounds.
func (c *Conn) linger() {
	c.mu.Lock()
	c.enter(stateClosing)
	_ = c.TCPConn.SetReadDeadline(time.Now().Add(lingerTimeout)) // fails with the Read that follows
	c.mu.Unlock()
	c.bye()
	if c.TCPConn.CloseWrite() != nil || c.s.lingering.Add(1) > maxLingering {
		c.s.lingering.Add(-1)
		return
	}
	defer c.s.lingering.Add(-1)
	c.held = nil
	buf := make([]byte, 4<<10)
	for n := 0; n < lingerBytes; {
		m, err := c.TCPConn.Read(buf)
		if n += m; err != nil {
			return
		}
	}
}
