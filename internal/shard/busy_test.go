package shard_test

import (
	"context"
	"errors"
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

// TestRefused has a server turn statements away that it has no room for, as it does
// connections: others of the shard are asked, clients are told to come again, and
// the server is not given up.
func TestRefused(t *testing.T) {
	ctx := background(t)
	cfg := config(t, 1, servers.Replicas[0])
	cl := run(t, cfg)
	conn, err := pgx.Connect(ctx, cfg.Shards[0].Primary)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `CREATE FUNCTION refuse(state text) RETURNS int LANGUAGE plpgsql AS
		$$ BEGIN RAISE 'sorry' USING ERRCODE = state; END $$`); err != nil {
		t.Fatal(err)
	}
	id := shard.NewID(7, time.Now())
	if _, err := put(ctx, cl, id, 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica serves", func() bool {
		source, err := ask(ctx, cl, id, "1")
		return err == nil && !source.Primary
	})
	for _, state := range []string{"53300", "53100", "53200", "28P01", "3D000", "57014"} {
		refusal := "refuse('" + state + "')"
		source, err := ask(ctx, cl, id, "CASE WHEN pg_is_in_recovery() THEN "+refusal+" ELSE 1 END")
		if err != nil || !source.Primary {
			t.Errorf("%s of a replica: %+v, %v", state, source, err)
		}
		if _, err = ask(ctx, cl, id, refusal); !isUnavailable(err) {
			t.Errorf("%s of everybody: %v", state, err)
		}
		if source, err = ask(ctx, cl, id, "1"); err != nil || source.Primary {
			t.Errorf("after %s: %+v, %v", state, source, err)
		}
		if state == "57014" {
			continue // of a write, nobody knows
		}
		_, err = cl.Write(ctx, id.Bucket(), shard.Write{Op: "refused", Queue: func(b *pgx.Batch) { b.Queue("SELECT " + refusal) }})
		var u *shard.Unavailable
		if !errors.As(err, &u) || u.Unknown {
			t.Errorf("%s of a write: %v", state, err)
		}
		if _, err := put(ctx, cl, id, 2); err != nil {
			t.Errorf("a write after %s: %v", state, err)
		}
	}
}

// ask reads an expression in the bucket of id.
func ask(ctx context.Context, cl *shard.Cluster, id shard.ID, expression string) (shard.Source, error) {
	var n int
	return cl.Read(ctx, id.Bucket(), shard.Read{
		Op: "ask", SQL: "SELECT " + expression + " FROM bucket_owner o WHERE " + shard.Owned,
		Scan: func(r pgx.Row) error { return r.Scan(&n) },
	})
}
