package edgecache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrHeldHere is returned by Purge where a purge holds on this gateway, and the
// others have not been told yet; they will be once Redis can be reached, unless
// this process ends before.
var ErrHeldHere = errors.New("edgecache: the purge holds on this gateway only; it is carried to the others once Redis can be reached")

// Purges is a Purger. What was purged is a rule that every use of an entry is
// held to, so that a purge holds as soon as it is made, also for responses that
// are under way: they are younger than the rule only if their request was.
//
// # Between gateways
//
// Purges that gateways share are in a log in Redis, a stream, which each of them
// reads from where it had come to; that something new is in it is told by a
// blocking read. The promise, of a purge that returned without an error:
//
//   - It holds on every gateway that reaches Redis, within 100 ms.
//   - It holds on every other gateway within Blindness (1 s). A gateway that has
//     not been able to read the log for half of that doubts all it has, again
//     and again: each entry serves until it is doubted, then needs a validation,
//     and serves on. So where Redis is simply down the origins are asked once in
//     half a second for what is in use, and clients are served. Where the origin
//     is down as well, they get an error rather than what may have been purged.
//   - A gateway that comes back reads what it has missed before it trusts its
//     entries again. Where that is no longer there, because Redis has lost its
//     data, or failed over to a replica that did not have all of it, or the log
//     was cut (it has 16384 purges), all that was stored before is doubted until
//     it is validated, and all in the second level is forgotten.
//
// A purge that Redis does not take returns ErrHeldHere.
type Purges struct {
	cfg   PurgesConfig
	rules *rules

	// An entry whose request was before one of these is doubted.
	doubt, blind, floor atomic.Uint64
	seq                 atomic.Uint64 // the last number given

	mu   sync.Mutex // one number after the other
	next *Purges    // who has taken its place

	log *purgeLog // nil: this gateway is alone
	out outbox

	logErrors atomic.Uint64
}

// PurgesConfig is what Purges is made of.
type PurgesConfig struct {
	// Memory is what is swept; nil for none.
	Memory *Memory
	// Redis has the log; nil if no other gateway shares the cache's name. It must
	// respect the deadlines of contexts (ContextTimeoutEnabled).
	Redis redis.UniversalClient
	Name  string // of the cache
	// Timeout is how long Redis may take to answer; 50 ms if 0.
	Timeout time.Duration
	// Blindness is for how long at most a purge of another gateway may remain
	// unknown; 1 s if 0.
	Blindness time.Duration
	Log       *slog.Logger // nil: nobody is told
}

// NewPurges returns a Purger that starts nothing: Run carries purges and reads
// those of others.
func NewPurges(cfg PurgesConfig) (*Purges, error) {
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	cfg.Blindness = cmp.Or(cfg.Blindness, time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Purges{cfg: cfg, rules: newRules()}
	p.out.kick = make(chan struct{}, 1)
	if cfg.Redis == nil {
		return p, nil
	}
	if err := heedsDeadlines(cfg.Redis); err != nil {
		return nil, err
	}
	if cfg.Blindness < 4*cfg.Timeout {
		return nil, fmt.Errorf("edgecache: Redis may take %v to answer, which leaves no time within %v", cfg.Timeout, cfg.Blindness)
	}
	p.log = newPurgeLog(cfg.Redis, cfg.Name)
	return p, nil
}

const defaultTimeout = 50 * time.Millisecond

// heedsDeadlines refuses clients that would wait for their own time-out.
func heedsDeadlines(client redis.UniversalClient) error {
	heeds := true
	switch c := client.(type) {
	case *redis.Client:
		heeds = c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		heeds = c.Options().ContextTimeoutEnabled
	case *redis.Ring:
		return errors.New("edgecache: a ring of Redis servers has no order that purges could rely on")
	}
	if !heeds {
		return errors.New("edgecache: the Redis client needs ContextTimeoutEnabled")
	}
	return nil
}

// Sequence is the number of the last purge that is known.
func (p *Purges) Sequence() uint64 { return p.seq.Load() }

// Verdict says what has become of an entry of r since it was requested.
func (p *Purges) Verdict(r *Resource, e *Entry) Verdict {
	at := e.Purges
	if at >= p.seq.Load() {
		return Valid
	}
	verdict := p.rules.judge(r, e, at, false)
	if at < p.doubt.Load() || at < p.blind.Load() || at < p.floor.Load() {
		return max(verdict, Doubted)
	}
	return verdict
}

// Spares reports whether no purge after that number can be of what is being
// fetched for r, whatever tags it will have.
func (p *Purges) Spares(r *Resource, after uint64) bool {
	return p.Verdict(r, &Entry{Purges: after}) == Valid && !p.rules.last[ruleTag].after(after, false)
}

// Purge is in force here when it returns, and everywhere if err is nil;
// otherwise it is ErrHeldHere.
func (p *Purges) Purge(x Purge) error {
	one, next := p.make(x)
	if next != nil {
		return next.Purge(x)
	}
	if one == nil {
		return nil
	}
	late := time.NewTimer(4 * p.cfg.Timeout)
	defer late.Stop()
	select {
	case <-one.carried:
		return nil
	case <-late.C:
		return ErrHeldHere
	}
}

// Invalidate is Purge for who cannot wait for the other gateways: they are told
// soon.
func (p *Purges) Invalidate(x Purge) {
	if _, next := p.make(x); next != nil {
		next.Invalidate(x)
	}
}

// make has a purge of this gateway hold here. It returns what will tell the others
// of it, or else who does so, if there is anybody to be told.
func (p *Purges) make(x Purge) (*parcel, *Purges) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hold(x, 0), p.next
}

// apply has a purge of the log hold here, where it is at that position.
func (p *Purges) apply(x Purge, log uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold(x, log)
}

// hold has a purge hold; log is its position in the log, 0 if it is yet to go
// there. The rule is there before its number is, so that nobody takes the number
// for his request and is spared the rule; and so is the parcel, so that who takes
// it for what he knew of the log, and goes by that in the second level, knows of
// this one too (verdictShared). mu is held.
func (p *Purges) hold(x Purge, log uint64) (one *parcel) {
	n := p.seq.Load() + 1
	p.rules.add(x, n, log)
	if log == 0 && p.log != nil && p.next == nil {
		one = p.out.add(x)
	}
	p.seq.Store(n)
	return one
}

// number is the last one given, and whatever it was given to holds.
func (p *Purges) number() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq.Load()
}

// Succeed has next take the place of p, whose Run is about to end: next tells the
// others what they have not been told yet, and whatever is purged here later, by an
// exchange that began before. It is called before next's Run.
func (p *Purges) Succeed(next *Purges) {
	p.mu.Lock()
	p.next = next
	p.mu.Unlock()
	for _, one := range p.out.all() {
		next.Invalidate(one.purge)
	}
}

// distrust doubts all that was requested until now, by the mark that is given.
func (p *Purges) distrust(mark *atomic.Uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.seq.Load() + 1
	mark.Store(n)
	p.seq.Store(n)
}

// Run carries purges, reads those of others, and frees the memory of what was
// purged, until ctx is done.
func (p *Purges) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { p.sweeping(ctx) })
	if p.log != nil {
		wg.Go(func() { p.reading(ctx) })
		wg.Go(func() { p.carrying(ctx) })
		wg.Go(func() { p.watching(ctx) })
	}
	wg.Wait()
	return nil
}

// PurgesStats says how purges travel.
type PurgesStats struct {
	Sequence uint64 `json:"sequence"` // number of the last purge that is known
	Waiting  int    `json:"waiting"`  // purges that the others do not have yet
	Blind    bool   `json:"blind"`    // the log cannot be read
	Errors   uint64 `json:"errors"`   // of Redis
	Rules    int    `json:"rules"`
}

// Stats says how purges travel.
func (p *Purges) Stats() PurgesStats {
	return PurgesStats{
		Sequence: p.seq.Load(), Waiting: p.out.waiting(), Blind: p.blind.Load() > 0,
		Errors: p.logErrors.Load(), Rules: p.rules.count(),
	}
}
