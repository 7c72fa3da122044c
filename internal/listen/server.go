package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// Config is what an operator sets of a listener.
type Config struct {
	Address        string        // host:port; port 0 takes a free one
	MaxHeaderBytes int           // of a request line and its fields; 32 KiB if 0
	HeaderTimeout  time.Duration // from the first byte of a head, or from accept, to its end; 10 s if 0
	IdleTimeout    time.Duration // between requests; 75 s if 0
	WriteStall     time.Duration // without the client reading any of its response; 60 s if 0
	MinBodyRate    int64         // bytes/s, over 5 s after 5 s in which a body is waited for; 0: any

	HandshakeTimeout time.Duration // of TLS; 10 s if 0
	TLS              *TLS          // nil: plaintext
	HTTP2            bool          // besides HTTP/1: by ALPN with TLS, by prior knowledge without; needs Handlers.HTTP2
	OnlyHTTP2        bool          // HTTP/1 is refused
	RedirectHTTPS    bool          // without TLS: all requests are sent to https with 308
	HSTS             time.Duration // with TLS: clients are told to come back with it for so long; 0: they are not

	MaxConnections      int // open at once; 0: unbounded
	MaxConnectionsPerIP int // from one IPv4 address or IPv6 /64; 0: unbounded

	WriteBufferBytes int // for each connection that answers; 32 KiB if 0; SetLimits ignores it
}

// Handlers is what a Server does with requests.
type Handlers struct {
	// Handle serves a request. It must not panic. A body is read from the
	// context's Conn where that has it (see Conn.Body), else from the context.
	Handle fasthttp.RequestHandler
	// Expect decides on a request with Expect: 100-continue: 100 has the body
	// sent, any other status is the final response's, the rest of which the
	// context holds. nil: always 100.
	Expect func(*fasthttp.RequestCtx) int
	// HTTP2 serves a request of HTTP/2. It must not panic. nil: HTTP/2 is not
	// offered.
	HTTP2 func(*Stream)
	// Reject appends the whole response to a client's request that never reaches
	// Handle; the connection is then closed. nil: Problem.
	Reject func(dst []byte, client netip.AddrPort, v *Violation) []byte
}

// Server serves one address.
type Server struct {
	address  string
	handlers Handlers
	log      *slog.Logger
	start    time.Time
	buffer   int // for writing

	limits atomic.Pointer[settings]
	http   atomic.Pointer[pair]
	clock  atomic.Int64 // ns since start, as of the last sweep
	conns  registry

	tickets tickets
	hands   handshakes
	streams sync.Pool // of *Stream
	workers workers   // call Handlers.HTTP2
	abuses  [len(H2Abuses)]atomic.Int64

	watcher   atomic.Pointer[watcher]
	lingering atomic.Int64
	refusing  chan struct{} // bounds those that are told why
	refused   [len(Refusals)]atomic.Int64
	share     descriptors
	served    sync.WaitGroup

	mu        sync.Mutex
	ln        net.Listener
	running   bool
	stopped   bool
	draining  atomic.Bool
	drainedAt atomic.Int64  // when draining began, on the server's clock
	drained   chan struct{} // closed when draining begins
	done      chan struct{} // closed when Run returns
	left      chan struct{} // closed when Run has closed ln
}

// New checks cfg; it binds nothing and starts nothing.
func New(cfg Config, h Handlers, log *slog.Logger) (*Server, error) {
	if h.Handle == nil {
		return nil, errors.New("listen: no handler")
	}
	if _, _, err := net.SplitHostPort(cfg.Address); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if cfg.MaxHeaderBytes < 0 || cfg.HeaderTimeout < 0 || cfg.IdleTimeout < 0 || cfg.WriteStall < 0 || cfg.HandshakeTimeout < 0 ||
		cfg.MinBodyRate < 0 || cfg.MaxConnections < 0 || cfg.MaxConnectionsPerIP < 0 || cfg.WriteBufferBytes < 0 {
		return nil, errors.New("listen: limits must not be negative")
	}
	if err := cfg.TLS.check(); err != nil {
		return nil, err
	}
	if h.Reject == nil {
		h.Reject = Problem
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		address: cfg.Address, handlers: h, log: log, start: time.Now(),
		buffer:   or(cfg.WriteBufferBytes, 32<<10),
		refusing: make(chan struct{}, maxRefusing),
		drained:  make(chan struct{}), done: make(chan struct{}), left: make(chan struct{}),
	}
	s.share.divide()
	s.SetLimits(cfg)
	return s, nil
}

func or[T int | int64 | time.Duration](v, standard T) T {
	if v == 0 {
		return standard
	}
	return v
}

// settings are a Config with what follows from it.
type settings struct {
	Config
	tls  *tls.Config // nil: plaintext
	hsts string      // Strict-Transport-Security; "" without
}

// SetLimits puts new time-outs and limits in force, for open connections as
// well, and TLS for those that are accepted from now on. Address is ignored.
func (s *Server) SetLimits(cfg Config) {
	cfg.MaxHeaderBytes = or(cfg.MaxHeaderBytes, defaultMaxHead)
	cfg.HeaderTimeout = or(cfg.HeaderTimeout, 10*time.Second)
	cfg.IdleTimeout = or(cfg.IdleTimeout, 75*time.Second)
	cfg.WriteStall = or(cfg.WriteStall, time.Minute)
	cfg.HandshakeTimeout = or(cfg.HandshakeTimeout, 10*time.Second)
	if old := s.limits.Load(); old == nil || old.MaxHeaderBytes != cfg.MaxHeaderBytes {
		s.http.Store(s.newPair(cfg.MaxHeaderBytes))
	}
	cfg.HTTP2 = cfg.HTTP2 && s.handlers.HTTP2 != nil
	set := &settings{Config: cfg, hsts: hstsValue(cfg.HSTS)}
	var protocols []string
	if cfg.HTTP2 {
		protocols = append(protocols, protocolHTTP2)
	}
	if !cfg.OnlyHTTP2 {
		protocols = append(protocols, protocolHTTP1)
	}
	if cfg.TLS != nil {
		set.tls = cfg.TLS.config(protocols)
	}
	s.tickets.serve(set.tls, s.now())
	s.limits.Store(set)
}

// now is the server's clock, in nanoseconds.
func (s *Server) now() int64 { return int64(time.Since(s.start)) }

// Bind opens the address.
func (s *Server) Bind() error {
	ln, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	s.ln = ln
	return nil
}

// Addr is the address that Bind opened.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Stats counts the connections.
func (s *Server) Stats() Stats { return s.conns.stats() }

// Draining is closed when Shutdown begins: upgraded connections should end.
func (s *Server) Draining() <-chan struct{} { return s.drained }

// Run serves until Shutdown, and returns nil when all connections have ended;
// or until ctx is done, and returns its error after all connections were closed.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return nil
	}
	if s.ln == nil || s.running {
		s.mu.Unlock()
		return errors.New("listen: Run needs Bind, and runs once")
	}
	s.running = true
	s.mu.Unlock()
	defer close(s.done)

	var own sync.WaitGroup
	stop := make(chan struct{})
	if w, err := newWatcher(); err == nil {
		s.watcher.Store(w)
		own.Go(w.run)
		defer w.close()
	} else {
		s.log.Warn("clients that leave will be noticed late", "error", err)
	}
	own.Go(func() { s.sweep(stop) })
	unhook := context.AfterFunc(ctx, s.kill)

	err := s.accept()
	_ = s.ln.Close() // it may be closed already
	close(s.left)
	s.conns.open.Wait()
	s.served.Wait()
	s.workers.close()
	unhook()
	close(stop)
	if w := s.watcher.Load(); w != nil {
		w.close()
	}
	own.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Left is closed once Run no longer holds the address, so that another can have
// it; connections may still be served.
func (s *Server) Left() <-chan struct{} { return s.left }

// kill closes everything.
func (s *Server) kill() {
	s.drain()
	_ = s.ln.Close() // it may be closed already
	s.abortAll()
}

func (s *Server) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.stopped = true
		s.drainedAt.Store(s.now())
		s.draining.Store(true)
		close(s.drained)
		for _, c := range s.conns.all() {
			if h := c.h2.Load(); h != nil {
				h.drain()
			}
		}
	}
}

func (s *Server) abortAll() {
	for _, c := range s.conns.all() {
		c.dismiss()
	}
}

// Shutdown accepts what already waits in the listener's queue and no more,
// closes idle connections, and lets exchanges in flight finish, with
// Connection: close. Connections that are left when ctx is done are closed, and
// its error is returned. Upgraded ones are among them, unless they end by
// themselves: see Draining.
func (s *Server) Shutdown(ctx context.Context) error {
	s.drain()
	s.mu.Lock()
	ln, running := s.ln, s.running
	s.mu.Unlock()
	if ln == nil {
		return nil
	}
	if !running {
		return ln.Close()
	}
	if d, ok := ln.(interface{ SetDeadline(time.Time) error }); !ok || d.SetDeadline(time.Now().Add(backlogTime)) != nil {
		_ = ln.Close() // it may be closed already
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	_ = ln.Close() // it may be closed already
	s.abortAll()
	return ctx.Err()
}
