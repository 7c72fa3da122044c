package upstream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	sweepTick = 20 * time.Millisecond // while calls are in flight
	sweepRest = time.Second           // while none are
	// calmSweeps is how many sweeps without a call in flight come before the
	// sweeper rests, so that a slow trickle of calls does not wake it each time.
	calmSweeps = 50
)

// A Transport owns the pools of all targets, one for each Config. Deadlines
// hold only while Run is running; without it nothing but the connect time is
// bounded.
type Transport struct {
	epoch time.Time

	resting atomic.Bool   // the sweeper sleeps until wake or sweepRest
	wake    chan struct{} // one token is enough

	room sync.Mutex // held by makeRoom; before mu

	mu    sync.Mutex // before any Pool.mu
	pools map[Config]*Pool
	swept []*Pool // pools, and released ones that still have connections
}

// NewTransport returns a Transport without pools. Its Run must be running for
// deadlines to hold and idle connections to be closed.
func NewTransport() *Transport {
	return &Transport{
		epoch: time.Now(),
		wake:  make(chan struct{}, 1),
		pools: make(map[Config]*Pool),
	}
}

// now is the monotonic time since the epoch in nanoseconds, never 0.
func (t *Transport) now() int64 { return int64(time.Since(t.epoch)) + 1 }

// at is when in terms of now; 0 for the zero time.
func (t *Transport) at(when time.Time) int64 {
	if when.IsZero() {
		return 0
	}
	return max(int64(when.Sub(t.epoch))+1, 1)
}

// Pool returns the pool for cfg, the one that is already there if another
// owner asked with an equal configuration. Each successful Pool wants one
// Release. It returns a *ConfigError when the configuration cannot work: a
// malformed URL, a file that cannot be read, a protocol that does not go with the
// URL. An existing pool does not read its files again.
func (t *Transport) Pool(cfg Config) (*Pool, error) {
	cfg = cfg.withDefaults()
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.pools[cfg]; p != nil {
		p.owners++
		return p, nil
	}
	target, err := newTarget(cfg)
	if err != nil {
		return nil, err
	}
	p := &Pool{t: t, cfg: cfg, target: target, owners: 1, listed: true}
	if cfg.multiplexed() {
		if p.mux, err = newMux(cfg); err != nil {
			return nil, &ConfigError{"protocol", err}
		}
	}
	t.pools[cfg] = p
	t.swept = append(t.swept, p)
	return p, nil
}

// enlist has a released pool swept again, as a late call opened a connection.
func (t *Transport) enlist(p *Pool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !p.listed {
		p.listed = true
		t.swept = append(t.swept, p)
	}
}

// Run ends calls whose time is over and closes connections unused for too
// long, until ctx is done; it then closes the unused connections and returns
// nil. Calls that end later still pool their connections, for Release to close.
// It is to be called once.
func (t *Transport) Run(ctx context.Context) error {
	timer := time.NewTimer(sweepTick)
	defer timer.Stop()
	var rested int64
	calm := 0
	for {
		select {
		case <-ctx.Done():
			t.resting.Store(false)
			t.closeIdle()
			return nil
		case <-t.wake:
			calm = 0
		case <-timer.C:
		}
		now := t.now()
		all := now-rested >= int64(sweepRest)
		if all {
			rested = now
		}
		if t.sweep(now, all) {
			calm = 0
		} else {
			calm++
		}
		timer.Reset(t.pause(calm))
	}
}

// pause says how long the sweeper may sleep. The order in it is that of a
// lock: it says that it rests before it looks for calls a last time, and a call
// is counted before it looks whether to wake the sweeper.
func (t *Transport) pause(calm int) time.Duration {
	if calm < calmSweeps {
		t.resting.Store(false)
		return sweepTick
	}
	t.resting.Store(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.swept {
		if p.busy.Load() > 0 {
			t.resting.Store(false)
			return sweepTick
		}
	}
	return sweepRest
}

// stir wakes a resting sweeper. The caller has counted its call already.
func (t *Transport) stir() {
	if t.resting.Load() && t.resting.CompareAndSwap(true, false) {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// sweep looks over the pools with calls in flight, or all of them, and reports
// whether it found a call.
func (t *Transport) sweep(now int64, all bool) (busy bool) {
	t.mu.Lock()
	pools := t.swept
	if all {
		pools = t.prune()
	}
	t.mu.Unlock()
	for _, p := range pools {
		if p.busy.Load() > 0 {
			busy = true
			p.expire(now)
		}
		if all {
			p.closeIdle(now - int64(p.cfg.PoolIdle))
		}
	}
	return busy
}

// prune drops the released pools that have no connection left. It makes a new
// list, as a sweep may be reading the old one.
func (t *Transport) prune() []*Pool {
	kept := make([]*Pool, 0, len(t.swept))
	for _, p := range t.swept {
		p.mu.Lock()
		over := p.released && p.open == 0
		p.mu.Unlock()
		if over {
			p.listed = false
			continue
		}
		kept = append(kept, p)
	}
	t.swept = kept
	return kept
}

// makeRoom closes all unused connections, as a dial found no descriptor: to dial
// them again costs less than to fail. Who comes while another does it waits, and
// then finds what it has freed.
func (t *Transport) makeRoom() {
	t.room.Lock()
	defer t.room.Unlock()
	t.closeIdle()
}

func (t *Transport) closeIdle() {
	t.mu.Lock()
	pools := t.swept
	t.mu.Unlock()
	for _, p := range pools {
		p.closeIdle(t.now())
	}
}
