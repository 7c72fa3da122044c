package limiter

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"sync"
	"time"
)

const (
	rateLeaseLeast = 20                     // smaller bursts are not leased
	rateLeaseShare = 10                     // L: one in so many tokens of a burst may be out
	rateLeaseCost  = 10                     // requests of a higher cost than 1 that L must be good for
	rateTerm       = time.Second            // τ: how long a lease is good for, by Redis' clock
	rateDrift      = 100 * time.Millisecond // δ: so much earlier it ends here
	ratePause      = 20 * time.Millisecond  // between two questions for a bucket that was empty
	rateElsewhere  = 5 * time.Millisecond   // and where all that may be out was
	ratePauseMost  = 500 * time.Millisecond
	rateBusy       = 16 // tokens in a lease that is renewed before it ends
)

// A rateLease is what this node has of one key's bucket in Redis.
//
// Of a key that Redis is asked about each time it is what Redis last said: full is
// when the bucket is full or the window over, until when a denial is, and chunk
// the least cost that was denied.
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
	sync   bool // of a key that Redis is asked about each time
}

const rateTicks = 1 << 14 // ns

// A leaseWait is those who wait for an answer.
type leaseWait struct {
	done  chan struct{} // closed by it
	want  int64         // tokens
	short bool          // it gave fewer
}

// rateLeases are those of one limit.
type rateLeases struct {
	seed   maphash.Seed
	shards []leaseShard
}

type leaseShard struct {
	mu     sync.Mutex
	leases map[rateKey]*rateLease
	owing  map[rateKey]rateKey // keys in Redis of the leases that have something to tell
	fresh  int
	spill  rateLease // while Redis is away, of the keys that there is no room for
	_      [160]byte // to 256, as of rateShard
}

func newRateLeases(maxKeys int) *rateLeases {
	n := 1
	for n < rateShards && maxKeys >= 2*n*rateSweep {
		n *= 2
	}
	return &rateLeases{seed: maphash.MakeSeed(), shards: make([]leaseShard, n)}
}

// sharedKey is a key as all gateways know it: nothing of the request can be read
// from it, and to find two of one hash is as good as impossible. It takes longer
// than a decision by what is at hand, which is found by a hash of this process.
func sharedKey(limit string, key []byte) rateKey {
	var buf [512]byte
	b := binary.AppendUvarint(buf[:0], uint64(len(limit))) // or a key could begin with the name of a tier
	b = append(append(b, limit...), key...)
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

// of is the lease of a key, made where there is none; spill where there is no
// room for it. With mu held.
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
	if len(s.leases) >= room && !s.evict() {
		return &s.spill
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
			delete(s.owing, key)
		}
	}
}

// evict forgets one of a few leases, and reports whether it could. Nothing is
// admitted for that: its tokens are lost, and what the key may do, Redis knows.
// Where it does not know yet, the lease stays.
func (s *leaseShard) evict() bool {
	looked := 0
	for key, e := range s.leases {
		if !e.asking && e.away == 0 {
			delete(s.leases, key)
			return true
		}
		if looked++; looked == rateSamples {
			break
		}
	}
	return false
}

// takeLeased decides by the tokens at hand, and asks for more where they come to
// an end.
func (l *RateLimiter) takeLeased(p *rateParams, key []byte, cost int64) (d RateDecision) {
	r := l.redis
	server := r.server.Load()
	hashed := l.seeds.hash(key)
	s := l.leases.shard(hashed)
	deadline, short := int64(0), false
	for {
		now := r.now()
		s.mu.Lock()
		e := s.of(hashed, now, max(p.maxKeys/len(l.leases.shards), 1))
		if now >= e.until {
			e.tokens = 0
		}
		if int64(e.tokens) >= cost {
			d = l.spend(p, hashed, key, e, now, cost)
			s.mu.Unlock()
			return d
		}
		late := deadline != 0 && now >= deadline
		if r.open.Load() || server == nil || late && !short || e == &s.spill {
			d = l.takeAway(p, s, e, hashed, key, now, cost)
			s.mu.Unlock()
			return d
		}
		if now < e.quiet || late { // Redis answers; there is just not enough
			d = RateDecision{Reset: time.Duration(max(e.full-now, 0)), Retry: time.Duration(max(e.quiet-now, p.rule.interval))}
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
		wait := e.wait
		l.ask(hashed, key, e)
		s.mu.Unlock()
		timer := time.NewTimer(time.Duration(deadline - now))
		select {
		case <-wait.done:
			short = wait.short
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
func (l *RateLimiter) spend(p *rateParams, hashed rateKey, key []byte, e *rateLease, now, cost int64) RateDecision {
	e.tokens -= int32(cost)
	e.spent += int32(cost)
	// A lease that ends before half of it is spent has everybody wait for the next.
	ends := e.chunk >= rateBusy && now >= e.until-int64(rateTerm)/2
	if e.chunk > 1 && (ends || e.tokens <= e.chunk/2) && now >= e.quiet {
		l.ask(hashed, key, e)
	}
	left := int64(e.tokens) + max(p.rule.tolerance-max(e.full-now, 0), 0)/p.rule.interval
	return RateDecision{
		Allowed: true, Remaining: min(left, p.rule.limit), Reset: time.Duration(max(e.full-now, 0)),
		limiter: l, key: hashed, cost: cost, kind: takenLease, lease: e.seq,
	}
}
