package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A shardHosts is the servers of one shard.
type shardHosts struct {
	index    int
	name     string
	hosts    []*host // the one that is listed as the primary first
	maxLag   time.Duration
	primary  atomic.Pointer[host] // nil: none answers
	next     atomic.Uint32        // round robin
	fallback chan struct{}        // reads that the primary does for replicas
	line     line                 // of writes

	mu         sync.Mutex
	timeline   uint32 // the newest that a primary had
	remembered era    // by other shards
	history    []sample
}

// A sample is how far the primary was at a time.
type sample struct {
	when time.Time
	at   Position
}

// How many samples are kept: at 250 ms, of a minute.
const samples = 240

func newShardHosts(cfg Config, index int, a Address) (*shardHosts, error) {
	s := &shardHosts{index: index, name: a.Name, maxLag: cfg.MaxReplicaLag, fallback: make(chan struct{}, max(1, cfg.MaxConns/2))}
	add := func(address, listed string) error {
		h, err := newHost(cfg, address, listed)
		if err == nil {
			s.hosts = append(s.hosts, h)
		}
		return err
	}
	if err := add(a.Primary, "primary"); err != nil {
		return s, err
	}
	for _, r := range a.Replicas {
		if err := add(r, "replica"); err != nil {
			return s, err
		}
	}
	return s, nil
}

// measure notes how far a primary is, and how long ago it was where a replica is
// now: the clocks of the servers do not matter, nor that nothing is written.
func (s *shardHosts) measure(h *host, state *hostState) {
	if !state.up {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if state.primary {
		if h == s.primary.Load() {
			s.history = append(s.history, sample{now, state.at})
			if len(s.history) > samples {
				s.history = append(s.history[:0], s.history[1:]...)
			}
		}
		return
	}
	for i := len(s.history) - 1; i >= 0; i-- {
		if state.at.Covers(s.history[i].at) {
			if i < len(s.history)-1 {
				state.lag = now.Sub(s.history[i].when)
			}
			return
		}
	}
	if len(s.history) > 0 {
		state.lag = max(now.Sub(s.history[0].when), s.maxLag+time.Second)
	}
}

// elect finds the primary: the server that takes writes on the newest timeline.
// One that was a primary before another was promoted is none any more, even
// where the newer does not answer.
func (s *shardHosts) elect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best *host
	var at Position
	for _, h := range s.hosts {
		state := h.state.Load()
		if state.up && state.primary && state.at.Timeline >= s.timeline && !s.remembered.outlives(state.era()) && (best == nil || state.at.Timeline > at.Timeline) {
			best, at = h, state.at
		}
	}
	if best != nil && at.Timeline > s.timeline {
		s.timeline = at.Timeline
		s.history = s.history[:0] // of another timeline
	}
	s.primary.Store(best)
}

// failed notes that a host did not do its work. The next probe decides when it
// is used again; connections from before are not.
func (s *shardHosts) failed(h *host, err error) {
	if old := h.state.Load(); old.up {
		next := *old
		next.up, next.reported = false, err
		if h.state.CompareAndSwap(old, &next) {
			h.pool.Reset()
			s.elect()
		}
	}
	h.look()
}

// suspect notes that what was tried on a host came to nothing. One that did not
// answer in time is silent, or its pool is in full use: the prober, which has a
// connection of its own, knows which.
func (s *shardHosts) suspect(h *host, try context.Context, err error) {
	if try.Err() != nil {
		h.look()
		return
	}
	s.failed(h, err)
}

func (s *shardHosts) notReady(err error) error {
	return &Unavailable{Shard: s.name, What: fmt.Sprintf("shard %s does not have its tables yet", s.name), Err: err}
}

func (s *shardHosts) refusing(err error) error {
	return &Unavailable{Shard: s.name, What: fmt.Sprintf("shard %s cannot take this at the moment", s.name), Err: err}
}

func (s *shardHosts) noPrimary() error {
	return &Unavailable{Shard: s.name, What: fmt.Sprintf("the primary of shard %s cannot be reached", s.name), Err: s.turnedAway()}
}

// turnedAway is what a server has said that answered and did not let us in, for
// people to mend: the name of a database, a password.
func (s *shardHosts) turnedAway() error {
	for _, h := range s.hosts {
		var pg *pgconn.PgError
		if state := h.state.Load(); !state.up && errors.As(state.reported, &pg) {
			return fmt.Errorf("%s: %w", h.address, pg)
		}
	}
	return nil
}

func (s *shardHosts) unknown(err error) error {
	return &Unavailable{Shard: s.name, What: "it is not known whether shard " + s.name + " has stored this", Unknown: true, Err: err}
}

// enter waits for a place among the reads that the primary does for replicas:
// were they all to fail, it would have no time for writes.
func (s *shardHosts) enter(ctx context.Context, patience time.Duration) bool {
	select {
	case s.fallback <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case s.fallback <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

func (s *shardHosts) leave() { <-s.fallback }

// replicas are those that may serve, the nearest in turn first. Where some cover
// need, they come before the others.
func (s *shardHosts) replicas(need Position, into []*host) []*host {
	n := uint32(len(s.hosts))
	if n < 2 {
		return into
	}
	turn := s.next.Add(1)
	into = s.within(turn, into, func(state *hostState) bool { return state.at.Covers(need) })
	if len(into) > 0 || need == (Position{}) {
		return into
	}
	// The probe may be older than what the replica has by now: one is asked.
	into = s.within(turn, into, func(state *hostState) bool { return state.at.Timeline >= need.Timeline })
	return into[:min(1, len(into))]
}

func (s *shardHosts) within(turn uint32, into []*host, fit func(*hostState) bool) []*host {
	n := uint32(len(s.hosts))
	for i := range n {
		h := s.hosts[(turn+i)%n]
		if state := h.state.Load(); state.up && !state.primary && state.lag <= s.maxLag && fit(state) {
			into = append(into, h)
		}
	}
	return into
}
