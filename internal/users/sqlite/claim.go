package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sluice-edge/sluice/internal/users"
)

// reserve claims an address for a user.
func reserve(tx *sql.Tx, norm, id string, settled bool) error {
	_, err := tx.Exec(`INSERT INTO email_claim (email_norm, user_id, settled) VALUES (?, ?, ?)`, norm, id, settled)
	if isDuplicate(err) {
		return users.ErrEmailTaken
	}
	return err
}

// release gives an address up.
func release(tx *sql.Tx, norm, id string) error {
	_, err := tx.Exec(`DELETE FROM email_claim WHERE email_norm = ? AND user_id = ?`, norm, id)
	return err
}

func mark(tx *sql.Tx, norm, id string, settled bool) error {
	_, err := tx.Exec(`UPDATE email_claim SET settled = ? WHERE email_norm = ? AND user_id = ?`, settled, norm, id)
	return err
}

// withClaim does a write in another file between claiming an address and
// settling the claim. A crash in between leaves it unsettled.
func (s *Store) withClaim(ctx context.Context, f *file, norm, id string, write func() error) error {
	err := f.transact(ctx, func(tx *sql.Tx) error { return reserve(tx, norm, id, false) })
	if err != nil {
		return err
	}
	return s.after(ctx, f, norm, id, write(), true)
}

// withoutClaim does a write in another file between putting a claim in doubt and
// giving it up.
func (s *Store) withoutClaim(ctx context.Context, f *file, norm, id string, write func() error) error {
	err := f.transact(ctx, func(tx *sql.Tx) error { return mark(tx, norm, id, false) })
	if err != nil {
		return err
	}
	return s.after(ctx, f, norm, id, write(), false)
}

// after settles a claim by how the write went: it stays where the write was the
// one that wants it, or where one that gives it up was not done. What cannot be
// settled now is at the next Open; nobody else gets the address until then.
func (s *Store) after(ctx context.Context, f *file, norm, id string, wrote error, wanted bool) error {
	ctx = context.WithoutCancel(ctx)
	stays := wanted == (wrote == nil)
	err := f.transact(ctx, func(tx *sql.Tx) error {
		if stays {
			return mark(tx, norm, id, true)
		}
		return release(tx, norm, id)
	})
	if wrote != nil {
		return errors.Join(wrote, err)
	}
	return nil
}

// settle asks the users' rows about the claims that a crash left in doubt.
func (s *Store) settle(ctx context.Context) error {
	for _, f := range s.files {
		if err := s.settleFile(ctx, f); err != nil {
			return fmt.Errorf("shard %s: %w", f.name, err)
		}
	}
	return nil
}

func (s *Store) settleFile(ctx context.Context, f *file) error {
	rows, err := f.read.QueryContext(ctx, `SELECT email_norm, user_id FROM email_claim WHERE settled = 0`)
	if err != nil {
		return err
	}
	var doubts [][2]string
	for rows.Next() {
		var d [2]string
		if err := rows.Scan(&d[0], &d[1]); err != nil {
			return errors.Join(err, rows.Close())
		}
		doubts = append(doubts, d)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, d := range doubts {
		norm, id := d[0], d[1]
		have := ""
		if home, ok := s.homeOf(id); ok {
			have, err = emailOf(ctx, home.read, id)
			if err != nil && !errors.Is(err, users.ErrNotFound) {
				return err
			}
		}
		err := f.transact(ctx, func(tx *sql.Tx) error {
			if have == norm {
				return mark(tx, norm, id, true)
			}
			return release(tx, norm, id)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
