package shard_test

import (
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-edge/sluice/internal/shard"
)

// TestBusy has writes wait for a lock until their time is over, and others for a
// connection: the server is none the worse for it, and is not given up.
func TestBusy(t *testing.T) {
	ctx := background(t)
	cfg := config(t, 1)
	cfg.MaxConns, cfg.WriteTimeout, cfg.Probe = 2, 300*time.Millisecond, 10*time.Second
	cl := run(t, cfg)
	conn, err := pgx.Connect(ctx, cfg.Shards[0].Primary)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(4711, 7)"); err != nil {
		t.Fatal(err)
	}
	held, other := shard.NewID(7, time.Now()), shard.NewID(8, time.Now())
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := put(ctx, cl, held, 1); !isUnavailable(err) {
				t.Errorf("a write of a bucket that is locked: %v", err)
			}
		})
	}
	wg.Wait()
	if _, err := put(ctx, cl, other, 2); err != nil {
		t.Errorf("another bucket: %v", err)
	}
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock(4711, 7)"); err != nil {
		t.Fatal(err)
	}
	if _, err := put(ctx, cl, held, 3); err != nil {
		t.Errorf("after the lock: %v", err)
	}
}
