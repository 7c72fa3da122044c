package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

// A change is one replace on its way.
type change struct {
	s      *Store
	u      users.User
	norm   string
	id     shard.ID
	expect int64
	op     shard.ID // of this change; a row that it wrote bears it
	seen   shard.Token
	row    row // what was written
}

// Replace implements users.Store.
func (s *Store) Replace(ctx context.Context, u users.User, expect int64, after users.Token) (users.User, users.Token, error) {
	seen, _, err := s.position(after)
	if err != nil {
		return users.User{}, "", err
	}
	id, err := shard.ParseID(u.ID)
	if err != nil {
		return users.User{}, "", users.ErrNotFound
	}
	norm, err := users.NormalEmail(u.Email)
	if err != nil {
		return users.User{}, "", err
	}
	c := &change{s: s, u: u, norm: norm, id: id, expect: expect, op: shard.RandomID(), seen: seen}
	if err := c.run(ctx); err != nil {
		return users.User{}, "", fail(err)
	}
	return c.row.user(), users.Token(c.seen.Encode(s.names)), nil
}

// errAgain says that the user has changed meanwhile, as nobody forbade.
var errAgain = errors.New("postgres: the user has changed meanwhile")

// run writes, and looks at the user where that did nothing. A write of which it
// is not known whether it was done is looked for by its op, where it was for one
// version alone: tried again it cannot be done twice.
func (c *change) run(ctx context.Context) error {
	deadline := time.Now().Add(2 * time.Second)
	err := c.keepEmail(ctx)
	var lost error
	for {
		if unknown(err) && c.expect != 0 {
			lost = err
		} else if !errors.Is(err, errAgain) && lost == nil {
			return err
		} else if err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			if lost != nil {
				return lost
			}
			return &shard.Unavailable{What: "the user is changed by too many at once", Err: ctx.Err()}
		}
		err = c.look(ctx, lost)
		var conflict *users.Conflict
		if lost != nil && (errors.Is(err, users.ErrNotFound) || errors.As(err, &conflict)) {
			return lost // it may have been this change that somebody has changed since
		}
	}
}

// look reads the user and writes what is to be written, now that it is known
// which address was there.
func (c *change) look(ctx context.Context, lost error) error {
	r, _, err := c.s.get(ctx, c.id, shard.Token{}, true)
	switch {
	case err != nil:
		return err
	case !r.found():
		return users.ErrNotFound
	case lost != nil && r.lastOp.Bytes == c.op:
		c.row = *r
		return c.mark(ctx)
	case c.expect != 0 && r.version.Int64 != c.expect:
		return &users.Conflict{Current: r.version.Int64}
	case r.norm.String == c.norm:
		return c.keepEmail(ctx)
	}
	return c.newEmail(ctx, r)
}

func (c *change) mark(ctx context.Context) error {
	seen, err := c.s.retryUnknown(ctx, c.id.Bucket(), shard.Write{Op: "mark", Queue: func(*pgx.Batch) {}})
	c.seen.Saw(seen.Version, seen.Shard, seen.At)
	return err
}

// set is what a change does to a row; $1 to $9 are of args.
const set = `email = $4, name = $5, name_key = $6, region = $7, attributes = $8::json,
	password_hash = CASE WHEN $9 = '' THEN u.password_hash ELSE $9 END,
	version = u.version + 1, last_op = $10, updated_at = greatest($11, u.updated_at)`

func (c *change) args(more ...any) []any {
	u := c.u
	return append([]any{int16(c.id.Bucket()), uuid(c.id), c.norm, u.Email, u.Name, nameKey(u.Name), u.Region,
		string(u.Attributes), u.PasswordHash, uuid(c.op), now()}, more...)
}

const keepEmailSQL = "UPDATE users u SET " + set + ` WHERE u.bucket = $1 AND u.id = $2 AND u.email_norm = $3 AND ($12 = 0 OR u.version = $12)
	RETURNING ` + columns

// keepEmail writes where the address stays. errAgain: there is no such user, or
// the address or the version is another.
func (c *change) keepEmail(ctx context.Context) error {
	args := c.args(c.expect)
	return c.write(ctx, userOrder(c.id), func(batch *pgx.Batch) {
		batch.Queue(keepEmailSQL, args...).QueryRow(func(r pgx.Row) error { return one(r, c.row.fields()...) })
	})
}

func (c *change) write(ctx context.Context, order string, queue func(*pgx.Batch)) error {
	w := shard.Write{Op: "replace", Order: order, Queue: func(batch *pgx.Batch) {
		c.row = row{}
		queue(batch)
	}}
	if c.u.Avatar != nil {
		w.Event = func() any {
			if !c.row.found() {
				return nil
			}
			u := c.row.user()
			u.Avatar = c.u.Avatar
			return Event{"replaced", u}
		}
	}
	seen, err := c.s.cluster.Write(ctx, c.id.Bucket(), w)
	if err != nil {
		return err
	}
	if !c.row.found() {
		return errAgain
	}
	c.seen.Saw(seen.Version, seen.Shard, seen.At)
	return nil
}

// newEmail moves the user to another address: the claim of the new one first,
// the row next, the claim of the old one last. Claims in the user's own bucket
// change with the row.
func (c *change) newEmail(ctx context.Context, old *row) error {
	var err error
	if shard.KeyBucket(c.norm) == c.id.Bucket() {
		err = c.toLocal(ctx, old)
	} else {
		err = c.toRemote(ctx, old)
	}
	if err == nil && shard.KeyBucket(old.norm.String) != c.id.Bucket() {
		_ = c.s.release(ctx, &c.seen, old.norm.String, old.emailOp.Bytes) // or whoever stumbles over it
	}
	return err
}

const (
	currentCTE = "WITH cur AS (SELECT FROM users WHERE bucket = $1 AND id = $2 AND version = $12 FOR UPDATE), "

	// changeSQL needs a CTE named may.
	changeCTE = `, gone AS (DELETE FROM email_claim WHERE bucket = $1 AND email_norm = $13 AND op = $14 AND EXISTS (SELECT FROM may)),
		upd AS (UPDATE users u SET email_norm = $3, email_op = $10, ` + set + ` WHERE u.bucket = $1 AND u.id = $2 AND EXISTS (SELECT FROM may) RETURNING ` + columns + `)
		SELECT (SELECT count(*) FROM cur), upd.* FROM (SELECT) one LEFT JOIN upd ON true`

	toLocalSQL = currentCTE + `may AS (INSERT INTO email_claim (bucket, email_norm, user_id, op, state) SELECT $1, $3, $2, $10, 'confirmed' FROM cur ON CONFLICT DO NOTHING RETURNING 1)` + changeCTE

	toRemoteSQL = currentCTE + `may AS (INSERT INTO write_op (bucket, op, done) SELECT $1, $10, true FROM cur ON CONFLICT DO NOTHING RETURNING 1)` + changeCTE
)

// move runs one of the two. It reports whether the user was still the one of old.
func (c *change) move(ctx context.Context, sql string, old *row) (current bool, err error) {
	var n pgtype.Int8
	args := c.args(old.version.Int64, old.norm.String, old.emailOp)
	err = c.write(ctx, "", func(batch *pgx.Batch) {
		batch.Queue(sql, args...).QueryRow(func(r pgx.Row) error { return one(r, c.row.fields(&n)...) })
	})
	return n.Int64 > 0, err
}

func (c *change) toLocal(ctx context.Context, old *row) error {
	current, err := c.move(ctx, toLocalSQL, old)
	if !errors.Is(err, errAgain) || !current {
		return err
	}
	have, err := c.s.look(ctx, c.norm)
	if err != nil {
		return err
	}
	if free, err := c.s.resolve(ctx, c.id.Bucket(), c.norm, have); err != nil || !free {
		return c.taken(ctx, err)
	}
	return errAgain
}

// taken is taken where somebody else has the address. Where that is the user
// himself another change gives it to him at this moment, and this one is done after
// that.
func (c *change) taken(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	have, err := c.s.look(ctx, c.norm)
	if err != nil || have.user.Valid && have.user.Bytes != c.id {
		return taken(err)
	}
	timer := time.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return errAgain
}

func (c *change) toRemote(ctx context.Context, old *row) error {
	mine, err := c.s.reserve(ctx, &c.seen, c.norm, c.id, c.op)
	if err != nil || !mine {
		return c.taken(ctx, err)
	}
	_, err = c.move(ctx, toRemoteSQL, old)
	switch {
	case err == nil:
		c.s.confirm(ctx, &c.seen, c.norm, c.op)
	case !unknown(err): // the claim stays until somebody asks, where it is unknown
		_ = c.s.release(ctx, nil, c.norm, c.op)
		c.op = shard.RandomID()
	}
	return err
}

const deleteSQL = `WITH del AS (DELETE FROM users WHERE bucket = $1 AND id = $2 AND ($3 = 0 OR version = $3) RETURNING version, email_norm, email_op),
	claim AS (DELETE FROM email_claim c USING del WHERE c.bucket = $1 AND c.email_norm = del.email_norm AND c.op = del.email_op)
	SELECT version, email_norm, email_op FROM del`

// Delete implements users.Store.
func (s *Store) Delete(ctx context.Context, id string, expect int64, after users.Token) (int64, users.Token, error) {
	tok, _, err := s.position(after)
	if err != nil {
		return 0, "", err
	}
	key, err := shard.ParseID(id)
	if err != nil {
		return 0, "", users.ErrNotFound
	}
	version, err := s.delete(ctx, key, expect, &tok)
	if err != nil {
		return 0, "", fail(err)
	}
	return version + 1, users.Token(tok.Encode(s.names)), nil
}

func (s *Store) delete(ctx context.Context, id shard.ID, expect int64, tok *shard.Token) (int64, error) {
	b := id.Bucket()
	for {
		var version pgtype.Int8
		var norm pgtype.Text
		var op pgtype.UUID
		w := shard.Write{Op: "delete", Queue: func(batch *pgx.Batch) {
			version = pgtype.Int8{}
			batch.Queue(deleteSQL, int16(b), uuid(id), expect).QueryRow(func(r pgx.Row) error { return one(r, &version, &norm, &op) })
		}}
		w.Event = func() any {
			if !version.Valid {
				return nil
			}
			return Event{"deleted", users.User{ID: id.String(), Version: version.Int64 + 1}}
		}
		seen, err := s.cluster.Write(ctx, b, w)
		if err != nil {
			return 0, err
		}
		if version.Valid {
			tok.Saw(seen.Version, seen.Shard, seen.At)
			if shard.KeyBucket(norm.String) != b {
				_ = s.release(ctx, tok, norm.String, op.Bytes) // or whoever stumbles over it
			}
			return version.Int64, nil
		}
		r, _, err := s.get(ctx, id, shard.Token{}, true)
		switch {
		case err != nil:
			return 0, err
		case !r.found():
			return 0, users.ErrNotFound
		case expect != 0 && r.version.Int64 != expect:
			return 0, &users.Conflict{Current: r.version.Int64}
		}
	}
}
