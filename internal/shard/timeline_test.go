package shard_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-edge/sluice/internal/pgtest"
	"github.com/sluice-edge/sluice/internal/shard"
)

// TestOldPrimary starts while only the old primary of a failover is up, which
// takes writes: it gets none.
func TestOldPrimary(t *testing.T) {
	ctx := background(t)
	c := pgtest.Start(t, pgtest.Options{Replicas: 1})
	cfg := config(t, 2)
	db := c.Primary.Database(t)
	cfg.Shards[1].Primary, cfg.Shards[1].Replicas = c.Primary.URL(db), []string{c.Replicas[0].URL(db)}
	first := run(t, cfg)
	id := shard.NewID(0, time.Now())
	for first.Router().Lookup(id.Bucket()).Shard != 1 {
		id = shard.NewID(id.Bucket()+1, time.Now())
	}
	if _, err := put(ctx, first, id, 1); err != nil {
		t.Fatal(err)
	}
	c.CatchUp(t)
	c.Primary.Kill()
	c.Replicas[0].Promote(t)
	eventually(t, "the promoted replica takes writes", func() bool {
		_, err := put(ctx, first, id, 2)
		return err == nil
	})
	conn, err := pgx.Connect(ctx, cfg.Shards[0].Primary)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	eventually(t, "the other shard remembers the timeline", func() bool {
		var n int64
		return conn.QueryRow(ctx, "SELECT timeline FROM shard_timeline WHERE shard = 's2'").Scan(&n) == nil && n == 2
	})
	c.Replicas[0].Kill()
	c.Primary.Restart(t)

	second := start(t, cfg)
	if err := second.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := put(ctx, second, id, 3); !isUnavailable(err) {
			t.Fatalf("written on the old primary: %v", err)
		}
		if got, _, err := take(ctx, second, id, shard.Token{}, true); !isUnavailable(err) {
			t.Fatalf("the newest is %d, %v", got, err)
		}
	}
	c.Replicas[0].Restart(t)
	eventually(t, "the new primary takes writes", func() bool {
		got, _, err := take(ctx, second, id, shard.Token{}, true)
		if err == nil && got != 2 {
			t.Fatalf("read %d", got)
		}
		_, errPut := put(ctx, second, id, 2)
		return err == nil && errPut == nil
	})
}
