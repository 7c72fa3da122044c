package shard

import (
	"fmt"
	"sort"
)

// A Relocation is one move that a plan proposes.
type Relocation struct {
	Bucket   Bucket
	From, To int // shards
}

// Plan proposes moves after which shards have buckets by their weights (0: the
// shard is emptied), to within one, and as few as that takes. Fuller shards give
// to emptier ones, the buckets with the lowest numbers first.
func Plan(m *Map, weights []float64) ([]Relocation, error) {
	have := make([][]Bucket, len(weights))
	for b, e := range m.Entries {
		if int(e.Shard) >= len(weights) {
			return nil, fmt.Errorf("shard: a plan for %d shards, and bucket %d is on shard %d", len(weights), b, e.Shard)
		}
		have[e.Shard] = append(have[e.Shard], Bucket(b))
	}
	want, err := shares(have, weights)
	if err != nil {
		return nil, err
	}
	var plan []Relocation
	to := 0
	for from := range have {
		for _, b := range have[from][:max(0, len(have[from])-want[from])] {
			for len(have[to]) >= want[to] {
				to++
			}
			plan = append(plan, Relocation{b, from, to})
			want[to]--
		}
	}
	return plan, nil
}

// shares divides the buckets by weights. What is left over goes to those that have
// the most already, so that fewer move.
func shares(have [][]Bucket, weights []float64) ([]int, error) {
	sum := 0.0
	for i, w := range weights {
		if w < 0 {
			return nil, fmt.Errorf("shard: the weight of shard %d is below 0", i)
		}
		sum += w
	}
	if sum == 0 {
		return nil, fmt.Errorf("shard: all weights are 0")
	}
	want, order, left := make([]int, len(weights)), []int{}, Buckets
	for i, w := range weights {
		want[i] = int(Buckets * w / sum)
		left -= want[i]
		if w > 0 {
			order = append(order, i)
		}
	}
	sort.SliceStable(order, func(a, b int) bool {
		return len(have[order[a]])-want[order[a]] > len(have[order[b]])-want[order[b]]
	})
	for ; left > 0; left-- {
		want[order[0]]++
		order = append(order[1:], order[0])
	}
	return want, nil
}
