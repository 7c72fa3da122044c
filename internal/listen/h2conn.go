//lint:file-ignore SA1019 as in h2.go

package listen

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

const (
	h2ReadBuffer = 4 << 10                // without TLS, which has its own
	h2DrainIdle  = 250 * time.Millisecond // for GOAWAY to arrive before an idle connection is closed
)

// An h2Conn is a connection as http2.Server uses it. It sees the frames pass,
// in both directions, and ends those connections whose client abuses them.
type h2Conn struct {
	*Conn
	peer  netip.AddrPort
	from  io.Reader // decrypted and not yet seen
	in    inFrames  // of the goroutine that reads
	out   outFrames // of the goroutine that writes
	open  openStreams
	fault atomic.Pointer[string]

	mu      sync.Mutex
	streams []*h2Stream // with handlers
	closed  bool        // no more are served
	quiet   chan struct{}
	stuck   int64 // the sweeper's own: since when some streams are
}

// h2TLSConn is one with TLS.
type h2TLSConn struct{ *h2Conn }

// ConnectionState says what was negotiated.
func (h h2TLSConn) ConnectionState() tls.ConnectionState { return h.secure.tls.ConnectionState() }

func newH2Conn(c *Conn, sawPreface bool) *h2Conn {
	h := &h2Conn{Conn: c, quiet: make(chan struct{})}
	if addr, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		h.peer = netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), addr.AddrPort().Port())
	}
	h.from = bufio.NewReaderSize(h2Source{c}, h2ReadBuffer)
	if c.secure != nil {
		h.from = c.secure.tls
	}
	if !sawPreface {
		h.in.skip(len(h2Preface))
	}
	h.in.maxHead, h.in.open, h.out.open = c.set.MaxHeaderBytes, &h.open, &h.open
	return h
}

func (h *h2Conn) face() net.Conn {
	if h.secure != nil {
		return h2TLSConn{h}
	}
	return h
}

// h2Source is a connection without TLS, from behind what has been looked at.
type h2Source struct{ c *Conn }

func (s h2Source) Read(p []byte) (int, error) {
	if len(s.c.held) > 0 {
		n := copy(p, s.c.held)
		s.c.drop(n)
		return n, nil
	}
	return s.c.readSocket(p)
}

// Read reads what the client sends. A client that is to be turned away is an
// http2.ConnectionError, upon which http2.Server says GOAWAY.
func (h *h2Conn) Read(p []byte) (int, error) {
	for {
		if h.fault.Load() != nil {
			return 0, http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
		}
		n, err := h.take(p)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			if err = h.wake(); err == nil {
				continue
			}
			return 0, err
		}
		if reason := h.in.see(p[:n], h.s.clock.Load(), &h.out); reason != "" {
			h.breach(reason)
			continue
		}
		return n, err
	}
}

// take reads, and settings as a whole.
func (h *h2Conn) take(p []byte) (int, error) {
	if !h.in.settings(len(p)) {
		return h.from.Read(p)
	}
	for n := 0; ; {
		m, err := h.from.Read(p[n:])
		if n += m; n == len(p) {
			lastOfEach(p)
			return n, nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && h.fault.Load() == nil {
			err = h.wake()
		}
		if err != nil {
			return 0, err
		}
	}
}

// Write sends frames.
func (h *h2Conn) Write(p []byte) (sent int, err error) {
	for {
		n, malformed := h.out.see(p[sent:])
		m, err := h.send(p[sent : sent+n])
		if sent += m; err != nil || malformed == 0 {
			return sent, err
		}
		if _, err := h.send(resetFrame(malformed)); err != nil || sent == len(p) {
			return sent, err
		}
	}
}

func (h *h2Conn) send(p []byte) (int, error) {
	if h.secure != nil {
		return h.secure.tls.Write(p)
	}
	return h.Conn.Write(p)
}

// breach ends the connection, and counts why.
func (h *h2Conn) breach(reason string) {
	if !h.fault.CompareAndSwap(nil, &reason) {
		return
	}
	for i, r := range H2Abuses {
		if r == reason {
			h.s.abuses[i].Add(1)
		}
	}
	h.s.log.Debug("an HTTP/2 client was turned away", "client", h.RemoteAddr().String(), "reason", reason)
}

// wake decides what it means that Read was interrupted: nil if nothing.
func (h *h2Conn) wake() error {
	h.Conn.mu.Lock()
	defer h.Conn.mu.Unlock()
	if h.Conn.in() == stateClosing {
		return net.ErrClosed
	}
	_ = h.TCPConn.SetReadDeadline(time.Time{}) // fails with the Read that follows
	if h.fault.Load() != nil {
		return nil // Read says so
	}
	return h.due(h.s.now())
}

// due is what the clock says about h.
func (h *h2Conn) due(now int64) error {
	lim := h.s.limits.Load()
	age := time.Duration(now - h.since.Load())
	switch h.Conn.in() {
	case stateNew:
		if age > lim.HeaderTimeout || age > drainNew && h.s.draining.Load() {
			return io.EOF
		}
	case stateIdle:
		if h.s.draining.Load() {
			if told := now - h.s.drainedAt.Load(); min(age, time.Duration(told)) > h2DrainIdle {
				return io.EOF
			}
		} else if age > lim.IdleTimeout {
			return http2.ConnectionError(http2.ErrCodeNo)
		}
	}
	if began := h.in.headSince.Load(); began > 0 && time.Duration(now-began) > lim.HeaderTimeout {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// visit is the sweeper's.
func (h *h2Conn) visit(now int64, passed time.Duration) {
	switch err := h.due(now); {
	case err == nil:
	case err == http2.ConnectionError(http2.ErrCodeEnhanceYourCalm):
		h.breach("slow_head")
		h.nudge()
	default:
		h.nudge()
	}
	if st := h.Conn.in(); st != stateActive && st != stateIdle {
		return
	}
	h.checkStall(now) // without a stream there may still be something to send
	if h.checkStreams(now, passed) {
		h.breach("stalled")
		h.nudge()
	}
}

// ServeHTTP serves one stream.
func (h *h2Conn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	st := &h2Stream{ResponseWriter: w, h: h, ctx: r.Context(), began: h.s.clock.Load()}
	if r.ContentLength != 0 {
		st.body, r.Body = r.Body, h2Body{st}
	}
	if !h.begin(st) {
		return // the connection has ended
	}
	defer h.end(st)
	if v := vet(r); v != nil {
		st.refuse(r, v)
		return
	}
	if h.secure == nil && h.s.limits.Load().RedirectHTTPS {
		redirectHTTP2(st, r)
		return
	}
	h.s.handlers.HTTP.ServeHTTP(st, r)
}

func (h *h2Conn) begin(st *h2Stream) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	st.at = len(h.streams)
	h.streams = append(h.streams, st)
	return true
}

func (h *h2Conn) end(st *h2Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.streams) - 1
	h.streams[st.at] = h.streams[last]
	h.streams[st.at].at = st.at
	h.streams[last] = nil
	h.streams = h.streams[:last]
	if h.closed && last == 0 {
		close(h.quiet)
	}
}

// wait returns when the last handler has.
func (h *h2Conn) wait() {
	h.mu.Lock()
	h.closed = true
	if len(h.streams) == 0 {
		close(h.quiet)
	}
	h.mu.Unlock()
	<-h.quiet
}
