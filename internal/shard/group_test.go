package shard_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5"

	"github.com/sluice-edge/sluice/internal/shard"
)

// A jam is a shard to which as many transactions as there may be are on their way,
// and wait for rows that somebody else has, so that all others have to wait as well.
type jam struct {
	*shard.Cluster
	t    *testing.T
	ctx  context.Context
	conn *pgx.Conn // holds the rows, in a transaction of its own
	eyes *pgx.Conn // sees what is: statistics stand still within a transaction
	wg   sync.WaitGroup
}

func newJam(t *testing.T, cfg shard.Config) *jam {
	j := &jam{Cluster: run(t, cfg), t: t, ctx: background(t)}
	for _, conn := range []**pgx.Conn{&j.conn, &j.eyes} {
		var err error
		if *conn, err = pgx.Connect(j.ctx, cfg.Shards[0].Primary); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = (*conn).Close(context.Background()) })
	}
	t.Cleanup(j.wg.Wait)
	var rows [shard.MaxTransactions]shard.ID
	for i := range rows {
		rows[i] = shard.NewID(shard.Bucket(i), time.Now())
		j.do("first", rows[i], good)
		j.wg.Wait()
	}
	j.exec("BEGIN")
	for i, id := range rows {
		j.exec("UPDATE item SET n = 0 WHERE id = $1", arg(id))
		eventually(t, "nobody waits any longer", func() bool { return j.Stuck(0) })
		j.do("held", id, good)
		eventually(t, "one more transaction waits", func() bool {
			return j.count("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") == i+1
		})
	}
	return j
}

func (j *jam) exec(sql string, args ...any) {
	j.t.Helper()
	if _, err := j.conn.Exec(j.ctx, sql, args...); err != nil {
		j.t.Fatal(err)
	}
}

// count asks the database by itself.
func (j *jam) count(sql string) (n int) {
	j.t.Helper()
	if err := j.eyes.QueryRow(j.ctx, sql).Scan(&n); err != nil {
		j.t.Fatal(err)
	}
	return n
}

// add is a write that others may join.
func add(id shard.ID) shard.Write {
	return shard.Write{Op: "add", Order: string(id[:]), Queue: func(b *pgx.Batch) {
		b.Queue("INSERT INTO item AS i VALUES ($1, $2, 1) ON CONFLICT (bucket, id) DO UPDATE SET n = i.n + 1", int16(id.Bucket()), arg(id))
	}}
}

func (j *jam) do(what string, id shard.ID, ok func(error) bool) {
	j.write(j.ctx, what, id.Bucket(), add(id), ok)
}

// write has a write go on its way, and returns once it is in the line or done.
func (j *jam) write(ctx context.Context, what string, b shard.Bucket, w shard.Write, ok func(error) bool) {
	j.t.Helper()
	j.wg.Go(func() {
		if _, err := j.Write(ctx, b, w); !ok(err) {
			j.t.Errorf("%s: %v", what, err)
		}
	})
}

func (j *jam) waiting(n int) {
	j.t.Helper()
	eventually(j.t, fmt.Sprint(n, " wait"), func() bool { return j.Waiting(0) == n })
}

func good(err error) bool { return err == nil }

// TestTogether: writes that wait go in one transaction, in which each counts.
func TestTogether(t *testing.T) {
	cfg := config(t, 1)
	cfg.Metrics = metrics.NewSet()
	j := newJam(t, cfg)
	twice := shard.NewID(10, time.Now())
	j.do("twice", twice, good)
	j.do("twice", twice, good)
	for b := range shard.Bucket(10) {
		j.do("one", shard.NewID(10+b, time.Now()), good)
	}
	j.waiting(12)
	j.exec("COMMIT")
	j.wg.Wait()
	if n := j.count("SELECT count(DISTINCT xmin::text) FROM item WHERE bucket >= 10"); n != 1 {
		t.Errorf("%d transactions", n)
	}
	if n := cfg.Metrics.GetOrCreateCounter(`users_transactions_total{shard="s1"}`).Get(); n != 2*shard.MaxTransactions+1 {
		t.Errorf("%d transactions are counted", n)
	}
	if n := j.count("SELECT sum(n) FROM item WHERE bucket >= 10"); n != 12 {
		t.Errorf("%d writes", n)
	}
	if n, _, err := take(j.ctx, j.Cluster, twice, shard.Token{}, true); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
}

// TestTogetherFails: a write that the database or Within refuses fails alone.
func TestTogetherFails(t *testing.T) {
	cfg := config(t, 1)
	no := errors.New("no")
	cfg.Within = func(_ context.Context, _ pgx.Tx, events []any) error {
		for _, e := range events {
			if e == "bad" {
				return no
			}
		}
		return nil
	}
	j := newJam(t, cfg)
	wrong, unwanted := shard.NewID(11, time.Now()), shard.NewID(12, time.Now())
	j.write(j.ctx, "wrong", 11, shard.Write{Op: "wrong", Order: string(wrong[:]), Queue: func(b *pgx.Batch) {
		b.Queue("INSERT INTO item VALUES ($1, $2, NULL)", int16(11), arg(wrong))
	}}, func(err error) bool { return err != nil && !errors.Is(err, no) })
	w := add(unwanted)
	w.Event = func() any { return "bad" }
	j.write(j.ctx, "unwanted", 12, w, func(err error) bool { return errors.Is(err, no) })
	for b := range shard.Bucket(10) {
		w := add(shard.NewID(20+b, time.Now()))
		w.Event = func() any { return "fine" }
		j.write(j.ctx, "fine", 20+b, w, good)
	}
	j.waiting(12)
	j.exec("COMMIT")
	j.wg.Wait()
	if n := j.count("SELECT sum(n) FROM item WHERE bucket >= 10"); n != 10 {
		t.Errorf("%d writes", n)
	}
}

// TestTogetherLocked: a row that somebody else has holds up those that want it, and
// for long no others.
func TestTogetherLocked(t *testing.T) {
	j := newJam(t, config(t, 1))
	other, err := pgx.ConnectConfig(j.ctx, j.conn.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	held := shard.NewID(15, time.Now())
	if _, err := other.Exec(j.ctx, "BEGIN; INSERT INTO item VALUES (15, '"+arg(held).String()+"', 1)"); err != nil {
		t.Fatal(err)
	}
	j.do("held", held, good)
	for b := range shard.Bucket(10) {
		j.do("free", shard.NewID(20+b, time.Now()), good)
	}
	j.waiting(11)
	j.exec("COMMIT")
	eventually(t, "the others are done", func() bool { return j.count("SELECT count(*) FROM item WHERE bucket >= 20") == 10 })
	if _, err := other.Exec(j.ctx, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	j.wg.Wait()
	if n, _, err := take(j.ctx, j.Cluster, held, shard.Token{}, true); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
}

// TestTogetherLeaves: who gives up while it waits has written nothing.
func TestTogetherLeaves(t *testing.T) {
	j := newJam(t, config(t, 1))
	ctx, cancel := context.WithCancel(j.ctx)
	gone := shard.NewID(10, time.Now())
	left := make(chan struct{})
	j.write(ctx, "gone", 10, add(gone), func(err error) bool {
		close(left)
		var u *shard.Unavailable
		return errors.As(err, &u) && !u.Unknown && errors.Is(err, context.Canceled)
	})
	j.do("stays", shard.NewID(11, time.Now()), good)
	j.waiting(2)
	cancel()
	<-left
	j.waiting(1)
	j.exec("COMMIT")
	j.wg.Wait()
	if n := j.count("SELECT min(bucket) FROM item WHERE bucket >= 10"); n != 11 {
		t.Errorf("a row of bucket %d", n)
	}
}
