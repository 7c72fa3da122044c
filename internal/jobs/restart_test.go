package jobs

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sluice-edge/sluice/internal/pgtest"
)

// TestDatabaseGone has a worker begin while its database is down, and the
// database die under it again: both times it goes on by itself.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{}).Primary
	s := openPostgres(t, server.URL("postgres"))
	b := newBook()
	pool, err := pgxpool.New(ctx, server.URL("postgres")) // the worker's own, as in its own process
	must(t, err)
	t.Cleanup(pool.Close)
	source, err := NewPostgres(pool, Config{Shard: "s1"})
	must(t, err)
	server.Kill()
	log := make(lines, 1)
	work(t, WorkerConfig{Shards: []Source{source}, Handlers: noted(b), Log: slog.New(slog.NewTextHandler(log, nil))})
	for line := ""; !strings.Contains(line, "cannot be worked yet"); {
		select {
		case line = <-log:
		case <-time.After(waitLimit):
			t.Fatal("the worker does not say that the database is down")
		}
	}
	for _, user := range []string{"first", "second"} {
		server.Kill()
		server.Restart(t)
		eventually(t, "a job is taken", func() bool { // the pool may hold dead connections
			_, err := s.enqueue(true, fix(user))
			return err == nil
		})
		eventually(t, "it is done", func() bool { return b.times(user) > 0 })
	}
}

// lines gets those of a log for which there is room.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}

// TestMigrateTogether has several processes begin at once.
func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(ctx, database(t))
	must(t, err)
	defer pool.Close()
	q, err := NewPostgres(pool, Config{Shard: "s1", Schema: "other"})
	must(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := q.Migrate(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := q.storage().depth(ctx); err != nil {
		t.Error(err)
	}
}
