package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// expired is what the sweeper leaves in a deadline that passed. It stays: the
// sweeper may touch the connection at any moment after, so that it can serve
// no other call.
const expired = -1

// A deadline is when a phase of a call must be over, in terms of
// Transport.now; 0 for never.
type deadline struct{ at atomic.Int64 }

// set begins another phase, or none with 0. It changes nothing once expired.
func (d *deadline) set(at int64) {
	for {
		old := d.at.Load()
		if old == at || old == expired || d.at.CompareAndSwap(old, at) {
			return
		}
	}
}

// passed reports whether the sweeper ended the call, which it has when passed
// once was true.
func (d *deadline) passed() bool { return d.at.Load() == expired }

// sweep ends the phase if its time is over and says whether it just did. A
// phase that is replaced meanwhile is left alone.
func (d *deadline) sweep(now int64) bool {
	at := d.at.Load()
	return at > 0 && at < now && d.at.CompareAndSwap(at, expired)
}

// A conn is one connection to a target. At any time one call has it, or the
// pool; only the sweeper touches the deadlines from outside.
type conn struct {
	nc     net.Conn        // what requests are written to and responses read from
	raw    syscall.RawConn // of the socket
	tcp    *net.TCPConn    // nil unless it is nc
	tls    *tls.Conn       // nil unless it is nc
	socket *socket         // what tls reads from

	index     int   // in Pool.conns; under Pool.mu
	idleSince int64 // under Pool.mu
	used      bool  // has served a call

	head  deadline // of the phase that waits for the response
	write deadline // of one write of a streamed request body
	relay relay    // while the kernel moves the body

	trip trip                  // see roundTrip
	step func(fd uintptr) bool // trip's, made once
	look func(fd uintptr)      // quiet's, made once
	seen error                 // by look
	one  [1]byte               // to read into what is not wanted
}

// past is a deadline that makes blocked reads and writes return.
var past = time.Unix(1, 0)

func (c *conn) abort() { c.nc.SetDeadline(past) }

// close closes without a word to a TLS peer: to say goodbye could block on a
// target that does not read, and what it has sent is complete anyhow.
func (c *conn) close() {
	if c.socket != nil {
		c.socket.Close()
		return
	}
	c.nc.Close()
}

func (c *conn) expire(now int64) {
	if c.relay.on && c.relayAlive(now) {
		return
	}
	if c.head.sweep(now) || c.write.sweep(now) {
		c.abort()
	}
}

// tainted reports whether the sweeper has or will have aborted the connection.
func (c *conn) tainted() bool { return c.head.passed() || c.write.passed() }

var errUnquiet = errors.New("unused connection was closed or spoken on")

// quiet reports whether an unused connection is open and nothing has come on
// it: what came would be taken for the answer to the next request.
func (c *conn) quiet() bool {
	c.seen = errUnquiet
	if c.raw.Control(c.look) != nil {
		return false
	}
	return c.seen == unix.EAGAIN
}

// lookStep reads, not peeks: what there is to read ends the connection.
func (c *conn) lookStep(fd uintptr) {
	_, err := read(fd, c.one[:])
	if c.seen = err; err == nil {
		c.seen = errUnquiet
	}
}

// drained reports whether TLS holds no data back that came behind what was
// read. Its partial records cannot be seen, but no response can make those.
func (c *conn) drained() bool {
	if c.tls == nil {
		return true
	}
	c.socket.probe = true
	n, err := c.tls.Read(c.one[:])
	c.socket.probe = false
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// A socket is the connection below TLS. While it is probed it has nothing to
// read, without asking the kernel.
type socket struct {
	net.Conn
	probe bool
}

func (s *socket) Read(p []byte) (int, error) {
	if s.probe {
		return 0, os.ErrDeadlineExceeded
	}
	return s.Conn.Read(p)
}
