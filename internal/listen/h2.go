//lint:file-ignore SA1019 net/http would serve HTTP/2 only on connections that it accepts itself

package listen

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"

	"golang.org/x/net/http2"
)

const (
	h2Streams      = 100        // at once, for each connection
	h2StreamWindow = 64 << 10   // bytes of a body that may come before they are read
	h2ConnWindow   = 1 << 20    // the same of all bodies
	h2FrameSize    = 16 << 10   // bytes, the least that may be offered
	h2ListSpare    = 10 * 32    // what http2 adds to MaxHeaderBytes
	protocolHTTP2  = "h2"       // in ALPN
	protocolHTTP1  = "http/1.1" // as well
)

var h2Preface = []byte(http2.ClientPreface)

// An h2Server serves HTTP/2 on the connections of a Server.
type h2Server struct {
	server *http2.Server
	base   *http.Server // whose Shutdown tells the connections
}

func newH2Server() (*h2Server, error) {
	h := &h2Server{server: new(http2.Server), base: new(http.Server)}
	return h, http2.ConfigureServer(h.base, h.server)
}

// drain has all connections say GOAWAY, and end with their streams.
func (h *h2Server) drain() {
	if h != nil {
		_ = h.base.Shutdown(context.Background()) // it has no listener to close
	}
}

// h2Base is what connections of HTTP/2 are held to.
func (s *Server) h2Base(maxHead int) *http.Server {
	return &http.Server{
		MaxHeaderBytes: max(maxHead-h2ListSpare, 1),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          h2Streams,
			MaxReceiveBufferPerStream:     h2StreamWindow,
			MaxReceiveBufferPerConnection: h2ConnWindow,
			MaxReadFrameSize:              h2FrameSize,
		},
		ConnState: func(nc net.Conn, st http.ConnState) {
			c := nc.(interface{ conn() *Conn }).conn()
			switch st {
			case http.StateActive:
				c.enter(stateActive)
			case http.StateIdle:
				c.enter(stateIdle)
			}
		},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// serveHTTP2 runs c to its end, and that of all its handlers.
func (s *Server) serveHTTP2(c *Conn, sawPreface bool) {
	h := newH2Conn(c, sawPreface)
	c.parked.Store(true) // it never yields
	c.h2.Store(h)
	s.h2.server.ServeConn(h.face(), &http2.ServeConnOpts{BaseConfig: c.set.h2, Handler: h, SawClientPreface: sawPreface})
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
