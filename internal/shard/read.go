package shard

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Read asks one bucket for one row.
type Read struct {
	Op string // for the metrics
	// SQL has the bucket as $1 and the epoch as $2, and finds a row, exactly
	// one, only where bucket_owner has them in a state that may be read.
	SQL  string
	Args []any // from $3 on
	Scan func(pgx.Row) error
	// After is what the answer has to show, at least. Newest asks for what is
	// newest of all.
	After  Token
	Newest bool
}

// A Source says where an answer came from.
type Source struct {
	Stale   bool // a replica answered because no primary could
	Primary bool // so that it was the newest when it was read
}

// Owned is the condition on bucket_owner o that a Read's SQL contains.
const Owned = "o.bucket = $1 AND o.epoch = $2 AND o.state IN ('active', 'copying', 'fenced')"

const replayedSQL = "SELECT coalesce(pg_last_wal_replay_lsn()::text, '0/0')"

// Read asks where bucket b is by now. The error is an *Unavailable where nobody
// can answer, or is what the database or Scan said.
func (c *Cluster) Read(ctx context.Context, b Bucket, r Read) (Source, error) {
	deadline := time.Now().Add(c.cfg.Patience)
	args := append(make([]any, 2, 8), r.Args...)
	for first := true; ; first = false {
		m, err := c.mapSince(ctx, r.After.Version)
		if err != nil {
			return Source{}, err
		}
		e := m.Entries[b%Buckets]
		s := c.shards[e.Shard]
		args[0], args[1] = int16(b), e.Epoch
		q := question{op: r.Op, sql: r.SQL, args: args, scan: r.Scan, need: r.After.At(s.index), newest: r.Newest || !first}
		source, err := c.ask(ctx, s, q)
		if !errors.Is(err, errNotOwner) || ctx.Err() != nil {
			return source, err
		}
		if time.Now().After(deadline) {
			return source, &Unavailable{Shard: s.name, What: "the bucket of this user is being moved", Err: err}
		}
		if !first {
			pause(ctx)
		}
		_ = c.Refresh(ctx) // an old map fails again
	}
}

// mapSince returns a map that is at least of that version.
func (c *Cluster) mapSince(ctx context.Context, version int64) (*Map, error) {
	m := c.router.Map()
	if m != nil && m.Version >= version {
		return m, nil
	}
	if err := c.Refresh(ctx); err != nil && (m == nil || ctx.Err() != nil) {
		return nil, &Unavailable{What: "the map of the shards cannot be read", Err: err}
	}
	if m = c.router.Map(); m.Version < version {
		return nil, &Unavailable{What: "the map of the shards is older than what the client has seen"}
	}
	return m, nil
}

// A question is a query that any server of a shard may answer.
type question struct {
	op     string
	sql    string
	args   []any
	scan   func(pgx.Row) error
	rows   func(pgx.Rows) error // instead of scan
	need   Position
	newest bool
}

// ask asks replicas in turn, and the primary where none of them can answer.
func (c *Cluster) ask(ctx context.Context, s *shardHosts, q question) (Source, error) {
	var space [8]*host
	var last error
	if !q.newest {
		for _, h := range s.replicas(q.need, space[:0]) {
			err := c.askReplica(ctx, s, h, q)
			if err == nil {
				return Source{Stale: s.primary.Load() == nil}, nil
			}
			if ctx.Err() != nil || !passing(err) {
				return Source{}, err
			}
			last = err
		}
	}
	h := s.primary.Load()
	if h == nil {
		if last == nil || errors.Is(last, errNotOwner) {
			last = s.turnedAway()
		}
		return Source{}, &Unavailable{Shard: s.name, What: "no server of shard " + s.name + " that is new enough can be reached", Err: last}
	}
	if len(s.hosts) > 1 && !q.newest {
		if !s.enter(ctx, c.cfg.Timeout) {
			return Source{}, &Unavailable{Shard: s.name, What: "the primary of shard " + s.name + " already does the replicas' work", Err: last}
		}
		defer s.leave()
	}
	try, cancel := context.WithTimeout(ctx, c.cfg.WriteTimeout)
	defer cancel()
	start := time.Now()
	err := q.on(try, h, Position{})
	c.metrics.asked(s, "primary", q.op, time.Since(start))
	switch {
	case unready(err):
		err = s.notReady(err)
	case refused(err):
		err = s.refusing(err)
	case err != nil && ctx.Err() == nil && hostFault(err) && !answered(err):
		s.suspect(h, try, err)
		err = &Unavailable{Shard: s.name, What: "the primary of shard " + s.name + " cannot be reached", Err: err}
	}
	return Source{Primary: true}, err
}

func (c *Cluster) askReplica(ctx context.Context, s *shardHosts, h *host, q question) error {
	try, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	start := time.Now()
	err := q.on(try, h, q.need)
	c.metrics.asked(s, "replica", q.op, time.Since(start))
	switch {
	case err == nil || ctx.Err() != nil || answered(err):
	case hostFault(err):
		s.suspect(h, try, err)
	}
	return err
}

// answered reports whether err says something of the rows rather than of the
// server.
func answered(err error) bool {
	return errors.Is(err, errNotOwner) || errors.Is(err, errBehind) || errors.Is(err, errScan)
}

// passing reports whether another server may answer where one ended with err.
func passing(err error) bool {
	return errors.Is(err, errNotOwner) || errors.Is(err, errBehind) || unready(err) ||
		!errors.Is(err, errScan) && (hostFault(err) || again(err) || refused(err))
}

// errScan marks what a caller's callback has returned.
var errScan = errors.New("shard: the row cannot be read")

// on asks one server. need is checked in the same batch, and before the query:
// hosts change, and a server that has come back after a crash may be behind what
// it had replayed before. Each statement has a snapshot of its own.
func (q question) on(ctx context.Context, h *host, need Position) error {
	if need == (Position{}) && q.rows == nil {
		return noRow(q.scan(h.pool.QueryRow(ctx, q.sql, q.args...)))
	}
	batch, behind := q.batch(need)
	err := h.pool.SendBatch(ctx, batch).Close()
	if err == nil && h.fell(*behind, need, true) {
		return errBehind
	}
	return noRow(err)
}

// fell reports whether a replica turned out not to be where it should.
func (h *host) fell(behind bool, need Position, replica bool) bool {
	return behind || replica && h.state.Load().at.Timeline < need.Timeline
}

// batch is the query, behind a look at how far the server is where need asks for
// something; behind becomes true where that is not far enough.
func (q question) batch(need Position) (batch *pgx.Batch, behind *bool) {
	batch, behind = &pgx.Batch{}, new(bool)
	if need != (Position{}) {
		batch.Queue(replayedSQL).QueryRow(func(row pgx.Row) error {
			var text string
			if err := row.Scan(&text); err != nil {
				return err
			}
			lsn, err := parseLSN(text)
			*behind = lsn < need.LSN
			return err
		})
	}
	if query := batch.Queue(q.sql, q.args...); q.rows != nil {
		query.Query(q.rows)
	} else {
		query.QueryRow(q.scan)
	}
	return batch, behind
}

func noRow(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return errNotOwner
	}
	return err
}
