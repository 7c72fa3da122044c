package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A Mover moves buckets between shards while they are read and written.
//
// What a move has done is on the shards and in bucket_move; a mover that dies is
// followed by another, which after the lease finds the move and ends it: forward
// where it was decided, else back. Each step can be done again.
type Mover struct {
	c *Cluster
	// Large is how many rows a bucket has, at least, that is copied while it is
	// written, with a fence only for what is left; 0: 20,000.
	Large int64
	// Lease is how long a mover may be silent before another ends its move; 0:
	// 30 s.
	Lease time.Duration
	// Step, where it is set, is told what comes next. Where it fails, so does
	// the move, and nothing is tidied up: as if the mover had died.
	Step func(name string) error
}

// NewMover returns a mover over the shards of c.
func NewMover(c *Cluster) *Mover { return &Mover{c: c} }

// A move is one on its way, as bucket_move has it.
type move struct {
	m        *Mover
	id       ID
	bucket   Bucket
	src, dst *shardHosts
	epoch    int64 // under which the source owns it; the destination will under one more
	decision string
	rows     int64
}

// A crash is what Step returned: nothing after it is done.
type crash struct{ err error }

func (c crash) Error() string { return "the mover stopped: " + c.err.Error() }
func (c crash) Unwrap() error { return c.err }

// errDecided says that another mover has ended this move.
var errDecided = errors.New("shard: another mover has ended this move")

// Move moves a bucket to the shard named to, and returns how many rows that were.
// Where it fails the bucket stays, unless it had been decided: then Recover ends
// it.
func (m *Mover) Move(ctx context.Context, b Bucket, to string) (rows int64, err error) {
	if m.c.cfg.Distributed {
		return 0, errors.New("shard: a distributed database moves its rows itself")
	}
	mv, err := m.begin(ctx, b, to)
	if err != nil || mv == nil {
		return 0, err
	}
	err = mv.run(ctx)
	var died crash
	if err != nil && !errors.As(err, &died) {
		tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.lease())
		defer cancel()
		err = errors.Join(err, mv.abort(tidy))
	}
	return mv.rows, err
}

func (m *Mover) lease() time.Duration {
	if m.Lease > 0 {
		return m.Lease
	}
	return 30 * time.Second
}

// begin writes the move down; it returns nil where the bucket is there already.
func (m *Mover) begin(ctx context.Context, b Bucket, to string) (*move, error) {
	dst := indexOf(m.c.names, to)
	if dst < 0 || b >= Buckets {
		return nil, fmt.Errorf("shard: there is no shard %q, or no bucket %d", to, b)
	}
	mv := &move{m: m, id: RandomID(), bucket: b, dst: m.c.shards[dst], decision: "none"}
	err := m.directory(ctx, func(tx pgx.Tx) error {
		var from string
		if err := tx.QueryRow(ctx, "SELECT shard, epoch FROM shard_map WHERE bucket = $1 FOR UPDATE", int16(b)).Scan(&from, &mv.epoch); err != nil {
			return err
		}
		src := indexOf(m.c.names, from)
		if src < 0 {
			return fmt.Errorf("shard: bucket %d is on the shard %q, which is not configured", b, from)
		}
		mv.src = m.c.shards[src]
		if from == to {
			return nil
		}
		tag, err := tx.Exec(ctx, `INSERT INTO bucket_move (id, bucket, src, dst, epoch, step, lease_until)
			VALUES ($1, $2, $3, $4, $5, 'begun', now() + $6) ON CONFLICT DO NOTHING`,
			idArg(mv.id), int16(b), from, to, mv.epoch, m.lease())
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("shard: bucket %d is being moved already", b)
		}
		return err
	})
	if err != nil || mv.src == mv.dst {
		return nil, err
	}
	return mv, nil
}

// directory runs a transaction where the map is.
func (m *Mover) directory(ctx context.Context, f func(pgx.Tx) error) error {
	return m.c.inTx(ctx, m.c.shards[0], f)
}

func (c *Cluster) inTx(ctx context.Context, s *shardHosts, f func(pgx.Tx) error) error {
	return c.onPrimary(ctx, s, func(conn *pgx.Conn) error { return pgx.BeginFunc(ctx, conn, f) })
}

func idArg(id ID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

// run does all steps of a new move.
func (mv *move) run(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"import", mv.importing},
		{"copy", mv.copyWhileWritten},
		{"fence", mv.fence},
		{"rest", mv.copyRest},
		{"verify", mv.verify},
		{"decide", func(ctx context.Context) error { return mv.decide(ctx, "commit") }},
	} {
		if err := mv.step(ctx, step.name, step.do); err != nil {
			return fmt.Errorf("move bucket %d from %s to %s: %s: %w", mv.bucket, mv.src.name, mv.dst.name, step.name, err)
		}
	}
	return mv.forward(ctx)
}

// step renews the lease and does one thing.
func (mv *move) step(ctx context.Context, name string, do func(context.Context) error) error {
	if mv.m.Step != nil {
		if err := mv.m.Step(name); err != nil {
			return crash{err}
		}
	}
	err := mv.m.directory(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "UPDATE bucket_move SET step = $2, rows = $3, lease_until = now() + $4 WHERE id = $1 AND NOT done AND decision = $5",
			idArg(mv.id), name, mv.rows, mv.m.lease(), mv.decision)
		if err == nil && tag.RowsAffected() == 0 {
			err = errDecided
		}
		return err
	})
	if err != nil {
		return err
	}
	return do(ctx)
}

// own sets what a shard says of the bucket, under the exclusive lock: whoever
// writes has ended, and sees the new state afterwards. It changes the row only
// from the states and the epoch given.
func (mv *move) own(ctx context.Context, s *shardHosts, state string, epoch int64, from []string, at int64) (bool, error) {
	changed := false
	err := mv.m.c.inTx(ctx, s, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '200ms'"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(4711, $1)", int32(mv.bucket)); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, "UPDATE bucket_owner SET state = $2, epoch = $3, since = now() WHERE bucket = $1 AND epoch = $4 AND state = ANY($5)",
			int16(mv.bucket), state, epoch, at, from)
		changed = err == nil && tag.RowsAffected() == 1
		return err
	})
	return changed, err
}

// ownSoon is own, tried again while writers hold it up.
func (mv *move) ownSoon(ctx context.Context, s *shardHosts, state string, epoch int64, from []string, at int64) (changed bool, err error) {
	for range 25 {
		changed, err = mv.own(ctx, s, state, epoch, from, at)
		if !again(err) || ctx.Err() != nil {
			break
		}
		pause(ctx)
	}
	return changed, err
}

// importing makes the destination ready: nobody reads or writes the bucket there
// yet, and what an earlier move left is removed.
func (mv *move) importing(ctx context.Context) error {
	if err := mv.sameSchemas(ctx); err != nil {
		return err
	}
	return mv.m.c.inTx(ctx, mv.dst, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(4711, $1)", int32(mv.bucket)); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `INSERT INTO bucket_owner AS o (bucket, epoch, state) VALUES ($1, $2, 'importing')
			ON CONFLICT (bucket) DO UPDATE SET epoch = $2, state = 'importing', since = now()
			WHERE o.epoch < $2 AND o.state IN ('gone', 'importing') OR o.epoch = $2 AND o.state = 'importing'`, int16(mv.bucket), mv.epoch+1)
		if err == nil && tag.RowsAffected() == 0 {
			err = errors.New("the destination has the bucket already, under a newer epoch")
		}
		for _, t := range mv.m.c.cfg.Tables {
			if err == nil {
				_, err = tx.Exec(ctx, "DELETE FROM "+t.Name+" WHERE bucket = $1", int16(mv.bucket))
			}
		}
		return err
	})
}

func (mv *move) sameSchemas(ctx context.Context) error {
	ask := func(s *shardHosts) (have string, err error) {
		err = mv.m.c.onPrimary(ctx, s, func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, "SELECT string_agg(name || ' ' || version, ', ' ORDER BY name, version) FROM schema_migration").Scan(&have)
		})
		return have, err
	}
	a, err := ask(mv.src)
	if err != nil {
		return err
	}
	b, err := ask(mv.dst)
	if err == nil && a != b {
		err = fmt.Errorf("the schemas differ: %s has %s, %s has %s", mv.src.name, a, mv.dst.name, b)
	}
	return err
}

// fence ends writes on the source. Reads go on.
func (mv *move) fence(ctx context.Context) error {
	changed, err := mv.ownSoon(ctx, mv.src, "fenced", mv.epoch, []string{"active", "copying", "fenced"}, mv.epoch)
	if err == nil && !changed {
		err = errDecided
	}
	return err
}

// decide writes down, once, how the move ends.
func (mv *move) decide(ctx context.Context, decision string) error {
	err := mv.m.directory(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE bucket_move SET decision = $2 WHERE id = $1 AND decision = 'none'", idArg(mv.id), decision); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT decision FROM bucket_move WHERE id = $1", idArg(mv.id)).Scan(&mv.decision)
	})
	if err == nil && mv.decision != decision {
		err = errDecided
	}
	return err
}

// forward does what has been decided: the source first, so that there is never
// more than one shard that takes writes.
func (mv *move) forward(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"give", func(ctx context.Context) error {
			_, err := mv.ownSoon(ctx, mv.src, "gone", mv.epoch, []string{"fenced"}, mv.epoch)
			return err
		}},
		{"take", func(ctx context.Context) error {
			_, err := mv.ownSoon(ctx, mv.dst, "active", mv.epoch+1, []string{"importing"}, mv.epoch+1)
			return err
		}},
		{"map", func(ctx context.Context) error { return mv.enter(ctx, mv.dst.name, mv.epoch+1) }},
	} {
		if err := mv.step(ctx, step.name, step.do); err != nil {
			return fmt.Errorf("bucket %d goes to %s, and is not there yet: %s: %w", mv.bucket, mv.dst.name, step.name, err)
		}
	}
	return mv.m.c.Refresh(ctx)
}

// enter changes the map and ends the move.
func (mv *move) enter(ctx context.Context, shard string, epoch int64) error {
	return mv.m.directory(ctx, func(tx pgx.Tx) error {
		var version int64
		err := tx.QueryRow(ctx, "UPDATE shard_map_version SET version = version + 1 RETURNING version").Scan(&version)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, "UPDATE shard_map SET shard = $2, epoch = $3, version = $4 WHERE bucket = $1 AND epoch < $3", int16(mv.bucket), shard, epoch, version)
		if err == nil && tag.RowsAffected() == 0 {
			return errDecided
		}
		if err == nil {
			_, err = tx.Exec(ctx, "UPDATE bucket_move SET done = true, ended_at = now(), rows = $2, purged = (decision = 'abort') WHERE id = $1", idArg(mv.id), mv.rows)
		}
		return err
	})
}

// abort gives the bucket back to the source, unless it was decided that it goes.
// The source goes on under an epoch that is newer than the destination's, so that
// nothing that a slow mover still does there can come to life.
func (mv *move) abort(ctx context.Context) error {
	if err := mv.decide(ctx, "abort"); err != nil {
		if errors.Is(err, errDecided) && mv.decision == "commit" {
			return fmt.Errorf("bucket %d was decided to go to %s: recover ends the move", mv.bucket, mv.dst.name)
		}
		return err
	}
	changed, err := mv.ownSoon(ctx, mv.src, "active", mv.epoch+2, []string{"active", "copying", "fenced"}, mv.epoch)
	if err != nil {
		return err
	}
	if !changed && !mv.owned(ctx, mv.src, mv.epoch+2) {
		return fmt.Errorf("the source does not have bucket %d at epoch %d", mv.bucket, mv.epoch)
	}
	// What was copied may stay if this fails: it is nobody's, and the next import
	// removes it.
	_ = mv.m.c.inTx(ctx, mv.dst, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "UPDATE bucket_owner SET state = 'gone' WHERE bucket = $1 AND epoch = $2 AND state = 'importing'", int16(mv.bucket), mv.epoch+1)
		for _, t := range mv.m.c.cfg.Tables {
			if err == nil && tag.RowsAffected() == 1 {
				_, err = tx.Exec(ctx, "DELETE FROM "+t.Name+" WHERE bucket = $1", int16(mv.bucket))
			}
		}
		return err
	})
	if err := mv.enter(ctx, mv.src.name, mv.epoch+2); err != nil {
		return err
	}
	return mv.m.c.Refresh(ctx)
}

func (mv *move) owned(ctx context.Context, s *shardHosts, epoch int64) (yes bool) {
	_ = mv.m.c.onPrimary(ctx, s, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM bucket_owner WHERE bucket = $1 AND epoch = $2 AND state = 'active')", int16(mv.bucket), epoch).Scan(&yes)
	})
	return yes
}
