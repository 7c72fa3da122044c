package jobs

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
)

// NewSQLite returns the jobs of a shard in a SQLite file. River wants a handle
// of a single connection to itself; see SQLiteName. Orders are enqueued in
// transactions of whichever handle the caller writes with. It starts nothing.
func NewSQLite(db *sql.DB, cfg Config) (*Queue[*sql.Tx], error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // River's own advice: SQLite takes one writer at a time
	return newQueue(cfg, "", riversqlite.New(db), &sqlite{db: db})
}

// SQLiteName is the data source name for the driver "sqlite" (modernc.org) of a
// file: transactions wait for each other when they begin, rather than failing
// when they come to write.
func SQLiteName(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"
}

type sqlite struct{ db *sql.DB }

// tune has the file looked at now and then. SQLite announces nothing, and
// River's stand-in looks twenty times a second, busy or not.
func (s *sqlite) tune(cfg *river.Config) {
	cfg.PollOnly, cfg.FetchPollInterval, cfg.FetchCooldown = true, 500*time.Millisecond, 10*time.Millisecond
}

func (s *sqlite) migrate(ctx context.Context, up func(context.Context) error) error {
	if err := up(ctx); err != nil {
		return err
	}
	_, err := s.db.ExecContext(ctx, `
CREATE TABLE IF NOT EXISTS jobs_counters (
	day TEXT NOT NULL, region TEXT NOT NULL, event TEXT NOT NULL, n INTEGER NOT NULL,
	PRIMARY KEY (day, region, event)) STRICT;
CREATE TABLE IF NOT EXISTS jobs_counted (
	key TEXT PRIMARY KEY, job_id INTEGER NOT NULL) STRICT`)
	return err
}

func (s *sqlite) count(ctx context.Context, batch []increment) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // of what has been committed: nothing
	for _, inc := range batch {
		res, err := tx.ExecContext(ctx, "INSERT INTO jobs_counted (key, job_id) VALUES (?, ?) ON CONFLICT DO NOTHING", inc.job.Key(), inc.job.ID)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			continue
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO jobs_counters (day, region, event, n) VALUES (?, ?, ?, 1)
ON CONFLICT (day, region, event) DO UPDATE SET n = n + 1`, inc.args.Day, inc.args.Region, inc.args.Event)
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (s *sqlite) prune(ctx context.Context, most int) (int, error) {
	res, err := s.db.ExecContext(ctx, `DELETE FROM jobs_counted WHERE key IN (
	SELECT key FROM jobs_counted c WHERE NOT EXISTS (SELECT 1 FROM river_job j WHERE j.id = c.job_id) LIMIT ?)`, most)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

func (s *sqlite) counters(ctx context.Context, day string) ([]Counter, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT region, event, n FROM jobs_counters WHERE day = ? ORDER BY 1, 2", day)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Counter
	for rows.Next() {
		c := Counter{Day: day}
		if err := rows.Scan(&c.Region, &c.Event, &c.N); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, rows.Err()
}

func (s *sqlite) depth(ctx context.Context) ([]depth, error) {
	rows, err := s.db.QueryContext(ctx, `
SELECT kind, state, count(*), coalesce((julianday('now') - julianday(min(scheduled_at))) * 86400, 0)
FROM river_job WHERE state <> 'completed' GROUP BY 1, 2`)
	if err != nil {
		return nil, fmt.Errorf("counting jobs: %w", err)
	}
	defer rows.Close()
	var list []depth
	for rows.Next() {
		var d depth
		var seconds float64
		if err := rows.Scan(&d.kind, &d.state, &d.n, &seconds); err != nil {
			return nil, err
		}
		d.age = time.Duration(seconds * float64(time.Second))
		list = append(list, d)
	}
	return list, rows.Err()
}
