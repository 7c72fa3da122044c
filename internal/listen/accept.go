package listen

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

const (
	backlogTime   = 20 * time.Millisecond // to take over what waits in the listener's queue
	backoffFirst  = 5 * time.Millisecond
	backoffMost   = time.Second
	refusedDrain  = time.Second
	complainEvery = time.Second
	maxRefusing   = 64
)

// Refusals are why connections are turned away: the order of Server.Refused. Those
// of accept_failed wait in the listener's queue for a descriptor.
var Refusals = [...]string{"max_connections", "max_connections_per_ip", "descriptors", "accept_failed"}

type refusal int

const (
	refusedTotal refusal = iota
	refusedPerIP
	refusedDescriptors
	refusedAccept
)

// Refused is how many connections were turned away, in the order of Refusals.
func (s *Server) Refused() (n [len(Refusals)]int64) {
	for i := range n {
		n[i] = s.refused[i].Load()
	}
	return n
}

// accept takes connections until the listener is closed. Descriptors that have
// run out, and whatever else may pass, it waits for.
func (s *Server) accept() error {
	var wait time.Duration
	var complained time.Time
	for {
		nc, err := s.ln.Accept()
		if err == nil {
			wait = 0
			s.take(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && s.draining.Load() {
			return nil
		}
		if usedUp(err) {
			s.refused[refusedAccept].Add(1)
			s.evict()
		}
		wait = min(max(2*wait, backoffFirst), backoffMost)
		if now := time.Now(); now.Sub(complained) >= complainEvery {
			complained = now
			s.log.Error("cannot accept connections", "address", s.address, "error", err)
		}
		s.pause(wait)
	}
}

// pause waits for d, but not once draining has begun.
func (s *Server) pause(d time.Duration) {
	if s.draining.Load() {
		time.Sleep(backoffFirst) // until the listener's deadline
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.drained:
	}
}

// take serves nc, or refuses it where there are too many.
func (s *Server) take(nc net.Conn) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		_ = nc.Close() // no such listener is opened
		return
	}
	lim := s.limits.Load()
	c, err := s.newConn(tc, lim)
	if err != nil {
		_ = tc.Close() // it is broken
		return
	}
	if s.share.scarce(tc) {
		s.refused[refusedDescriptors].Add(1)
		s.shed(c)
		return
	}
	if why, ok := s.conns.add(c, lim.MaxConnections, lim.MaxConnectionsPerIP); !ok {
		s.refused[why].Add(1)
		s.turnAway(c, s.refusing)
		return
	}
	s.served.Go(func() { s.serve(c) })
}

func (s *Server) newConn(tc *net.TCPConn, lim *settings) (*Conn, error) {
	fd, err := tc.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{TCPConn: tc, s: s, fd: fd, set: lim}
	c.initTransfers()
	if addr, ok := tc.RemoteAddr().(*net.TCPAddr); ok {
		c.ip = network(addr.AddrPort().Addr())
	}
	c.g.next()
	c.g.maxHead = lim.MaxHeaderBytes
	c.since.Store(s.now())
	if lim.tls != nil {
		c.secured(lim.tls)
	}
	return c, nil
}

// serve runs c to its end, or until it is hijacked. It is back here whenever
// the connection waits for long, and then costs little.
func (s *Server) serve(c *Conn) {
	switch s.greet(c) {
	case greetNothing:
		_ = c.Close() // always nil
		return
	case greetHTTP2:
		s.serveHTTP2(c, c.secure == nil)
		return
	}
	for c.await() {
		server := s.http.Load().choose(c)
		if err := server.ServeConn(c.face()); err != nil {
			s.log.Debug("connection ended", "client", c.RemoteAddr().String(), "error", err)
		}
		if !c.yielded {
			return
		}
	}
	_ = c.Close() // always nil
}

type greeting uint8

const (
	greetHTTP1 greeting = iota
	greetHTTP2
	greetNothing // it has ended
)

// greet finds out what c speaks.
func (s *Server) greet(c *Conn) greeting {
	two := false
	switch {
	case c.secure != nil:
		if !c.shake() {
			return greetNothing
		}
		two = c.secure.tls.ConnectionState().NegotiatedProtocol == protocolHTTP2
	case c.set.HTTP2:
		two = c.beginsHTTP2()
	}
	switch {
	case two:
		return greetHTTP2
	case c.set.OnlyHTTP2:
		if c.secure != nil || c.beginsHTTP1() {
			c.refuse(errOnlyHTTP2)
		}
		return greetNothing
	}
	return greetHTTP1
}

func (s *Server) remove(c *Conn) { s.conns.remove(c) }

// reject is the response to client's violation v.
func (s *Server) reject(client net.Addr, v *Violation) []byte {
	var from netip.AddrPort
	if addr, ok := client.(*net.TCPAddr); ok {
		from = addr.AddrPort()
	}
	return s.handlers.Reject(nil, from, v)
}

// turnAway says 503 to a connection that is one too many, if places has room
// for it. With TLS saying so would cost more than serving.
func (s *Server) turnAway(c *Conn, places chan struct{}) {
	tc := c.TCPConn
	if c.secure != nil {
		_ = tc.Close() // without a word
		return
	}
	select {
	case places <- struct{}{}:
	default:
		_ = tc.Close() // without a word
		return
	}
	s.served.Go(func() {
		defer func() { <-places }()
		defer tc.Close()
		_ = tc.SetDeadline(time.Now().Add(refusedDrain)) // what follows fails
		if _, err := tc.Write(s.reject(tc.RemoteAddr(), errCrowded)); err != nil || tc.CloseWrite() != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, tc, lingerBytes) // so that the answer is not lost
	})
}
