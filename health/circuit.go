package health

import (
	"fmt"
	"sync/atomic"
	"time"
)

// A CircuitState is the state of a Circuit; its number is the metric's.
type CircuitState uint8

// The states of a circuit.
const (
	Closed   CircuitState = iota // everything passes
	HalfOpen                     // a few pass, to try
	Open                         // nothing passes
)

// String returns closed, half-open or open.
func (s CircuitState) String() string { return [...]string{"closed", "half-open", "open"}[s] }

// An Outcome is how a request ended, as far as the target is to blame.
type Outcome uint8

// The outcomes.
const (
	Succeeded Outcome = iota
	Failed
	Canceled // says nothing of the target: the client left, or another attempt won
)

// A CircuitChange is one transition of a Circuit.
type CircuitChange struct {
	From, To   CircuitState
	Reason     string
	At         time.Time
	Generation uint64 // counts the transitions: changes may be reported at the same time
}

// A Circuit is a circuit breaker. It opens after failures in a row or a ratio
// of failures, lets nothing through for a while, then a few requests to try: it
// closes when all of these succeed, and opens again when one fails.
//
// Each stay in a state is an object of its own, and a ticket belongs to the one
// that it was given out in. So a result that comes late, from an older state,
// counts nowhere; it is the generation number of sony/gobreaker, where the
// pointer is the number. There is no lock: who swaps the pointer has made the
// transition, and reports it.
type Circuit struct {
	cfg    Breaker
	report func(CircuitChange)
	epoch  time.Time // what times count from, by the monotonic clock
	bucket time.Duration
	phase  atomic.Pointer[phase]
}

// A phase is one stay in a state.
type phase struct {
	state  CircuitState
	number uint64
	since  time.Time
	until  time.Duration // since epoch. Open: when to try. Half-open: when tries that never ended are given up.

	failures atomic.Int32 // closed: in a row
	counts   window       // closed

	places atomic.Int32 // half-open: taken by tries that are under way or have succeeded
	passed atomic.Int32 // half-open: tries that have succeeded
}

// NewCircuit returns a closed circuit. The error is that of Validate. report,
// which may be nil, is called once for each transition by the goroutine that
// made it; it should not block.
func NewCircuit(cfg Breaker, now time.Time, report func(CircuitChange)) (*Circuit, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if report == nil {
		report = func(CircuitChange) {}
	}
	c := &Circuit{cfg: cfg, report: report, epoch: now, bucket: cfg.Window / buckets}
	c.phase.Store(&phase{state: Closed, since: now})
	return c, nil
}

// A Ticket is one request's leave to pass. The zero Ticket reports to nobody.
type Ticket struct {
	circuit *Circuit
	phase   *phase
}

// Allow lets a request pass or not. Whoever got a ticket calls Done on it,
// exactly once.
func (c *Circuit) Allow(now time.Time) (Ticket, bool) {
	for {
		p := c.phase.Load()
		switch p.state {
		case Closed:
			return Ticket{c, p}, true
		case HalfOpen:
			if p.take(c.cfg.HalfOpenRequests) {
				return Ticket{c, p}, true
			}
			if now.Sub(c.epoch) < p.until {
				return Ticket{}, false
			}
			// Its tries hang for longer than the circuit was open: others try.
			if next, ok := c.move(p, HalfOpen, now, "no verdict within open_for"); ok {
				return Ticket{c, next}, true
			}
		case Open:
			if now.Sub(c.epoch) < p.until {
				return Ticket{}, false
			}
			if next, ok := c.move(p, HalfOpen, now, "open_for has passed"); ok {
				return Ticket{c, next}, true
			}
		}
	}
}

// Ready reports whether Allow would let a request pass, and takes nothing.
func (c *Circuit) Ready(now time.Time) bool {
	p := c.phase.Load()
	switch p.state {
	case Closed:
		return true
	case HalfOpen:
		if int(p.places.Load()) < c.cfg.HalfOpenRequests {
			return true
		}
	}
	return now.Sub(c.epoch) >= p.until
}

// take takes one of the places, if one is left.
func (p *phase) take(places int) bool {
	for {
		n := p.places.Load()
		if int(n) >= places {
			return false
		}
		if p.places.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Done reports how the request ended.
func (t Ticket) Done(o Outcome, now time.Time) {
	c, p := t.circuit, t.phase
	if c == nil || c.phase.Load() != p {
		return
	}
	if p.state == Closed {
		c.count(p, o, now)
		return
	}
	switch o { // half-open: open circuits give out no tickets
	case Canceled:
		p.places.Add(-1)
	case Failed:
		c.move(p, Open, now, "a request that was let through failed")
	case Succeeded:
		if int(p.passed.Add(1)) >= c.cfg.HalfOpenRequests {
			c.move(p, Closed, now, "the requests that were let through succeeded")
		}
	}
}

// count counts a result in a closed circuit and opens it if that was one
// failure too many. Only a failure opens it, even where a success brings
// min_requests about.
func (c *Circuit) count(p *phase, o Outcome, now time.Time) {
	if o == Canceled {
		return
	}
	tick, ratio := c.tick(now), c.cfg.FailureRatio > 0
	if o == Succeeded {
		if p.failures.Load() != 0 {
			p.failures.Store(0)
		}
		if ratio {
			p.counts.add(tick, 0)
		}
		return
	}
	if n := int(p.failures.Add(1)); c.cfg.MaxFailures > 0 && n >= c.cfg.MaxFailures {
		c.move(p, Open, now, fmt.Sprintf("%d failures in a row", n))
		return
	}
	if !ratio {
		return
	}
	p.counts.add(tick, 1)
	failures, requests := p.counts.sum(tick)
	if requests >= uint64(c.cfg.MinRequests) && float64(failures) >= c.cfg.FailureRatio*float64(requests) {
		c.move(p, Open, now, fmt.Sprintf("%d of %d requests failed", failures, requests))
	}
}

// tick numbers the buckets of time.
func (c *Circuit) tick(now time.Time) uint64 {
	return uint64(max(now.Sub(c.epoch), 0) / c.bucket)
}

// move makes the transition from p, unless another goroutine has made one. The
// first place of a half-open circuit goes to who opened it by half.
func (c *Circuit) move(p *phase, to CircuitState, now time.Time, reason string) (*phase, bool) {
	next := &phase{state: to, number: p.number + 1, since: now, until: now.Sub(c.epoch) + c.cfg.OpenFor}
	if to == HalfOpen {
		next.places.Store(1)
	}
	if !c.phase.CompareAndSwap(p, next) {
		return nil, false
	}
	c.report(CircuitChange{From: p.state, To: to, Reason: reason, At: now, Generation: next.number})
	return next, true
}

// State returns the state and since when it lasts. A circuit that is open stays
// so until a request comes after open_for.
func (c *Circuit) State() (CircuitState, time.Time) {
	p := c.phase.Load()
	return p.state, p.since
}

// RetryIn is how long an open circuit will let nothing through; 0 for others.
func (c *Circuit) RetryIn(now time.Time) time.Duration {
	p := c.phase.Load()
	if p.state != Open {
		return 0
	}
	return max(p.until-now.Sub(c.epoch), 0)
}

// Adopt takes over the state of old, of an earlier generation, before c is
// used. An open circuit stays open for the rest of its time, but not for longer
// than c's open_for; a half-open one begins its tries anew. Results of old's
// tickets still go to old.
func (c *Circuit) Adopt(old *Circuit, now time.Time) {
	from := old.phase.Load()
	c.epoch = old.epoch
	p := &phase{state: from.state, number: from.number, since: from.since}
	p.until = min(from.until, now.Sub(c.epoch)+c.cfg.OpenFor)
	p.failures.Store(from.failures.Load())
	if c.bucket == old.bucket {
		p.counts.copyFrom(&from.counts)
	}
	c.phase.Store(p)
}
