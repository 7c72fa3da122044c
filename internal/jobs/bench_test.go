package jobs

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// BenchmarkJobs does b.N jobs that are nothing to do, by two workers on one
// shard; run it with -benchtime 50000x. The jobs are there before the clock
// starts, since enqueuing is a part of somebody's write.
func BenchmarkJobs(b *testing.B) {
	b.Run("postgres", func(b *testing.B) {
		url := database(b)
		first := openPostgres(b, url)
		pool, err := pgxpool.New(ctx, url)
		must(b, err)
		defer pool.Close()
		second, err := NewPostgres(pool, Config{Shard: "s1"})
		must(b, err)
		benchmark(b, first, second)
	})
	b.Run("sqlite", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "s1.db")
		benchmark(b, openSQLite(b, path), openSQLite(b, path))
	})
}

func benchmark(b *testing.B, first *store, second Source) {
	const batch = 1000
	for at := 0; at < b.N; at += batch {
		orders := make([]Order, min(batch, b.N-at))
		for i := range orders {
			orders[i] = fix(fmt.Sprint("u", i))
		}
		_, err := first.enqueue(true, orders...)
		must(b, err)
	}
	var n atomic.Int64
	done := make(chan struct{})
	handlers := Handlers{CacheFix: func(context.Context, Job, CacheFix) error {
		if n.Add(1) == int64(b.N) {
			close(done)
		}
		return nil
	}}
	b.ResetTimer()
	for _, s := range []Source{first, second} {
		_, stop := work(b, WorkerConfig{Shards: []Source{s}, Handlers: handlers, Queues: []string{"cache"}, Concurrency: 200})
		defer stop()
	}
	<-done
	for { // and noted as done, which comes after
		list, err := first.storage().depth(ctx)
		must(b, err)
		if len(list) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond) // lint:sleep nothing tells when
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}
