package listen

import (
	"bytes"

	"golang.org/x/net/http2"
)

const (
	h2Streams      = 100        // at once, for each connection
	h2Handlers     = 300        // at once: those of streams that were reset may take a while to notice
	h2StreamWindow = 64 << 10   // bytes of a body that may come before they are read
	h2ConnWindow   = 1 << 20    // the same of all bodies
	h2FrameSize    = 16 << 10   // bytes, the least that may be offered
	h2FirstWindow  = 1<<16 - 1  // bytes, of connections and streams before anybody says something else
	protocolHTTP2  = "h2"       // in ALPN
	protocolHTTP1  = "http/1.1" // as well
)

var h2Preface = []byte(http2.ClientPreface)

// HTTP/2 is served by a loop of our own. One goroutine of each connection reads
// (h2conn.go, h2frames.go): it takes frames off a buffer, decodes a header section
// straight into a Stream (h2head.go), and hands the stream to a worker, which
// calls the handler (h2workers.go). What handlers and the reader have to say they
// append to one buffer of the connection (h2response.go); whoever finds nobody
// writing writes it out, for all that append meanwhile (h2write.go). Handlers wait
// for windows, for room in the buffer and for bodies (h2body.go); the reader waits
// for nobody. The sweeper looks after time (h2life.go), and h2abuse.go counts what
// clients must not do too often.

// serveHTTP2 runs c to its end, and that of all its handlers.
func (s *Server) serveHTTP2(c *Conn, sawPreface bool) {
	h := newH2Conn(c)
	c.parked.Store(true) // it never yields
	c.h2.Store(h)
	if s.draining.Load() {
		h.drain()
	}
	h.end(h.serve(sawPreface))
	_ = c.Close() // always nil
	h.wait()
}

// beginsHTTP2 waits for the first bytes of a connection without TLS, and
// reports whether they are HTTP/2's (RFC 9113, section 3.3). Those that are not
// are held.
func (c *Conn) beginsHTTP2() bool {
	c.parked.Store(true)
	defer c.parked.Store(false)
	if !c.awaitReadable() || parks && c.first != h2Preface[0] {
		return false
	}
	for len(c.held) < len(h2Preface) {
		if !bytes.HasPrefix(h2Preface, c.held) {
			return false
		}
		if _, err := c.fill(); err != nil {
			return false // whoever reads next sees it as well
		}
	}
	if !bytes.HasPrefix(c.held, h2Preface) {
		return false
	}
	c.drop(len(h2Preface))
	return true
}

// beginsHTTP1 reports whether what came instead looks like HTTP/1, whose clients
// are told; others would not understand.
func (c *Conn) beginsHTTP1() bool {
	for len(c.held) < len("GET /") {
		if _, err := c.fill(); err != nil {
			return false
		}
	}
	return looksLikeHTTP([5]byte(c.held))
}
