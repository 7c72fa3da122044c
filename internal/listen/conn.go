package listen

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrClientGone is what an attached exchange is canceled with when its client
// has closed or reset the connection.
var ErrClientGone = errors.New("listen: the client has gone")

// ErrClosed is what an attached exchange is canceled with when the server
// closes the connection, at the end of Shutdown or because the client does not
// read its response.
var ErrClosed = errors.New("listen: the connection was closed")

// errYield has fasthttp let go of a connection that waits, with its buffers.
var errYield = errors.New("listen: yield")

// state is what a connection is doing.
type state uint32

const (
	stateNew       state = iota // nothing has come yet
	stateHandshake              // of TLS
	stateIdle                   // between requests
	stateHead                   // a request's head is incomplete
	stateActive                 // a request is being served
	stateRaw                    // hijacked
	stateClosing
)

// Conn is a client's connection. What fasthttp reads from it has passed the
// guard, and never reaches beyond one message: the bytes of the next request,
// or those that follow an upgrade, are held back until they are asked for. So
// fasthttp has always flushed one response before it reads the next head.
//
// The embedded TCPConn keeps ReadFrom and thereby splice.
type Conn struct {
	*net.TCPConn
	s      *Server
	fd     syscall.RawConn
	set    *settings              // as of when it was accepted
	secure *TLSConn               // nil without TLS
	h2     atomic.Pointer[h2Conn] // nil with HTTP/1
	ip     netip.Prefix
	id     uint64
	at     int // its place in the registry
	end    sync.Once

	// Of the goroutine that reads.
	g       guard
	held    []byte // read off the socket and not yet handed on
	spare   []byte // memory for held
	ready   int    // how many of held have passed the guard
	head    int    // how many of those belong to a head that fasthttp has not seen, with apart
	apart   bool   // the body has a length and is read past fasthttp, see Body
	room    int    // the size in bytes of fasthttp's read buffer
	first   byte   // the first that came, where it is known
	started bool   // some of the message has been handed on
	yielded bool   // fasthttp has been told EOF, the connection goes on
	refused bool   // a head has been answered with an error
	abrupt  bool   // to be reset rather than closed
	err     error  // sticky

	// For the sweeper.
	state     atomic.Uint32
	since     atomic.Int64 // when state was entered, on the server's clock
	waiting   atomic.Bool  // somebody is blocked in Read for a body
	parked    atomic.Bool  // waits without fasthttp's buffers
	raw       atomic.Bool
	bodyBytes atomic.Int64
	bodyDone  atomic.Bool
	violation atomic.Pointer[Violation]
	slow      atomic.Bool // the body has been found too slow
	pace      pace        // the sweeper's own
	stall     stall       // the sweeper's own

	mu      sync.Mutex // orders the setting of read deadlines
	foreign time.Time  // the deadline that was asked for from outside

	input, output transfer

	answering
	attachment
}

// conn is c, whatever is around it.
func (c *Conn) conn() *Conn { return c }

// enter notes that c is now in state st.
func (c *Conn) enter(st state) {
	c.since.Store(c.s.clock.Load())
	c.state.Store(uint32(st))
}

func (c *Conn) in() state { return state(c.state.Load()) }

// Read reads what may be seen of the current message. In the middle of one the
// end of the connection is io.ErrUnexpectedEOF, and a breach of the grammar a
// *Violation. A head that is refused is never seen: it is answered here, and
// Read returns io.EOF.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.raw.Load() {
		return c.readRaw(p)
	}
	for {
		if c.apart && c.head == 0 {
			if err := c.skipBody(); err != nil {
				return 0, err
			}
		}
		if c.ready > 0 {
			return c.hand(p)
		}
		if c.err != nil {
			return 0, c.err
		}
		if c.g.done() {
			c.nextMessage()
		}
		if len(c.held) == 0 {
			if n, err := c.direct(p); n > 0 || err != nil {
				return n, err
			}
			continue
		}
		if err := c.advance(); err != nil {
			return 0, err
		}
	}
}

// direct reads from the socket into p; it returns 0, nil where nothing may be
// handed on yet.
func (c *Conn) direct(p []byte) (int, error) {
	if c.g.phase == inLength && int64(len(p)) > c.g.left {
		p = p[:c.g.left]
	}
	n, err := c.receive(p)
	if n == 0 {
		return 0, c.fail(err)
	}
	k, v := c.feed(p[:n], n)
	if k > 0 && !c.started && c.g.headLen > c.room {
		c.hold(p[:n])
		c.ready = k
		return 0, c.fail(errYield)
	}
	if c.head > 0 {
		c.hold(p[c.head:n])
		c.ready, k, c.head = k-c.head, c.head, 0
		c.started = true
		return k, nil
	}
	if k < n && v == nil {
		c.hold(p[k:n])
	}
	if v != nil {
		err := c.fail(v)
		if k == 0 {
			return 0, err
		}
	}
	c.started = c.started || k > 0
	return k, nil
}

// advance judges what is held, with more from the socket where needed, until
// some of it is ready. Its errors are what fasthttp is to see.
func (c *Conn) advance() error {
	fresh := 0
	for {
		k, v := c.feed(c.held, fresh)
		c.ready = k
		if v != nil {
			c.held = c.held[:k]
			if err := c.fail(v); k == 0 {
				return err
			}
			return nil
		}
		if k > 0 {
			return nil
		}
		n, err := c.fill()
		if err != nil {
			return c.fail(err)
		}
		fresh = n
	}
}

// feed has the guard judge b, of which n bytes are new, and notes where in the
// message it then is.
func (c *Conn) feed(b []byte, n int) (int, *Violation) {
	head := c.g.inHead()
	k, v := c.g.feed(b)
	switch {
	case c.g.inHead():
		if v != nil {
			return k, v
		}
		if st := c.in(); st != stateHead {
			c.enter(stateHead)
		}
	case head:
		c.enter(stateActive)
		if c.g.length > 0 {
			c.apart, c.head = true, c.g.headLen
		}
	default:
		c.bodyBytes.Add(int64(n))
	}
	if c.g.done() {
		c.bodyDone.Store(true)
	}
	return k, v
}

// nextMessage begins to wait for a request.
func (c *Conn) nextMessage() {
	c.g.next()
	c.g.maxHead = c.s.limits.Load().MaxHeaderBytes
	c.started = false
	c.bodyDone.Store(false)
	c.bodyBytes.Store(0)
	if c.slow.Load() {
		c.slow.Store(false) // it was found slow just as it ended
	}
	if len(c.held) > 0 {
		c.enter(stateHead)
		return
	}
	c.enter(stateIdle)
}

// hand gives out bytes that are ready.
func (c *Conn) hand(p []byte) (int, error) {
	if !c.started && c.g.headLen > c.room {
		return 0, c.fail(errYield)
	}
	may := c.ready
	if c.apart {
		may = c.head
	}
	n := copy(p, c.held[:may])
	c.started = true
	c.ready -= n
	c.head = max(c.head-n, 0)
	c.drop(n)
	return n, nil
}

// fail turns err into what fasthttp is to see of it.
func (c *Conn) fail(err error) error {
	if err == nil {
		return nil
	}
	if err == errYield {
		c.yielded = true
		return io.EOF
	}
	v, broken := err.(*Violation)
	if c.g.inHead() {
		switch {
		case v == errForeign && c.set.HTTP2 && c.secure == nil:
			c.refused = true // without a word: to HTTP/2 it is a broken preface (RFC 9113, section 3.4)
		case broken && !(v == errHeadSlow && c.onlyBlank()):
			c.refuse(v)
		case err == io.EOF && len(c.held) > 0 && !c.onlyBlank():
			c.refuse(errHeadTruncated)
		}
		c.err = io.EOF
		return c.err
	}
	switch {
	case broken:
		c.violation.Store(v)
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return err // somebody else's deadline, who may set another
	}
	c.err = err
	return err
}

// onlyBlank reports whether nothing but an empty line has come, as old clients
// send it behind a body.
func (c *Conn) onlyBlank() bool { return c.g.blank && len(c.held) == 2 }

// refuse answers a head that is not let through. All earlier responses have
// been flushed.
func (c *Conn) refuse(v *Violation) {
	c.refused = true
	_ = c.TCPConn.SetWriteDeadline(time.Now().Add(refuseTimeout)) // Write says if it failed
	_, _ = c.sendWire(c.s.reject(c.RemoteAddr(), v))              // the connection ends either way
}

// receive reads from the socket, and decides when it was woken.
func (c *Conn) receive(p []byte) (int, error) {
	body := !c.g.inHead()
	if body {
		c.waiting.Store(true)
	}
	for {
		n, err := c.receiveWire(p)
		if n == 0 && err != io.EOF && errors.Is(err, os.ErrDeadlineExceeded) {
			if err = c.wake(); err == nil {
				continue
			}
		}
		if body {
			c.waiting.Store(false)
		}
		if n > 0 {
			return n, nil
		}
		return 0, err
	}
}

// fill appends to held what the socket has.
func (c *Conn) fill() (int, error) {
	const least = 512
	if cap(c.held)-len(c.held) < least {
		c.held = append(make([]byte, 0, 2*cap(c.held)+least), c.held...)
	}
	n, err := c.receive(c.held[len(c.held):cap(c.held)])
	c.held = c.held[:len(c.held)+n]
	return n, err
}

func (c *Conn) hold(b []byte) {
	if len(b) == 0 {
		return
	}
	if c.held == nil {
		if cap(c.spare) < len(b) {
			c.spare = make([]byte, 0, max(len(b), 512))
		}
		c.held = c.spare[:0]
	}
	c.held = append(c.held, b...)
}

// drop forgets the first n bytes of held.
func (c *Conn) drop(n int) {
	if n == len(c.held) {
		c.held = nil
		return
	}
	c.held = c.held[n:]
}

// WriteTo writes all that can be read to w; without it the TCPConn's own would
// pass by the guard.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if !c.raw.Load() || c.secure != nil {
		return io.Copy(w, struct{ io.Reader }{c})
	}
	if len(c.held) == 0 {
		return c.TCPConn.WriteTo(w)
	}
	n, err := w.Write(c.held)
	c.drop(n)
	if err != nil {
		return int64(n), err
	}
	m, err := c.TCPConn.WriteTo(w)
	return int64(n) + m, err
}

// Raw ends the guarding, for a connection that has been upgraded: Read first
// returns what was held back behind the request's head, then what comes. The
// server's time-outs no longer apply. It is called in the hijack handler,
// before the first Read.
func (c *Conn) Raw() {
	c.mu.Lock()
	c.raw.Store(true)
	c.enter(stateRaw)
	c.ready, c.err = 0, nil
	_ = c.TCPConn.SetReadDeadline(c.foreign) // fails with the Read that follows
	c.mu.Unlock()
}

func (c *Conn) readRaw(p []byte) (int, error) {
	if len(c.held) > 0 {
		n := copy(p, c.held)
		c.drop(n)
		return n, nil
	}
	if c.secure != nil {
		return c.secure.tls.Read(p)
	}
	return c.TCPConn.Read(p)
}

// BodyReceived reports whether all of the current request has been read off
// the socket. It may be called while another goroutine reads.
func (c *Conn) BodyReceived() bool { return c.bodyDone.Load() }

// Violation is what the client did wrong in the body of the current request,
// nil if nothing. fasthttp hides the cause of some of its errors.
func (c *Conn) Violation() *Violation { return c.violation.Load() }

// SetLinger is net.TCPConn's; 0 also keeps Close from ending the connection in
// order, so that the client can tell that its response was cut.
func (c *Conn) SetLinger(sec int) error {
	c.abrupt = sec == 0
	return c.TCPConn.SetLinger(sec)
}

// SetReadDeadline sets when a blocked Read fails; the server's own time-outs
// stay in force beside it.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.foreign = t
	return c.TCPConn.SetReadDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.TCPConn.SetWriteDeadline(t)
}
