package jobs

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite"

	"github.com/sluice-edge/sluice/internal/pgtest"
)

// waitLimit bounds every wait of a test; none is expected to last.
const waitLimit = 90 * time.Second

var ctx = context.Background()

// A store is one shard under test, whatever its database.
type store struct {
	Source
	// enqueue adds jobs in a transaction of its own, which is rolled back if
	// commit is false.
	enqueue  func(commit bool, orders ...Order) ([]int64, error)
	dead     func(after int64, limit int) ([]DeadLetter, error)
	requeue  func(id int64) error
	counters func(day string) ([]Counter, error)
	// env tells a worker in another process where the shard is.
	env string
}

// cluster is one PostgreSQL for all tests, begun by the first that needs it.
var cluster struct {
	sync.Mutex
	*pgtest.Cluster
	databases int
}

func TestMain(m *testing.M) {
	if spec := os.Getenv("JOBS_TEST_WORKER"); spec != "" {
		os.Exit(workerProcess(spec))
	}
	code := m.Run()
	if cluster.Cluster != nil {
		cluster.Close()
	}
	os.Exit(code)
}

// database makes a database and returns its address.
func database(t testing.TB) string {
	t.Helper()
	cluster.Lock()
	defer cluster.Unlock()
	if cluster.Cluster == nil {
		c, err := pgtest.New(pgtest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		cluster.Cluster = c
	}
	cluster.databases++
	name := fmt.Sprint("jobs", cluster.databases)
	cluster.Primary.Exec(t, "postgres", "CREATE DATABASE "+name)
	return cluster.Primary.URL(name)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openPostgres(t testing.TB, url string) *store {
	t.Helper()
	pool := openPool(t, url)
	q, err := NewPostgres(pool, Config{Shard: "s1"})
	must(t, err)
	must(t, q.Migrate(ctx))
	s := storeOf(q, func(use func(pgx.Tx) error, commit bool) error {
		tx, err := pool.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(ctx) }()
		if err := use(tx); err != nil || !commit {
			return err
		}
		return tx.Commit(ctx)
	})
	s.env = "postgres " + url
	return s
}

func openPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(ctx, url)
	must(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func openSQLite(t testing.TB, path string) *store {
	t.Helper()
	db, err := sql.Open("sqlite", SQLiteName(path))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	writes, err := sql.Open("sqlite", SQLiteName(path)) // as the users' store has it
	must(t, err)
	t.Cleanup(func() { writes.Close() })
	q, err := NewSQLite(db, Config{Shard: "s1"})
	must(t, err)
	must(t, q.Migrate(ctx))
	s := storeOf(q, func(use func(*sql.Tx) error, commit bool) error {
		tx, err := writes.Begin()
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if err := use(tx); err != nil || !commit {
			return err
		}
		return tx.Commit()
	})
	s.env = "sqlite " + path
	return s
}

func storeOf[Tx any](q *Queue[Tx], in func(func(Tx) error, bool) error) *store {
	return &store{
		Source: q,
		enqueue: func(commit bool, orders ...Order) (ids []int64, err error) {
			err = in(func(tx Tx) error {
				var err error
				ids, err = q.Enqueue(ctx, tx, orders...)
				return err
			}, commit)
			return ids, err
		},
		dead:     func(after int64, limit int) ([]DeadLetter, error) { return q.Dead(ctx, after, limit) },
		requeue:  func(id int64) error { return q.Requeue(ctx, id) },
		counters: func(day string) ([]Counter, error) { return q.Counters(ctx, day) },
	}
}

// forStores runs a test over both databases.
func forStores(t *testing.T, f func(*testing.T, *store)) {
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, openPostgres(t, database(t)))
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, openSQLite(t, filepath.Join(t.TempDir(), "s1.db")))
	})
}

// work runs a worker until the test ends, or stop is called.
func work(t testing.TB, cfg WorkerConfig) (w *Worker, stop func()) {
	t.Helper()
	w, err := NewWorker(cfg)
	must(t, err)
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(waitLimit):
			t.Error("the worker does not end")
		}
	})
	t.Cleanup(stop)
	return w, stop
}

// eventually waits until ok holds, looking again and again at what nothing
// announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(waitLimit); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// A book notes which jobs a handler was called for, by their keys.
type book struct {
	mu    sync.Mutex
	calls map[string]int
	users map[string]int
}

func newBook() *book { return &book{calls: map[string]int{}, users: map[string]int{}} }

func (b *book) note(job Job, user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls[job.Key()]++
	b.users[user]++
}

func (b *book) distinct() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.calls)
}

func (b *book) times(user string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.users[user]
}
