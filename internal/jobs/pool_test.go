package jobs

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sluice-edge/sluice/internal/pgtest"
)

// TestPromoted has the primary of a shard die and its replica promoted: the
// worker goes on there by itself, with the jobs that were in its hands.
func TestPromoted(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t, pgtest.Options{Replicas: 1})
	cfg, err := PoolConfig(c.Primary.URL("postgres"), []string{c.Replicas[0].URL("postgres")})
	must(t, err)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	must(t, err)
	t.Cleanup(pool.Close)
	q, err := NewPostgres(pool, Config{Shard: "s1"})
	must(t, err)
	must(t, q.Migrate(ctx))
	b := newBook()
	work(t, WorkerConfig{Shards: []Source{q}, Handlers: noted(b)})
	enqueue := func(user string) bool {
		bounded, cancel := context.WithTimeout(ctx, waitLimit)
		defer cancel()
		tx, err := pool.Begin(bounded)
		if err != nil {
			return false
		}
		defer func() { _ = tx.Rollback(bounded) }()
		if _, err := q.Enqueue(bounded, tx, fix(user)); err != nil {
			return false
		}
		return tx.Commit(bounded) == nil
	}
	eventually(t, "a job is taken", func() bool { return enqueue("before") })
	eventually(t, "it is done", func() bool { return b.times("before") > 0 })
	// What the primary did not send before its end is lost with it.
	eventually(t, "the replica has what the primary has", func() bool {
		var same bool
		err := pool.QueryRow(ctx, "SELECT coalesce(bool_and(replay_lsn >= pg_current_wal_flush_lsn()), false) FROM pg_stat_replication").Scan(&same)
		return err == nil && same
	})
	c.Primary.Kill()
	c.Replicas[0].Promote(t)
	eventually(t, "a job is taken by the new primary", func() bool { return enqueue("after") })
	eventually(t, "it is done there", func() bool { return b.times("after") > 0 })
}

func TestPoolConfigRefused(t *testing.T) {
	for _, c := range [][2]string{{"postgres://[", ""}, {"postgres://a@b/c", "postgres://["}} {
		if _, err := PoolConfig(c[0], []string{c[1]}); err == nil {
			t.Errorf("%v is taken", c)
		}
	}
}
