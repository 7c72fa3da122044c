package shard

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Bulk is rows of many buckets, to be written in one transaction a shard.
type Bulk struct {
	Op string // for the metrics
	// Buckets are those of the rows. Every bucket of a transaction holds a lock
	// until its end, of which a server has some thousand.
	Buckets []Bucket
	// Queue adds the statements for the rows at some places of Buckets, which are
	// on one shard. It is called by one goroutine a shard, and again for another
	// try, which has other places where buckets have moved.
	Queue func(batch *pgx.Batch, places []int)
}

// manyGuard is guard for several buckets, in the order in which everybody locks
// them.
type manyGuard struct {
	buckets []int32
	epochs  []int64
}

const (
	lockManySQL = "SELECT pg_advisory_xact_lock_shared(4711, b) FROM unnest($1::integer[]) b"
	// The LIMIT has each bucket looked up by its key: for so few of them the planner
	// would read all of the table.
	guardManySQL = `SELECT CASE
		WHEN bool_or(o.state IS NULL) THEN guard_refuse(min(w.bucket) FILTER (WHERE o.state IS NULL), min(w.epoch) FILTER (WHERE o.state IS NULL))
		WHEN bool_or(o.state = 'copying') THEN set_config('shard.copying', '1', true) END
		FROM unnest($1::integer[], $2::bigint[]) AS w(bucket, epoch)
		LEFT JOIN LATERAL (SELECT state FROM bucket_owner
			WHERE bucket = w.bucket AND epoch = w.epoch AND state IN ('active', 'copying') LIMIT 1) o ON true`
)

func (g manyGuard) queue(batch *pgx.Batch) {
	batch.Queue(lockManySQL, g.buckets)
	batch.Queue(guardManySQL, g.buckets, g.epochs)
}

// WriteMany runs a Bulk, all shards at once. Where it fails some of them may have
// written: its statements are such that they can be run again.
func (c *Cluster) WriteMany(ctx context.Context, w Bulk) error {
	deadline := time.Now().Add(c.cfg.Patience)
	left := make([]int, len(w.Buckets))
	for i := range left {
		left[i] = i
	}
	for {
		m := c.router.Map()
		if m == nil {
			return &Unavailable{What: "the map of the shards has not been read yet"}
		}
		var err error
		if left, err = c.writeParts(ctx, m, w, left); len(left) == 0 || err != nil && !again(err) || ctx.Err() != nil {
			return err
		}
		if time.Now().After(deadline) {
			return &Unavailable{What: "users are being moved between shards", Err: err}
		}
		pause(ctx)
		_ = c.Refresh(ctx) // an old map fails again
	}
}

// writeParts tries the rows at some places, and returns those that are left, with
// an error of one of them: one that is for good, if there is any.
func (c *Cluster) writeParts(ctx context.Context, m *Map, w Bulk, places []int) (left []int, err error) {
	parts := make([][]int, len(c.shards))
	for _, i := range places {
		s := m.Entries[w.Buckets[i]%Buckets].Shard
		parts[s] = append(parts[s], i)
	}
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		if len(part) > 0 {
			wg.Go(func() {
				one := Write{Op: w.Op, Queue: func(batch *pgx.Batch) { w.Queue(batch, part) }}
				_, errs[i] = c.writeOn(ctx, c.shards[i], guardOf(m, w, part), one)
			})
		}
	}
	wg.Wait()
	for i, e := range errs {
		if e == nil {
			continue
		}
		left = append(left, parts[i]...)
		if err == nil || again(err) {
			err = e
		}
	}
	return left, err
}

func guardOf(m *Map, w Bulk, places []int) manyGuard {
	var g manyGuard
	for _, i := range places {
		g.buckets = append(g.buckets, int32(w.Buckets[i]%Buckets))
	}
	slices.Sort(g.buckets)
	g.buckets = slices.Compact(g.buckets)
	for _, b := range g.buckets {
		g.epochs = append(g.epochs, m.Entries[b].Epoch)
	}
	return g
}
