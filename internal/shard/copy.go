package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A Table holds rows of buckets, which moves copy. Its primary key is the column
// bucket and Key. Columns are all there are.
type Table struct {
	Name    string
	Key     string
	Columns []string
}

// size counts the rows of the bucket on the source.
func (mv *move) size(ctx context.Context) (n int64, err error) {
	err = mv.m.c.onPrimary(ctx, mv.src, func(conn *pgx.Conn) error {
		for _, t := range mv.m.c.cfg.Tables {
			var rows int64
			if err := conn.QueryRow(ctx, "SELECT count(*) FROM "+t.Name+" WHERE bucket = $1", int16(mv.bucket)).Scan(&rows); err != nil {
				return err
			}
			n += rows
		}
		return nil
	})
	return n, err
}

// Passes over what changed while it was copied, before the fence is put up
// whatever is left, and how little is worth no more of them.
const (
	maxPasses = 10
	fewDirty  = 200
)

// copyWhileWritten copies a large bucket before the fence, and then what was
// changed meanwhile, until that is little. A small one is copied behind the fence,
// which stands for milliseconds.
func (mv *move) copyWhileWritten(ctx context.Context) error {
	n, err := mv.size(ctx)
	if err != nil {
		return err
	}
	large := mv.m.Large
	if large == 0 {
		large = 20_000
	}
	if mv.rows = n; n < large {
		return nil
	}
	changed, err := mv.ownSoon(ctx, mv.src, "copying", mv.epoch, []string{"active"}, mv.epoch)
	if err == nil && !changed {
		err = errDecided
	}
	if err != nil {
		return err
	}
	// Whoever writes from here on notes it; whoever wrote before has ended, and is
	// in the snapshot.
	if err := mv.copyAll(ctx); err != nil {
		return err
	}
	for range maxPasses {
		n, err := mv.pass(ctx)
		if err != nil || n <= fewDirty {
			return err
		}
	}
	return nil
}

// copyRest copies, behind the fence, what the destination does not have.
func (mv *move) copyRest(ctx context.Context) error {
	large := mv.m.Large
	if large == 0 {
		large = 20_000
	}
	if mv.rows < large {
		return mv.copyAll(ctx)
	}
	for {
		if n, err := mv.pass(ctx); err != nil || n == 0 {
			return err
		}
	}
}

// copyAll copies the bucket as it is in one snapshot.
func (mv *move) copyAll(ctx context.Context) error {
	return mv.m.c.onPrimary(ctx, mv.src, func(src *pgx.Conn) error {
		tx, err := src.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		return mv.into(ctx, func(dst pgx.Tx) error {
			for _, t := range mv.m.c.cfg.Tables {
				if err := t.pipe(ctx, src, dst.Conn(), mv.where()); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (mv *move) where() string { return fmt.Sprintf("bucket = %d", mv.bucket) }

// into runs a transaction on the destination, which fails unless that still
// imports for this move.
func (mv *move) into(ctx context.Context, f func(pgx.Tx) error) error {
	return mv.m.c.inTx(ctx, mv.dst, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT guard_import($1, $2)", int32(mv.bucket), mv.epoch+1); err != nil {
			return err
		}
		return f(tx)
	})
}

// pipe copies the rows that where chooses from one connection to the other.
func (t Table) pipe(ctx context.Context, src, dst *pgx.Conn, where string) error {
	columns := strings.Join(t.Columns, ", ")
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := src.PgConn().CopyTo(ctx, w, fmt.Sprintf("COPY (SELECT %s FROM %s WHERE %s) TO STDOUT (FORMAT binary)", columns, t.Name, where))
		_ = w.CloseWithError(err) // nil is the end
		done <- err
	}()
	_, err := dst.PgConn().CopyFrom(ctx, r, fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT binary)", t.Name, columns))
	_ = r.CloseWithError(errors.New("shard: the copy has ended"))
	if from := <-done; from != nil && err == nil {
		err = from
	}
	if err != nil {
		err = fmt.Errorf("copy %s: %w", t.Name, err)
	}
	return err
}

// pass copies what was noted as changed, as it is now, and returns how much that
// was. A row that is noted once more meanwhile is in the next pass: only the notes
// that were read are removed, since one with a lower number may come later.
func (mv *move) pass(ctx context.Context) (int, error) {
	total := 0
	err := mv.m.c.onPrimary(ctx, mv.src, func(src *pgx.Conn) error {
		rows, err := src.Query(ctx, "SELECT seq, tbl, pk FROM bucket_dirty WHERE bucket = $1 LIMIT 5000", int16(mv.bucket))
		if err != nil {
			return err
		}
		var notes []int64
		changed := map[string][]string{}
		var seq int64
		var tbl, pk string
		_, err = pgx.ForEachRow(rows, []any{&seq, &tbl, &pk}, func() error {
			notes = append(notes, seq)
			changed[tbl] = append(changed[tbl], pk)
			return nil
		})
		if total = len(notes); err != nil || total == 0 {
			return err
		}
		err = mv.into(ctx, func(dst pgx.Tx) error {
			for _, t := range mv.m.c.cfg.Tables {
				if keys := changed[t.Name]; len(keys) > 0 {
					if err := mv.renew(ctx, t, keys, src, dst); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err == nil {
			_, err = src.Exec(ctx, "DELETE FROM bucket_dirty WHERE seq = ANY($1)", notes)
		}
		return err
	})
	return total, err
}

// renew puts the rows of these keys in the place of what the destination has.
func (mv *move) renew(ctx context.Context, t Table, keys []string, src *pgx.Conn, dst pgx.Tx) error {
	quoted := make([]string, len(keys))
	for i, key := range keys {
		quoted[i] = quote(key)
	}
	where := fmt.Sprintf("%s AND %s::text IN (%s)", mv.where(), t.Key, strings.Join(quoted, ", "))
	if _, err := dst.Exec(ctx, "DELETE FROM "+t.Name+" WHERE "+where); err != nil {
		return err
	}
	return t.pipe(ctx, src, dst.Conn(), where)
}

// quote writes a literal for COPY, which takes no parameters. Strings conform to
// the standard in every supported release.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// verify compares the bucket on both shards, behind the fence: how many rows there
// are, and the sum of their hashes, which no order changes.
func (mv *move) verify(ctx context.Context) error {
	mv.rows = 0
	for _, t := range mv.m.c.cfg.Tables {
		count := func(s *shardHosts) (n int64, sum string, err error) {
			err = mv.m.c.onPrimary(ctx, s, func(conn *pgx.Conn) error {
				return conn.QueryRow(ctx, fmt.Sprintf(
					"SELECT count(*), coalesce(sum(hashtextextended(r::text, 0)), 0)::text FROM (SELECT %s FROM %s WHERE %s) r",
					strings.Join(t.Columns, ", "), t.Name, mv.where())).Scan(&n, &sum)
			})
			return n, sum, err
		}
		n, sum, err := count(mv.src)
		if err != nil {
			return err
		}
		n2, sum2, err := count(mv.dst)
		if err != nil {
			return err
		}
		if n != n2 || sum != sum2 {
			return fmt.Errorf("table %s: %d rows with the sum %s on %s, %d with %s on %s", t.Name, n, sum, mv.src.name, n2, sum2, mv.dst.name)
		}
		mv.rows += n
	}
	return nil
}
