package limiter

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// ask has the goroutine lease more. With the shard's mu held.
func (l *RateLimiter) ask(hashed rateKey, key []byte, e *rateLease) {
	if e.asking || l.redis.open.Load() {
		return
	}
	e.asking = true
	l.redis.post(&leaseOp{l: l, e: e, key: hashed, shared: sharedKey(l.name, key)})
}

// A leaseOp asks Redis for tokens of one key.
type leaseOp struct {
	l      *RateLimiter
	e      *rateLease
	key    rateKey // here
	shared rateKey // in Redis
	tell   bool    // it asks for nothing
	seq    uint64  // 0: it was not sent
	hold   int64   // what it says that is held
	want   int64
	away   int64 // that it tells of
	at     int64
}

func (o *leaseOp) command(r *RateRedis) (*redis.Script, string, []any) {
	p, e := o.l.params.Load(), o.e
	s := o.l.leases.shard(o.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := r.now()
	if now >= e.until {
		e.tokens = 0
	}
	o.hold = int64(e.tokens)
	if !o.tell {
		e.chunk = int32(e.pace(now, p.lease))
		o.want = max(int64(e.chunk)-o.hold, 0)
	}
	if e.wait != nil {
		o.want += e.wait.want
	}
	debt, used := o.account(p, r, now)
	o.seq, o.at = r.seq.Add(1), now
	e.seq, e.asked, e.spent = o.seq, uint32(now/rateTicks), 0
	return r.scripts.lease, o.shared.name("lease"), []any{
		r.node, o.seq, o.hold, o.want, p.rule.interval, p.rule.limit - p.lease, p.lease,
		rateTerm.Microseconds(), debt, used, r.nodes.Load(),
	}
}

// pace is how many tokens will be spent in two terms, going by those since the
// last question; at least 1, and most.
func (e *rateLease) pace(now, most int64) int64 {
	if e.seq == 0 {
		return 1
	}
	since := max(float64(uint32(now/rateTicks)-e.asked), 1) * rateTicks
	return int64(max(min(2*float64(rateTerm)*float64(e.spent)/since, float64(most)), 1))
}

// answered takes what Redis gives. An answer is good once, and only for the
// question that was the last.
func (o *leaseOp) answered(r *RateRedis, v []int64, err error) {
	p, e := o.l.params.Load(), o.e
	s := o.l.leases.shard(o.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.asking || o.seq != 0 && e.seq != o.seq {
		return
	}
	e.asking = false
	if e.wait != nil {
		e.wait.short = err == nil && len(v) >= 5 && v[0] < o.want
		close(e.wait.done)
		e.wait = nil
	}
	if err != nil || len(v) < 5 {
		return
	}
	if e.away = clamp32(int64(e.away) - o.away); e.away == 0 {
		delete(s.owing, o.key)
	}
	if o.tell && r.open.Load() {
		return // the share goes on as it was
	}
	give, hold, full, gap := v[0], v[1], v[2], v[3]
	e.tokens = int32(max(int64(e.tokens)-(o.hold-hold), 0) + give)
	e.until = o.at + int64(rateTerm-rateDrift)
	e.full = o.at + full*int64(time.Microsecond)
	e.chunk = int32(hold + give) // the next question comes when half of it is spent
	switch {
	case o.tell:
	case give < o.want && gap > 0: // the bucket is empty; let something gather
		pause := max(min(int64(ratePause), p.rule.interval*max(p.lease/2, 1)), gap*int64(time.Microsecond))
		most := int64(ratePauseMost)
		if r.now()-r.closed.Load() < most {
			most = int64(ratePause) // others are about to give back what they did not spend
		}
		e.quiet = r.now() + min(pause, most)
	case hold+give == 0: // what may be out is out elsewhere
		e.quiet = r.now() + int64(rateElsewhere)
	}
}
