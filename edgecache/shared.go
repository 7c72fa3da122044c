package edgecache

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"
)

// Shared is a Second in Redis: what one gateway has fetched, others need not.
//
// A resource is a hash, with a field for each variant. Every value says how far
// its gateway knew the log of purges when it asked the origin; who reads it
// holds it to all that was purged later (see Purges), so that a purge touches
// nothing here. A value that is not what some gateway has written is none, and
// is deleted.
//
// A read waits for Timeout at most, and not at all after several have failed;
// writes wait in a queue, which overflows rather than hold anybody up.
type Shared struct {
	cfg     SharedConfig
	prefix  string
	breaker sharedBreaker
	queue   sharedQueue
	counts  struct {
		hits, misses, corrupt, outdated, skipped, failed, dropped atomic.Uint64
	}
}

// SharedConfig is what a Shared is made of.
type SharedConfig struct {
	// Redis must respect the deadlines of contexts (ContextTimeoutEnabled).
	Redis redis.UniversalClient
	Name  string // of the cache
	// Timeout is how long a read may take; 50 ms if 0.
	Timeout time.Duration
	// MaxObject bounds what is written, in bytes; 1 MiB if 0.
	MaxObject int64
	// Purges of the same Redis and name.
	Purges *Purges
}

// NewShared returns a Shared that starts nothing: Run writes.
func NewShared(cfg SharedConfig) (*Shared, error) {
	if cfg.Redis == nil || cfg.Purges == nil || cfg.Purges.log == nil {
		return nil, errors.New("edgecache: what is shared needs Redis, and purges that are shared too")
	}
	if err := heedsDeadlines(cfg.Redis); err != nil {
		return nil, err
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	cfg.MaxObject = cmp.Or(cfg.MaxObject, 1<<20)
	s := &Shared{cfg: cfg, prefix: "sluice:" + cfg.Name + ":"}
	s.queue.kick = make(chan struct{}, 1)
	return s, nil
}

func (s *Shared) key(k Key) string { return s.prefix + hex.EncodeToString(k[:]) }

// field is where a variant is within its resource.
func field(vary string) string { return strconv.FormatUint(xxhash.Sum64String(vary), 36) }

// Get is the resource of that key, nil for none. It takes as long as the
// time-out at most; Redis may go on for a moment after that.
func (s *Shared) Get(ctx context.Context, k Key, text string) *Resource {
	_, last, ok := s.cfg.Purges.log.knowledge()
	if !ok || !s.breaker.allow(time.Now()) {
		s.counts.skipped.Add(1)
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	values, err := s.cfg.Redis.HGetAll(bounded, s.key(k)).Result()
	if ctx.Err() != nil {
		s.breaker.leave()
		return nil // who asked has gone, which says nothing of Redis
	}
	s.breaker.done(err == nil, time.Now())
	if err != nil {
		s.counts.failed.Add(1)
		return nil
	}
	r := &Resource{Text: text}
	for name, value := range values {
		e := s.read(k, name, value, text)
		if e == nil {
			continue
		}
		e.Purges = last.here
		r.Variants = append(r.Variants, e)
	}
	if len(r.Variants) == 0 {
		s.counts.misses.Add(1)
		return nil
	}
	latestFirst(r.Variants)
	s.counts.hits.Add(1)
	return r
}

// read is the entry in a value; nil if it is not fit for use, and then it is
// deleted.
func (s *Shared) read(k Key, name, value, text string) *Entry {
	shared, err := decodeShared(value)
	switch {
	case err != nil, shared.resource.Text != text:
		s.counts.corrupt.Add(1)
	case shared.expires <= time.Now().UnixMilli():
		s.counts.outdated.Add(1)
	default:
		e := shared.resource.Variants[0]
		verdict := s.cfg.Purges.verdictShared(shared.resource, e, shared.position)
		// What is known of the log comes after the verdict: rules that were
		// forgotten meanwhile have raised its floor first.
		known, _, ok := s.cfg.Purges.log.knowledge()
		switch {
		case !ok:
			return nil // a new log is being read
		case verdict > Stale, shared.log != xxhash.Sum64String(known.name), shared.position < known.floor:
			s.counts.outdated.Add(1)
		default:
			if verdict == Stale {
				e.Flags |= Invalidated
			}
			return e
		}
	}
	s.queue.add(job{key: k, field: name, value: value, what: deleteField})
	return nil
}

// verdictShared is the verdict on an entry of another gateway, which knew the
// log up to that position when it asked for it.
func (p *Purges) verdictShared(r *Resource, e *Entry, at uint64) Verdict {
	if waiting := p.out.rules.Load(); waiting != nil && waiting.judge(r, e, 0, false) != Valid {
		return Purged // the log does not have it yet
	}
	return p.rules.judge(r, e, at, true)
}

// latestFirst orders variants as Resource has them.
func latestFirst(list []*Entry) {
	for i := range list {
		for j := i; j > 0 && list[j].ReceivedAt > list[j-1].ReceivedAt; j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
}

// Put stores e for others, some time soon, or not at all.
func (s *Shared) Put(k Key, text string, e *Entry) {
	if !e.Complete() || int64(len(e.Body)+len(e.Head)) > s.cfg.MaxObject {
		return
	}
	if !s.queue.add(job{key: k, text: text, entry: e, what: store}) {
		s.counts.dropped.Add(1)
	}
}

// Delete removes the resource, some time soon.
func (s *Shared) Delete(k Key) {
	if !s.queue.add(job{key: k, what: deleteAll}) {
		s.counts.dropped.Add(1)
	}
}

// SharedStats counts what a Shared was asked.
type SharedStats struct {
	Hits     uint64 `json:"hits"`
	Misses   uint64 `json:"misses"`
	Corrupt  uint64 `json:"corrupt"`  // values that no gateway has written
	Outdated uint64 `json:"outdated"` // values that were purged, or have expired
	Skipped  uint64 `json:"skipped"`  // reads that were not tried, as others had failed
	Failed   uint64 `json:"failed"`   // reads and writes
	Dropped  uint64 `json:"dropped"`  // writes, for a full queue
	Open     bool   `json:"open"`     // reads are not tried now
}

// Stats counts what it was asked.
func (s *Shared) Stats() SharedStats {
	c := &s.counts
	return SharedStats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Corrupt: c.corrupt.Load(), Outdated: c.outdated.Load(),
		Skipped: c.skipped.Load(), Failed: c.failed.Load(), Dropped: c.dropped.Load(), Open: s.breaker.open(time.Now()),
	}
}
