package limiter

import (
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// rateHold is how long Redis believes a node's count. The node says it again with
// each beat.
const rateHold = 10 * time.Second

// rateInFlight is how many requests of each key are under way at this node, in a
// limit that Redis knows of. There are no more keys than requests.
type rateInFlight struct {
	mu     sync.Mutex // before RateRedis.mu
	places map[rateKey]*ratePlaces
}

type ratePlaces struct {
	key   rateKey
	count int64 // under way, those that still ask included
	told  bool  // the goroutine is about to tell of it
}

func newRateInFlight() *rateInFlight { return &rateInFlight{places: make(map[rateKey]*ratePlaces)} }

func (f *rateInFlight) keys() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.places)
}

// takeInFlight takes a place. The count and its number are drawn together, so
// that of two requests that overtake each other the later word holds.
func (l *RateLimiter) takeInFlight(p *rateParams, shared rateKey, cost int64) RateDecision {
	r, f := l.redis, l.inFlight
	d := RateDecision{limiter: l, key: shared, cost: cost, kind: takenInFlight}
	f.mu.Lock()
	e := f.places[shared]
	if e == nil {
		if len(f.places) == 0 {
			r.mu.Lock()
			r.held[l] = struct{}{}
			r.mu.Unlock()
		}
		e = &ratePlaces{key: shared}
		f.places[shared] = e
	}
	e.count += cost
	count, seq := e.count, r.seq.Add(1)
	f.mu.Unlock()
	v, err := r.call(r.scripts.inFlight, shared.name(RateConcurrency), r.node, seq, count, cost, p.rule.limit, rateHold.Microseconds())
	switch {
	case err == nil && len(v) >= 2:
		d.Allowed, d.Remaining = v[0] == 1, v[1]
	case p.onError == RateLocal:
		share := p.share(r)
		d.Allowed, d.Remaining, d.Fallback = count <= share.limit, max(share.limit-count, 0), true
	default:
		blind := p.blind()
		d.Allowed, d.Remaining, d.Fallback = blind.Allowed, blind.Remaining, true
	}
	if !d.Allowed {
		d.Retry = time.Second
		l.forget(e, cost, d.Fallback)
		d.kind = takenNothing
	}
	return d
}

// leave gives a place back and has Redis told of it.
func (l *RateLimiter) leave(d *RateDecision) {
	f := l.inFlight
	f.mu.Lock()
	e := f.places[d.key]
	f.mu.Unlock()
	if e != nil {
		l.forget(e, d.cost, true)
	}
}

// forget counts less; where tell is set, Redis is told.
func (l *RateLimiter) forget(e *ratePlaces, cost int64, tell bool) {
	f := l.inFlight
	f.mu.Lock()
	e.count = max(e.count-cost, 0)
	tell = tell && !e.told
	e.told = e.told || tell
	f.drop(e)
	f.mu.Unlock()
	if tell {
		l.redis.post(&placesOp{l: l, e: e})
	}
}

// A placesOp tells Redis how many requests of a key are under way.
type placesOp struct {
	l *RateLimiter
	e *ratePlaces
}

func (o *placesOp) command(r *RateRedis) (*redis.Script, string, []any) {
	f, p := o.l.inFlight, o.l.params.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	o.e.told = false
	f.drop(o.e)
	return r.scripts.inFlight, o.e.key.name(RateConcurrency), []any{
		r.node, r.seq.Add(1), o.e.count, 0, p.rule.limit, rateHold.Microseconds(),
	}
}

func (o *placesOp) answered(r *RateRedis, _ []int64, err error) {
	f := o.l.inFlight
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		o.e.told = false // what Redis was not told, it forgets by itself
		f.drop(o.e)
	}
}

// drop forgets a key of which nothing is under way or to be told. With mu held.
func (f *rateInFlight) drop(e *ratePlaces) {
	if e.count == 0 && !e.told && f.places[e.key] == e {
		delete(f.places, e.key)
	}
}

// remind tells Redis again of all that is under way, before it forgets.
func (r *RateRedis) remind() {
	r.mu.Lock()
	all := make([]*RateLimiter, 0, len(r.held))
	for l := range r.held {
		all = append(all, l)
	}
	r.mu.Unlock()
	for _, l := range all {
		l.remind()
	}
}

func (l *RateLimiter) remind() {
	f := l.inFlight
	f.mu.Lock()
	var ops []rateOp
	for _, e := range f.places {
		if !e.told {
			e.told = true
			ops = append(ops, &placesOp{l: l, e: e})
		}
	}
	if len(f.places) == 0 {
		l.redis.mu.Lock()
		delete(l.redis.held, l)
		l.redis.mu.Unlock()
	}
	f.mu.Unlock()
	for _, op := range ops {
		l.redis.post(op)
	}
}
