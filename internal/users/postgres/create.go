package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

// A creation is one create on its way. Its id names it: whatever is tried again
// under the same id is done once.
type creation struct {
	s    *Store
	u    users.User
	norm string
	id   shard.ID
	once users.Once
	seen shard.Token
	body []byte // the user as created, for those who ask again; nil: nobody can
}

// Create implements users.Store.
func (s *Store) Create(ctx context.Context, u users.User, once users.Once, after users.Token) (users.User, bool, users.Token, error) {
	seen, _, err := s.position(after)
	if err != nil {
		return users.User{}, false, "", err
	}
	norm, err := users.NormalEmail(u.Email)
	if err != nil {
		return users.User{}, false, "", err
	}
	c := &creation{s: s, u: u, norm: norm, once: once, seen: seen}
	c.renew()
	replayed, err := c.run(ctx)
	if err != nil {
		return users.User{}, false, "", fail(err)
	}
	c.u.PasswordHash = ""
	return c.u, replayed, users.Token(c.seen.Encode(s.names)), nil
}

// renew gives the user a new id, and the time.
func (c *creation) renew() {
	at := now()
	c.id = shard.NewID(c.s.cluster.Assigner().Bucket(c.norm, c.u.Region), at)
	c.u.ID, c.u.Version, c.u.CreatedAt, c.u.UpdatedAt = c.id.String(), 1, at, at
}

// errVoid says that somebody has given this creation up for dead.
var errVoid = errors.New("postgres: the operation is void")

func (c *creation) run(ctx context.Context) (replayed bool, err error) {
	for range 3 { // an id that is void is replaced
		if c.once.Key != "" {
			if replayed, err = c.reserveKey(ctx); err != nil {
				return false, err
			}
			if replayed {
				if done, err := c.result(ctx); err != nil || done {
					return true, err
				}
			}
		}
		c.keep()
		if shard.KeyBucket(c.norm) == c.id.Bucket() {
			err = c.local(ctx)
		} else {
			err = c.across(ctx)
		}
		if !errors.Is(err, errVoid) {
			return replayed, err
		}
		old := c.id
		c.renew()
		if err := c.exchange(ctx, old); err != nil {
			return false, err
		}
	}
	return false, &shard.Unavailable{What: "the user could not be created in time"}
}

// keep prepares what is stored for those who ask again.
func (c *creation) keep() {
	c.u.ID = c.id.String()
	if c.once.Key != "" {
		c.body, _ = json.Marshal(c.u) // of strings, times and checked JSON
	}
}

// reserveKey finds the id that belongs to the idempotency key, which is that of
// whoever came first. It reports whether somebody had come before.
func (c *creation) reserveKey(ctx context.Context) (before bool, err error) {
	b := shard.KeyBucket(c.once.Key)
	var hash []byte
	var owner pgtype.UUID
	seen, err := c.s.retryUnknown(ctx, b, shard.Write{Op: "key", Queue: func(batch *pgx.Batch) {
		batch.Queue("INSERT INTO idempotency_key (bucket, key, hash, user_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
			int16(b), c.once.Key, c.once.Hash[:], uuid(c.id))
		batch.Queue("SELECT hash, user_id FROM idempotency_key WHERE bucket = $1 AND key = $2", int16(b), c.once.Key).
			QueryRow(func(r pgx.Row) error { return one(r, &hash, &owner) })
	}})
	if err != nil {
		return false, err
	}
	c.seen.Saw(seen.Version, seen.Shard, seen.At)
	if !bytes.Equal(hash, c.once.Hash[:]) {
		return false, users.ErrKeyReused
	}
	before = owner.Bytes != c.id
	c.id = owner.Bytes
	return before, nil
}

// exchange gives the idempotency key a new id in place of a void one.
func (c *creation) exchange(ctx context.Context, old shard.ID) error {
	if c.once.Key == "" {
		return nil
	}
	b := shard.KeyBucket(c.once.Key)
	_, err := c.s.retryUnknown(ctx, b, shard.Write{Op: "key", Queue: func(batch *pgx.Batch) {
		batch.Queue("UPDATE idempotency_key SET user_id = $3 WHERE bucket = $1 AND key = $2 AND user_id = $4",
			int16(b), c.once.Key, uuid(c.id), uuid(old))
	}})
	return err
}

// result takes over the user as it was created by whoever came first, and
// reports false where nobody has yet.
func (c *creation) result(ctx context.Context) (bool, error) {
	var body pgtype.Text
	var done pgtype.Bool
	_, err := c.s.cluster.Read(ctx, c.id.Bucket(), shard.Read{
		Op: "result", Newest: true, Args: []any{uuid(c.id)},
		SQL:  "SELECT w.done, w.result::text FROM bucket_owner o LEFT JOIN write_op w ON w.bucket = o.bucket AND w.op = $3 WHERE " + shard.Owned,
		Scan: func(r pgx.Row) error { return r.Scan(&done, &body) },
	})
	if err != nil || !done.Bool || !body.Valid {
		return false, err
	}
	var u users.User
	if err := json.Unmarshal([]byte(body.String), &u); err != nil {
		return false, err
	}
	c.u = u
	return true, c.mark(ctx)
}

// mark adds to what the client has seen what the user's bucket is at: whoever
// created the user did so before.
func (c *creation) mark(ctx context.Context) error {
	seen, err := c.s.retryUnknown(ctx, c.id.Bucket(), shard.Write{Op: "mark", Queue: func(*pgx.Batch) {}})
	c.seen.Saw(seen.Version, seen.Shard, seen.At)
	return err
}

const (
	insertUser = `INSERT INTO users (bucket, id, email, email_norm, email_op, name, name_key, region, attributes, password_hash, version, last_op, created_at, updated_at)
		SELECT $1::smallint, $2::uuid, $3, $4, $2, $5, $6, $7, $8::json, $9, 1, $2, $10::timestamptz, $10`

	// Where the address is taken nothing is written.
	claimCTE = "WITH claim AS (INSERT INTO email_claim (bucket, email_norm, user_id, op, state) VALUES ($1, $4, $2, $2, 'confirmed') ON CONFLICT DO NOTHING RETURNING 1)"

	insertSQL       = claimCTE + insertUser + " FROM claim"
	insertKeyedSQL  = claimCTE + ", op AS (INSERT INTO write_op (bucket, op, done, result) SELECT $1, $2, true, $11::json FROM claim)" + insertUser + " FROM claim"
	insertRemoteSQL = "WITH op AS (INSERT INTO write_op (bucket, op, done, result) VALUES ($1, $2, true, $11))" + insertUser
)

// insert writes the user's row in its bucket, and either the claim of the address
// or the operation, by which it can be told that it was done. It reports false
// where one of them is there already: then nothing was written.
func (c *creation) insert(ctx context.Context, local bool) (inserted bool, err error) {
	b, u := c.id.Bucket(), c.u
	args := []any{int16(b), uuid(c.id), u.Email, c.norm, u.Name, nameKey(u.Name), u.Region, string(u.Attributes), u.PasswordHash, u.CreatedAt}
	sql, order := insertSQL, claimOrder(c.norm)
	if !local || c.body != nil {
		sql = insertKeyedSQL
		args = append(args, pgtype.Text{String: string(c.body), Valid: c.body != nil})
	}
	if !local {
		sql, order = insertRemoteSQL, userOrder(c.id)
	}
	w := shard.Write{Op: "create", Order: order, Queue: func(batch *pgx.Batch) {
		inserted = false
		batch.Queue(sql, args...).Exec(func(tag pgconn.CommandTag) error {
			inserted = tag.RowsAffected() > 0
			return nil
		})
	}, Event: func() any {
		if !inserted {
			return nil
		}
		return Event{"created", u}
	}}
	seen, err := c.s.retryUnknown(ctx, b, w)
	if duplicate(err) {
		return false, nil
	}
	if err == nil {
		c.seen.Saw(seen.Version, seen.Shard, seen.At)
	}
	return inserted && err == nil, err
}

// local creates a user in the bucket of its address, in one transaction.
func (c *creation) local(ctx context.Context) error {
	for {
		inserted, err := c.insert(ctx, true)
		if err != nil || inserted {
			return err
		}
		have, err := c.s.look(ctx, c.norm)
		if err != nil {
			return err
		}
		if have.user.Valid && have.user.Bytes == c.id { // an earlier try, or the same request elsewhere
			return c.adopt(ctx)
		}
		if c.once.Key != "" { // the same request may have created, and the user moved on
			if done, err := c.result(ctx); err != nil || done {
				return err
			}
		}
		if free, err := c.s.resolve(ctx, c.id.Bucket(), c.norm, have); err != nil || !free {
			return taken(err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// adopt takes over what an earlier try of this creation has stored.
func (c *creation) adopt(ctx context.Context) error {
	if c.once.Key != "" {
		if done, err := c.result(ctx); err != nil || done {
			return err
		}
	}
	r, _, err := c.s.get(ctx, c.id, shard.Token{}, true)
	if err != nil {
		return err
	}
	if r.found() {
		c.u = r.user()
	}
	return c.mark(ctx)
}

// across creates a user in another bucket than that of its address.
func (c *creation) across(ctx context.Context) error {
	mine, err := c.s.reserve(ctx, &c.seen, c.norm, c.id, c.id)
	if err != nil {
		return err
	}
	if !mine {
		if c.once.Key != "" {
			if done, err := c.result(ctx); err != nil || done {
				return err
			}
		}
		return users.ErrEmailTaken
	}
	inserted, err := c.insert(ctx, false)
	switch {
	case unknown(err):
		return err // the claim stays until somebody asks
	case err != nil:
		return errors.Join(err, c.s.release(ctx, nil, c.norm, c.id))
	case !inserted:
		return c.repeated(ctx)
	}
	c.s.confirm(ctx, &c.seen, c.norm, c.id)
	return nil
}

// repeated finds out why the operation was there already: an earlier try did it,
// or somebody voided it.
func (c *creation) repeated(ctx context.Context) error {
	var done pgtype.Bool
	_, err := c.s.cluster.Read(ctx, c.id.Bucket(), shard.Read{
		Op: "result", Newest: true, Args: []any{uuid(c.id)},
		SQL:  "SELECT w.done FROM bucket_owner o LEFT JOIN write_op w ON w.bucket = o.bucket AND w.op = $3 WHERE " + shard.Owned,
		Scan: func(r pgx.Row) error { return r.Scan(&done) },
	})
	if err != nil {
		return err
	}
	if !done.Bool {
		return errors.Join(errVoid, c.s.release(ctx, nil, c.norm, c.id))
	}
	c.s.confirm(ctx, &c.seen, c.norm, c.id)
	return c.adopt(ctx)
}

func taken(err error) error {
	if err == nil {
		err = users.ErrEmailTaken
	}
	return err
}
