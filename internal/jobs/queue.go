package jobs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
)

// Config is what the jobs of one shard are called.
type Config struct {
	Shard string // its name
	// Schema is where the tables are on PostgreSQL, "jobs" unless given. Two
	// shards in one database need two.
	Schema string
	Log    *slog.Logger // nil: none
}

var schemaForm = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,39}$`)

func (c *Config) complete() error {
	if c.Schema == "" {
		c.Schema = "jobs"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Shard == "":
		return errors.New("jobs: a shard has a name")
	case !schemaForm.MatchString(c.Schema):
		return fmt.Errorf("jobs: %q is no name of a schema", c.Schema)
	}
	return nil
}

// A Queue holds the jobs of one shard. Tx is the transaction of the driver that
// the shard's database is used with: pgx.Tx or *sql.Tx. It may be used from any
// goroutine.
type Queue[Tx any] struct {
	cfg    Config
	schema string // of River's tables; "" for SQLite
	driver riverdriver.Driver[Tx]
	client *river.Client[Tx]
	base   base
}

// base is what River does not do, on one kind of database.
type base interface {
	// migrate makes our own tables; up makes River's. No two processes do it at
	// a time.
	migrate(ctx context.Context, up func(context.Context) error) error
	// count adds to the counters what has not been counted before.
	count(ctx context.Context, batch []increment) error
	// prune forgets which of the jobs that are gone have been counted: at most
	// so many, and returns of how many.
	prune(ctx context.Context, most int) (int, error)
	counters(ctx context.Context, day string) ([]Counter, error)
	depth(ctx context.Context) ([]depth, error)
	// tune has a client work as suits the database.
	tune(cfg *river.Config)
}

func newQueue[Tx any](cfg Config, schema string, driver riverdriver.Driver[Tx], base base) (*Queue[Tx], error) {
	client, err := river.NewClient(driver, &river.Config{Schema: schema, Logger: riverLog(cfg)})
	if err != nil {
		return nil, fmt.Errorf("jobs of shard %s: %w", cfg.Shard, err)
	}
	return &Queue[Tx]{cfg: cfg, schema: schema, driver: driver, client: client, base: base}, nil
}

// Enqueue adds jobs, all or none: they are there once tx commits. Orders that
// are wrong are refused with an *ArgsError or *UnknownError before anything is
// written. It returns the jobs' ids.
func (q *Queue[Tx]) Enqueue(ctx context.Context, tx Tx, orders ...Order) ([]int64, error) {
	params, err := paramsOf(orders)
	if err != nil || len(params) == 0 {
		return nil, err
	}
	rows, err := q.client.InsertManyTx(ctx, tx, params)
	if err != nil {
		return nil, fmt.Errorf("enqueuing on shard %s: %w", q.cfg.Shard, err)
	}
	ids := make([]int64, len(rows))
	for i, row := range rows {
		ids[i] = row.Job.ID
	}
	return ids, nil
}

// Add is Enqueue in a transaction of its own, for what comes of no write.
func (q *Queue[Tx]) Add(ctx context.Context, orders ...Order) error {
	params, err := paramsOf(orders)
	if err != nil || len(params) == 0 {
		return err
	}
	if _, err := q.client.InsertMany(ctx, params); err != nil {
		return fmt.Errorf("enqueuing on shard %s: %w", q.cfg.Shard, err)
	}
	return nil
}

func paramsOf(orders []Order) ([]river.InsertManyParams, error) {
	params := make([]river.InsertManyParams, len(orders))
	for i, o := range orders {
		if o.Args == nil {
			return nil, &ArgsError{Kind: "unknown", Field: "arguments", Why: "are missing"}
		}
		if err := o.Args.Check(); err != nil {
			return nil, err
		}
		queue := o.Queue
		if queue == "" {
			queue = o.Args.queue()
		}
		if !slices.Contains(Queues(), queue) {
			return nil, &UnknownError{What: "queue", Name: queue, Known: Queues()}
		}
		metadata, err := json.Marshal(meta{Key: rand.Text()})
		if err != nil {
			return nil, err
		}
		params[i] = river.InsertManyParams{Args: o.Args, InsertOpts: &river.InsertOpts{
			Queue: queue, ScheduledAt: o.After, MaxAttempts: MaxAttempts, Metadata: metadata,
		}}
	}
	return params, nil
}

// Counters are the sums of Analytics jobs of one day, sorted by region and
// event.
func (q *Queue[Tx]) Counters(ctx context.Context, day string) ([]Counter, error) {
	return q.base.counters(ctx, day)
}
