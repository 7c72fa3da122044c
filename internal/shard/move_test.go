package shard_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-edge/sluice/internal/shard"
)

var steps = []string{"import", "copy", "fence", "rest", "verify", "decide", "give", "take", "map"}

// A journal is clients who write to their own rows and keep what was
// acknowledged.
type journal struct {
	ids     []shard.ID
	acked   []int64 // by client; what is stored is this, or what is in doubt
	doubt   []int64
	wrote   atomic.Int64
	stop    context.CancelFunc
	running sync.WaitGroup
}

// load starts clients over several routers, of which each has its own map.
func load(t *testing.T, ctx context.Context, b shard.Bucket, clients int, routers ...*shard.Cluster) *journal {
	ctx, stop := context.WithCancel(ctx)
	j := &journal{ids: make([]shard.ID, clients), acked: make([]int64, clients), doubt: make([]int64, clients), stop: stop}
	for i := range clients {
		j.ids[i] = shard.NewID(b, time.Now())
		if _, err := put(ctx, routers[0], j.ids[i], 0); err != nil {
			t.Fatal(err)
		}
		j.running.Go(func() { j.client(t, ctx, i, routers) })
	}
	t.Cleanup(j.end)
	return j
}

func (j *journal) client(t *testing.T, ctx context.Context, i int, routers []*shard.Cluster) {
	var tok shard.Token
	j.acked[i] = -1
	for n := int64(1); ctx.Err() == nil; n++ {
		j.doubt[i] = n
		seen, err := put(ctx, routers[rand.IntN(len(routers))], j.ids[i], n)
		if ctx.Err() != nil {
			return
		}
		if isUnavailable(err) {
			continue // not now; or nobody knows
		}
		if err != nil {
			t.Errorf("put: %v", err)
			return
		}
		tok.Saw(seen.Version, seen.Shard, seen.At)
		j.acked[i] = n
		j.wrote.Add(1)
		got, _, err := take(ctx, routers[rand.IntN(len(routers))], j.ids[i], tok, false)
		if ctx.Err() == nil && !isUnavailable(err) && (err != nil || got != n) {
			t.Errorf("client %d read %d after writing %d: %v", i, got, n, err)
			return
		}
	}
}

// end stops the clients.
func (j *journal) end() {
	j.stop()
	j.running.Wait()
}

// check compares what is stored with the journal.
func (j *journal) check(t *testing.T, ctx context.Context, c *shard.Cluster) {
	t.Helper()
	for i, id := range j.ids {
		got, _, err := take(ctx, c, id, shard.Token{}, true)
		if err != nil || got < j.acked[i] || got > j.doubt[i] {
			t.Errorf("client %d: stored %d, acknowledged %d, tried %d: %v", i, got, j.acked[i], j.doubt[i], err)
		}
	}
}

// progress waits until n more writes were acknowledged.
func (j *journal) progress(t *testing.T, n int64) {
	t.Helper()
	from := j.wrote.Load()
	eventually(t, "writes go on", func() bool { return t.Failed() || j.wrote.Load() >= from+n })
}

// owners says on which shards a bucket is active, and how many rows it has there.
func owners(t *testing.T, ctx context.Context, cfg shard.Config, b shard.Bucket) (names []string, rows int) {
	t.Helper()
	for _, a := range cfg.Shards {
		conn, err := pgx.Connect(ctx, a.Primary)
		if err != nil {
			t.Fatal(err)
		}
		var owner bool
		var n int
		err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM bucket_owner WHERE bucket = $1 AND state IN ('active', 'copying', 'fenced')),
			(SELECT count(*) FROM item WHERE bucket = $1)`, int16(b)).Scan(&owner, &n)
		if err != nil {
			t.Fatal(err)
		}
		if owner {
			names, rows = append(names, a.Name), rows+n
		}
		_ = conn.Close(ctx)
	}
	return names, rows
}

// TestMove moves a bucket to and fro under load, small and large.
func TestMove(t *testing.T) {
	for _, large := range []int64{0, 1} {
		t.Run(fmt.Sprint("large", large), func(t *testing.T) {
			ctx := background(t)
			cfg := config(t, 2)
			a, b := run(t, cfg), run(t, cfg)
			const bucket = 7
			j := load(t, ctx, bucket, 6, a, b)
			m := shard.NewMover(a)
			m.Large = large
			for round := range 4 {
				j.progress(t, 50)
				to := cfg.Shards[(round+1)%2].Name
				rows, err := m.Move(ctx, bucket, to)
				if err != nil {
					t.Fatal(err)
				}
				if names, n := owners(t, ctx, cfg, bucket); len(names) != 1 || names[0] != to || n < len(j.ids) || rows < int64(len(j.ids)) {
					t.Errorf("round %d: owners %v, %d rows, %d moved", round, names, n, rows)
				}
			}
			j.progress(t, 50)
			j.end()
			j.check(t, ctx, b)
			if again, err := m.Move(ctx, bucket, "s1"); err != nil || again != 0 {
				t.Errorf("to where it is: %d, %v", again, err)
			}
			if n, err := m.Purge(ctx, 0); err != nil || n == 0 {
				t.Errorf("purged %d, %v", n, err)
			}
			j.check(t, ctx, b)
		})
	}
}

// TestMoverDies ends the mover before each step, under load, and has another
// clear up.
func TestMoverDies(t *testing.T) {
	for _, large := range []int64{0, 1} {
		ctx := background(t)
		cfg := config(t, 2)
		a, b := run(t, cfg), run(t, cfg)
		for i, step := range steps {
			if large == 1 && i > 4 {
				break // from here on both sizes are one
			}
			t.Run(fmt.Sprint("large", large, "/", step), func(t *testing.T) {
				bucket := shard.Bucket(100 + i)
				j := load(t, ctx, bucket, 4, a, b)
				j.progress(t, 20)
				m := shard.NewMover(a)
				m.Large, m.Lease = large, 50*time.Millisecond
				died := errors.New("died")
				m.Step = func(name string) error {
					if name == step {
						return died
					}
					return nil
				}
				if _, err := m.Move(ctx, bucket, "s2"); !errors.Is(err, died) {
					t.Fatal(err)
				}
				m2 := shard.NewMover(b)
				eventually(t, "the move is ended by another", func() bool {
					n, err := m2.Recover(ctx)
					if err != nil {
						t.Fatal(err)
					}
					return n == 1
				})
				want := "s1"
				if i > 5 {
					want = "s2"
				}
				if names, _ := owners(t, ctx, cfg, bucket); len(names) != 1 || names[0] != want {
					t.Errorf("owners %v, want %s", names, want)
				}
				j.progress(t, 20)
				if _, err := shard.NewMover(b).Move(ctx, bucket, "s2"); err != nil {
					t.Errorf("once more: %v", err)
				}
				j.progress(t, 20)
				j.end()
				j.check(t, ctx, b)
			})
		}
		if list, err := shard.NewMover(a).Moves(ctx, 100); err != nil || len(list) < 5 || !list[0].Done {
			t.Errorf("moves %+v, %v", list, err)
		}
	}
}

// TestSlowMover stops a mover before each step until another has ended its move
// and moved the bucket again; what it does then must change nothing.
func TestSlowMover(t *testing.T) {
	ctx := background(t)
	cfg := config(t, 2)
	a, b := run(t, cfg), run(t, cfg)
	for i, step := range steps {
		t.Run(step, func(t *testing.T) {
			bucket := shard.Bucket(100 + i)
			j := load(t, ctx, bucket, 4, a, b)
			j.progress(t, 20)
			m := shard.NewMover(a)
			m.Lease = 20 * time.Millisecond
			m.Step = func(name string) error {
				if name != step {
					return nil
				}
				m2 := shard.NewMover(b)
				eventually(t, "the move is ended by another", func() bool {
					n, err := m2.Recover(ctx)
					return err == nil && n > 0
				})
				_, err := m2.Move(ctx, bucket, "s2")
				if err != nil {
					t.Error(err)
				}
				return nil
			}
			if _, err := m.Move(ctx, bucket, "s2"); err == nil {
				t.Error("a move that another has ended did not fail")
			}
			if names, _ := owners(t, ctx, cfg, bucket); len(names) != 1 || names[0] != "s2" {
				t.Errorf("owners %v", names)
			}
			j.progress(t, 20)
			j.end()
			j.check(t, ctx, b)
		})
	}
}

// TestScatter lists all rows while buckets move: each once.
func TestScatter(t *testing.T) {
	ctx := background(t)
	cfg := config(t, 3)
	c, stale := run(t, cfg), run(t, cfg)
	const n = 60
	for i := range int64(n) {
		if _, err := put(ctx, c, shard.NewID(shard.Bucket(i*68), time.Now()), i); err != nil {
			t.Fatal(err)
		}
	}
	moving, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		m := shard.NewMover(c)
		for i := 0; moving.Err() == nil; i++ {
			if _, err := m.Move(moving, shard.Bucket(i%n*68), cfg.Shards[i/n%3].Name); err != nil && moving.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	for range 100 {
		found := make([]map[int64]int, 3)
		missing, _, err := stale.Scatter(ctx, shard.Scatter{Op: "list",
			Query: func(int) (string, []any) {
				return "SELECT m.bits, i.n FROM bucket_bitmap m LEFT JOIN item i ON get_bit(m.bits, i.bucket) = 1", nil
			},
			Rows: func(i int, rows pgx.Rows) (bits []byte, err error) {
				found[i] = map[int64]int{}
				var v *int64
				for rows.Next() {
					if err := rows.Scan(&bits, &v); err != nil {
						return nil, err
					}
					if v != nil {
						found[i][*v]++
					}
				}
				return bits, rows.Err()
			}})
		if err != nil || len(missing) > 0 {
			t.Fatal(missing, err)
		}
		for v := range int64(n) {
			if times := found[0][v] + found[1][v] + found[2][v]; times != 1 {
				t.Errorf("row %d is there %d times", v, times)
			}
		}
	}
	stop()
	wg.Wait()
}
