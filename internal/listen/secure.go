package listen

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// TLSConn is a client's connection with TLS: the guard judges what was
// decrypted. Nothing may reach the socket past it, so that it has methods of
// its own for all that TCPConn would do better.
type TLSConn struct {
	*Conn
	tls    *tls.Conn
	socket socket
	one    [1]byte // to look with
	hushed bool    // as Conn's muted, for what is not encrypted yet
}

// secured puts TLS over c.
func (c *Conn) secured(cfg *tls.Config) {
	t := &TLSConn{Conn: c}
	t.socket = socket{TCPConn: c.TCPConn, c: c}
	t.tls = tls.Server(&t.socket, cfg)
	c.secure = t
	c.g.tls = true
	c.state.Store(uint32(stateHandshake))
}

// face is the connection as others are to use it.
func (c *Conn) face() net.Conn {
	if c.secure != nil {
		return c.secure
	}
	return c
}

// Handshake returns nil: it is over before anybody sees the connection.
func (t *TLSConn) Handshake() error { return nil }

// ConnectionState says what was negotiated.
func (t *TLSConn) ConnectionState() tls.ConnectionState { return t.tls.ConnectionState() }

// Write encrypts p, but for what was answered already.
func (t *TLSConn) Write(p []byte) (int, error) {
	if t.hushed {
		t.hushed = false
		return len(p), nil
	}
	return t.tls.Write(p)
}

// copies are for bodies on their way into TLS; a record holds half of one.
var copies = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// ReadFrom writes all of r.
func (t *TLSConn) ReadFrom(r io.Reader) (int64, error) {
	buf := copies.Get().(*[]byte)
	defer copies.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{t.tls}, struct{ io.Reader }{r}, *buf)
}

// CloseWrite tells the client that no more will come, inside and outside of
// TLS.
func (t *TLSConn) CloseWrite() error {
	err := t.tls.CloseWrite()
	return errors.Join(err, t.TCPConn.CloseWrite())
}

// SyscallConn is refused: what is on the socket is not what is on the
// connection.
func (t *TLSConn) SyscallConn() (syscall.RawConn, error) {
	return nil, errors.ErrUnsupported
}

// glance reads what has come by now, without waiting, and holds it. It reports
// whether there was something; a partial record is nothing yet.
func (t *TLSConn) glance(how reading) (bool, error) {
	t.socket.how = how
	n, err := t.tls.Read(t.one[:])
	t.socket.how = readWaiting
	if n > 0 {
		t.hold(t.one[:n])
		return true, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return false, err
}

// reading is how a socket reads.
type reading uint8

const (
	readWaiting   reading = iota
	readHandshake         // as well, and interruptions are judged at once: TLS takes none
	readReady             // only what the kernel has
	readNothing           // only what TLS has
)

// A socket is the connection below TLS.
type socket struct {
	*net.TCPConn
	c       *Conn
	how     reading // of the goroutine that reads
	records gathering
}

func (s *socket) Read(p []byte) (int, error) {
	switch s.how {
	case readNothing:
		return 0, os.ErrDeadlineExceeded
	case readReady:
		return s.c.readNow(p)
	case readWaiting:
		return s.c.readSocket(p)
	}
	for {
		n, err := s.c.readSocket(p)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			if err = s.c.wake(); err == nil {
				continue
			}
		}
		return n, err
	}
}

// Close does nothing: TLS closes only what Conn closes anyhow.
func (s *socket) Close() error { return nil }

// SetWriteDeadline does nothing: it is how TLS bounds its goodbye, which bye does
// itself, and which a slow client of a tunnel that is half-closed may await.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// bye ends TLS, so that the client can tell the end from a cut.
func (c *Conn) bye() {
	if c.secure == nil || c.abrupt {
		return
	}
	// It also ends a Write that is still blocked, and would hold this up.
	_ = c.TCPConn.SetWriteDeadline(time.Now().Add(refuseTimeout)) // fails with what follows
	_ = c.secure.tls.CloseWrite()                                 // the connection ends either way
}

// receiveWire reads what the client sent, decrypted.
func (c *Conn) receiveWire(p []byte) (int, error) {
	if c.secure != nil {
		return c.secure.tls.Read(p)
	}
	return c.readSocket(p)
}

// sendWhole is sendWire for all but what refuses a head, by the shorter way where
// there is one.
func (c *Conn) sendWhole(p []byte) (int, error) {
	if c.secure != nil {
		return c.secure.tls.Write(p)
	}
	return c.Write(p)
}

// sendWire writes to the client, encrypted where that is due.
func (c *Conn) sendWire(p []byte) (int, error) {
	if c.secure != nil {
		return c.secure.tls.Write(p)
	}
	return c.TCPConn.Write(p)
}
