package shard_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sluice-edge/sluice/internal/pgtest"
	"github.com/sluice-edge/sluice/internal/shard"
)

// The servers of these tests: a primary with two replicas, and what each test
// needs of databases on it.
var servers *pgtest.Cluster

func TestMain(m *testing.M) {
	var err error
	if servers, err = pgtest.New(pgtest.Options{Replicas: 2}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	servers.Close()
	os.Exit(code)
}

var items = shard.Schema{Name: "items", Dir: ".", Files: fstest.MapFS{"1_items.sql": {Data: []byte(`
	CREATE TABLE item (bucket smallint, id uuid, n bigint NOT NULL, PRIMARY KEY (bucket, id));
	CREATE TRIGGER copying AFTER INSERT OR UPDATE OR DELETE ON item FOR EACH ROW
		WHEN (current_setting('shard.copying', true) = '1') EXECUTE FUNCTION bucket_row_changed('id');`)}}}

// config is of n shards, each a new database of the primary.
func config(t *testing.T, n int, replicas ...*pgtest.Server) shard.Config {
	t.Helper()
	places := make([]shard.Place, n)
	cfg := shard.Config{
		Schemas: []shard.Schema{items}, Tables: []shard.Table{{Name: "item", Key: "id", Columns: []string{"bucket", "id", "n"}}},
		MaxConns: 8, Probe: 50 * time.Millisecond,
	}
	for i := range n {
		name, db := fmt.Sprint("s", i+1), servers.Primary.Database(t)
		places[i].Name = name
		a := shard.Address{Name: name, Primary: servers.Primary.URL(db)}
		for _, r := range replicas {
			a.Replicas = append(a.Replicas, r.URL(db))
		}
		cfg.Shards = append(cfg.Shards, a)
	}
	var err error
	if cfg.Assigner, err = shard.NewAssigner("hash", places); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// run has a cluster run until the end of the test.
func run(t *testing.T, cfg shard.Config) *shard.Cluster {
	t.Helper()
	c := start(t, cfg)
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	if err := c.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// start is run before it has made tables.
func start(t *testing.T, cfg shard.Config) *shard.Cluster {
	t.Helper()
	c, err := shard.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		c.Close()
	})
	start, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	if err := c.Ready(start); err != nil {
		t.Fatal(err)
	}
	return c
}

func arg(id shard.ID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

// put stores n under id. Half of all ids let others join.
func put(ctx context.Context, c *shard.Cluster, id shard.ID, n int64) (shard.Seen, error) {
	w := shard.Write{Op: "put", Queue: func(b *pgx.Batch) {
		b.Queue("INSERT INTO item AS i VALUES ($1, $2, $3) ON CONFLICT (bucket, id) DO UPDATE SET n = $3", int16(id.Bucket()), arg(id), n)
	}}
	if id[15]%2 == 0 {
		w.Order = string(id[:])
	}
	return c.Write(ctx, id.Bucket(), w)
}

// take reads what is stored under id; -1: nothing.
func take(ctx context.Context, c *shard.Cluster, id shard.ID, after shard.Token, newest bool) (int64, shard.Source, error) {
	var n pgtype.Int8
	source, err := c.Read(ctx, id.Bucket(), shard.Read{
		Op: "take", Args: []any{arg(id)}, After: after, Newest: newest,
		SQL:  "SELECT i.n FROM bucket_owner o LEFT JOIN item i ON i.bucket = o.bucket AND i.id = $3 WHERE " + shard.Owned,
		Scan: func(r pgx.Row) error { return r.Scan(&n) },
	})
	if !n.Valid {
		return -1, source, err
	}
	return n.Int64, source, err
}

func token(seen shard.Seen) (t shard.Token) {
	t.Saw(seen.Version, seen.Shard, seen.At)
	return t
}

func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually asks until the answer is true.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !ask() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func isUnavailable(err error) bool {
	var u *shard.Unavailable
	return errors.As(err, &u)
}

// TestReplicas reads from replicas in turn, never older than a token, and leaves
// those out that lag or are gone.
func TestReplicas(t *testing.T) {
	ctx := background(t)
	c := pgtest.Start(t, pgtest.Options{Replicas: 2})
	old := servers
	servers = c
	defer func() { servers = old }()
	cfg := config(t, 1, c.Replicas...)
	cfg.MaxReplicaLag = 500 * time.Millisecond
	cl := run(t, cfg)
	c.CatchUp(t)
	id := shard.NewID(7, time.Now())
	var seen shard.Seen
	for n := range int64(50) {
		var err error
		if seen, err = put(ctx, cl, id, n); err != nil {
			t.Fatal(err)
		}
		if got, _, err := take(ctx, cl, id, token(seen), false); err != nil || got != n {
			t.Fatalf("read %d after writing %d: %v", got, n, err)
		}
	}
	eventually(t, "a replica serves under a token", func() bool {
		got, source, err := take(ctx, cl, id, token(seen), false)
		return err == nil && got == 49 && !source.Primary && !source.Stale
	})

	first, second := c.Replicas[0], c.Replicas[1]
	first.PauseReplay(t)
	if seen, _ = put(ctx, cl, id, 100); seen.At.LSN == 0 {
		t.Fatal("no position")
	}
	for range 50 {
		if got, _, err := take(ctx, cl, id, token(seen), false); err != nil || got != 100 {
			t.Fatalf("read %d under the token of 100: %v", got, err)
		}
	}
	eventually(t, "the replica that lags is left out, and the other serves", func() bool {
		for range 20 {
			got, source, err := take(ctx, cl, id, shard.Token{}, false)
			if err != nil || source.Primary || got != 100 {
				return false
			}
		}
		return true
	})
	second.Kill()
	for range 50 { // the only replica lags: the primary
		if got, _, err := take(ctx, cl, id, token(seen), false); err != nil || got != 100 {
			t.Fatalf("read %d under the token of 100: %v", got, err)
		}
	}
	first.ResumeReplay(t)
	second.Restart(t)
	eventually(t, "a replica serves again", func() bool {
		_, source, err := take(ctx, cl, id, token(seen), false)
		return err == nil && !source.Primary
	})

	second.Freeze(t)
	for range 20 { // a server that does not answer costs one time-out or two
		if got, _, err := take(ctx, cl, id, token(seen), false); err != nil || got != 100 {
			t.Fatalf("read %d while a replica hangs: %v", got, err)
		}
	}
	second.Thaw()
}

// TestPrimaryGone reads on, refuses writes at once, and finds a replica that was
// promoted. The old primary, when it comes back, is none.
func TestPrimaryGone(t *testing.T) {
	ctx := background(t)
	c := pgtest.Start(t, pgtest.Options{Replicas: 2})
	old := servers
	servers = c
	defer func() { servers = old }()
	cl := run(t, config(t, 1, c.Replicas...))
	id := shard.NewID(7, time.Now())
	seen, err := put(ctx, cl, id, 1)
	if err != nil {
		t.Fatal(err)
	}
	c.CatchUp(t)

	c.Primary.Kill()
	eventually(t, "reads go on, and are marked", func() bool {
		got, source, err := take(ctx, cl, id, token(seen), false)
		return err == nil && got == 1 && source.Stale
	})
	eventually(t, "writes fail without a try", func() bool {
		_, err := put(ctx, cl, id, 2)
		var u *shard.Unavailable
		return errors.As(err, &u) && !u.Unknown && u.Err == nil
	})
	if _, _, err := take(ctx, cl, id, shard.Token{}, true); !isUnavailable(err) {
		t.Errorf("the newest, without a primary: %v", err)
	}
	beyond := seen
	beyond.At.LSN += 1 << 30
	if got, _, err := take(ctx, cl, id, token(beyond), false); !isUnavailable(err) {
		t.Errorf("read %d under a token that no replica covers: %v", got, err)
	}

	c.Replicas[1].Promote(t)
	eventually(t, "the promoted replica takes writes", func() bool {
		seen, err = put(ctx, cl, id, 3)
		return err == nil
	})
	if seen.At.Timeline != 2 {
		t.Errorf("written at %v, which is no second timeline", seen.At)
	}
	c.Primary.Restart(t)
	// It takes writes, and believes that it is the primary; wait until the
	// cluster has seen it.
	eventually(t, "all servers answer", func() bool {
		for _, h := range cl.Health(ctx) {
			if h.Err != nil {
				return false
			}
		}
		return true
	})
	for n := range int64(50) {
		if seen, err = put(ctx, cl, id, 10+n); err != nil || seen.At.Timeline != 2 {
			t.Fatalf("written at %v: %v", seen.At, err)
		}
		if got, _, err := take(ctx, cl, id, token(seen), false); err != nil || got != 10+n {
			t.Fatalf("read %d after writing %d: %v", got, 10+n, err)
		}
	}
}

// TestHealthOfAFrozenServer: who has as long as a read is told in time that one
// server of many hangs.
func TestHealthOfAFrozenServer(t *testing.T) {
	frozen := servers.Replicas[0]
	cfg := config(t, 1, servers.Replicas...)
	cfg.Timeout = 4 * time.Second
	cl := run(t, cfg)
	servers.CatchUp(t) // else the other has no such database yet
	frozen.Freeze(t)
	defer frozen.Thaw()
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Timeout)
	defer cancel()
	for _, h := range cl.Health(ctx) {
		if hangs := strings.HasSuffix(h.Address, fmt.Sprint(":", frozen.Port)); hangs != (h.Err != nil) || hangs && !h.Spare {
			t.Errorf("%s %s: %v, spare %v", h.Listed, h.Address, h.Err, h.Spare)
		}
	}
	if err := ctx.Err(); err != nil {
		t.Error("nobody waits for the answer any more:", err)
	}
}

// TestIdentity refuses addresses that were mixed up.
func TestIdentity(t *testing.T) {
	cfg := config(t, 2)
	run(t, cfg)
	cfg.Shards[0].Primary, cfg.Shards[1].Primary = cfg.Shards[1].Primary, cfg.Shards[0].Primary
	c, err := shard.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(background(t))
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	defer func() { cancel(); <-done; c.Close() }()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Migrate(ctx); err == nil || !strings.Contains(err.Error(), `is the shard "s2"`) {
		t.Errorf("mixed up: %v", err)
	}
}

// TestMigrateAtOnce has several processes start over new shards together.
func TestMigrateAtOnce(t *testing.T) {
	cfg := config(t, 2)
	ctx := background(t)
	errs := make(chan error, 4)
	for range cap(errs) {
		c, err := shard.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		life, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); _ = c.Run(life) }()
		t.Cleanup(func() { cancel(); <-done; c.Close() })
		go func() {
			err := c.Ready(ctx)
			if err == nil {
				err = c.Migrate(ctx)
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestWithin rolls back what the caller does not want.
func TestWithin(t *testing.T) {
	ctx := background(t)
	id := shard.NewID(7, time.Now())
	no := errors.New("no")
	cfg := config(t, 1)
	cfg.Within = func(ctx context.Context, tx pgx.Tx, events []any) error {
		var n int
		if e := tx.QueryRow(ctx, "SELECT count(*) FROM item WHERE id = $1", arg(id)).Scan(&n); e != nil || n != 1 {
			t.Errorf("%d rows, %v", n, e)
		}
		err, _ := events[0].(error)
		return err
	}
	cl := run(t, cfg)
	write := func(result error) error {
		_, got := cl.Write(ctx, id.Bucket(), shard.Write{Op: "put",
			Queue: func(b *pgx.Batch) {
				b.Queue("INSERT INTO item VALUES ($1, $2, 1)", int16(id.Bucket()), arg(id))
			},
			Event: func() any {
				if result == nil {
					return "fine"
				}
				return result
			}})
		return got
	}
	if err := write(no); !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
	if n, _, err := take(ctx, cl, id, shard.Token{}, true); err != nil || n != -1 {
		t.Errorf("%d, %v", n, err)
	}
	if err := write(nil); err != nil {
		t.Error(err)
	}
	if n, _, err := take(ctx, cl, id, shard.Token{}, true); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
}
