package listen

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

// An h2Conn is a connection of HTTP/2.
type h2Conn struct {
	c     *Conn
	s     *Server
	peer  netip.AddrPort
	tls   *tls.ConnectionState   // nil without TLS
	fault atomic.Pointer[string] // why the client is turned away

	// Of the goroutine that reads.
	in        h2Input
	greeted   bool // the client's SETTINGS have come
	untold    int  // SETTINGS of ours that it has not acknowledged
	counted   bool // the frame that comes next is
	abuse     h2Abuse
	block     h2Block
	data      h2Data
	headSince atomic.Int64 // since when a header section is incomplete; 0: it is not

	mu        sync.Mutex
	streams   map[uint32]*Stream // that are open
	last      uint32             // the highest that the client has opened
	cut       [h2Cut]uint32      // those that were reset last: frames may be under way to them
	cuts      int
	lingering []h2Lingering // answered early, the earliest first
	window    int64         // bytes that the client may send
	unsaid    int64         // those that it may send besides and has not been told of
	handlers  int           // that have not returned
	closed    bool          // no more streams are opened
	quiet     chan struct{}
	out       h2Out

	draining  bool          // GOAWAY has been said
	drainedAt int64         // when, on the server's clock
	patience  time.Duration // from then on until it is said with the last stream, heard or not
	final     bool          // as well, with the last stream
	lastCall  uint32        // that stream
	stalled   int64         // DATA frames that had been sent when a stream was reset because nobody took its response
}

// h2Cut is how many streams are remembered that were reset: more than a client
// can have open by the time it hears of that.
const h2Cut = 256

func newH2Conn(c *Conn) *h2Conn {
	h := &h2Conn{
		c: c, s: c.s, streams: map[uint32]*Stream{}, quiet: make(chan struct{}),
		window: h2ConnWindow, untold: 1, stalled: -1, patience: h2DrainIdle,
	}
	if addr, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		h.peer = netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), addr.AddrPort().Port())
	}
	if c.secure != nil {
		st := c.secure.tls.ConnectionState()
		h.tls = &st
	}
	h.block.init(c.set.MaxHeaderBytes)
	h.abuse.maxHead = h2Blocks(c.set.MaxHeaderBytes)
	h.out.init(&h.mu)
	h.out.buf = h2.AppendSettings(h.out.buf,
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: h2Streams},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2StreamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.set.MaxHeaderBytes)})
	h.out.buf = h2.AppendWindowUpdate(h.out.buf, 0, h2ConnWindow-h2FirstWindow)
	return h
}

// serve reads until the connection ends, and says why it does.
func (h *h2Conn) serve(sawPreface bool) error {
	h.flush() // there is room for it in the socket
	if h.tls != nil && !h2Cipher(h.tls) {
		return http2.ConnectionError(http2.ErrCodeInadequateSecurity)
	}
	if !sawPreface {
		if err := h.preface(); err != nil {
			return err
		}
	}
	h.c.enter(stateIdle)
	for {
		if err := h.frames(); err != nil {
			return err
		}
		h.handOver()
		if err := h.fill(); err != nil {
			return err
		}
	}
}

// h2Cipher reports whether a cipher suite is one for HTTP/2 (RFC 9113, section
// 9.2.2 and appendix A): with TLS 1.2 some that crypto/tls offers are not.
func h2Cipher(st *tls.ConnectionState) bool {
	switch st.CipherSuite {
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return true
	}
	return st.Version >= tls.VersionTLS13
}

// preface reads what a client with TLS begins with.
func (h *h2Conn) preface() error {
	for h.in.len() < len(h2Preface) {
		if err := h.fill(); err != nil {
			return err
		}
	}
	if string(h.in.bytes()[:len(h2Preface)]) != http2.ClientPreface {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	h.in.skip(len(h2Preface))
	return nil
}

// fill reads more of what the client sends. A client that is to be turned away
// is an http2.ConnectionError.
func (h *h2Conn) fill() error {
	for {
		if h.fault.Load() != nil {
			return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
		}
		n, err := h.read(h.in.space())
		if n > 0 {
			h.in.to += n
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = h.wake()
		}
		if err != nil {
			return err
		}
	}
}

// read reads from behind what has been looked at.
func (h *h2Conn) read(p []byte) (int, error) {
	c := h.c
	switch {
	case c.secure != nil:
		return c.secure.tls.Read(p)
	case len(c.held) > 0:
		n := copy(p, c.held)
		c.drop(n)
		return n, nil
	}
	return c.readSocket(p)
}

// wake decides what it means that a read was interrupted: nil if nothing.
func (h *h2Conn) wake() error {
	c := h.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in() == stateClosing || h.out.failed.Load() {
		return net.ErrClosed
	}
	_ = c.TCPConn.SetReadDeadline(time.Time{}) // fails with the read that follows
	if h.fault.Load() != nil {
		return nil // fill says so
	}
	return h.due(h.s.now())
}

// end cancels what runs, and says goodbye where there is something to say.
func (h *h2Conn) end(err error) {
	h.s.log.Debug("an HTTP/2 connection ended", "client", h.peer.String(), "error", err)
	var code http2.ConnectionError
	h.mu.Lock()
	h.closed = true
	goodbye := h.draining
	if errors.As(err, &code) {
		goodbye = true
		h.out.buf = h2.AppendGoAway(h.out.buf, h.last, http2.ErrCode(code))
		h.c.refused = http2.ErrCode(code) != http2.ErrCodeNo // it may be sending yet: see Conn.unread
	}
	for _, st := range h.streams {
		h.close(st, ErrClientGone)
		h.cancel(st, ErrClientGone)
	}
	h.mu.Unlock()
	if goodbye {
		_ = h.c.TCPConn.SetWriteDeadline(time.Now().Add(refuseTimeout)) // also for a write that is blocked
		h.flushed()
	}
}

// wait returns when the last handler has.
func (h *h2Conn) wait() {
	h.mu.Lock()
	h.closed = true
	h.out.fail(net.ErrClosed)
	h.wakeAll()
	done := h.handlers == 0
	h.mu.Unlock()
	if !done {
		<-h.quiet
	}
}

// wakeAll has all that wait look again. With mu held.
func (h *h2Conn) wakeAll() {
	for _, st := range h.streams {
		st.cond.Broadcast()
	}
	h.out.space.Broadcast()
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
	h.s.log.Debug("an HTTP/2 client was turned away", "client", h.peer.String(), "reason", reason)
}
