package pgtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-edge/sluice/internal/pgtest"
)

// eventually waits until ask is true.
func eventually(t *testing.T, what string, ask func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ask(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// number asks a server for one number; -1 if it cannot be asked.
func number(ctx context.Context, s *pgtest.Server, sql string) int {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return -1
	}
	defer conn.Close(ctx)
	var n int
	if conn.QueryRow(ctx, sql).Scan(&n) != nil {
		return -1
	}
	return n
}

func TestCluster(t *testing.T) {
	const count = "SELECT count(*) FROM t"
	c := pgtest.Start(t, pgtest.Options{Replicas: 2})
	sees := func(s *pgtest.Server, n int) func(context.Context) bool {
		return func(ctx context.Context) bool { return number(ctx, s, count) == n }
	}
	c.Primary.Exec(t, "postgres", "CREATE TABLE t (i int)", "INSERT INTO t VALUES (1)")
	for _, r := range c.Replicas {
		eventually(t, "a replica has the row", sees(r, 1))
	}

	first, second := c.Replicas[0], c.Replicas[1]
	first.PauseReplay(t)
	c.Primary.Exec(t, "postgres", "INSERT INTO t VALUES (2)")
	eventually(t, "the second replica has the row", sees(second, 2))
	if n := number(context.Background(), first, count); n != 1 {
		t.Errorf("a replica that does not replay has %d rows", n)
	}
	first.ResumeReplay(t)
	eventually(t, "the first replica has the row again", sees(first, 2))

	second.Freeze(t)
	if n := number(context.Background(), second, count); n != -1 {
		t.Errorf("a frozen server says %d", n)
	}
	second.Thaw()
	eventually(t, "a thawed replica answers", sees(second, 2))

	c.Primary.Exec(t, "postgres", "INSERT INTO t VALUES (3)")
	c.Primary.Kill()
	if n := number(context.Background(), c.Primary, count); n != -1 {
		t.Errorf("a killed server says %d", n)
	}
	c.Primary.Restart(t)
	if n := number(context.Background(), c.Primary, count); n != 3 {
		t.Errorf("after a kill there are %d rows of 3", n)
	}
	third := c.AddReplica(t, c.Primary)
	eventually(t, "the replica by pg_basebackup has all rows", sees(third, 3))

	eventually(t, "the first replica has caught up", sees(first, 3))
	c.Primary.Kill()
	first.Promote(t)
	first.Exec(t, "postgres", "INSERT INTO t VALUES (4)")
	if n := number(context.Background(), first, count); n != 4 {
		t.Errorf("a promoted replica has %d rows", n)
	}
}
