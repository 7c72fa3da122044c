package routing

import "math"

// A draw draws indexes by weight at the cost of one look-up: Walker's aliases,
// made in Vose's way (IEEE Transactions on Software Engineering 17, 1991).
type draw struct {
	cut   []uint32 // up to which an index stands for itself
	other []int32  // and whom it stands for beyond
}

func newDraw(weights []float64) draw {
	n := len(weights)
	d := draw{cut: make([]uint32, n), other: make([]int32, n)}
	total := 0.0
	for _, w := range weights {
		total += w
	}
	share := make([]float64, n)
	var poor, rich []int32
	for i, w := range weights {
		d.cut[i], d.other[i] = math.MaxUint32, int32(i)
		share[i] = w * float64(n) / total
		if share[i] < 1 {
			poor = append(poor, int32(i))
		} else {
			rich = append(rich, int32(i))
		}
	}
	for len(poor) > 0 && len(rich) > 0 {
		p, r := poor[len(poor)-1], rich[len(rich)-1]
		poor = poor[:len(poor)-1]
		d.cut[p], d.other[p] = uint32(share[p]*math.MaxUint32), r
		if share[r] -= 1 - share[p]; share[r] < 1 {
			rich, poor = rich[:len(rich)-1], append(poor, r)
		}
	}
	return d
}

// at is the index that a random number stands for.
func (d *draw) at(random uint32) int {
	x := uint64(random) * uint64(len(d.cut))
	i := int(x >> 32)
	if uint32(x) <= d.cut[i] {
		return i
	}
	return int(d.other[i])
}

// pickOfTwo draws two members and takes the better (Mitzenmacher, The Power of
// Two Choices in Randomized Load Balancing, 2001). They are drawn by weight, and
// where both are idle the first one stands: so the weights are shares of the
// requests also where there are too few for a load.
func (b *Balancer) pickOfTwo(c *tier, t int64, tried *Tried) *Member {
	i, j := b.two(c, tried)
	m, o := c.members[i], c.members[j]
	if i == j {
		return m
	}
	if b.policy == ewma {
		if o.cost(t)*c.weights[i] < m.cost(t)*c.weights[j] {
			return o
		}
		return m
	}
	mine, others := m.load.Load(), o.load.Load()
	if mine|others != 0 && float64(others+1)*c.weights[i] < float64(mine+1)*c.weights[j] {
		return o
	}
	return m
}

// two draws two different members that were not tried, if luck allows.
func (b *Balancer) two(c *tier, tried *Tried) (i, j int) {
	n := len(c.members)
	r := b.random()
	i, j = c.draw.at(uint32(r)), c.draw.at(uint32(r>>32))
	for range 4 {
		if tried.Has(c.members[i]) {
			i, j = j, c.draw.at(uint32(b.random()))
			continue
		}
		if i != j && !tried.Has(c.members[j]) {
			return i, j
		}
		j = c.draw.at(uint32(b.random()))
	}
	for range n { // small tiers, or one heavy weight
		if i != j && !tried.Has(c.members[j]) {
			return i, j
		}
		if j++; j == n {
			j = 0
		}
	}
	return i, i
}

// unknown is the latency in nanoseconds taken for that of a member that has been
// asked and has never answered: whoever has answered is better.
const unknown = 1e12

// cost is what one more exchange on m would wait for: its latency for each that
// is under way and for itself. Nothing known and nothing under way is 0, so that
// it becomes known.
func (m *Member) cost(t int64) float64 {
	load := float64(m.load.Load())
	if l := m.latency.value(t); l > 0 {
		return l * (load + 1)
	}
	return unknown * load
}
