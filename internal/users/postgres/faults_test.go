package postgres_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/sluice-edge/sluice/internal/pgtest"
	"github.com/sluice-edge/sluice/internal/redistest"
	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/cache"
	"github.com/sluice-edge/sluice/internal/users/postgres"
	"github.com/sluice-edge/sluice/internal/users/storetest"
)

// A rig is shards, each on servers of its own, and stores over them as two
// processes would have them.
type rig struct {
	clusters []*pgtest.Cluster
	stores   []*postgres.Store
	redis    *redistest.Server // before them
	mode     string            // of the cache
}

func newRig(t *testing.T, strategy, mode string, shards, replicas int) *rig {
	t.Helper()
	r := &rig{redis: redistest.Start(t, "--appendonly", "yes", "--appendfsync", "everysec"), mode: mode, clusters: make([]*pgtest.Cluster, shards)}
	var wg sync.WaitGroup
	for i := range shards {
		wg.Go(func() {
			c, err := pgtest.New(pgtest.Options{Replicas: replicas})
			if err != nil {
				t.Error(err)
				return
			}
			r.clusters[i] = c
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, c := range r.clusters {
			if c != nil {
				c.Close()
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	var addresses []shard.Address
	var places []shard.Place
	for i, c := range r.clusters {
		a := shard.Address{Name: fmt.Sprint("s", i+1), Primary: c.Primary.URL("postgres")}
		for _, s := range c.Replicas {
			a.Replicas = append(a.Replicas, s.URL("postgres"))
		}
		addresses = append(addresses, a)
		places = append(places, shard.Place{Name: a.Name, Regions: []string{[]string{"eu-west", "us-east", "ap-south", "sa-east"}[i]}, Default: i == 0})
	}
	assigner, err := shard.NewAssigner(strategy, places)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.stores = append(r.stores, open(t, postgres.Config{Shards: addresses, Assigner: assigner, MaxReplicaLag: time.Second,
			Tune: func(c *shard.Config) { c.Probe = 100 * time.Millisecond }}))
	}
	return r
}

// clients are the stores as services have them, each with a cache in the one Redis.
func (r *rig) clients() []users.Store {
	var list []users.Store
	for _, s := range r.stores {
		if r.mode == cache.ModeOff {
			list = append(list, s)
			continue
		}
		redis.SetLogger(new(logging.VoidLogger)) // its errors come back from its calls
		client := redis.NewClient(&redis.Options{
			Addr: r.redis.Address, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
			DialTimeout: 50 * time.Millisecond, ReadTimeout: 50 * time.Millisecond, WriteTimeout: 50 * time.Millisecond, PoolTimeout: 50 * time.Millisecond,
		})
		list = append(list, cache.New(cache.Config{
			Store: s, Level: cache.NewRedis(client, nil), Mode: r.mode, TTL: time.Minute, LocalTTL: time.Second,
			MaxLag: time.Second, Log: slog.New(slog.DiscardHandler),
		}))
	}
	return list
}

// TestFaults has clients keep a journal while a replica is killed, replicas lag
// and hang, and primaries are killed; TestFaultsAtLength does it at length.
func TestFaults(t *testing.T) {
	r := newRig(t, "geo", cache.ModeEvent, 2, 1)
	j := storetest.StartJournal(t, 4, r.clients()...)
	for i := range r.clusters {
		r.disturb(t, j, i, 5)
	}
	if n := j.Check(); n == 0 {
		t.Error("there are no users")
	}
}

// disturb does to one shard all that the journal has to stand.
func (r *rig) disturb(t *testing.T, j *storetest.Journal, i int, n int64) {
	c := r.clusters[i]
	first, last := c.Replicas[0], c.Replicas[len(c.Replicas)-1]
	j.Progress(n)
	first.Kill()
	j.Progress(n)
	first.Restart(t)
	last.PauseReplay(t)
	j.Progress(n)
	last.ResumeReplay(t)
	j.Progress(n)
	last.Freeze(t)
	j.Progress(n)
	last.Thaw()
	c.Primary.Kill()
	j.Refusals(3 * n)
	r.redis.Kill() // while a primary is down as well
	j.Refusals(n)
	c.Primary.Restart(t)
	j.Progress(n)
	if i%2 == 0 {
		r.redis.Restart()
	} else {
		r.redis.RestartWithData() // less than it was told
	}
	j.Progress(2 * n)
	r.redis.Flush()
	j.Progress(n)
	r.redis.Stop()
	j.Progress(n)
	r.redis.Continue()
	j.Progress(n)
}
