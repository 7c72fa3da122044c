package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A MoveStatus is what is known of one move.
type MoveStatus struct {
	ID       ID
	Bucket   Bucket
	From, To string
	Step     string
	Decision string // none | commit | abort
	Done     bool
	Rows     int64
	Started  time.Time
	Expired  bool // not done, and the mover has been silent for longer than its lease
}

// Moves lists the moves, the newest first, up to limit of them.
func (m *Mover) Moves(ctx context.Context, limit int) (list []MoveStatus, err error) {
	err = m.c.onAny(ctx, m.c.shards[0], func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT id, bucket, src, dst, step, decision, done, rows, started_at, NOT done AND lease_until < now()
			FROM bucket_move ORDER BY started_at DESC LIMIT $1`, limit)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (s MoveStatus, err error) {
			var id pgtype.UUID
			var b int16
			err = r.Scan(&id, &b, &s.From, &s.To, &s.Step, &s.Decision, &s.Done, &s.Rows, &s.Started, &s.Expired)
			s.ID, s.Bucket = id.Bytes, Bucket(b)
			return s, err
		})
		return err
	})
	return list, err
}

// Recover ends the moves that their movers have left: forward where that was
// decided, else back. It returns how many there were.
func (m *Mover) Recover(ctx context.Context) (int, error) {
	n := 0
	for {
		mv, err := m.adopt(ctx)
		if err != nil || mv == nil {
			return n, err
		}
		if mv.decision == "commit" {
			err = mv.forward(ctx)
		} else {
			err = mv.abort(ctx)
		}
		if err != nil && !errors.Is(err, errDecided) {
			return n, fmt.Errorf("recover bucket %d: %w", mv.bucket, err)
		}
		n++
	}
}

// adopt takes over one move whose lease has ended; nil: there is none.
func (m *Mover) adopt(ctx context.Context) (*move, error) {
	var mv *move
	err := m.directory(ctx, func(tx pgx.Tx) error {
		var id pgtype.UUID
		var b int16
		var src, dst string
		got := &move{m: m}
		err := tx.QueryRow(ctx, `SELECT id, bucket, src, dst, epoch, decision, rows FROM bucket_move
			WHERE NOT done AND lease_until < now() ORDER BY started_at LIMIT 1 FOR UPDATE SKIP LOCKED`).
			Scan(&id, &b, &src, &dst, &got.epoch, &got.decision, &got.rows)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		s, d := indexOf(m.c.names, src), indexOf(m.c.names, dst)
		if s < 0 || d < 0 {
			return fmt.Errorf("the move of bucket %d is between %s and %s, which are not both configured", b, src, dst)
		}
		got.id, got.bucket, got.src, got.dst = id.Bytes, Bucket(b), m.c.shards[s], m.c.shards[d]
		_, err = tx.Exec(ctx, "UPDATE bucket_move SET lease_until = now() + $2 WHERE id = $1", id, m.lease())
		mv = got
		return err
	})
	return mv, err
}

// Purge removes what moves that ended longer ago than age have left on the shards
// that the buckets came from, in small transactions. It returns how many rows.
func (m *Mover) Purge(ctx context.Context, age time.Duration) (rows int64, err error) {
	type left struct {
		id     pgtype.UUID
		bucket int16
		src    string
		epoch  int64
	}
	var list []left
	err = m.c.onPrimary(ctx, m.c.shards[0], func(conn *pgx.Conn) error {
		found, err := conn.Query(ctx, "SELECT id, bucket, src, epoch FROM bucket_move WHERE done AND NOT purged AND ended_at < now() - $1::interval", age)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(found, func(r pgx.CollectableRow) (l left, err error) {
			return l, r.Scan(&l.id, &l.bucket, &l.src, &l.epoch)
		})
		return err
	})
	for _, l := range list {
		at := indexOf(m.c.names, l.src)
		if err != nil || at < 0 {
			return rows, errors.Join(err, fmt.Errorf("purge bucket %d of %s", l.bucket, l.src))
		}
		for _, t := range m.c.cfg.Tables {
			n, err := m.purge(ctx, m.c.shards[at], t, l.bucket, l.epoch)
			if rows += n; err != nil {
				return rows, err
			}
		}
		err = m.directory(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE bucket_move SET purged = true WHERE id = $1", l.id)
			return err
		})
	}
	return rows, err
}

// purge deletes rows of a bucket, as long as it is gone under that epoch: it may
// have come back since.
func (m *Mover) purge(ctx context.Context, s *shardHosts, t Table, b int16, epoch int64) (total int64, err error) {
	for {
		var n int64
		err := m.c.inTx(ctx, s, func(tx pgx.Tx) error {
			var gone bool
			err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM bucket_owner WHERE bucket = $1 AND epoch = $2 AND state = 'gone' FOR UPDATE)", b, epoch).Scan(&gone)
			if err != nil || !gone {
				return err
			}
			tag, err := tx.Exec(ctx, fmt.Sprintf("DELETE FROM %[1]s WHERE bucket = $1 AND %[2]s IN (SELECT %[2]s FROM %[1]s WHERE bucket = $1 LIMIT 1000)", t.Name, t.Key), b)
			n = tag.RowsAffected()
			return err
		})
		if total += n; err != nil || n == 0 {
			return total, err
		}
	}
}
