package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"hash/maphash"
	"time"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

// Create stores a new user.
func (s *Store) Create(ctx context.Context, u users.User, once users.Once, after users.Token) (users.User, bool, users.Token, error) {
	norm, err := users.NormalEmail(u.Email)
	if err == nil {
		err = s.known(after)
	}
	if err != nil {
		return u, false, "", err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	bucket := s.cfg.Assign.Bucket(norm, u.Region)
	u.ID, u.Version, u.CreatedAt, u.UpdatedAt = shard.NewID(bucket, now).String(), 1, now, now
	c := creation{s: s, u: u, norm: norm, once: once, bucket: bucket}
	c.home, c.claim = s.files[s.cfg.Assign.Home(bucket)], s.claimOf(norm)
	defer c.home.observe("primary", "create", time.Now())
	if once.Key != "" {
		key := &s.keys[maphash.String(keySeed, once.Key)%uint64(len(s.keys))]
		key.Lock()
		defer key.Unlock()
	}
	err = c.run(ctx)
	if errors.Is(err, users.ErrEmailTaken) && once.Key != "" {
		err = errors.Join(err, c.home.transact(ctx, c.hold))
	}
	if err != nil {
		return u, false, "", failure(ctx, err)
	}
	return c.u, c.replayed, s.token(), nil
}

var keySeed = maphash.MakeSeed()

// A creation is a user on the way into the store.
type creation struct {
	s           *Store
	u           users.User
	norm        string
	once        users.Once
	bucket      shard.Bucket
	home, claim *file
	replayed    bool
}

func (c *creation) run(ctx context.Context) error {
	if err := c.replay(ctx); err != nil || c.replayed {
		return err
	}
	if c.home == c.claim {
		return c.home.transact(ctx, func(tx *sql.Tx) error {
			if err := reserve(tx, c.norm, c.u.ID, true); err != nil {
				return err
			}
			return c.insert(ctx, tx)
		})
	}
	return c.s.withClaim(ctx, c.claim, c.norm, c.u.ID, func() error {
		return c.home.transact(ctx, func(tx *sql.Tx) error { return c.insert(ctx, tx) })
	})
}

// replay finds what a request with this key has come to before. That may have been
// for a user of any file. The key is locked, so that nobody gets in between.
func (c *creation) replay(ctx context.Context) error {
	if c.once.Key == "" {
		return nil
	}
	for _, f := range c.s.files { // a key is in one of them
		var hash []byte
		var text string
		err := f.read.QueryRowContext(ctx, `SELECT hash, user FROM once WHERE key = ?`, c.once.Key).Scan(&hash, &text)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			continue
		case err != nil:
			return err
		case !bytes.Equal(hash, c.once.Hash[:]):
			return users.ErrKeyReused
		case text == "":
			return nil
		}
		var before users.User
		if err := json.Unmarshal([]byte(text), &before); err != nil {
			return err
		}
		c.u, c.replayed = before, true
		return nil
	}
	return nil
}

func (c *creation) insert(ctx context.Context, tx *sql.Tx) error {
	u := &c.u
	_, err := tx.Exec(`INSERT INTO users (bucket, `+columns+`, email_norm, name_fold) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		c.bucket, u.ID, u.Name, u.Email, u.Region, string(u.Attributes), u.Version,
		u.CreatedAt.UnixMicro(), u.UpdatedAt.UnixMicro(), u.PasswordHash, c.norm, users.Fold(u.Name))
	if err != nil {
		return err
	}
	if c.once.Key != "" {
		if _, err := tx.Exec(`DELETE FROM once WHERE key IN (SELECT key FROM once WHERE created_at < ? LIMIT 4)`,
			u.CreatedAt.Add(-onceKept).UnixMicro()); err != nil {
			return err
		}
		if err := c.note(tx, string(u.AppendJSON(nil))); err != nil {
			return err
		}
	}
	return c.s.wrote(ctx, tx, users.Change{After: u})
}

// hold keeps the key for this request, which may come again, when the address is
// free: no other request gets it.
func (c *creation) hold(tx *sql.Tx) error { return c.note(tx, "") }

// note keeps what the request has come to; empty: to nothing yet.
func (c *creation) note(tx *sql.Tx, user string) error {
	_, err := tx.Exec(`INSERT INTO once (key, hash, user, created_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (key) DO UPDATE SET user = excluded.user`,
		c.once.Key, c.once.Hash[:], user, c.u.CreatedAt.UnixMicro())
	return err
}

func (s *Store) wrote(ctx context.Context, tx *sql.Tx, c users.Change) error {
	if s.cfg.OnWrite == nil {
		return nil
	}
	return s.cfg.OnWrite(ctx, tx, c)
}

// Replace stores u in the place of the user who has its ID.
func (s *Store) Replace(ctx context.Context, u users.User, expect int64, after users.Token) (users.User, users.Token, error) {
	norm, err := users.NormalEmail(u.Email)
	home, ok := s.homeOf(u.ID)
	switch {
	case s.known(after) != nil:
		return u, "", users.ErrToken
	case err != nil:
		return u, "", err
	case !ok:
		return u, "", users.ErrNotFound
	}
	defer home.observe("primary", "replace", time.Now())
	if err := s.replace(ctx, home, &u, norm, expect); err != nil {
		return u, "", failure(ctx, err)
	}
	u.PasswordHash, u.Avatar = "", nil
	return u, s.token(), nil
}

// replace finds out whether the address moves, and where its claims are.
func (s *Store) replace(ctx context.Context, home *file, u *users.User, norm string, expect int64) error {
	for {
		old, err := emailOf(ctx, home.read, u.ID)
		if err != nil {
			return err
		}
		r := replacement{s: s, home: home, u: u, norm: norm, old: old, expect: expect}
		if norm == old {
			err = r.run(ctx)
		} else {
			err = r.alone(ctx)
		}
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}

// alone is run for a user who takes another address, one such change at a time:
// another to the same address would find that taken, by the user himself.
func (r *replacement) alone(ctx context.Context) error {
	turn := &r.s.moving[maphash.String(keySeed, r.u.ID)%uint64(len(r.s.moving))]
	turn.Lock()
	defer turn.Unlock()
	now, err := emailOf(ctx, r.home.read, r.u.ID)
	if err == nil && now != r.old {
		err = errMoved
	}
	if err != nil {
		return err
	}
	return r.run(ctx)
}

// errMoved says that a user's address is another than it was a moment ago.
var errMoved = errors.New("the address has changed")

type rowQuerier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func emailOf(ctx context.Context, from rowQuerier, id string) (norm string, err error) {
	err = from.QueryRowContext(ctx, `SELECT email_norm FROM users WHERE id = ?`, id).Scan(&norm)
	if errors.Is(err, sql.ErrNoRows) {
		return "", users.ErrNotFound
	}
	return norm, err
}

// A replacement is a new state on the way to a user whose address was old.
type replacement struct {
	s         *Store
	home      *file
	u         *users.User
	norm, old string
	expect    int64
}

func (r *replacement) run(ctx context.Context) error {
	if r.norm == r.old {
		return r.home.transact(ctx, func(tx *sql.Tx) error { return r.update(ctx, tx) })
	}
	from, to := r.s.claimOf(r.old), r.s.claimOf(r.norm)
	if from == r.home && to == r.home {
		return r.home.transact(ctx, func(tx *sql.Tx) error {
			if err := reserve(tx, r.norm, r.u.ID, true); err != nil {
				return errors.Join(err, r.exists(ctx, tx))
			}
			if err := release(tx, r.old, r.u.ID); err != nil {
				return err
			}
			return r.update(ctx, tx)
		})
	}
	return r.s.withClaim(ctx, to, r.norm, r.u.ID, func() error {
		return r.s.withoutClaim(ctx, from, r.old, r.u.ID, func() error {
			return r.home.transact(ctx, func(tx *sql.Tx) error { return r.update(ctx, tx) })
		})
	})
}

// exists tells a conflict of versions rather than one of addresses.
func (r *replacement) exists(ctx context.Context, tx *sql.Tx) error {
	_, err := expected(ctx, tx, r.u.ID, r.expect)
	return err
}

// expected is the user as it is, which has to have the version that is expected.
func expected(ctx context.Context, tx *sql.Tx, id string, expect int64) (users.User, error) {
	before, err := scanUser(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM users WHERE id = ?`, id))
	if err == nil && expect != 0 && before.Version != expect {
		err = &users.Conflict{Current: before.Version}
	}
	return before, err
}

func (r *replacement) update(ctx context.Context, tx *sql.Tx) error {
	ctx = context.WithoutCancel(ctx)
	before, err := expected(ctx, tx, r.u.ID, r.expect)
	if err != nil {
		return err
	}
	if norm, err := emailOf(ctx, tx, r.u.ID); err != nil || norm != r.old {
		return errors.Join(err, errMoved)
	}
	u := r.u
	u.Version, u.CreatedAt = before.Version+1, before.CreatedAt
	u.UpdatedAt = time.Now().UTC().Truncate(time.Microsecond)
	if u.UpdatedAt.Before(before.UpdatedAt) { // the clock was put back
		u.UpdatedAt = before.UpdatedAt
	}
	if u.PasswordHash == "" {
		u.PasswordHash = before.PasswordHash
	}
	_, err = tx.Exec(`UPDATE users SET name = ?, email = ?, region = ?, attributes = ?, version = ?, updated_at = ?,
		password_hash = ?, email_norm = ?, name_fold = ? WHERE id = ?`,
		u.Name, u.Email, u.Region, string(u.Attributes), u.Version, u.UpdatedAt.UnixMicro(),
		u.PasswordHash, r.norm, users.Fold(u.Name), u.ID)
	if err != nil {
		return err
	}
	return r.s.wrote(ctx, tx, users.Change{Before: &before, After: u})
}

// Delete removes a user and frees the address.
func (s *Store) Delete(ctx context.Context, id string, expect int64, after users.Token) (int64, users.Token, error) {
	home, ok := s.homeOf(id)
	switch {
	case s.known(after) != nil:
		return 0, "", users.ErrToken
	case !ok:
		return 0, "", users.ErrNotFound
	}
	defer home.observe("primary", "delete", time.Now())
	for {
		version, err := s.remove(ctx, home, id, expect)
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return 0, "", failure(ctx, err)
		}
		return version, s.token(), nil
	}
}

func (s *Store) remove(ctx context.Context, home *file, id string, expect int64) (version int64, err error) {
	norm, err := emailOf(ctx, home.read, id)
	if err != nil {
		return 0, err
	}
	claim := s.claimOf(norm)
	remove := func(tx *sql.Tx) error {
		ctx := context.WithoutCancel(ctx)
		before, err := expected(ctx, tx, id, expect)
		if err != nil {
			return err
		}
		if now, err := emailOf(ctx, tx, id); err != nil || now != norm {
			return errors.Join(err, errMoved)
		}
		if _, err := tx.Exec(`DELETE FROM users WHERE id = ?`, id); err != nil {
			return err
		}
		version = before.Version + 1
		if claim == home {
			if err := release(tx, norm, id); err != nil {
				return err
			}
		}
		return s.wrote(ctx, tx, users.Change{Before: &before})
	}
	if claim == home {
		return version, home.transact(ctx, remove)
	}
	err = s.withoutClaim(ctx, claim, norm, id, func() error { return home.transact(ctx, remove) })
	return version, err
}
