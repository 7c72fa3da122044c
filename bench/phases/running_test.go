package phases

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// stores are what a phase needs beside our own binaries.
const stores = `# Phase 0: stores alone.
x-processes:
  - {run: postgres, name: S1, replicas: 1}
  - {run: redis, name: REDIS}
`

func begin(t *testing.T, text string, opts Options) *Running {
	t.Helper()
	dir, err := Scratch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "stores.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if opts.Install == nil {
		if opts.Install, err = Find(); err != nil {
			t.Fatal(err)
		}
	}
	opts.Dir, opts.Settled = dir, true
	r, err := Start(t.Context(), p, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r
}

func kind(names ...string) func(Spec) bool {
	return func(s Spec) bool { return slices.Contains(names, s.Kind) }
}

func execute(t *testing.T, p *Process, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL("users"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query(t *testing.T, p *Process, sql string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL("users"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var n int
	if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// TestStores: databases and Redis come up at free ports, a replica follows, a
// copy of a data directory has its rows, CPU time is theirs, and after Stop
// nobody listens.
func TestStores(t *testing.T) {
	r := begin(t, stores, Options{Only: kind("postgres", "redis")})
	if len(r.Processes) != 3 {
		t.Fatalf("%d processes", len(r.Processes))
	}
	s1, replica := r.Process("s1"), r.Process("s1-replica-1")
	before := r.CPU()
	query(t, s1, "WITH made AS (SELECT count(*) FROM generate_series(1, 3000000)) SELECT 1 FROM made")
	execute(t, s1, "CREATE TABLE t AS SELECT 7 AS n")
	if used := r.CPU()["s1"] - before["s1"]; used < 50*time.Millisecond {
		t.Errorf("counting to 3000000 took %v of CPU time", used)
	}
	for deadline := time.Now().Add(20 * time.Second); query(t, replica, "SELECT count(*) FROM pg_class WHERE relname = 't'") == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the replica does not follow")
		}
		<-time.After(10 * time.Millisecond)
	}
	if err := r.Dead(); err != nil {
		t.Error(err)
	}
	r.Stop()
	for _, p := range r.Processes {
		if c, err := net.Dial("tcp", p.Address); err == nil {
			c.Close()
			t.Errorf("%s listens after Stop", p.Name)
		}
		if p.Alive() {
			t.Errorf("%s lives after Stop", p.Name)
		}
	}
	again := begin(t, stores, Options{Install: r.opts.Install, Only: kind("postgres"), Data: map[string]string{"s1": s1.Dir}})
	for _, name := range []string{"s1", "s1-replica-1"} {
		if n := query(t, again.Process(name), "SELECT n FROM t"); n != 7 {
			t.Errorf("the copy's %s has %d", name, n)
		}
	}
}

// TestDies: a process that ends is said to have, with what it wrote.
func TestDies(t *testing.T) {
	r := begin(t, stores, Options{Only: kind("redis")})
	if err := r.Process("redis").cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-r.Process("redis").exited
	if err := r.Dead(); err == nil || !strings.Contains(err.Error(), "redis ended") {
		t.Errorf("%v", err)
	}
}

// TestNoStart: what does not start is named, and what was started is stopped.
func TestNoStart(t *testing.T) {
	in, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	in.Gateway = "/bin/false"
	dir := t.TempDir()
	file := filepath.Join(dir, "x.yaml")
	text := strings.ReplaceAll(stores, "run: postgres", "run: redis")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), p, Options{Install: in, Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "starting gateway: it ended") {
		t.Errorf("%v", err)
	}
}
