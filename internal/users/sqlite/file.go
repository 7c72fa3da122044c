package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	_ "modernc.org/sqlite" // the driver

	"github.com/sluice-edge/sluice/internal/users"
)

const (
	readers   = 4
	writeTime = 10 * time.Second // of one write, whatever becomes of its client
)

// A file is one shard.
type file struct {
	name        string
	write, read *sql.DB
	get         *sql.Stmt
	claimed     *sql.Stmt
	metrics     *metrics.Set
}

//go:embed migrations/*.sql
var migrations embed.FS

func openFile(ctx context.Context, path, name string, set *metrics.Set) (*file, error) {
	f := &file{name: name, metrics: set}
	err := f.connect(ctx, path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("shard %s, %s: %w", name, path, err), f.close())
	}
	return f, nil
}

func (f *file) connect(ctx context.Context, path string) (err error) {
	if f.write, err = sql.Open("sqlite", dsn(path, "journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)")); err != nil {
		return err
	}
	f.write.SetMaxOpenConns(1)
	if err := f.migrate(ctx); err != nil {
		return err
	}
	if f.read, err = sql.Open("sqlite", dsn(path, "query_only(1)", "busy_timeout(10000)")); err != nil {
		return err
	}
	f.read.SetMaxOpenConns(readers)
	f.read.SetMaxIdleConns(readers)
	if f.get, err = f.read.PrepareContext(ctx, `SELECT `+columns+` FROM users WHERE id = ?`); err != nil {
		return err
	}
	f.claimed, err = f.read.PrepareContext(ctx, `SELECT user_id FROM email_claim WHERE email_norm = ?`)
	return err
}

func dsn(path string, pragmas ...string) string {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": pragmas}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// migrate brings the file to the newest schema. Every step is in a transaction
// with the number that says it is done.
func (f *file) migrate(ctx context.Context) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	for i, name := range names { // Glob sorts
		err := f.transact(ctx, func(tx *sql.Tx) error {
			var have int
			if err := tx.QueryRow(`PRAGMA user_version`).Scan(&have); err != nil {
				return err
			}
			if have > len(names) {
				return fmt.Errorf("it was written by a newer version (schema %d; this one knows %d)", have, len(names))
			}
			if have > i {
				return nil
			}
			text, err := migrations.ReadFile(name)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(string(text)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			_, err = tx.Exec(fmt.Sprintf(`PRAGMA user_version = %d`, i+1))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *file) close() error {
	var errs []error
	for _, db := range []*sql.DB{f.read, f.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// transact does something as a whole. It goes on where its client has left: who
// has begun to write ends it.
func (f *file) transact(ctx context.Context, do func(tx *sql.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
	defer cancel()
	tx, err := f.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // what it was about is what counts
		return err
	}
	return tx.Commit()
}

// observe counts a query and times it from start.
func (f *file) observe(role, op string, start time.Time) {
	if f.metrics == nil {
		return
	}
	f.metrics.GetOrCreateCounter(`users_queries_total{shard="` + f.name + `",role="` + role + `",op="` + op + `"}`).Inc()
	f.metrics.GetOrCreatePrometheusHistogramExt(`users_query_duration_seconds{shard="`+f.name+`",role="`+role+`"}`, queryBuckets).
		Update(time.Since(start).Seconds())
}

var queryBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}

const columns = `id, name, email, region, attributes, version, created_at, updated_at, password_hash`

type scanner interface{ Scan(into ...any) error }

func scanUser(row scanner) (users.User, error) {
	var u users.User
	var attributes string
	var created, updated int64
	err := row.Scan(&u.ID, &u.Name, &u.Email, &u.Region, &attributes, &u.Version, &created, &updated, &u.PasswordHash)
	u.Attributes = []byte(attributes)
	u.CreatedAt, u.UpdatedAt = time.UnixMicro(created).UTC(), time.UnixMicro(updated).UTC()
	if errors.Is(err, sql.ErrNoRows) {
		return u, users.ErrNotFound
	}
	return u, err
}

// isDuplicate reports whether a row was refused since its key is there already.
func isDuplicate(err error) bool {
	return err != nil && strings.Contains(err.Error(), "UNIQUE constraint failed")
}
