package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Pool holds the connections to one target: with HTTP/1 the unused ones, last
// used first, and the knowledge of those in use; with HTTP/2 all that its mux
// tells.
type Pool struct {
	t      *Transport
	cfg    Config
	target *target
	mux    *mux // of a pool whose calls share connections; else nil

	busy atomic.Int32 // calls in flight, dials among them

	owners int  // under Transport.mu
	listed bool // in Transport.swept; under Transport.mu

	mu       sync.Mutex
	released bool
	open     int     // connections and links, with those being dialled and those upgraded
	conns    []*conn // all that are connected and not upgraded
	idle     []*conn // unused, the longest unused first
	spare    int     // how many of these nobody has needed since the last look
	dials    uint64
	reuses   uint64
}

// Stats are the figures of a Pool.
type Stats struct {
	Open   int    `json:"open"`   // connections, those being dialled and those upgraded included
	Idle   int    `json:"idle"`   // of these, unused
	InUse  int    `json:"in_use"` // of these, with calls: one, or with HTTP/2 many
	Dials  uint64 `json:"dials"`  // connections begun since the pool was made
	Reuses uint64 `json:"reuses"` // calls that began on a connection that had served one before
}

// Stats returns the present figures.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := len(p.idle) + p.idleLinks()
	return Stats{Open: p.open, Idle: idle, InUse: p.open - idle, Dials: p.dials, Reuses: p.reuses}
}

// Release gives up one owner's hold. The last one closes the unused
// connections; calls in flight go on and close theirs at their end, and so do
// calls that begin later.
func (p *Pool) Release() {
	t := p.t
	t.mu.Lock()
	p.owners--
	last := p.owners == 0
	if last {
		delete(t.pools, p.cfg)
	}
	t.mu.Unlock()
	if !last {
		return
	}
	p.mu.Lock()
	p.released = true
	p.mu.Unlock()
	p.closeIdle(t.now())
}

// carrier prepares what carries c over a connection of the pool.
func (p *Pool) carrier(c *Call) carrier {
	if p.mux != nil {
		return newStream(c, p)
	}
	c.wire.Call = c
	c.wire.begin()
	c.wire.head.alienTaken = p.cfg.UnknownCoding
	return &c.wire
}

// until is the moment d from now, or hard if that is earlier; 0 for never.
func (p *Pool) until(d time.Duration, hard int64) int64 {
	if d <= 0 {
		return hard
	}
	at := p.t.now() + int64(d)
	if hard > 0 && hard < at {
		return hard
	}
	return at
}

// take returns the connection that was used last, or nil when there is none
// and the caller, whose place is counted now, must dial.
func (p *Pool) take() (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle) - 1; n >= 0 {
		c := p.idle[n]
		p.idle[n] = nil
		p.idle = p.idle[:n]
		p.spare = min(p.spare, n)
		p.reuses++
		return c, nil
	}
	if p.cfg.MaxConnections > 0 && p.open >= p.cfg.MaxConnections {
		return nil, errLimit
	}
	p.open++
	p.dials++
	return nil, nil
}

// add makes a connection known to the sweeper.
func (p *Pool) add(c *conn) {
	p.mu.Lock()
	c.index = len(p.conns)
	p.conns = append(p.conns, c)
	late := p.released
	p.mu.Unlock()
	if late {
		p.t.enlist(p)
	}
}

// put takes back a connection whose call ended cleanly.
func (p *Pool) put(c *conn) {
	c.used = true
	c.idleSince = p.t.now()
	p.mu.Lock()
	if p.released {
		p.mu.Unlock()
		p.discard(c)
		return
	}
	p.idle = append(p.idle, c)
	p.mu.Unlock()
}

// unuse discards a connection that take gave in vain.
func (p *Pool) unuse(c *conn) {
	p.mu.Lock()
	p.reuses--
	p.mu.Unlock()
	p.discard(c)
}

// discard closes a connection and frees its place, in this order, so that
// there are never more open than MaxConnections.
func (p *Pool) discard(c *conn) {
	p.forget(c)
	c.close()
	p.free()
}

// forget has the sweeper leave c alone.
func (p *Pool) forget(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.conns) - 1
	p.conns[c.index] = p.conns[last]
	p.conns[c.index].index = c.index
	p.conns[last] = nil
	p.conns = p.conns[:last]
}

// free gives one place back.
func (p *Pool) free() {
	p.mu.Lock()
	p.open--
	p.mu.Unlock()
}

// expire aborts the calls in flight whose phase is over.
func (p *Pool) expire(now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.expire(now)
	}
	p.expireStreams(now)
}

// closeIdle closes the connections unused since before the given time, and of
// those beyond IdleConnections the ones that nobody has needed since it was
// called last: under a load that swings about that number, they would be closed
// and dialled all the time.
func (p *Pool) closeIdle(before int64) {
	p.mu.Lock()
	if p.released {
		before = p.t.now()
	}
	n := max(0, min(p.spare, len(p.idle)-p.cfg.IdleConnections))
	for n < len(p.idle) && p.idle[n].idleSince <= before {
		n++
	}
	old := append([]*conn(nil), p.idle[:n]...)
	rest := copy(p.idle, p.idle[n:])
	clear(p.idle[rest:])
	p.idle = p.idle[:rest]
	p.spare = rest
	links := p.idleBefore(before)
	p.mu.Unlock()
	for _, c := range old {
		p.discard(c)
	}
	for _, l := range links {
		l.cc.Close()
	}
}
