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
				d.kind = takenRedis
				return d
			}
			l.deny(p, s, shared, cost, now, &d)
			return d
		}
	}
	if p.onError != RateLocal {
		return p.blind()
	}
	share := p.share(r)
	d := l.takeLocal(p, &share, key, cost, at)
	d.Fallback = true
	return d
}

// deny keeps a denial of Redis until it is over, but not for long: another node
// may give something back. chunk is the least cost that it holds for.
func (l *RateLimiter) deny(p *rateParams, s *leaseShard, key rateKey, cost, now int64, d *RateDecision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.of(key, now, max(p.maxKeys/len(l.leases.shards), 1))
	if e != &s.spill && (e.quiet <= now || int64(e.chunk) >= cost) {
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
}

func (o *syncOp) command(r *RateRedis) (*redis.Script, string, []any) {
	p := o.l.params.Load()
	script, args := p.sync(r.scripts, o.cost)
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
