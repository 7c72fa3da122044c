package shard

import (
	"testing"

	"pgregory.net/rapid"
)

// TestPlan draws maps and weights: after the plan shards have what is theirs, and
// no bucket moves twice or for nothing.
func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "shards")
		weights := rapid.SliceOfN(rapid.Float64Range(0, 4), n, n).Draw(t, "weights")
		sum := 0.0
		for i := range weights {
			if weights[i] < 0.01 {
				weights[i] = 0
			}
			sum += weights[i]
		}
		m := &Map{Version: 1}
		shards := rapid.SliceOfN(rapid.IntRange(0, n-1), Buckets/64, Buckets/64).Draw(t, "map")
		before := make([]int, n)
		for b := range m.Entries {
			m.Entries[b].Shard = int32(shards[b/64])
			before[shards[b/64]]++
		}
		plan, err := Plan(m, weights)
		if sum == 0 {
			if err == nil {
				t.Fatal("weights of 0 make a plan")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		count, moved := append([]int(nil), before...), map[Bucket]bool{}
		for _, r := range plan {
			if moved[r.Bucket] || r.From == r.To || int(m.Entries[r.Bucket].Shard) != r.From {
				t.Fatalf("%+v", r)
			}
			moved[r.Bucket] = true
			count[r.From]--
			count[r.To]++
		}
		fewest := 0
		for i, w := range weights {
			exact := Buckets * w / sum
			if float64(count[i]) < exact-1.001 || float64(count[i]) > exact+1.001 || w == 0 && count[i] != 0 {
				t.Fatalf("shard %d has %d buckets, its share is %.2f", i, count[i], exact)
			}
			fewest += max(0, before[i]-count[i])
		}
		if len(plan) != fewest {
			t.Fatalf("%d moves, %d would do", len(plan), fewest)
		}
	})
}
