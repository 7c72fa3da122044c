package limiter

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
)

const (
	rateShards  = 64 // at most; more than cores, so that they seldom meet
	rateSamples = 8  // keys that are looked at to find one to forget
	rateSweep   = 64 // new keys between two looks at all of a shard, at least
)

// A rateKey is a key's hash under two seeds that nobody outside knows: to find
// two keys of one hash is as good as impossible.
type rateKey struct{ a, b uint64 }

type rateSeeds [2]maphash.Seed

func newRateSeeds() rateSeeds { return rateSeeds{maphash.MakeSeed(), maphash.MakeSeed()} }

func (s *rateSeeds) hash(key []byte) rateKey {
	return rateKey{maphash.Bytes(s[0], key), maphash.Bytes(s[1], key)}
}

// rateMemory remembers the states of a bounded number of keys.
type rateMemory struct {
	shards []rateShard // a power of two of them
}

type rateShard struct {
	mu    sync.Mutex
	index map[rateKey]uint32 // into slots
	slots []rateSlot         // those that are free have no key
	free  []uint32
	fresh int       // new keys since all were looked at
	spill rateState // of the keys that there is no room for
	full  uint64    // how often that was so
	_     [160]byte // to 256: what a decision needs is in one line of the cache, its neighbours' in none beside it
}

type rateSlot struct {
	key   rateKey
	state rateState
}

// newRateMemory returns a memory that is good for about maxKeys keys.
func newRateMemory(maxKeys int) *rateMemory {
	n := 1
	for n < rateShards && maxKeys >= 2*n*rateSweep {
		n *= 2
	}
	return &rateMemory{shards: make([]rateShard, n)}
}

func (m *rateMemory) shard(key rateKey) *rateShard {
	return &m.shards[key.b&uint64(len(m.shards)-1)]
}

// take decides by rule, of which at most maxKeys keys are remembered. spilled
// says that the key had to share a state with others.
func (m *rateMemory) take(rule *rateRule, key rateKey, now, cost int64, maxKeys int) (d RateDecision, spilled bool) {
	s := m.shard(key)
	s.mu.Lock()
	if at, ok := s.index[key]; ok {
		d = rule.take(&s.slots[at].state, now, cost)
	} else {
		d, spilled = s.takeNew(rule, key, now, cost, max(maxKeys/len(m.shards), 1))
	}
	s.mu.Unlock()
	return d, spilled
}

// takeNew decides about a key that is not remembered.
func (s *rateShard) takeNew(rule *rateRule, key rateKey, now, cost int64, room int) (d RateDecision, spilled bool) {
	if s.fresh++; s.fresh >= max(len(s.index)/2, rateSweep) {
		s.sweep(rule, now)
	}
	if len(s.index) >= room && !s.evict(rule, now) {
		s.full++
		return rule.take(&s.spill, now, cost), true
	}
	var state rateState
	d = rule.take(&state, now, cost)
	if state != (rateState{}) {
		s.put(key, state)
	}
	return d, false
}

// refund gives back what was taken at that time.
func (m *rateMemory) refund(rule *rateRule, key rateKey, at, cost int64, spilled bool) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if spilled {
		rule.refund(&s.spill, at, cost)
		return
	}
	if i, ok := s.index[key]; ok {
		state := &s.slots[i].state
		if rule.refund(state, at, cost); *state == (rateState{}) {
			s.drop(i)
		}
	}
}

// convert has all states mean under rule what they meant under the one before.
func (m *rateMemory) convert(rule, before *rateRule, now int64) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		rule.convert(&s.spill, before, now)
		for at := range s.slots {
			rule.convert(&s.slots[at].state, before, now)
		}
		s.mu.Unlock()
	}
}

func (s *rateShard) put(key rateKey, state rateState) {
	if s.index == nil {
		s.index = make(map[rateKey]uint32)
	}
	if n := len(s.free); n > 0 {
		at := s.free[n-1]
		s.free = s.free[:n-1]
		s.slots[at], s.index[key] = rateSlot{key, state}, at
		return
	}
	s.index[key] = uint32(len(s.slots))
	s.slots = append(s.slots, rateSlot{key, state})
}

func (s *rateShard) drop(at uint32) {
	delete(s.index, s.slots[at].key)
	s.slots[at] = rateSlot{}
	s.free = append(s.free, at)
}

// sweep forgets the keys that are as good as never seen. It takes as many steps
// as there are keys, after half as many new ones.
func (s *rateShard) sweep(rule *rateRule, now int64) {
	s.fresh = 0
	for at := range s.slots {
		slot := &s.slots[at]
		if slot.key != (rateKey{}) && rule.idle(&slot.state, now) {
			s.drop(uint32(at))
		}
	}
}

// evict forgets the key that is furthest from its limit, of a few. It never
// forgets one that is over it, and reports whether there is room now.
func (s *rateShard) evict(rule *rateRule, now int64) bool {
	best, least := -1, int64(0)
	for range rateSamples {
		at := rand.IntN(len(s.slots))
		slot := &s.slots[at]
		if slot.key == (rateKey{}) || rule.held(&slot.state, now) {
			continue
		}
		if load := rule.load(&slot.state, now); best < 0 || load < least {
			best, least = at, load
		}
	}
	if best >= 0 {
		s.drop(uint32(best))
	}
	return best >= 0
}

// keys is how many are remembered, and how often there was no room for one.
func (m *rateMemory) keys() (n int, full uint64) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		n, full = n+len(s.index), full+s.full
		s.mu.Unlock()
	}
	return n, full
}
