//go:build long

package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/pgtest"
	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/postgres"
)

const (
	connections = 8
	crowd       = 64 // callers, who share the connections
	span        = 2 * time.Second
)

// TestSpeed prints what the store does beside what pgbench does on the same server
// with as many connections, in turn. It fails on nothing: machines differ.
func TestSpeed(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{Durable: true, Settings: map[string]string{"shared_buffers": "256MB", "max_wal_size": "2GB"}})
	one := open(t, postgres.Config{Shards: fresh(t, c, 1), Assigner: assigner(t, "hash", 1), MaxConns: connections})
	db := c.Primary.Database(t)
	c.Primary.Bench(t, db, "", "-i", "-q", "-s", "10")
	c.Primary.Exec(t, db, "CREATE TABLE one (id bigserial PRIMARY KEY, name text, email text, at timestamptz)")
	const insert = "INSERT INTO one (name, email, at) VALUES ('Somebody Else', 'somebody@example.com', now());\n"
	bench := []string{"-M", "prepared", "-n", "-c", fmt.Sprint(connections), "-j", "2", "-T", fmt.Sprint(int(span.Seconds()))}

	var ids []string
	var mu sync.Mutex
	var serial atomic.Int64
	create := func() {
		u := somebody(serial.Add(1))
		got, _, _, err := one.Create(context.Background(), u, users.Once{}, "")
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		ids = append(ids, got.ID)
		mu.Unlock()
	}
	get := func() {
		if _, _, err := one.Get(context.Background(), ids[rand.IntN(len(ids))], ""); err != nil {
			t.Error(err)
		}
	}
	rate(crowd, create) // log files are made
	var reads, creates, crowded []float64
	for range 3 {
		theirs := c.Primary.Bench(t, db, insert, bench...)
		ours, all := rate(connections, create), rate(crowd, create)
		creates, crowded = append(creates, ours/theirs), append(crowded, all/theirs)
		t.Logf("create %.0f/s, %.0f/s by a crowd, a one-row insert by pgbench %.0f/s: %.0f and %.0f %%, the bar is 50 %%",
			ours, all, theirs, 100*ours/theirs, 100*all/theirs)
		theirs = c.Primary.Bench(t, db, "", append([]string{"-S"}, bench...)...)
		ours = rate(connections, get)
		reads = append(reads, ours/theirs)
		t.Logf("read %.0f/s, pgbench -S %.0f/s: %.0f %%, the bar is 60 %%", ours, theirs, 100*ours/theirs)
	}
	slices.Sort(reads)
	slices.Sort(creates)
	slices.Sort(crowded)
	t.Logf("medians: read %.0f %%, create %.0f %%, by a crowd %.0f %%", 100*reads[1], 100*creates[1], 100*crowded[1])
}

// TestSpeedOfLists compares a page of 50 over ten shards with one over one, of as
// many users.
func TestSpeedOfLists(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"shared_buffers": "256MB"}})
	const n = 5000
	fill := func(shards int) *postgres.Store {
		places := make([]shard.Place, shards)
		for i := range places {
			places[i].Name = fmt.Sprint("s", i+1)
		}
		a, err := shard.NewAssigner("hash", places)
		if err != nil {
			t.Fatal(err)
		}
		s := open(t, postgres.Config{Shards: fresh(t, c, shards), Assigner: a, MaxConns: 4})
		var serial atomic.Int64
		var wg sync.WaitGroup
		for range connections {
			wg.Go(func() {
				for i := serial.Add(1); i <= n; i = serial.Add(1) {
					if _, _, _, err := s.Create(context.Background(), somebody(i), users.Once{}, ""); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return s
	}
	one, ten := fill(1), fill(10)
	for _, a := range []*postgres.Store{one, ten} {
		for range 50 {
			list(t, a)
		}
	}
	var single, spread []time.Duration
	for range 300 {
		single = append(single, list(t, one))
		spread = append(spread, list(t, ten))
	}
	slices.Sort(single)
	slices.Sort(spread)
	t.Logf("a list of 50: %v over one shard, %v over ten: %.2f times, the bar is 2.5",
		single[150], spread[150], float64(spread[150])/float64(single[150]))
}

func list(t *testing.T, s *postgres.Store) time.Duration {
	start := time.Now()
	page, err := s.List(context.Background(), users.Query{Limit: 50}, "")
	took := time.Since(start)
	if err != nil || len(page.Users) != 50 {
		t.Fatal(len(page.Users), err)
	}
	return took
}

func somebody(n int64) users.User {
	return users.User{Name: fmt.Sprint("Somebody ", n), Email: fmt.Sprintf("somebody%d@example.com", n), Region: "eu-west", Attributes: json.RawMessage(`{"a":1}`)}
}

// rate is how often a second f is done by so many at once.
func rate(callers int, f func()) float64 {
	var n atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range callers {
		wg.Go(func() {
			for time.Since(start) < span {
				f()
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(start).Seconds()
}
