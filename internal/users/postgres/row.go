package postgres

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

// columns are those of a row, in its order, from users u.
const columns = "u.id, u.name, u.email, u.region, u.attributes::text, u.version, u.created_at, u.updated_at, u.password_hash, u.email_norm, u.email_op, u.last_op"

// shown are the columns that clients see, in the order of scanShown.
const shown = "u.id, u.name, u.email, u.region, u.attributes, u.version, u.created_at, u.updated_at"

// scanShown reads the shown columns, behind one of bits where there is one more.
// A page has some hundred of them: where the server sends them as they are made,
// they are taken from there, without looking for how to convert each.
func (r *row) scanShown(rows pgx.Rows) (bits []byte, err error) {
	fields, values := rows.FieldDescriptions(), rows.RawValues()
	extra := len(values) - len(shownSizes)
	if extra == 1 && values[0] != nil || !r.take(fields[extra:], values[extra:]) {
		return r.scanSlowly(rows, extra)
	}
	return nil, nil
}

func (r *row) scanSlowly(rows pgx.Rows, extra int) (bits []byte, err error) {
	into := []any{&bits, &r.id, &r.name, &r.email, &r.region, &r.attributes, &r.version, &r.created, &r.updated}
	err = rows.Scan(into[1-extra:]...)
	return bits, err
}

// shownSizes are those of the shown columns in binary; 0: text.
var shownSizes = [...]int{16, 0, 0, 0, 0, 8, 8, 8}

// take reports whether the columns are there and in binary.
func (r *row) take(fields []pgconn.FieldDescription, values [][]byte) bool {
	for i, size := range shownSizes {
		if size > 0 && (fields[i].Format != pgx.BinaryFormatCode || len(values[i]) != size) {
			return false
		}
	}
	r.id = pgtype.UUID{Bytes: [16]byte(values[0]), Valid: true}
	for i, text := range [...]*pgtype.Text{&r.name, &r.email, &r.region, &r.attributes} {
		*text = pgtype.Text{String: string(values[1+i]), Valid: true}
	}
	r.version = pgtype.Int8{Int64: int64(binary.BigEndian.Uint64(values[5])), Valid: true}
	r.created, r.updated = timeOf(values[6]), timeOf(values[7])
	return true
}

// ScanRow is scanShown for a single row of a query.
func (r *row) ScanRow(rows pgx.Rows) error {
	_, err := r.scanShown(rows)
	return err
}

// epoch is from when PostgreSQL counts microseconds.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func timeOf(b []byte) pgtype.Timestamptz {
	return pgtype.Timestamptz{Time: time.UnixMicro(epoch + int64(binary.BigEndian.Uint64(b))).UTC(), Valid: true}
}

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
