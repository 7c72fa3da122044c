package listen

import (
	"time"
)

const (
	sweepFast  = 50 * time.Millisecond
	sweepMany  = 250 * time.Millisecond
	sweepNone  = 100 * time.Millisecond
	manyConns  = 5000
	sweepBatch = 256

	bodyGrace  = 5 * time.Second
	bodyWindow = 5 * time.Second
)

// pace measures how fast a body comes, over the time that is spent waiting.
type pace struct {
	of     int64 // the request it is about: when it became active
	waited time.Duration
	bytes  int64
	graced bool
}

// tooSlow is told that d more has passed waiting, and of how many bytes the
// request has sent so far; rate is in bytes/s.
func (p *pace) tooSlow(d time.Duration, bytes, rate int64) bool {
	p.waited += d
	if !p.graced {
		if p.waited >= bodyGrace {
			p.graced, p.waited, p.bytes = true, 0, bytes
		}
		return false
	}
	if p.waited < bodyWindow {
		return false
	}
	slow := float64(bytes-p.bytes) < float64(rate)*p.waited.Seconds()
	p.waited, p.bytes = 0, bytes
	return slow
}

// stall measures for how long a client has acknowledged nothing.
type stall struct {
	looked, moved int64 // on the server's clock
	acked         uint64
}

// sweep keeps the server's clock and looks after all connections until stop is
// closed. It only interrupts: what an interruption means the reader decides.
func (s *Server) sweep(stop <-chan struct{}) {
	batch := make([]*Conn, sweepBatch)
	last := s.now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		now := s.now()
		s.clock.Store(now)
		s.tickets.rotate(now)
		s.workers.trim(now - int64(workerRest))
		n := 0
		for {
			k := s.conns.batch(batch, n)
			if k == 0 {
				break
			}
			for _, c := range batch[:k] {
				s.visit(c, now, time.Duration(now-last))
			}
			clear(batch)
			n += k
		}
		last = now
		timer.Reset(sweepEvery(n))
	}
}

func sweepEvery(conns int) time.Duration {
	switch {
	case conns == 0:
		return sweepNone
	case conns < manyConns:
		return sweepFast
	}
	return sweepMany
}

func (s *Server) visit(c *Conn, now int64, passed time.Duration) {
	if h := c.h2.Load(); h != nil {
		h.visit(now, passed)
		return
	}
	switch c.in() {
	case stateHandshake:
		if c.due(now) != nil {
			c.nudge()
		}
		if time.Duration(now-c.since.Load()) > s.limits.Load().HandshakeTimeout+handshakeLate {
			c.abort()
		}
	case stateNew, stateIdle, stateHead:
		if c.due(now) != nil {
			c.nudge()
		}
	case stateActive:
		c.checkPace(passed)
		c.watch(now)
		c.checkStall(now)
	case stateRaw:
		c.checkStall(now)
	}
}

func (c *Conn) checkPace(passed time.Duration) {
	rate := c.s.limits.Load().MinBodyRate
	if rate <= 0 || !c.waiting.Load() {
		return
	}
	if since := c.since.Load(); c.pace.of != since {
		c.pace = pace{of: since}
	}
	if c.pace.tooSlow(passed, c.bodyBytes.Load(), rate) {
		c.slow.Store(true)
		c.nudge()
	}
}

// checkStall resets a connection whose client has not read for WriteStall: the
// kernel holds bytes for it and none were acknowledged.
func (c *Conn) checkStall(now int64) {
	limit := int64(c.s.limits.Load().WriteStall)
	st := &c.stall
	if since := c.since.Load(); since > st.moved {
		st.moved, st.looked = since, since
	}
	if limit <= 0 || now-st.looked < limit/4 {
		return
	}
	st.looked = now
	waiting, acked := c.sent()
	if waiting == 0 || acked != st.acked {
		st.moved, st.acked = now, acked
		return
	}
	if now-st.moved >= limit {
		c.abort()
	}
}
