//go:build long

package postgres_test

import (
	"testing"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users/postgres"
	"github.com/sluice-edge/sluice/internal/users/storetest"
)

// TestFaultsAtLength has four shards, each a primary and two replicas, suffer in
// turn, for each strategy, and moves buckets meanwhile.
func TestFaultsAtLength(t *testing.T) {
	for _, strategy := range []string{"hash", "geo"} {
		t.Run(strategy, func(t *testing.T) {
			r := newRig(t, strategy, 4, 2)
			j := storetest.StartJournal(t, 8, r.stores...)
			for range 3 {
				for i := range r.clusters {
					r.disturb(t, j, i, 20)
				}
				j.Progress(20)
				r.shift(t)
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
	c := r.stores[0].(*postgres.Store).Cluster()
	m := shard.NewMover(c)
	names := c.Names()
	for b := shard.Bucket(0); b < shard.Buckets; b += 64 {
		to := names[(int(c.Router().Lookup(b).Shard)+1)%len(names)]
		if _, err := m.Move(t.Context(), b, to); err != nil {
			t.Error(err)
		}
	}
}
