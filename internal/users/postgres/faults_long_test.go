//go:build long

package postgres_test

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users/cache"
	"github.com/sluice-edge/sluice/internal/users/storetest"
)

// TestFaultsAtLength has four shards, each a primary and two replicas, suffer in
// turn, and the Redis before them, for each way of caching, and moves buckets
// meanwhile.
func TestFaultsAtLength(t *testing.T) {
	for _, c := range []struct {
		strategy, mode string
		rounds         int
	}{
		{"hash", cache.ModeEvent, 2}, {"geo", cache.ModeWriteThrough, 2}, {"hash", cache.ModeTTL, 1}, {"geo", cache.ModeOff, 1},
	} {
		t.Run(c.strategy+" "+c.mode, func(t *testing.T) {
			r := newRig(t, c.strategy, c.mode, 4, 2)
			j := storetest.StartJournal(t, 8, r.clients()...)
			for round := range c.rounds {
				for i := range r.clusters {
					r.disturb(t, j, i, 20)
					t.Logf("%v: round %d, shard %d", time.Now().Format(time.TimeOnly), round, i)
				}
				r.shift(t)
				t.Logf("%v: round %d, moved", time.Now().Format(time.TimeOnly), round)
			}
			if n := j.Check(); n == 0 {
				t.Error("there are no users")
			}
		})
	}
}

// shift moves some buckets of each shard to the next.
func (r *rig) shift(t *testing.T) {
	t.Helper()
	c := r.stores[0].Cluster()
	m := shard.NewMover(c)
	names := c.Names()
	for b := shard.Bucket(0); b < shard.Buckets; b += 128 {
		to := names[(int(c.Router().Lookup(b).Shard)+1)%len(names)]
		if _, err := m.Move(t.Context(), b, to); err != nil {
			t.Error(err)
		}
	}
}
