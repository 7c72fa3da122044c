package postgres

import (
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

// columns are those of a row, in its order, from users u.
const columns = "u.id, u.name, u.email, u.region, u.attributes::text, u.version, u.created_at, u.updated_at, u.password_hash, u.email_norm, u.email_op, u.last_op"

// A row is a user as stored. All of it is NULL where there is none.
type row struct {
	id                 pgtype.UUID
	name, email        pgtype.Text
	region, attributes pgtype.Text
	version            pgtype.Int8
	created, updated   pgtype.Timestamptz
	hash, norm         pgtype.Text
	emailOp, lastOp    pgtype.UUID
}

// fields are where Scan puts the columns.
func (r *row) fields(before ...any) []any {
	return append(before, &r.id, &r.name, &r.email, &r.region, &r.attributes, &r.version, &r.created, &r.updated,
		&r.hash, &r.norm, &r.emailOp, &r.lastOp)
}

func (r *row) found() bool { return r.id.Valid }

// user is what clients see, without the hash.
func (r *row) user() users.User {
	return users.User{
		ID: shard.ID(r.id.Bytes).String(), Name: r.name.String, Email: r.email.String, Region: r.region.String,
		Attributes: []byte(r.attributes.String), Version: r.version.Int64,
		CreatedAt: r.created.Time.UTC(), UpdatedAt: r.updated.Time.UTC(),
	}
}

// one scans a row where there may be none, which is no error in a batch.
func one(r pgx.Row, into ...any) error {
	err := r.Scan(into...)
	if err == pgx.ErrNoRows {
		return nil
	}
	return err
}

func uuid(id shard.ID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

// nameKey is the form of a name of which prefixes are looked up.
func nameKey(name string) string { return strings.ToLower(name) }

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
