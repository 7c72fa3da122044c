package shard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A Scatter asks every shard for rows.
type Scatter struct {
	Op string // for the metrics
	// Query is the SQL for one shard, and its arguments.
	Query func(shard int) (sql string, args []any)
	// Rows reads what a shard has answered, and returns the bits of its
	// bucket_bitmap, read in the same snapshot. It is called by one goroutine
	// a shard, and again for another try, which replaces what came before.
	Rows func(shard int, rows pgx.Rows) ([]byte, error)
	// Known, where it is set, is the bits that came with what is known of a shard
	// already, of which the first try asks nothing; nil: it is asked.
	Known   func(shard int) []byte
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
	var asked []int
	for i := range answers {
		if answers[i].bits = sc.known(i, again); answers[i].bits == nil {
			asked = append(asked, i)
		} else {
			answers[i].source.Primary = true // whatever it was, it has been told
		}
	}
	if len(asked) > 1 {
		asked = c.askTogether(ctx, sc, again, asked, answers)
	}
	ask := func(i int) {
		a := &answers[i]
		q := sc.question(i, again, a)
		a.source, a.err = c.ask(ctx, c.shards[i], q)
		if again && !sc.Newest && a.err != nil && unreachable(a.err) {
			q.newest = false // no primary: what the replicas have
			a.source, a.err = c.ask(ctx, c.shards[i], q)
		}
	}
	var wg sync.WaitGroup
	for n, i := range asked {
		if n > 0 {
			wg.Go(func() { ask(i) })
		}
	}
	if len(asked) > 0 {
		ask(asked[0])
	}
	wg.Wait()
	return answers
}

func (sc *Scatter) known(i int, again bool) []byte {
	if again || sc.Known == nil {
		return nil
	}
	return sc.Known(i)
}

func (sc *Scatter) question(i int, again bool, a *answer) question {
	sql, args := sc.Query(i)
	return question{
		op: sc.Op, sql: sql, args: args, need: sc.After.At(i), newest: sc.Newest || again,
		rows: func(rows pgx.Rows) (err error) {
			a.bits, err = sc.Rows(i, rows)
			return err
		},
	}
}

// A leg is a question that is on its way to a server.
type leg struct {
	shard   int
	host    *host
	replica bool
	conn    *pgxpool.Conn
	results pgx.BatchResults
	behind  *bool
}

// askTogether sends the questions to all the shards and then reads the answers,
// one after the other: they are being thought about at the same time, and nobody
// has to be woken up for each. It returns the shards that are to be asked in the
// ordinary way: those whose servers were not at hand, or did not answer well.
func (c *Cluster) askTogether(ctx context.Context, sc Scatter, again bool, asked []int, answers []answer) (left []int) {
	try, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	start := time.Now()
	legs := make([]leg, 0, len(asked))
	for _, i := range asked {
		s := c.shards[i]
		q := sc.question(i, again, &answers[i])
		h, replica := s.atHand(q)
		if h == nil {
			left = append(left, i)
			continue
		}
		conn, err := h.pool.Acquire(try)
		if err != nil {
			left = append(left, i)
			continue
		}
		need := q.need
		if !replica {
			need = Position{}
		}
		batch, behind := q.batch(need)
		legs = append(legs, leg{i, h, replica, conn, conn.SendBatch(try, batch), behind})
	}
	for _, l := range legs {
		s := c.shards[l.shard]
		err := l.results.Close()
		l.conn.Release()
		if err == nil && l.host.fell(*l.behind, sc.After.At(l.shard), l.replica) {
			err = errBehind
		}
		role := "primary"
		if l.replica {
			role = "replica"
		}
		c.metrics.asked(s, role, sc.Op, time.Since(start))
		if err == nil {
			answers[l.shard].source = Source{Primary: !l.replica, Stale: l.replica && s.primary.Load() == nil}
			continue
		}
		if ctx.Err() == nil && hostFault(err) && !answered(err) {
			s.suspect(l.host, try, err)
		}
		left = append(left, l.shard)
	}
	return left
}

// atHand is the server that q is for, if that has a connection which is free: to
// wait for one would hold up the other shards.
func (s *shardHosts) atHand(q question) (h *host, replica bool) {
	var space [8]*host
	if !q.newest {
		if list := s.replicas(q.need, space[:0]); len(list) > 0 {
			h, replica = list[0], true
		}
	}
	if h == nil && (q.newest || len(s.hosts) == 1) {
		h = s.primary.Load()
	}
	if h == nil || h.pool.Stat().IdleConns() == 0 {
		return nil, false
	}
	return h, replica
}

// covered says what is wrong with the buckets that the answers are about. Those
// which the map has on shards that did not answer may be missing.
func covered(m *Map, answers []answer) error {
	const words = Buckets / 64
	var all, twice [words]uint64 // a bit for each bucket, the lowest first
	for _, a := range answers {
		if a.err != nil {
			continue
		}
		if len(a.bits) != 8*words {
			return fmt.Errorf("shard: a bitmap of %d bytes", len(a.bits))
		}
		for i := range all {
			w := binary.LittleEndian.Uint64(a.bits[8*i:])
			twice[i] |= all[i] & w
			all[i] |= w
		}
	}
	for i := range all {
		if twice[i] != 0 {
			return fmt.Errorf("shard: two shards have bucket %d", 64*i+bits.TrailingZeros64(twice[i]))
		}
		for gap := ^all[i]; gap != 0; gap &= gap - 1 {
			b := 64*i + bits.TrailingZeros64(gap)
			if answers[m.Entries[b].Shard].err == nil {
				return fmt.Errorf("shard: no shard has bucket %d", b)
			}
		}
	}
	return nil
}
