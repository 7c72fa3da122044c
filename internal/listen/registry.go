package listen

import (
	"net/netip"
	"sync"
)

// registry knows all connections, and how many each address has.
type registry struct {
	mu    sync.Mutex
	conns []*Conn
	perIP map[netip.Prefix]int
	open  sync.WaitGroup
	next  uint64
	from  int // where some goes on
}

// Stats counts the open connections by what they are doing.
type Stats struct {
	New     int64 // nothing has come yet
	Shaking int64 // in a TLS handshake
	Idle    int64 // between requests
	Active  int64 // sending a request or being answered
	Raw     int64 // upgraded
	Closing int64 // answered with an error, waiting for the client to notice
	HTTP2   int64 // of all these, those that speak HTTP/2
}

// add takes c in unless max or perIP connections are open already; 0 means
// unbounded. It returns which of the two is the reason.
func (r *registry) add(c *Conn, max, perIP int) (refusal, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case max > 0 && len(r.conns) >= max:
		return refusedTotal, false
	case perIP > 0 && r.perIP[c.ip] >= perIP:
		return refusedPerIP, false
	}
	if r.perIP == nil {
		r.perIP = make(map[netip.Prefix]int)
	}
	r.perIP[c.ip]++
	r.next++
	c.id, c.at = r.next, len(r.conns)
	r.conns = append(r.conns, c)
	r.open.Add(1)
	return 0, true
}

func (r *registry) remove(c *Conn) {
	r.mu.Lock()
	last := len(r.conns) - 1
	r.conns[c.at] = r.conns[last]
	r.conns[c.at].at = c.at
	r.conns[last] = nil
	r.conns = r.conns[:last]
	if r.perIP[c.ip]--; r.perIP[c.ip] == 0 {
		delete(r.perIP, c.ip)
	}
	r.mu.Unlock()
	r.open.Done()
}

// batch copies the connections from the n-th on into dst. One that moves
// meanwhile may be missed, until the next round.
func (r *registry) batch(dst []*Conn, n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n >= len(r.conns) {
		return 0
	}
	return copy(dst, r.conns[n:])
}

// some is up to n connections, others each time until all have had their turn.
func (r *registry) some(n int) []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.from >= len(r.conns) {
		r.from = 0
	}
	end := min(r.from+n, len(r.conns))
	part := append([]*Conn(nil), r.conns[r.from:end]...)
	r.from = end
	return part
}

// all is a copy of the list.
func (r *registry) all() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*Conn(nil), r.conns...)
}

func (r *registry) stats() (st Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		if c.h2.Load() != nil {
			st.HTTP2++
		}
		switch c.in() {
		case stateNew:
			st.New++
		case stateHandshake:
			st.Shaking++
		case stateIdle:
			st.Idle++
		case stateHead, stateActive:
			st.Active++
		case stateRaw:
			st.Raw++
		case stateClosing:
			st.Closing++
		}
	}
	return st
}

// network is the unit that MaxConnectionsPerIP counts: an IPv4 address, or the
// /64 that one IPv6 customer has.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the length always fits
	return p
}
