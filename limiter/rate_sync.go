package limiter

import (
	"time"

	"github.com/redis/go-redis/v9"
)

const rateDenied = time.Second

// takeSync asks Redis about each request, but for those that it has said enough
// about: what was denied stays denied until it could be otherwise.
func (l *RateLimiter) takeSync(p *rateParams, shared rateKey, key []byte, cost int64, at time.Time) RateDecision {
	r := l.redis
	now := r.now()
	s := l.leases.shard(shared)
	if !r.open.Load() {
		s.mu.Lock()
		if e := s.leases[shared]; e != nil && now < e.quiet && cost >= int64(e.chunk) {
			d := RateDecision{Retry: time.Duration(e.until - now), Reset: time.Duration(max(e.full-now, 0))}
			s.mu.Unlock()
			return d
		}
		s.mu.Unlock()
		script, args := p.sync(r.scripts, cost)
		v, err := r.call(script, shared.name(p.rule.algorithm), args...)
		if err == nil && len(v) >= 4 {
			d := RateDecision{
				Allowed: v[0] == 1, Remaining: max(v[1], 0),
				Reset: time.Duration(v[2]) * time.Microsecond, Retry: time.Duration(v[3]) * time.Microsecond,
				limiter: l, key: shared, cost: cost,
			}
			if d.Allowed {
				d.kind, d.at = takenRedis, r.now()
				l.note(p, s, shared, now, &d)
				return d
			}
			l.deny(p, s, shared, cost, now, &d)
			return d
		}
	}
	switch {
	case p.onError != RateLocal:
		return p.blind()
	case p.rule.algorithm == RateGCRA:
		s.mu.Lock()
		defer s.mu.Unlock()
		now = r.now()
		return l.takeAway(p, s, l.known(p, s, shared, now), shared, key, now, cost)
	}
	return l.takeWindow(p, s, shared, key, cost, at)
}

// known is what this node knows of a key that Redis is asked about each time. With
// the shard's mu held.
func (l *RateLimiter) known(p *rateParams, s *leaseShard, shared rateKey, now int64) *rateLease {
	e := s.of(shared, now, max(p.maxKeys/len(l.leases.shards), 1))
	e.sync = e != &s.spill
	return e
}

// note keeps what Redis said of a bucket, for this node's share to begin with
// should Redis be away next.
func (l *RateLimiter) note(p *rateParams, s *leaseShard, shared rateKey, now int64, d *RateDecision) {
	if p.rule.algorithm != RateGCRA || p.onError != RateLocal {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := l.known(p, s, shared, now); e.sync {
		e.full = max(e.full, now+int64(d.Reset))
	}
}

// takeWindow decides by this node's part of a window while Redis is away. Each
// window begins with the first request here.
func (l *RateLimiter) takeWindow(p *rateParams, s *leaseShard, shared rateKey, key []byte, cost int64, at time.Time) RateDecision {
	share := p.share(l.redis)
	d := l.takeLocal(p, &share, key, cost, at)
	d.Fallback = true
	if !d.Allowed {
		return d
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := l.redis.now()
	e := l.known(p, s, shared, now)
	if !e.sync {
		return d // there is nobody to tell of it
	}
	if now >= e.full { // another window; what is said of the last one is of no use
		e.away, e.asking, e.seq = 0, false, l.redis.seq.Add(1)
	}
	e.away, e.full = clamp32(int64(e.away)+cost), now+int64(d.Reset)
	if _, owes := s.owing[shared]; !owes {
		l.owe(s, e, shared, key)
	}
	return d
}

// deny keeps a denial of Redis until it is over, but not for long: another node
// may give something back. chunk is the least cost that it holds for.
func (l *RateLimiter) deny(p *rateParams, s *leaseShard, key rateKey, cost, now int64, d *RateDecision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := l.known(p, s, key, now); e.sync && (e.quiet <= now || int64(e.chunk) >= cost) {
		e.chunk = int32(min(cost, mostRate))
		e.quiet, e.until = now+int64(min(d.Retry, rateDenied)), now+int64(d.Retry)
		e.full = now + int64(max(d.Reset, d.Retry))
	}
}

// sync is the script of the rule, and what it is told.
func (p *rateParams) sync(scripts *rateScripts, cost int64) (*redis.Script, []any) {
	rule := &p.rule
	window := rule.window / int64(time.Microsecond)
	switch rule.algorithm {
	case RateFixedWindow:
		return scripts.fixed, []any{rule.limit, window, cost}
	case RateSlidingWindow:
		return scripts.sliding, []any{rule.limit, window, cost}
	}
	interval := (rule.interval + int64(time.Microsecond) - 1) / int64(time.Microsecond)
	return scripts.gcra, []any{interval, interval * rule.limit, cost}
}

// A syncOp gives back what was taken, some time soon, or not at all.
type syncOp struct {
	l    *RateLimiter
	key  rateKey
	cost int64
	at   int64 // when it was
}

func (o *syncOp) command(r *RateRedis) (*redis.Script, string, []any) {
	p := o.l.params.Load()
	script, args := p.sync(r.scripts, o.cost)
	if p.rule.algorithm != RateGCRA {
		args = append(args, (r.now()-o.at)/int64(time.Microsecond))
	}
	return script, o.key.name(p.rule.algorithm), args
}

// answered forgets what was denied before the refund.
func (o *syncOp) answered(*RateRedis, []int64, error) {
	s := o.l.leases.shard(o.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.leases[o.key]; e != nil {
		e.quiet = 0
	}
}

// A debtOp tells Redis what was admitted without it of a key that it is asked
// about each time.
type debtOp struct{ leaseOp }

func (o *debtOp) command(r *RateRedis) (*redis.Script, string, []any) {
	p, e := o.l.params.Load(), o.e
	s := o.l.leases.shard(o.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := r.now()
	script, args := p.sync(r.scripts, 0)
	if p.rule.algorithm == RateGCRA {
		debt, used := o.account(p, r, now)
		args = append(args, debt, used)
	} else {
		o.away = int64(e.away)
		debt, age := int64(0), int64(0)
		if left := e.full - now; left > 0 {
			debt, age = o.away, max(p.rule.window-left, 0)/int64(time.Microsecond)
		}
		args = append(args, age, debt)
	}
	o.seq, o.at = r.seq.Add(1), now
	e.seq = o.seq
	return script, o.shared.name(p.rule.algorithm), args
}

func (o *debtOp) answered(r *RateRedis, v []int64, err error) {
	p, e := o.l.params.Load(), o.e
	s := o.l.leases.shard(o.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.asking || o.seq != 0 && e.seq != o.seq {
		return
	}
	e.asking = false
	if err != nil || len(v) < 4 {
		return
	}
	if e.away = clamp32(int64(e.away) - o.away); e.away == 0 {
		delete(s.owing, o.key)
	}
	if p.rule.algorithm == RateGCRA && !r.open.Load() {
		e.full = o.at + v[2]*int64(time.Microsecond)
	}
}
