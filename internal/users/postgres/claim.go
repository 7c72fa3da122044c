package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sluice-edge/sluice/internal/shard"
)

// pendingFor is how long a claim is left to who made it before somebody else
// asks what has become of it. Nothing but patience hangs on it.
const pendingFor = "30 seconds"

// A claim is who has an address.
type claim struct {
	user, op pgtype.UUID
	state    pgtype.Text
	expired  pgtype.Bool
}

const claimSQL = "SELECT user_id, op, state, expires_at < now() FROM email_claim WHERE bucket = $1 AND email_norm = $2"

// reserve makes a pending claim in the bucket of the address, which is not the
// user's. It reports false where somebody else has the address.
func (s *Store) reserve(ctx context.Context, tok *shard.Token, norm string, id, op shard.ID) (bool, error) {
	b := shard.KeyBucket(norm)
	for {
		var c claim
		seen, err := s.retryUnknown(ctx, b, shard.Write{Op: "claim", Order: claimOrder(norm), Queue: func(batch *pgx.Batch) {
			c = claim{}
			batch.Queue(`INSERT INTO email_claim (bucket, email_norm, user_id, op, state, expires_at)
				VALUES ($1, $2, $3, $4, 'pending', now() + interval '`+pendingFor+`') ON CONFLICT DO NOTHING`, int16(b), norm, uuid(id), uuid(op))
			batch.Queue(claimSQL, int16(b), norm).QueryRow(func(r pgx.Row) error { return one(r, &c.user, &c.op, &c.state, &c.expired) })
		}})
		if err != nil {
			return false, err
		}
		tok.Saw(seen.Version, seen.Shard, seen.At)
		if c.op.Bytes == op {
			return true, nil
		}
		if free, err := s.resolve(ctx, b, norm, c); err != nil || !free {
			return false, err
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
}

// look returns the claim of an address, as it is now.
func (s *Store) look(ctx context.Context, norm string) (c claim, err error) {
	b := shard.KeyBucket(norm)
	_, err = s.cluster.Read(ctx, b, shard.Read{
		Op: "claim", Newest: true, Args: []any{norm},
		SQL: `SELECT c.user_id, c.op, c.state, c.expires_at < now() FROM bucket_owner o
			LEFT JOIN email_claim c ON c.bucket = o.bucket AND c.email_norm = $3 WHERE ` + shard.Owned,
		Scan: func(r pgx.Row) error { return r.Scan(&c.user, &c.op, &c.state, &c.expired) },
	})
	return c, err
}

// resolve finds out whether the claim c is of a user who has the address, and
// deletes it if not. It reports whether the address may be free now.
func (s *Store) resolve(ctx context.Context, b shard.Bucket, norm string, c claim) (bool, error) {
	if !c.user.Valid {
		return true, nil // gone meanwhile
	}
	owner := shard.ID(c.user.Bytes)
	if owner.Bucket() == b || c.state.String == "pending" && !c.expired.Bool {
		return false, nil // claim and row change together; or somebody is at it
	}
	var has pgtype.Text
	_, err := s.retryUnknown(ctx, owner.Bucket(), shard.Write{Op: "resolve", Queue: func(batch *pgx.Batch) {
		has = pgtype.Text{}
		batch.Queue("INSERT INTO write_op (bucket, op, done) VALUES ($1, $2, false) ON CONFLICT DO NOTHING", int16(owner.Bucket()), c.op)
		batch.Queue("SELECT email_norm FROM users WHERE bucket = $1 AND id = $2", int16(owner.Bucket()), c.user).
			QueryRow(func(r pgx.Row) error { return one(r, &has) })
	}})
	if err != nil {
		return false, err
	}
	if has.String == norm {
		if c.state.String == "pending" {
			s.confirm(ctx, nil, norm, c.op.Bytes)
		}
		return false, nil
	}
	if err := s.release(ctx, nil, norm, c.op.Bytes); err != nil {
		return false, err
	}
	return true, nil
}

// confirm ends a claim's being pending. Where it fails, whoever stumbles over the
// claim does it.
func (s *Store) confirm(ctx context.Context, tok *shard.Token, norm string, op shard.ID) {
	_ = s.finish(ctx, tok, "confirm", "UPDATE email_claim SET state = 'confirmed' WHERE bucket = $1 AND email_norm = $2 AND op = $3", norm, op)
}

// release gives an address up, if it still is by this operation.
func (s *Store) release(ctx context.Context, tok *shard.Token, norm string, op shard.ID) error {
	return s.finish(ctx, tok, "release", "DELETE FROM email_claim WHERE bucket = $1 AND email_norm = $2 AND op = $3", norm, op)
}

func (s *Store) finish(ctx context.Context, tok *shard.Token, what, sql, norm string, op shard.ID) error {
	// What the client was going to wait for has been done.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	b := shard.KeyBucket(norm)
	seen, err := s.cluster.Write(ctx, b, shard.Write{Op: what, Order: claimOrder(norm), Queue: func(batch *pgx.Batch) {
		batch.Queue(sql, int16(b), norm, uuid(op))
	}})
	if err != nil {
		s.log.Warn("an e-mail claim was left as it is", "what", what, "error", err)
		return err
	}
	if tok != nil {
		tok.Saw(seen.Version, seen.Shard, seen.At)
	}
	return nil
}

// retryUnknown does a write that may be done twice, until it is known to be done
// or two seconds are over.
func (s *Store) retryUnknown(ctx context.Context, b shard.Bucket, w shard.Write) (shard.Seen, error) {
	deadline := time.Now().Add(2 * time.Second)
	seen, err := s.cluster.Write(ctx, b, w)
	for first := err; unknown(first) && err != nil; {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return seen, first
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		if seen, err = s.cluster.Write(ctx, b, w); duplicate(err) {
			return seen, err // the earlier try was done, or somebody else's
		}
	}
	return seen, err
}

// claimOrder and userOrder are the Orders of writes that may have to wait for an
// address, and for a user's row.
func claimOrder(norm string) string { return "claim " + norm }
func userOrder(id shard.ID) string  { return "user " + string(id[:]) }

// duplicate reports whether a row with that key was there.
func duplicate(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505"
}
