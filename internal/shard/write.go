package shard

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A Write is one transaction in one bucket.
type Write struct {
	Op string // for the metrics
	// Queue adds the statements. It is called once for each try, and begins with
	// nothing known from an earlier one; what its callbacks return as an error
	// ends the batch and not the transaction, so they only note what they see.
	Queue func(*pgx.Batch)
	// Event, where it is set, is asked after the statements what Config.Within is
	// to be told in the same transaction; nil: nothing.
	Event func() any
	// Order names the one row that the statements may have to wait for, in the order
	// in which a transaction locks them. Writes that have one may share a
	// transaction, in which they see what those before them wrote. Their statements
	// fail but rarely: where one does, each is done again alone.
	Order string
}

// A Seen is what has to be added to the token of who wrote.
type Seen struct {
	Version int64
	Shard   int
	At      Position
}

const (
	lockSQL  = "SELECT pg_advisory_xact_lock_shared(4711, $1)"
	guardSQL = `SELECT CASE max(state) WHEN 'active' THEN NULL WHEN 'copying' THEN set_config('shard.copying', '1', true)
		ELSE guard_refuse($1, $2) END FROM bucket_owner WHERE bucket = $1::integer::smallint AND epoch = $2 AND state IN ('active', 'copying')`
	// Taken after the COMMIT: before it is too old.
	flushedSQL = "SELECT pg_current_wal_flush_lsn()::text"
)

// Write runs a transaction where bucket b is by now. The error is an
// *Unavailable where that cannot be done, or is what the database or
// Config.Within said.
func (c *Cluster) Write(ctx context.Context, b Bucket, w Write) (Seen, error) {
	deadline := time.Now().Add(c.cfg.Patience)
	for {
		m := c.router.Map()
		if m == nil {
			return Seen{}, &Unavailable{What: "the map of the shards has not been read yet"}
		}
		e := m.Entries[b%Buckets]
		seen, err := c.together(ctx, c.shards[e.Shard], guard{b, e.Epoch}, w)
		seen.Version = m.Version
		if err == nil || !again(err) || ctx.Err() != nil {
			return seen, err
		}
		if time.Now().After(deadline) {
			return seen, &Unavailable{Shard: c.names[e.Shard], What: "the bucket of this user is being moved", Err: err}
		}
		pause(ctx)
		if sqlState(err) == notOwned {
			_ = c.Refresh(ctx) // an old map fails again
		}
	}
}

// A guarding begins a transaction by making sure that its buckets are here.
type guarding interface{ queue(*pgx.Batch) }

// A guard is for one bucket.
type guard struct {
	bucket Bucket
	epoch  int64
}

func (g guard) queue(batch *pgx.Batch) {
	batch.Queue(lockSQL, int32(g.bucket))
	batch.Queue(guardSQL, int32(g.bucket), g.epoch)
}

// writeOn does all writes in one transaction.
func (c *Cluster) writeOn(ctx context.Context, s *shardHosts, g guarding, all ...Write) (Seen, error) {
	h := s.primary.Load()
	if h == nil {
		return Seen{}, s.noPrimary()
	}
	try, cancel := context.WithTimeout(ctx, c.cfg.WriteTimeout)
	defer cancel()
	start := time.Now()
	seen, sent, err := c.transact(try, h, g, all)
	seen.Shard = s.index
	c.metrics.transacted(s)
	for _, w := range all {
		c.metrics.asked(s, "primary", w.Op, time.Since(start))
	}
	if err == nil || again(err) {
		return seen, err
	}
	if ctx.Err() == nil && hostFault(err) && !errors.Is(err, errWithin) {
		s.suspect(h, try, err)
	}
	if unready(err) {
		return seen, s.notReady(err)
	}
	if sent && !untouched(err) {
		return seen, s.unknown(err)
	}
	if refused(err) {
		return seen, s.refusing(err)
	}
	if hostFault(err) && !errors.Is(err, errWithin) {
		return seen, &Unavailable{Shard: s.name, What: "the primary of shard " + s.name + " cannot be reached", Err: err}
	}
	return seen, err
}

// errWithin marks what Config.Within has returned.
var errWithin = errors.New("shard: rolled back by the caller")

// transact reports with sent whether the server may have seen a COMMIT. Where there
// may be events it takes two round trips, and those of Within: what fails before the
// last leaves the transaction open, which release rolls back.
func (c *Cluster) transact(ctx context.Context, h *host, g guarding, all []Write) (seen Seen, sent bool, err error) {
	conn, err := h.pool.Acquire(ctx)
	if err != nil {
		return seen, false, err
	}
	defer release(conn)
	batch := &pgx.Batch{}
	if !c.telling(all) {
		batch.Queue("BEGIN")
		c.fill(batch, g, all)
		seen, err = c.commit(ctx, h, conn, batch)
		return seen, true, err
	}
	batch.BeginTx(pgx.TxOptions{})
	c.fill(batch, g, all)
	results := conn.SendBatch(ctx, batch)
	tx := results.Tx()
	if err := results.Close(); err != nil {
		return seen, false, err
	}
	if err := c.tell(ctx, tx, all); err != nil {
		return seen, false, errors.Join(errWithin, err)
	}
	seen, err = c.commit(ctx, h, conn, &pgx.Batch{})
	return seen, true, err
}

func (c *Cluster) fill(batch *pgx.Batch, g guarding, all []Write) {
	if !c.cfg.Distributed {
		g.queue(batch)
	}
	for _, w := range all {
		w.Queue(batch)
	}
}

func (c *Cluster) telling(all []Write) bool {
	return c.cfg.Within != nil && slices.ContainsFunc(all, func(w Write) bool { return w.Event != nil })
}

func (c *Cluster) tell(ctx context.Context, tx pgx.Tx, all []Write) error {
	var events []any
	for _, w := range all {
		if w.Event == nil {
			continue
		}
		if e := w.Event(); e != nil {
			events = append(events, e)
		}
	}
	if len(events) == 0 {
		return nil
	}
	return c.cfg.Within(ctx, tx, events)
}

// commit sends a batch, a COMMIT and the question how far the log is then.
func (c *Cluster) commit(ctx context.Context, h *host, conn *pgxpool.Conn, batch *pgx.Batch) (seen Seen, err error) {
	committed := false
	batch.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
		committed = tag.String() == "COMMIT"
		return nil
	})
	c.position(batch, h, &seen)
	err = conn.SendBatch(ctx, batch).Close()
	switch {
	case committed && err != nil:
		err = errors.Join(errCommitted, err)
	case !committed && err == nil:
		err = errors.New("shard: the server did not commit") // a statement of Within failed, and it did not say so
	}
	return seen, err
}

// position asks how far the log is. A primary's timeline ends with it: the one
// that the probe has seen is this one.
func (c *Cluster) position(batch *pgx.Batch, h *host, seen *Seen) {
	if c.cfg.Distributed {
		return
	}
	batch.Queue(flushedSQL).QueryRow(func(row pgx.Row) error {
		var text string
		err := row.Scan(&text)
		if err == nil {
			seen.At.LSN, err = parseLSN(text)
		}
		seen.At.Timeline = h.state.Load().at.Timeline
		return err
	})
}

// parseLSN reads the two halves that PostgreSQL writes, as in 16/B374D848.
func parseLSN(text string) (uint64, error) {
	high, low, _ := strings.Cut(text, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	return h<<32 | l, errors.Join(errHigh, errLow)
}

// release gives a connection back; a transaction that a failed batch left open is
// rolled back first, as the pool would throw the connection away.
func release(conn *pgxpool.Conn) {
	if pg := conn.Conn().PgConn(); !pg.IsClosed() && pg.TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, _ = conn.Exec(ctx, "ROLLBACK")
		cancel()
	}
	conn.Release()
}
