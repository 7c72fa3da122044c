package routing

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// A view is what a balancer picks from until a member changes. It is immutable.
type view struct {
	epoch uint64
	until int64 // when slow starts have got on; never: math.MaxInt64
	panic bool
	tiers []*tier // by priority, none empty
	total float64 // weight of all tiers
}

// A tier is the candidates of one priority; in panic, except for hashing, of
// all.
type tier struct {
	priority int
	members  []*Member
	weights  []float64 // as slow start leaves them
	total    float64   // of the weights

	schedule []int32 // round robin: indexes of members
	draw     draw    // least_request, ewma, random
	hashed   *hashed // ring_hash, maglev
}

// rampSteps is in how many steps slow start leads to the whole weight. The first
// is what a member begins with.
const rampSteps = 20

// current returns the view as of t.
func (b *Balancer) current(t int64) *view {
	v := b.view.Load()
	epoch := b.group.epoch.Load()
	if v.epoch == epoch && t < v.until {
		return v
	}
	return b.renew(v, t)
}

// renew looks again. What a member's change asks for is waited for, since the
// old view may send requests to where nobody is; slow start is not.
func (b *Balancer) renew(old *view, t int64) *view {
	if old.epoch != b.group.epoch.Load() {
		b.rebuild.Lock()
	} else if !b.rebuild.TryLock() {
		return old
	}
	defer b.rebuild.Unlock()
	v, epoch := b.view.Load(), b.group.epoch.Load()
	if v.epoch != epoch || t >= v.until {
		v = b.look(epoch, t)
		b.view.Store(v)
	}
	return v
}

// look makes a view. The epoch was loaded before, so that a change meanwhile
// makes the next pick look again.
func (b *Balancer) look(epoch uint64, t int64) *view {
	v := &view{epoch: epoch, until: math.MaxInt64}
	up, in := 0, 0
	available := make([]bool, len(b.seats))
	for i, s := range b.seats {
		if s.Member.Draining() {
			continue
		}
		in++
		if available[i] = s.Member.Available(); available[i] {
			up++
		}
	}
	v.panic = float64(up) < b.spec.PanicThreshold*float64(in)
	var seated []int
	for i, s := range b.seats {
		if available[i] || v.panic && !s.Member.Draining() {
			seated = append(seated, i)
		}
	}
	slices.SortStableFunc(seated, func(x, y int) int {
		return cmp.Compare(b.seats[x].Priority, b.seats[y].Priority)
	})
	for len(seated) > 0 {
		n := 1
		for n < len(seated) && (b.seats[seated[n]].Priority == b.seats[seated[0]].Priority || v.panic && b.policy < ringHash) {
			n++
		}
		c := b.tier(seated[:n], v, t)
		v.tiers, v.total = append(v.tiers, c), v.total+c.total
		seated = seated[n:]
	}
	return v
}

// tier is made of the seats of those indexes.
func (b *Balancer) tier(seated []int, v *view, t int64) *tier {
	c := &tier{priority: b.seats[seated[0]].Priority}
	weights := make([]int, len(seated)) // in steps of slow start
	for i, at := range seated {
		s := b.seats[at]
		step := b.step(s.Member, t)
		if step < rampSteps {
			v.until = min(v.until, t+max(int64(b.spec.SlowStart)/rampSteps, int64(time.Millisecond)))
		}
		weights[i] = s.Weight * step
		w := float64(weights[i]) / rampSteps
		c.members, c.weights, c.total = append(c.members, s.Member), append(c.weights, w), c.total+w
	}
	switch b.policy {
	case roundRobin:
		c.schedule = interleave(weights)
	case leastRequest, ewma, random:
		c.draw = newDraw(c.weights)
	case ringHash, maglev:
		c.hashed = b.hash(c, seated)
	}
	return c
}

// step is how far m's slow start is at t, from 1 to rampSteps.
func (b *Balancer) step(m *Member, t int64) int {
	slow := int64(b.spec.SlowStart)
	since := m.since.Load()
	if slow == 0 || since == down || b.policy >= ringHash || t-since >= slow {
		return rampSteps
	}
	return 1 + int(float64(max(t-since, 0))/float64(slow)*rampSteps)
}

// other returns a member that was not tried, from a random one on, or nil.
func (c *tier) other(random uint64, tried *Tried) *Member {
	n := len(c.members)
	for i, at := 0, int(random%uint64(n)); i < n; i++ {
		if m := c.members[(at+i)%n]; !tried.Has(m) {
			return m
		}
	}
	return nil
}
