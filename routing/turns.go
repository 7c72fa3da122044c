package routing

import (
	"math"
	"slices"
)

// maxSchedule bounds the length of a round. Where the weights, reduced, sum up
// to more they are rounded to shares of this.
const maxSchedule = 1 << 15

// inTurn is the member of the nth turn, or one of the next that was not tried.
// It may return one that was where the next are all of that kind.
func (c *tier) inTurn(n uint64, tried *Tried) *Member {
	at := int(n % uint64(len(c.schedule)))
	m := c.members[c.schedule[at]]
	for skip := 0; skip < 64 && tried.Has(m); skip++ {
		if at++; at == len(c.schedule) {
			at = 0
		}
		m = c.members[c.schedule[at]]
	}
	return m
}

// A peers is the members of one weight in a round. They take turns: all have had
// rounds, those before next one more.
type peers struct {
	weight, rounds int
	members        []int32
	next           int
}

// interleave spreads each member over one round by nginx's smooth weighted round
// robin: in each turn everybody gains their weight, the first of those who have
// most is picked and pays the sum of all weights. Of weights 5, 1, 1 the order
// is a a b a c a a. The round repeats, so that any window of its length is
// exact.
//
// After t turns somebody who was picked n times has t·weight − n·sum. Of equal
// weights it is therefore the one that was picked least often, and a turn costs
// in proportion to the number of different weights, not of members.
func interleave(weights []int) []int32 {
	weights, sum := reduce(weights)
	var all []*peers
	byWeight := map[int]*peers{}
	for i, w := range weights {
		if byWeight[w] == nil {
			byWeight[w] = &peers{weight: w}
			all = append(all, byWeight[w])
		}
		byWeight[w].members = append(byWeight[w].members, int32(i))
	}
	round := make([]int32, 0, sum)
	for t := 1; t <= sum; t++ {
		var best *peers
		most := math.MinInt
		for _, c := range all {
			has := t*c.weight - c.rounds*sum
			if has > most || has == most && c.members[c.next] < best.members[best.next] {
				best, most = c, has
			}
		}
		round = append(round, best.members[best.next])
		if best.next++; best.next == len(best.members) {
			best.next, best.rounds = 0, best.rounds+1
		}
	}
	return round
}

// reduce divides weights by what they have in common and, where their sum is more
// than maxSchedule, rounds them to shares of that, but to 1 at least.
func reduce(weights []int) (out []int, sum int) {
	out = slices.Clone(weights)
	if sum = divide(out); sum <= maxSchedule {
		return out, sum
	}
	scale := float64(maxSchedule) / float64(sum)
	for i, w := range out {
		out[i] = max(1, int(math.Round(float64(w)*scale)))
	}
	return out, divide(out)
}

func divide(weights []int) (sum int) {
	by := 0
	for _, w := range weights {
		for a, b := w, by; ; a, b = b, a%b {
			if b == 0 {
				by = a
				break
			}
		}
	}
	for i := range weights {
		weights[i] /= by
		sum += weights[i]
	}
	return sum
}
