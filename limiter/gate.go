package limiter

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Gate bounds how many requests are in flight. The nil gate bounds nothing.
//
// While nobody waits, places are taken and given back with one
// compare-and-swap. As soon as somebody waits, everything goes through the
// mutex: waiting is part of the same word, so neither side can miss it.
type Gate struct {
	start time.Time

	limit atomic.Int64
	meter atomic.Pointer[meter] // nil: the limit is fixed

	_     [64]byte
	state atomic.Uint64 // waiting<<32 | in flight
	_     [64]byte

	pace atomic.Int64 // latency in ns while saturated, smoothed; updates may get lost

	mu      sync.Mutex
	cfg     Concurrency
	line    line
	waiters sync.Pool // of *waiter
}

const (
	oneWaiting = 1 << 32
	inFlight   = oneWaiting - 1
)

// NewGate returns a gate, or nil where cfg bounds nothing.
func NewGate(cfg Concurrency, now time.Time) (*Gate, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Max == 0 && !cfg.Adaptive {
		return nil, nil
	}
	g := &Gate{start: now}
	g.configure(cfg)
	return g, nil
}

// Configure changes the bounds of a gate in use, as a reload does. Who is in
// flight or waits stays so; a limit below that admits nobody until enough have
// left. A limit that adapts starts anew only if its bound has changed.
func (g *Gate) Configure(cfg Concurrency) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Max == 0 && !cfg.Adaptive {
		cfg.Max = inFlight // nothing comes near it
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.configure(cfg)
	g.admit()
	return nil
}

// configure is called with mu held, or before anybody knows the gate.
func (g *Gate) configure(cfg Concurrency) {
	same := cfg.Adaptive == g.cfg.Adaptive && cfg.Max == g.cfg.Max
	g.cfg = cfg
	switch {
	case same:
	case cfg.Adaptive:
		m := newMeter(cfg.Max)
		g.limit.Store(int64(m.gradient.allowed()))
		g.meter.Store(m)
	default:
		g.meter.Store(nil)
		g.limit.Store(int64(cfg.Max))
	}
}

// An Arrival is a request that wants a place.
type Arrival struct {
	At       time.Time
	Priority int             // who is served first, and shed last: the higher
	Deadline time.Time       // when waiting has lost its sense; zero: never
	Done     <-chan struct{} // closed when the client leaves; nil: never
}

// A Ticket is a place. Release it exactly once; a second time does nothing, as
// long as the ticket has not been copied.
type Ticket struct {
	gate *Gate
	at   time.Time
}

// Try takes a place if one is free and nobody waits for it.
func (g *Gate) Try(now time.Time) (Ticket, bool) {
	if g == nil {
		return Ticket{}, true
	}
	if !g.enter() {
		return Ticket{}, false
	}
	return Ticket{gate: g, at: now}, true
}

func (g *Gate) enter() bool {
	limit := uint64(g.limit.Load())
	for {
		s := g.state.Load()
		if s >= limit { // or somebody waits
			return false
		}
		if g.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// Acquire takes a place, and waits for one where the gate has a queue with
// room, or with somebody in it whose priority is lower. It returns
// ErrSaturated at once, and ErrDisplaced, ErrWaited or ErrCanceled while it
// waits.
func (g *Gate) Acquire(a Arrival) (Ticket, error) {
	if t, ok := g.Try(a.At); ok {
		return t, nil
	}
	w, err := g.join(a)
	if err != nil {
		return Ticket{}, err
	}
	if w == nil {
		return Ticket{gate: g, at: a.At}, nil
	}
	waited, err := g.await(w, a)
	if err != nil {
		return Ticket{}, err
	}
	return Ticket{gate: g, at: a.At.Add(waited)}, nil
}

// join puts an arrival in the queue. It returns nil twice where a place has
// come free meanwhile.
func (g *Gate) join(a Arrival) (*waiter, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.line.count >= g.cfg.Queue && !g.line.outranks(a.Priority) {
		if g.enter() {
			return nil, nil
		}
		return nil, ErrSaturated
	}
	limit := uint64(g.limit.Load())
	for {
		s := g.state.Load()
		if s < limit {
			if g.state.CompareAndSwap(s, s+1) {
				return nil, nil
			}
		} else if g.state.CompareAndSwap(s, s+oneWaiting) {
			break
		}
	}
	if g.line.count >= g.cfg.Queue {
		g.dismiss(g.line.last(), ErrDisplaced)
	}
	w, _ := g.waiters.Get().(*waiter)
	if w == nil {
		w = &waiter{ready: make(chan error, 1)}
	}
	w.priority = a.Priority
	g.line.push(w)
	return w, nil
}

// dismiss takes a waiter out of the queue and tells it err. With mu held.
func (g *Gate) dismiss(w *waiter, err error) {
	g.line.remove(w)
	g.state.Add(^uint64(oneWaiting - 1)) // one waiting less
	w.ready <- err
}

// admit gives the places that are free to those who wait. With mu held.
func (g *Gate) admit() {
	for g.line.count > 0 && int64(g.state.Load()&inFlight) < g.limit.Load() {
		w := g.line.first()
		g.line.remove(w)
		g.state.Add(^uint64(oneWaiting-1) + 1) // from waiting to in flight
		w.ready <- nil
	}
}

// await returns how long w has waited once it has a place.
func (g *Gate) await(w *waiter, a Arrival) (time.Duration, error) {
	timeout, bounded := g.patience(a)
	began := time.Now()
	var expired <-chan time.Time
	if bounded {
		expired = w.alarm(timeout)
	}
	var err error
	select {
	case err = <-w.ready:
	case <-expired:
		err = g.giveUp(w, ErrWaited)
	case <-a.Done:
		err = g.giveUp(w, ErrCanceled)
	}
	w.silence()
	g.waiters.Put(w)
	return time.Since(began), err
}

// patience is how long an arrival waits at most; false: without bound.
func (g *Gate) patience(a Arrival) (time.Duration, bool) {
	g.mu.Lock()
	timeout := g.cfg.QueueTimeout
	g.mu.Unlock()
	if a.Deadline.IsZero() {
		return timeout, timeout > 0
	}
	left := a.Deadline.Sub(a.At)
	if timeout > 0 {
		left = min(left, timeout)
	}
	return left, true
}

// giveUp takes w out of the queue, unless its fate was sealed meanwhile. A
// place that comes too late for a client that left is passed on.
func (g *Gate) giveUp(w *waiter, why error) error {
	g.mu.Lock()
	if w.queued {
		g.dismiss(w, why)
	}
	g.mu.Unlock()
	err := <-w.ready
	if err == nil && why == ErrCanceled {
		g.leave()
		return why
	}
	return err
}

// leave gives a place back, to somebody who waits if there is one.
func (g *Gate) leave() {
	for {
		s := g.state.Load()
		if s >= oneWaiting {
			break
		}
		if g.state.CompareAndSwap(s, s-1) {
			return
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Add(^uint64(0))
	g.admit()
}

// An Outcome says what a latency is worth.
type Outcome int

const (
	// Served is an exchange whose latency is the backend's: answered, or timed
	// out while it should have been.
	Served Outcome = iota
	// Ignored is one whose latency says nothing: the client left, the
	// connection was refused, a breaker was open.
	Ignored
)

// Release gives the place back. latency is from the ticket to the head of the
// response; a slow download is not the backend's slowness.
func (t *Ticket) Release(latency time.Duration, outcome Outcome) {
	g := t.gate
	if g == nil {
		return
	}
	t.gate = nil
	if outcome == Served {
		g.observe(t.at.Sub(g.start)+latency, latency)
	}
	g.leave()
}

// observe takes in the latency of an exchange that ended at end, since start.
func (g *Gate) observe(end, latency time.Duration) {
	s := g.state.Load()
	if limit := g.limit.Load(); int64(s&inFlight) >= limit {
		pace := g.pace.Load()
		g.pace.Store(pace + (int64(latency)-pace)/8)
	}
	m := g.meter.Load()
	if m == nil {
		return
	}
	if limit, ok := m.sample(end, latency, int(s&inFlight)); ok && int64(limit) != g.limit.Load() {
		g.adapt(m, limit)
	}
}

func (g *Gate) adapt(m *meter, limit int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.meter.Load() != m { // configured anew
		return
	}
	g.limit.Store(int64(limit))
	g.admit()
}

// RetryAfter suggests when a request that was shed may come back: when the
// queue of now will have been served, between 1 and 30 s, in whole seconds.
func (g *Gate) RetryAfter() time.Duration {
	if g == nil {
		return time.Second
	}
	return retryAfter(time.Duration(g.pace.Load()), g.Waiting(), g.Limit())
}

func retryAfter(latency time.Duration, waiting, limit int) time.Duration {
	drained := float64(latency) * float64(waiting+1) / float64(max(limit, 1))
	seconds := (time.Duration(min(drained, float64(30*time.Second))) + time.Second - 1) / time.Second
	return max(seconds, 1) * time.Second
}

// InFlight is how many places are taken.
func (g *Gate) InFlight() int { return int(g.word() & inFlight) }

// Waiting is how many wait for one.
func (g *Gate) Waiting() int { return int(g.word() / oneWaiting) }

// Limit is how many there are now; 0: without bound.
func (g *Gate) Limit() int {
	if g == nil {
		return 0
	}
	return int(g.limit.Load())
}

func (g *Gate) word() uint64 {
	if g == nil {
		return 0
	}
	return g.state.Load()
}
