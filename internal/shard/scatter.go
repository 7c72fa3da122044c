package shard

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Scatter asks every shard for rows.
type Scatter struct {
	Op string // for the metrics
	// Query is the SQL for one shard, and its arguments.
	Query func(shard int) (sql string, args []any)
	// Rows reads what a shard has answered, and returns the bits of its
	// bucket_bitmap, read in the same snapshot. It is called by one goroutine
	// a shard, and again for another try, which replaces what came before.
	Rows    func(shard int, rows pgx.Rows) ([]byte, error)
	After   Token
	Newest  bool
	Partial bool // go on without the shards that cannot be reached
}

// Scatter asks all shards at once, and again until what they own together is
// every bucket exactly once: a bucket that moves meanwhile would be missing or
// there twice. It returns the names of the shards that did not answer, of which
// there are none unless Partial is set.
func (c *Cluster) Scatter(ctx context.Context, sc Scatter) (missing []string, source Source, err error) {
	deadline := time.Now().Add(c.cfg.Patience)
	for try := 0; ; try++ {
		m, err := c.mapSince(ctx, sc.After.Version)
		if err != nil {
			return nil, source, err
		}
		answers := c.askAll(ctx, sc, try > 0)
		missing, source = nil, Source{Primary: true}
		for i, a := range answers {
			switch {
			case a.err == nil:
				source.Primary = source.Primary && a.source.Primary
				source.Stale = source.Stale || a.source.Stale
			case sc.Partial && unreachable(a.err):
				missing = append(missing, c.names[i])
			default:
				return nil, source, a.err
			}
		}
		fault := covered(m, answers)
		if fault == nil {
			return missing, source, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, source, &Unavailable{What: "users are being moved between shards", Err: fault}
		}
		if try > 0 {
			pause(ctx)
		}
		_ = c.Refresh(ctx) // an old map fails again
	}
}

func unreachable(err error) bool {
	var u *Unavailable
	return errors.As(err, &u)
}

// An answer is what one shard said.
type answer struct {
	bits   []byte
	source Source
	err    error
}

func (c *Cluster) askAll(ctx context.Context, sc Scatter, again bool) []answer {
	answers := make([]answer, len(c.shards))
	ask := func(i int) {
		a := &answers[i]
		sql, args := sc.Query(i)
		q := question{op: sc.Op, sql: sql, args: args, need: sc.After.At(i), newest: sc.Newest || again}
		q.rows = func(rows pgx.Rows) (err error) {
			a.bits, err = sc.Rows(i, rows)
			return err
		}
		a.source, a.err = c.ask(ctx, c.shards[i], q)
		if again && !sc.Newest && a.err != nil && unreachable(a.err) {
			q.newest = false // no primary: what the replicas have
			a.source, a.err = c.ask(ctx, c.shards[i], q)
		}
	}
	var wg sync.WaitGroup
	for i := 1; i < len(answers); i++ {
		wg.Go(func() { ask(i) })
	}
	ask(0)
	wg.Wait()
	return answers
}

// covered says what is wrong with the buckets that the answers are about. Those
// which the map has on shards that did not answer may be missing.
func covered(m *Map, answers []answer) error {
	const size = Buckets / 8
	var all, twice [size]byte
	for _, a := range answers {
		if a.err != nil {
			continue
		}
		if len(a.bits) != size {
			return fmt.Errorf("shard: a bitmap of %d bytes", len(a.bits))
		}
		for i, b := range a.bits {
			twice[i] |= all[i] & b
			all[i] |= b
		}
	}
	for i := range all {
		if twice[i] != 0 {
			return fmt.Errorf("shard: two shards have bucket %d", 8*i+bits.TrailingZeros8(twice[i]))
		}
		for gap := ^all[i]; gap != 0; gap &= gap - 1 {
			b := 8*i + bits.TrailingZeros8(gap)
			if answers[m.Entries[b].Shard].err == nil {
				return fmt.Errorf("shard: no shard has bucket %d", b)
			}
		}
	}
	return nil
}
