package limiter

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	rateLeaseLeast = 20                     // smaller bursts are not leased
	rateLeaseShare = 10                     // L: one in so many tokens of a burst may be out
	rateTerm       = time.Second            // τ: how long a lease is good for, by Redis' clock
	rateDrift      = 100 * time.Millisecond // δ: so much earlier it ends here
	ratePause      = 20 * time.Millisecond  // between two questions for a bucket that was empty
	rateElsewhere  = 5 * time.Millisecond   // and where all that may be out was
	ratePauseMost  = 500 * time.Millisecond
)

// A rateLease is what this node has of one key's bucket in Redis.
//
// Its size is 64 bytes: there may be a million of them.
type rateLease struct {
	until  int64  // when its tokens may no longer be spent
	full   int64  // when the bucket is full, as far as is known
	quiet  int64  // until then the bucket has nothing to give
	seq    uint64 // of the last question
	wait   *leaseWait
	asked  uint32 // when that was, in rateTicks that come round
	tokens int32  // that are left to spend
	spent  int32  // since the last question
	chunk  int32  // tokens wanted at hand
	away   int32  // admitted while Redis was, and not told of yet
	asking bool
}

const rateTicks = 1 << 14 // ns

// A leaseWait is those who wait for an answer.
type leaseWait struct {
	done chan struct{} // closed by it
	want int64         // tokens
}

// rateLeases are those of one limit.
type rateLeases struct {
	seed   maphash.Seed
	shards []leaseShard
}

type leaseShard struct {
	mu     sync.Mutex
	leases map[rateKey]*rateLease
	fresh  int
	_      [64]byte
}

func newRateLeases(maxKeys int) *rateLeases {
	n := 1
	for n < rateShards && maxKeys >= 2*n*rateSweep {
		n *= 2
	}
	return &rateLeases{seed: maphash.MakeSeed(), shards: make([]leaseShard, n)}
}

// sharedKey is a key as all gateways know it: nothing of the request can be read
// from it, and to find two of one hash is as good as impossible.
func sharedKey(limit string, key []byte) rateKey {
	var buf [512]byte
	b := append(append(append(buf[:0], limit...), 0), key...)
	sum := sha256.Sum256(b)
	return rateKey{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

// name is the key in Redis. The braces keep what belongs together in one slot
// of a cluster.
func (k rateKey) name(kind string) string {
	var sum [16]byte
	binary.BigEndian.PutUint64(sum[:], k.a)
	binary.BigEndian.PutUint64(sum[8:], k.b)
	return "sluice:limit:{" + hex.EncodeToString(sum[:]) + "}:" + kind
}

func (s *rateLeases) shard(key rateKey) *leaseShard {
	return &s.shards[maphash.Comparable(s.seed, key)&uint64(len(s.shards)-1)]
}

// of is the lease of a key, made where there is none. With mu held.
func (s *leaseShard) of(key rateKey, now int64, room int) *rateLease {
	if e := s.leases[key]; e != nil {
		return e
	}
	if s.leases == nil {
		s.leases = make(map[rateKey]*rateLease)
	}
	if s.fresh++; s.fresh >= max(len(s.leases)/2, rateSweep) {
		s.sweep(now)
	}
	if len(s.leases) >= room {
		s.evict()
	}
	e := new(rateLease)
	s.leases[key] = e
	return e
}

// sweep forgets what Redis knows as well.
func (s *leaseShard) sweep(now int64) {
	s.fresh = 0
	for key, e := range s.leases {
		if !e.asking && now >= e.full && now >= e.quiet && (e.tokens == 0 || now >= e.until) {
			delete(s.leases, key)
		}
	}
}

// evict forgets some lease. Nothing is admitted for that: its tokens are lost,
// and what the key may do, Redis knows.
func (s *leaseShard) evict() {
	for key, e := range s.leases {
		if !e.asking && e.away == 0 {
			delete(s.leases, key)
			return
		}
	}
}

// takeLeased decides by the tokens at hand, and asks for more where they come to
// an end.
func (l *RateLimiter) takeLeased(p *rateParams, key rateKey, cost int64) RateDecision {
	r := l.redis
	server := r.server.Load()
	s := l.leases.shard(key)
	deadline := int64(0)
	for {
		now := r.now()
		s.mu.Lock()
		e := s.of(key, now, max(p.maxKeys/len(l.leases.shards), 1))
		if now >= e.until {
			e.tokens = 0
		}
		if int64(e.tokens) >= cost {
			d := l.spend(p, key, e, now, cost)
			s.mu.Unlock()
			return d
		}
		if r.open.Load() || deadline != 0 && now >= deadline {
			d := l.takeAway(p, e, now, cost)
			s.mu.Unlock()
			return d
		}
		if now < e.quiet {
			d := RateDecision{Reset: time.Duration(max(e.full-now, 0)), Retry: time.Duration(e.quiet - now)}
			s.mu.Unlock()
			return d
		}
		if deadline == 0 {
			deadline = now + int64(server.timeout)
		}
		if e.wait == nil {
			e.wait = &leaseWait{done: make(chan struct{})}
		}
		e.wait.want += cost
		wait := e.wait.done
		l.ask(key, e)
		s.mu.Unlock()
		timer := time.NewTimer(time.Duration(deadline - now))
		select {
		case <-wait:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// refundLease gives tokens back, unless Redis has been told meanwhile that they
// are spent.
func (l *RateLimiter) refundLease(d *RateDecision) {
	s := l.leases.shard(d.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.leases[d.key]; e != nil && e.seq == d.lease && l.redis.now() < e.until {
		e.tokens += int32(d.cost)
		e.spent -= int32(d.cost)
	}
}

func (s *rateLeases) keys() (n int) {
	for i := range s.shards {
		s.shards[i].mu.Lock()
		n += len(s.shards[i].leases)
		s.shards[i].mu.Unlock()
	}
	return n
}

// spend takes tokens that are at hand. With the shard's mu held.
func (l *RateLimiter) spend(p *rateParams, key rateKey, e *rateLease, now, cost int64) RateDecision {
	e.tokens -= int32(cost)
	e.spent += int32(cost)
	if e.chunk > 1 && e.tokens <= e.chunk/2 && now >= e.quiet {
		l.ask(key, e)
	}
	left := int64(e.tokens) + max(p.rule.tolerance-max(e.full-now, 0), 0)/p.rule.interval
	return RateDecision{
		Allowed: true, Remaining: min(left, p.rule.limit), Reset: time.Duration(max(e.full-now, 0)),
		kind: takenLease, lease: e.seq,
	}
}

// ask has the goroutine lease more. With the shard's mu held.
func (l *RateLimiter) ask(key rateKey, e *rateLease) {
	if e.asking || l.redis.open.Load() {
		return
	}
	e.asking = true
	l.redis.post(&leaseOp{l: l, e: e, key: key})
}

// A leaseOp asks Redis for tokens of one key.
type leaseOp struct {
	l    *RateLimiter
	e    *rateLease
	key  rateKey
	seq  uint64 // 0: it was not sent
	hold int64  // what it says that is held
	want int64
	away int32 // that it tells of
	at   int64
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
	e.chunk = int32(e.pace(now, p.lease))
	o.seq, o.at, o.away = r.seq.Add(1), now, e.away
	o.hold = int64(e.tokens)
	o.want = max(int64(e.chunk)-o.hold, 0)
	if e.wait != nil {
		o.want += e.wait.want
	}
	owed := max((e.full-now)/p.share(r).interval+1, 0)
	used := max((e.full-now)/p.rule.interval, 0)
	e.seq, e.asked, e.spent = o.seq, uint32(now/rateTicks), 0
	return r.scripts.lease, o.key.name("lease"), []any{
		r.node, o.seq, o.hold, o.want, p.rule.interval, p.rule.limit - p.lease, p.lease,
		rateTerm.Microseconds(), min(int64(o.away), owed), used, r.nodes.Load(),
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
		close(e.wait.done)
		e.wait = nil
	}
	if err != nil || len(v) < 5 {
		return
	}
	give, hold, full, gap := v[0], v[1], v[2], v[3]
	e.tokens = int32(max(int64(e.tokens)-(o.hold-hold), 0) + give)
	e.until = o.at + int64(rateTerm-rateDrift)
	e.full = o.at + full*int64(time.Microsecond)
	e.away -= o.away
	e.chunk = int32(hold + give) // the next question comes when half of it is spent
	switch {
	case give < o.want && gap > 0: // the bucket is empty; let something gather
		pause := max(min(int64(ratePause), p.rule.interval*max(p.lease/2, 1)), gap*int64(time.Microsecond))
		e.quiet = r.now() + min(pause, int64(ratePauseMost))
	case hold+give == 0: // what may be out is out elsewhere
		e.quiet = r.now() + int64(rateElsewhere)
	}
}

// takeAway decides by on_error. With the shard's mu held.
func (l *RateLimiter) takeAway(p *rateParams, e *rateLease, now, cost int64) (d RateDecision) {
	if p.onError == RateLocal {
		// What is known of the bucket goes on as this node's share of it: the burst
		// is not there a second time.
		state := rateState{a: e.full}
		share := p.share(l.redis)
		if d = share.take(&state, now, cost); d.Allowed {
			e.full, e.away = state.a, e.away+int32(cost)
		}
	} else {
		d = p.blind()
	}
	d.Fallback = true
	return d
}
