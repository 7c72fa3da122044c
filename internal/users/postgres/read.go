package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

const (
	// What clients see alone, and all of it.
	showSQL = "SELECT " + shown + " FROM bucket_owner o LEFT JOIN users u ON u.bucket = o.bucket AND u.id = $3 WHERE " + shard.Owned
	getSQL  = "SELECT " + columns + " FROM bucket_owner o LEFT JOIN users u ON u.bucket = o.bucket AND u.id = $3 WHERE " + shard.Owned

	// The user is in the same row where it is in the bucket of the address.
	byEmailSQL = "SELECT c.user_id, " + columns + ` FROM bucket_owner o
		LEFT JOIN email_claim c ON c.bucket = o.bucket AND c.email_norm = $3
		LEFT JOIN users u ON u.bucket = c.bucket AND u.id = c.user_id WHERE ` + shard.Owned
)

// Get implements users.Store.
func (s *Store) Get(ctx context.Context, id string, after users.Token) (users.User, users.Source, error) {
	at, newest, err := s.position(after)
	if err != nil {
		return users.User{}, users.Source{}, err
	}
	key, err := shard.ParseID(id)
	if err != nil {
		return users.User{}, users.Source{}, users.ErrNotFound
	}
	r := &row{}
	source, err := s.cluster.Read(ctx, key.Bucket(), shard.Read{
		Op: "get", SQL: showSQL, Args: []any{uuid(key)}, After: at, Newest: newest,
		Scan: func(one pgx.Row) error { return one.Scan(r) },
	})
	if err != nil {
		return users.User{}, users.Source(source), fail(err)
	}
	if !r.found() {
		return users.User{}, users.Source(source), users.ErrNotFound
	}
	return r.user(), users.Source(source), nil
}

// Saw implements users.Store: an empty write says how far the log is.
func (s *Store) Saw(ctx context.Context, id string, _ int64, after users.Token) (users.Token, error) {
	at, _, err := s.position(after)
	if err != nil {
		return "", err
	}
	key, err := shard.ParseID(id)
	if err != nil {
		return "", users.ErrNotFound
	}
	seen, err := s.retryUnknown(ctx, key.Bucket(), shard.Write{Op: "mark", Queue: func(*pgx.Batch) {}})
	if err != nil {
		return "", fail(err)
	}
	at.Saw(seen.Version, seen.Shard, seen.At)
	return users.Token(at.Encode(s.names)), nil
}

func (s *Store) get(ctx context.Context, id shard.ID, at shard.Token, newest bool) (*row, users.Source, error) {
	r := &row{}
	source, err := s.cluster.Read(ctx, id.Bucket(), shard.Read{
		Op: "get", SQL: getSQL, Args: []any{uuid(id)}, After: at, Newest: newest,
		Scan: func(one pgx.Row) error { return one.Scan(r.fields()...) },
	})
	return r, users.Source(source), err
}

// ByEmail implements users.Store.
func (s *Store) ByEmail(ctx context.Context, email string, after users.Token) (users.User, users.Source, error) {
	at, newest, err := s.position(after)
	if err != nil {
		return users.User{}, users.Source{}, err
	}
	r, source, err := s.byEmail(ctx, email, at, newest)
	if err != nil {
		return users.User{}, source, fail(err)
	}
	if !r.found() || r.norm.String != email {
		return users.User{}, source, users.ErrNotFound
	}
	u := r.user()
	u.PasswordHash = r.hash.String
	return u, source, nil
}

func (s *Store) byEmail(ctx context.Context, email string, at shard.Token, newest bool) (*row, users.Source, error) {
	r := &row{}
	var owner pgtype.UUID
	source, err := s.cluster.Read(ctx, shard.KeyBucket(email), shard.Read{
		Op: "by_email", SQL: byEmailSQL, Args: []any{email}, After: at, Newest: newest,
		Scan: func(one pgx.Row) error { return one.Scan(r.fields(&owner)...) },
	})
	if err != nil || !owner.Valid || r.found() {
		return r, users.Source(source), err
	}
	r, other, err := s.get(ctx, owner.Bytes, at, newest)
	return r, users.Source{Primary: source.Primary && other.Primary, Stale: source.Stale || other.Stale}, err
}
