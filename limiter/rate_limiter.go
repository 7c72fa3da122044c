package limiter

import (
	"errors"
	"sync/atomic"
	"time"
)

// A RateLimiter holds the requests of each key to a RateSpec.
//
// # Scope global
//
// A bucket of R a second and a burst B is kept in Redis, and nodes admit only by
// spending tokens that they have leased from it before (pre-debited leases): the
// bucket's capacity is B − L, and at most L tokens are out at a time, which the
// script in rateLeaseLua holds to. Whatever is admitted in a time [s, t] spent a
// token that was in the bucket at s (at most B − L), was out at s (at most L), or
// came in since (at most R·(t−s)): at most B + R·(t−s), whatever the number of
// nodes, what they lose and when they crash. The price is that up to L tokens may
// be where they are not needed: L is a tenth of B.
//
// That stands on four things. A lease ends at its node before it does in Redis:
// at the moment of asking + τ − δ, by a monotonic clock. Tokens are taken from
// the bucket before a node has them. An answer counts once, and only for the last
// question. A question that comes twice, or after a later one, does nothing.
//
// Bursts under 20, or 100 times the cost of a request, are too small to lease:
// each request asks Redis, except that what was denied is denied here until it
// could be otherwise. The windows do the same.
//
// With on_error local, while Redis is away, each of N nodes has R/N and its part
// of the burst, beginning with what it knew of the bucket, or its part of a window,
// and tells of what it has admitted when Redis is back, to which all return at the
// same moment. The package's documentation derives what that comes to.
type RateLimiter struct {
	name   string
	start  time.Time
	seeds  rateSeeds
	params atomic.Pointer[rateParams]
	redis  *RateRedis // nil: scope local

	memory   *rateMemory
	leases   *rateLeases
	inFlight *rateInFlight
}

// rateParams is what a reload may change.
type rateParams struct {
	spec    RateSpec
	rule    rateRule
	lease   int64 // L
	maxKeys int
	onError string
}

// NewRateLimiter returns a limiter for spec, which has been checked. shared is for
// scope global, and may be nil. name is what gateways that share a limit have in
// common.
func NewRateLimiter(name string, spec RateSpec, shared *RateRedis, now time.Time) (*RateLimiter, error) {
	if err := spec.Check(1); err != nil {
		return nil, err
	}
	if spec.MaxKeys == 0 {
		spec.MaxKeys = RateDefaults().MaxKeys
	}
	l := &RateLimiter{name: name, start: now.Add(-time.Hour), seeds: newRateSeeds(), memory: newRateMemory(spec.MaxKeys)}
	if spec.Scope == RateGlobal && shared != nil {
		l.redis = shared
		l.leases = newRateLeases(spec.MaxKeys)
		l.inFlight = newRateInFlight()
	}
	l.configure(spec)
	return l, nil
}

// Takes reports whether Configure can make l one for spec and keep what it
// knows.
func (l *RateLimiter) Takes(spec RateSpec) bool {
	old := l.params.Load().spec
	return old.Algorithm == spec.Algorithm && old.Scope == spec.Scope
}

// Configure changes the spec of a limiter in use, as a reload does.
func (l *RateLimiter) Configure(spec RateSpec) error {
	if !l.Takes(spec) {
		return errors.New("limiter: another algorithm or scope is another limiter")
	}
	if err := spec.Check(1); err != nil {
		return err
	}
	l.configure(spec)
	return nil
}

func (l *RateLimiter) configure(spec RateSpec) {
	p := &rateParams{spec: spec, rule: newRateRule(spec), maxKeys: spec.MaxKeys, onError: spec.OnError}
	if p.maxKeys == 0 {
		p.maxKeys = RateDefaults().MaxKeys
	}
	if spec.Algorithm == RateGCRA && p.rule.limit >= rateLeaseLeast {
		p.lease = p.rule.limit / rateLeaseShare
	}
	before := l.params.Swap(p)
	if before != nil && before.rule != p.rule {
		l.memory.convert(&p.rule, &before.rule, int64(time.Since(l.start)))
	}
}

// Spec is what l holds to.
func (l *RateLimiter) Spec() RateSpec { return l.params.Load().spec }

// leases reports whether tokens are leased for requests of that cost, which is
// the same for all requests of a limit.
func (p *rateParams) leases(cost int64) bool {
	return p.lease > 0 && (cost == 1 || cost*rateLeaseCost <= p.lease)
}

// share is this node's part of the rule while Redis is away.
func (p *rateParams) share(r *RateRedis) rateRule { return p.rule.share(p.among(r)) }

// among is how many nodes share the rule while Redis is away.
func (p *rateParams) among(r *RateRedis) int64 {
	if p.spec.Nodes > 0 {
		return int64(p.spec.Nodes)
	}
	return r.nodes.Load()
}

// blind decides without knowing anything.
func (p *rateParams) blind() RateDecision {
	if p.onError == RateAllow {
		return RateDecision{Allowed: true, Remaining: p.rule.limit, Fallback: true}
	}
	return RateDecision{Retry: time.Second, Fallback: true}
}

// Take decides about one request of that key and cost, at least 1, that came at
// now. For scope local it neither waits nor allocates for a key that it knows;
// for scope global it waits for Redis where it has to ask, for at most the timeout
// that RateRedis has.
//
// What was taken can be given back with Refund. Of a concurrency limit it must be
// given back, once, with Release.
func (l *RateLimiter) Take(key []byte, cost int64, now time.Time) RateDecision {
	p := l.params.Load()
	if l.redis == nil || l.redis.server.Load() == nil {
		return l.takeLocal(p, &p.rule, key, cost, now)
	}
	switch {
	case p.rule.algorithm == RateConcurrency:
		return l.takeInFlight(p, sharedKey(l.name, key), cost)
	case p.leases(cost):
		return l.takeLeased(p, key, cost)
	}
	return l.takeSync(p, sharedKey(l.name, key), key, cost, now)
}

func (l *RateLimiter) takeLocal(p *rateParams, rule *rateRule, key []byte, cost int64, now time.Time) RateDecision {
	hashed, at := l.seeds.hash(key), int64(now.Sub(l.start))
	d, spilled := l.memory.take(rule, hashed, at, cost, p.maxKeys)
	d.limiter, d.key, d.cost, d.at = l, hashed, cost, at
	if d.Allowed {
		d.kind = takenMemory
		if spilled {
			d.kind = takenSpill
		}
	}
	return d
}

// Refund gives back what a decision took, because another limit has denied the
// request. It may be lost where that is safer.
func (d *RateDecision) Refund() {
	if d.limiter == nil {
		return
	}
	l, p := d.limiter, d.limiter.params.Load()
	switch d.kind {
	case takenMemory, takenSpill:
		l.memory.refund(&p.rule, d.key, d.at, d.cost, d.kind == takenSpill)
	case takenLease:
		l.refundLease(d)
	case takenRedis:
		l.redis.post(&syncOp{l: l, key: d.key, cost: -d.cost, at: d.at})
	case takenAway:
		l.refundAway(p, d)
	case takenInFlight:
		l.leave(d)
	}
	d.kind = takenNothing
}

// Release ends the request of a decision: its place of a concurrency limit is
// free again. For all others, and a second time, it does nothing.
func (d *RateDecision) Release() {
	if d.limiter != nil && d.limiter.params.Load().rule.algorithm == RateConcurrency {
		d.Refund()
	}
}

// Keys is how many keys are remembered here, and how often there was no room
// for another.
func (l *RateLimiter) Keys() (n int, full uint64) {
	n, full = l.memory.keys()
	if l.leases != nil {
		n += l.leases.keys() + l.inFlight.keys()
	}
	return n, full
}
