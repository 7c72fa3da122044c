package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-edge/sluice/internal/pgtest"
	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/postgres"
	"github.com/sluice-edge/sluice/internal/users/storetest"
)

// places are shards of every strategy.
func places(n int) []shard.Place {
	regions := []string{"eu-west", "us-east", "ap-south"}
	list := make([]shard.Place, n)
	for i := range list {
		list[i] = shard.Place{Name: fmt.Sprint("s", i+1), Regions: regions[i : i+1], Default: i == 0}
		list[i].From = []string{"a", "m", "q"}[i]
		if i < n-1 {
			list[i].To = []string{"a", "m", "q"}[i+1]
		}
	}
	return list
}

// fresh makes shards in new databases of one server, or of a server and its
// replicas.
func fresh(t *testing.T, c *pgtest.Cluster, n int, replicas ...*pgtest.Server) []shard.Address {
	t.Helper()
	list := make([]shard.Address, n)
	for i := range list {
		db := c.Primary.Database(t)
		list[i] = shard.Address{Name: fmt.Sprint("s", i+1), Primary: c.Primary.URL(db)}
		for _, r := range replicas {
			list[i].Replicas = append(list[i].Replicas, r.URL(db))
		}
	}
	return list
}

func open(t *testing.T, cfg postgres.Config) *postgres.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := postgres.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func assigner(t *testing.T, strategy string, n int) shard.Assigner {
	t.Helper()
	a, err := shard.NewAssigner(strategy, places(n))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestConformance(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{Replicas: 1})
	for _, strategy := range []string{"hash", "range", "geo", "distributed"} {
		cfg := postgres.Config{MaxConns: 8, Distributed: strategy == "distributed"}
		if cfg.Distributed {
			cfg.Shards, cfg.Assigner = fresh(t, c, 1), assigner(t, "hash", 1)
		} else {
			cfg.Shards, cfg.Assigner = fresh(t, c, 3, c.Replicas...), assigner(t, strategy, 3)
		}
		c.CatchUp(t)
		t.Run(strategy, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) users.Store {
				s := open(t, cfg)
				empty(t, cfg.Shards)
				c.CatchUp(t)
				return s
			})
		})
	}
}

// empty removes all users.
func empty(t *testing.T, shards []shard.Address) {
	t.Helper()
	for _, a := range shards {
		execute(t, a.Primary, "TRUNCATE users, email_claim, write_op, idempotency_key")
	}
}

func execute(t *testing.T, address, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatal(err)
	}
}
