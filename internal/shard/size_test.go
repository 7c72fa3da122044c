package shard_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-edge/sluice/internal/shard"
)

// TestSizes counts what shards have, without what has moved away, and gives an
// estimate where counting takes too long.
func TestSizes(t *testing.T) {
	ctx := background(t)
	cfg := config(t, 2)
	c := run(t, cfg)
	rows := func(want0, want1 int64, wait time.Duration, estimate bool) {
		t.Helper()
		sizes := c.Sizes(ctx, wait)
		for i, want := range []int64{want0, want1} {
			z := sizes[i]
			if z.Err != nil || z.Rows != want || z.Estimate != (estimate && i == 0) || z.Bytes == 0 || z.Name != cfg.Shards[i].Name {
				t.Errorf("%+v, want %d rows", z, want)
			}
		}
	}
	const bucket = 7 // on the first
	for range 30 {
		if _, err := put(ctx, c, shard.NewID(bucket, time.Now()), 1); err != nil {
			t.Fatal(err)
		}
	}
	rows(30, 0, 10*time.Second, false)
	conn, err := pgx.Connect(ctx, cfg.Shards[0].Primary)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{"ANALYZE item", "BEGIN", "LOCK item"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	rows(30, 0, 50*time.Millisecond, true)
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err := shard.NewMover(c).Move(ctx, bucket, "s2"); err != nil {
		t.Fatal(err)
	}
	if err := c.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	rows(0, 30, 10*time.Second, false)
}
