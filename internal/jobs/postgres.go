package jobs

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// NewPostgres returns the jobs of a shard on PostgreSQL. The pool must lead to
// the shard's primary, and stays the caller's. It starts nothing.
func NewPostgres(pool *pgxpool.Pool, cfg Config) (*Queue[pgx.Tx], error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return newQueue(cfg, cfg.Schema, riverpgxv5.New(pool), &postgres{pool: pool, schema: cfg.Schema})
}

type postgres struct {
	pool   *pgxpool.Pool
	schema string // no more than a name, see schemaForm
}

// sql puts the schema's name where $S stands.
func (p *postgres) sql(text string) string { return strings.ReplaceAll(text, "$S", p.schema) }

// tune bounds how often a queue is asked for more when it has them; new jobs are
// announced by NOTIFY.
func (p *postgres) tune(cfg *river.Config) { cfg.FetchCooldown = 10 * time.Millisecond }

const (
	migrationLock = 4712 // 4711 is internal/shard's
	reachTime     = 5 * time.Second
)

func (p *postgres) migrate(ctx context.Context, up func(context.Context) error) error {
	reach, cancel := context.WithTimeout(ctx, reachTime) // a server that is away keeps nobody waiting
	defer cancel()
	conn, err := p.pool.Acquire(reach)
	if err != nil {
		return err
	}
	// Hijacked, since closing it is what frees the lock for certain.
	own := conn.Hijack()
	defer own.Close(context.WithoutCancel(ctx))
	if _, err := own.Exec(ctx, "SELECT pg_advisory_lock($1, hashtext($2))", migrationLock, p.schema); err != nil {
		return err
	}
	if _, err := own.Exec(ctx, p.sql("CREATE SCHEMA IF NOT EXISTS $S")); err != nil {
		return err
	}
	if err := up(ctx); err != nil {
		return err
	}
	_, err = own.Exec(ctx, p.sql(`
CREATE TABLE IF NOT EXISTS $S.counters (
	day date NOT NULL, region text NOT NULL, event text NOT NULL, n bigint NOT NULL,
	PRIMARY KEY (day, region, event));
CREATE TABLE IF NOT EXISTS $S.counted (
	key text PRIMARY KEY, job_id bigint NOT NULL)`))
	return err
}

// count is one statement, so that a counter and the note that it was counted
// are there together or not at all. The order of the counters keeps two workers
// from waiting for each other.
func (p *postgres) count(ctx context.Context, batch []increment) error {
	n := len(batch)
	keys, ids := make([]string, n), make([]int64, n)
	days, regions, events := make([]string, n), make([]string, n), make([]string, n)
	for i, inc := range batch {
		keys[i], ids[i] = inc.job.Key(), inc.job.ID
		days[i], regions[i], events[i] = inc.args.Day, inc.args.Region, inc.args.Event
	}
	_, err := p.pool.Exec(ctx, p.sql(`
WITH batch AS (
	SELECT DISTINCT ON (key) * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[])
		AS b(key, job_id, day, region, event) ORDER BY key
), fresh AS (
	INSERT INTO $S.counted (key, job_id) SELECT key, job_id FROM batch ON CONFLICT DO NOTHING RETURNING key
)
INSERT INTO $S.counters AS c (day, region, event, n)
SELECT day::date, region, event, count(*) FROM batch JOIN fresh USING (key) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (day, region, event) DO UPDATE SET n = c.n + excluded.n`), keys, ids, days, regions, events)
	return err
}

func (p *postgres) prune(ctx context.Context, most int) (int, error) {
	tag, err := p.pool.Exec(ctx, p.sql(`DELETE FROM $S.counted WHERE key IN (
	SELECT key FROM $S.counted c WHERE NOT EXISTS (SELECT FROM $S.river_job j WHERE j.id = c.job_id) LIMIT $1)`), most)
	return int(tag.RowsAffected()), err
}

func (p *postgres) counters(ctx context.Context, day string) ([]Counter, error) {
	rows, err := p.pool.Query(ctx, p.sql(`SELECT region, event, n FROM $S.counters WHERE day = $1::text::date ORDER BY 1, 2`), day)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Counter, error) {
		c := Counter{Day: day}
		return c, row.Scan(&c.Region, &c.Event, &c.N)
	})
}

func (p *postgres) depth(ctx context.Context) ([]depth, error) {
	rows, err := p.pool.Query(ctx, p.sql(`
SELECT kind, state::text, count(*), coalesce(extract(epoch FROM now() - min(scheduled_at)), 0)::float8
FROM $S.river_job WHERE state <> 'completed' GROUP BY 1, 2`))
	if err != nil {
		return nil, fmt.Errorf("counting jobs: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (depth, error) {
		var d depth
		var seconds float64
		err := row.Scan(&d.kind, &d.state, &d.n, &seconds)
		d.age = time.Duration(seconds * float64(time.Second))
		return d, err
	})
}
