package routing

import (
	"math"
	"math/bits"
)

// A level is the table of ring_hash or maglev over the seats of one priority. It
// does not depend on who is available: the keys of who is not are handed on, all
// others stay.
type level struct {
	priority int
	seats    []int    // indexes of the balancer's, ascending
	owners   []uint16 // by place, indexes of seats
	rehashes int      // how often a key looks elsewhere before it goes on place by place
}

// maxHashed bounds the targets of ring_hash and maglev, whose tables have a
// place for each and some to spare.
const maxHashed = 10_000

// levelsOf makes the tables.
func levelsOf(seats []Seat, p policy) (all []*level) {
	byPriority := map[int]*level{}
	for i, s := range seats {
		l := byPriority[s.Priority]
		if l == nil {
			l = &level{priority: s.Priority}
			byPriority[s.Priority], all = l, append(all, l)
		}
		l.seats = append(l.seats, i)
	}
	for _, l := range all {
		own := make([]Seat, len(l.seats))
		for i, at := range l.seats {
			own[i] = seats[at]
		}
		if p == ringHash {
			l.owners = newRing(own)
		} else {
			l.owners, l.rehashes = newMaglev(own), maglevRehashes
		}
	}
	return all
}

// A hashed is what a tier adds to its level.
type hashed struct {
	*level
	members []*Member // by the level's seats; nil where there is no candidate
	weights []float64
	outside []*Member // who is in the backend, but not in the tier
}

func (b *Balancer) hash(c *tier, seated []int) *hashed {
	h := &hashed{}
	for _, l := range b.levels {
		if l.priority == c.priority {
			h.level = l
		}
	}
	h.members, h.weights = make([]*Member, len(h.seats)), make([]float64, len(h.seats))
	in := make(map[*Member]bool, len(seated))
	for i, j := 0, 0; i < len(seated); j++ { // both ascend
		if h.seats[j] == seated[i] {
			h.members[j], h.weights[j], in[c.members[i]] = c.members[i], c.weights[i], true
			i++
		}
	}
	if b.spec.BoundedLoad > 0 {
		h.outside = b.group.without(func(m *Member) bool { return in[m] })
	}
	return h
}

// scatter spreads x over all bits (the finalizer of SplitMix64).
func scatter(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// golden is the step of SplitMix64 from one number to the next.
const golden = 0x9e3779b97f4a7c15

// pickByKey is pick for ring_hash and maglev. In panic every priority keeps its
// table and gets its share of the keys.
func (b *Balancer) pickByKey(v *view, key uint64, tried *Tried) *Member {
	key = scatter(key + golden)
	first := 0
	if v.panic {
		first = v.share(scatter(key + golden))
	}
	for i := range v.tiers {
		c := v.tiers[(first+i)%len(v.tiers)]
		if tried.Len() >= len(c.members) && c.other(0, tried) == nil {
			continue
		}
		return c.byKey(key, b.spec.BoundedLoad, tried, b.group)
	}
	return nil
}

// share is the tier that a key falls to, by weight.
func (v *view) share(key uint64) int {
	x := float64(key>>11) / (1 << 53) * v.total
	for i, c := range v.tiers {
		if x -= c.total; x < 0 {
			return i
		}
	}
	return 0
}

// byKey walks from the key's owner on to the first candidate that was not tried
// and has room (Mirrokni, Thorup and Zadimoghaddam, Consistent Hashing with
// Bounded Loads, 2016). One that was not tried must be there.
func (c *tier) byKey(key uint64, bound float64, tried *Tried, g *Members) *Member {
	var (
		h     = c.hashed
		walk  = walk{l: h.level, key: key}
		last  = -1
		space = -1.0 // the requests that a member of weight 1 may have; not yet known
		full  = 0
	)
	for steps := len(h.owners) + h.rehashes; steps > 0 && full < 4*len(c.members); steps-- {
		i := walk.next()
		m := h.members[i]
		if i == last || m == nil || tried.Has(m) {
			continue
		}
		last = i
		load := m.load.Load()
		if bound == 0 || load == 0 {
			return m
		}
		if space < 0 {
			space = bound * float64(h.load(c, g)+1) / c.total
		}
		if float64(load) < space*h.weights[i] { // as much as load+1 ≤ ⌈space·weight⌉
			return m
		}
		full++
	}
	return c.roomiest(tried)
}

// load is how many requests are under way on the tier.
func (h *hashed) load(c *tier, g *Members) (sum int64) {
	if len(h.outside) > len(c.members) {
		for _, m := range c.members {
			sum += m.load.Load()
		}
		return sum
	}
	sum = g.load.Load()
	for _, m := range h.outside {
		sum -= m.load.Load()
	}
	return max(sum, 0)
}

// roomiest is the member that carries least for its weight. It has room, since
// not all can carry more than the mean.
func (c *tier) roomiest(tried *Tried) (best *Member) {
	least := math.Inf(1)
	for i, m := range c.members {
		if has := float64(m.load.Load()) / c.weights[i]; has < least && !tried.Has(m) {
			best, least = m, has
		}
	}
	return best
}

// A walk leads over the owners of a level that a key falls to in turn.
type walk struct {
	l    *level
	key  uint64
	at   int
	step int
}

// next returns an index of the level's seats.
func (w *walk) next() int {
	switch {
	case w.step == 0 || w.step <= w.l.rehashes:
		hi, _ := bits.Mul64(w.key, uint64(len(w.l.owners)))
		w.at = int(hi)
		w.key = scatter(w.key + golden)
		w.step++
	case w.at+1 < len(w.l.owners):
		w.at++
	default:
		w.at = 0
	}
	return int(w.l.owners[w.at])
}
