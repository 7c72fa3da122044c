package limiter

import (
	"context"
	"math"
)

// leaseShare is this node's part of the bucket in Redis while Redis is away:
// without what may be out in leases, which are spent besides.
func (p *rateParams) leaseShare(r *RateRedis) rateRule {
	rule := p.rule
	rule.limit -= p.lease
	rule.tolerance = rule.interval * rule.limit
	return rule.share(p.among(r))
}

// takeAway decides by on_error. With the shard's mu held.
func (l *RateLimiter) takeAway(p *rateParams, s *leaseShard, e *rateLease, hashed rateKey, key []byte, now, cost int64) (d RateDecision) {
	if p.onError != RateLocal {
		return p.blind()
	}
	// What is known of the bucket goes on as this node's share of it: the burst is
	// not there a second time. A reload may have made the limit another.
	e.full = min(e.full, now+2*p.rule.tolerance+int64(rateTerm))
	share, state := p.leaseShare(l.redis), rateState{a: e.full}
	d = share.take(&state, now, cost)
	d.Fallback = true
	if !d.Allowed {
		return d
	}
	e.full, e.away = state.a, clamp32(int64(e.away)+cost)
	if e == &s.spill {
		return d // there is nobody to tell of it
	}
	d.limiter, d.key, d.cost, d.kind = l, hashed, cost, takenAway
	if _, known := s.owing[hashed]; !known {
		l.owe(s, e, hashed, key)
	}
	return d
}

// owe remembers that Redis is to be told of a key; at once where it answers again.
// With the shard's mu held.
func (l *RateLimiter) owe(s *leaseShard, e *rateLease, hashed rateKey, key []byte) {
	if s.owing == nil {
		s.owing = make(map[rateKey]rateKey)
	}
	shared := sharedKey(l.name, key)
	s.owing[hashed] = shared
	r := l.redis
	r.mu.Lock()
	r.owing[l] = struct{}{}
	r.mu.Unlock()
	if r.resume.Load() != 0 && !e.asking {
		e.asking = true
		r.post(l.tell(e, hashed, shared))
	}
}

// tell is the word to Redis of what was admitted without it.
func (l *RateLimiter) tell(e *rateLease, hashed, shared rateKey) rateOp {
	o := leaseOp{l: l, e: e, key: hashed, shared: shared, tell: true}
	if e.sync {
		return &debtOp{o}
	}
	return &o
}

// refundAway gives back what was taken from the share, unless Redis has been told
// of it meanwhile.
func (l *RateLimiter) refundAway(p *rateParams, d *RateDecision) {
	s := l.leases.shard(d.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.leases[d.key]; e != nil && int64(e.away) >= d.cost && !e.asking {
		share := p.leaseShare(l.redis)
		e.full -= share.interval * d.cost
		e.away -= int32(d.cost)
	}
}

// account is what the bucket is charged with for the time without Redis (less
// than 0: what it gets back), and, should Redis know nothing of the bucket, how
// much was used of it before.
//
// While this node waits for the others to find Redis, it is charged in advance
// with all that its share can spend until then, and gets back what it did not. An
// answer that is lost has it pay twice, but never get back twice.
func (o *leaseOp) account(p *rateParams, r *RateRedis, now int64) (debt, used int64) {
	e, share := o.e, p.leaseShare(r)
	away, owed := int64(e.away), int64(0)
	if e.full > now {
		owed = (e.full-now)/share.interval + 1
		used = max((e.full-now)/p.rule.interval-p.among(r)*max(away, 0), 0)
	}
	debt, o.away = min(away, owed), away
	if away < 0 {
		e.away, o.away = 0, 0
	}
	if until := r.resume.Load(); o.tell && until > now {
		ahead := max(share.limit-owed, 0) + (until-now)/share.interval + 1
		debt, o.away = debt+ahead, o.away+ahead
	}
	return debt, used
}

// settle tells Redis of all that was admitted without it, before anything else. It
// ends with the first failure; what was not told is for the next time.
func (r *RateRedis) settle(ctx context.Context) {
	r.mu.Lock()
	limiters := make([]*RateLimiter, 0, len(r.owing))
	for l := range r.owing {
		limiters = append(limiters, l)
	}
	r.mu.Unlock()
	for _, l := range limiters {
		r.mu.Lock()
		delete(r.owing, l)
		r.mu.Unlock()
		if !r.settleOf(ctx, l) {
			return
		}
	}
}

// settleOf tells of one limit, and reports whether Redis took it.
func (r *RateRedis) settleOf(ctx context.Context, l *RateLimiter) bool {
	for i := range l.leases.shards {
		ops := l.debts(&l.leases.shards[i])
		for len(ops) > 0 {
			n, server := min(len(ops), rateBatch), r.server.Load()
			if server == nil {
				r.fail(ops, errRateDown)
				return false
			}
			err := r.send(ctx, server, ops[:n])
			ops = ops[n:]
			if err != nil {
				r.fail(ops, err)
				return false
			}
			if !r.open.Load() {
				r.flush(ctx) // requests wait; of most keys there is only something to get back
			}
		}
	}
	return true
}

// debts are the words of a shard that are to be told. Where there are any, the next
// settling looks here again.
func (l *RateLimiter) debts(s *leaseShard) (ops []rateOp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := l.redis.now()
	for hashed, shared := range s.owing {
		e := s.leases[hashed]
		switch {
		case e == nil:
			delete(s.owing, hashed)
		case e.away > 0 && now >= e.full: // its share is as full as the bucket would be; of windows, it is over
			e.away = 0
			delete(s.owing, hashed)
		case !e.asking: // else that tells of it
			e.asking = true
			ops = append(ops, l.tell(e, hashed, shared))
		}
	}
	if len(s.owing) > 0 {
		l.redis.mu.Lock()
		l.redis.owing[l] = struct{}{}
		l.redis.mu.Unlock()
	}
	return ops
}

func clamp32(n int64) int32 {
	return int32(max(min(n, math.MaxInt32), math.MinInt32))
}
