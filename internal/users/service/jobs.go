package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/jobs"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/cache"
	"github.com/sluice-edge/sluice/internal/users/postgres"
)

// Jobs is what is done after writes.
type Jobs struct {
	Workers int    `yaml:"workers" min:"0" max:"1000" default:"4" doc:"jobs of one queue and shard that this process does at a time; 0: none, they are left to users worker"`
	SMTP    string `yaml:"smtp" doc:"host:port of the server that takes e-mails; empty: nobody is welcomed"`
	From    string `yaml:"from" doc:"the address that e-mails are from"`
	Avatars string `yaml:"avatars" doc:"folder for the images of PUT /api/users/{id}/avatar, as ID/64.jpg and ID/256.jpg, for a backend of kind files; empty: there are none"`
}

// SetDefaults fills in what holds where a file says nothing.
func (j *Jobs) SetDefaults() { j.Workers = 4 }

func (j *Jobs) check(mode string) (errs []error) {
	if mode == Distributed {
		errs = append(errs, at("jobs", "mode distributed has no jobs: their tables are for one server"))
	}
	if j.SMTP == "" {
		return errs
	}
	if _, err := j.mailer(); err != nil {
		errs = append(errs, at("jobs.smtp", "%w", err))
	}
	return errs
}

func (j *Jobs) mailer() (*jobs.Mailer, error) {
	return jobs.NewMailer(jobs.MailConfig{Address: j.SMTP, From: j.From})
}

// openTables bounds the making of one shard's tables for jobs, once it has been
// reached: until they are there, writes that bring a job fail.
const openTables = 30 * time.Second

// An adder takes jobs without a write.
type adder interface {
	Add(ctx context.Context, orders ...jobs.Order) error
}

// A jobsOf is the jobs of one store. A nil one is of a store without.
type jobsOf struct {
	spec    Jobs
	log     *slog.Logger
	sources []jobs.Source
	files   []*jobs.Queue[*sql.Tx]
	servers []*jobs.Queue[pgx.Tx]
	closers []func()

	queues []adder             // the same as sources
	home   func(id string) int // the place of a user's shard among them
	levels levels
	grave  time.Duration // of a tombstone

	worker *jobs.Worker // nil where others work
	stop   context.CancelFunc
	ended  sync.WaitGroup
	made   []bool // by source: its tables are there
}

// openJobs opens the queues of a spec's shards. It asks nobody anything yet.
func (a *Services) openJobs(spec Spec) (_ *jobsOf, err error) {
	if spec.Jobs == nil {
		return nil, nil
	}
	o := &jobsOf{spec: *spec.Jobs, log: a.log, grave: cache.Grave(spec.MaxReplicaLag)}
	if o.home, err = spec.homes(); err != nil {
		return nil, err
	}
	for _, sh := range spec.shards() {
		if spec.Mode == Embedded {
			err = o.openFile(spec.DataDir, sh.Name)
		} else {
			err = o.openServer(sh)
		}
		if err != nil {
			o.close()
			return nil, fmt.Errorf("the jobs of shard %s: %w", sh.Name, err)
		}
	}
	return o, nil
}

func (o *jobsOf) openFile(dir, name string) error {
	db, err := sql.Open("sqlite", jobs.SQLiteName(filepath.Join(dir, name+".sqlite")))
	if err != nil {
		return err
	}
	o.closers = append(o.closers, func() { _ = db.Close() }) // what was committed stays
	q, err := jobs.NewSQLite(db, jobs.Config{Shard: name, Log: o.log})
	if err != nil {
		return err
	}
	o.files, o.sources, o.queues = append(o.files, q), append(o.sources, q), append(o.queues, q)
	return nil
}

func (o *jobsOf) openServer(sh Shard) error {
	cfg, err := jobs.PoolConfig(sh.Primary, sh.Replicas)
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg) // it connects when it is used
	if err != nil {
		return err
	}
	o.closers = append(o.closers, pool.Close)
	q, err := jobs.NewPostgres(pool, jobs.Config{Shard: sh.Name, Log: o.log})
	if err != nil {
		return err
	}
	o.servers, o.sources, o.queues = append(o.servers, q), append(o.sources, q), append(o.queues, q)
	return nil
}

// migrate makes the tables. Where a shard cannot be reached reads go on, as they
// do without its primary.
func (o *jobsOf) migrate(ctx context.Context) error {
	if o.made == nil {
		o.made = make([]bool, len(o.sources))
	}
	errs := make([]error, len(o.sources))
	var wg sync.WaitGroup
	for i, s := range o.sources {
		if o.made[i] {
			continue
		}
		wg.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, openTables)
			defer cancel()
			errs[i] = s.Migrate(bounded)
			o.made[i] = errs[i] == nil
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// migrateLater makes the tables of shards that were away.
func (o *jobsOf) migrateLater(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if o.migrate(ctx) == nil {
			o.log.Info("the tables for jobs are there")
			return
		}
	}
}

// start makes the tables and has this process do jobs, if it is to.
func (o *jobsOf) start(ctx context.Context) error {
	if o == nil {
		return nil
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	o.stop = stop
	if err := o.migrate(ctx); err != nil {
		o.log.Warn("tables for jobs could not be made yet; until they are, writes there fail", "error", err)
		o.ended.Go(func() { o.migrateLater(running) })
	}
	if o.spec.Workers == 0 {
		return nil
	}
	w, err := o.newWorker(nil, o.spec.Workers, true)
	if err != nil {
		return err
	}
	o.worker = w
	o.ended.Go(func() {
		if err := w.Run(running); err != nil {
			o.log.Error("no jobs are done here any more", "error", err)
		}
	})
	return nil
}

// newWorker is a worker for queues; nil: all that something is configured for.
func (o *jobsOf) newWorker(queues []string, concurrency int, caching bool) (*jobs.Worker, error) {
	var handlers jobs.Handlers
	if o.spec.SMTP != "" {
		mailer, err := o.spec.mailer()
		if err != nil {
			return nil, err
		}
		handlers.Welcome = mailer.Welcome
	}
	if o.spec.Avatars != "" {
		images, err := jobs.NewImages(o.spec.Avatars)
		if err != nil {
			return nil, fmt.Errorf("the folder of avatars: %w", err)
		}
		handlers.Avatar = images.Avatar
	}
	if caching {
		handlers.CacheFix = o.fixCache
	}
	return jobs.NewWorker(jobs.WorkerConfig{
		Shards: o.sources, Handlers: handlers, Queues: queues, Concurrency: concurrency, Log: o.log,
	})
}

// close ends the worker, once its jobs are done, and then the queues.
func (o *jobsOf) close() {
	if o == nil {
		return
	}
	if o.stop != nil {
		o.stop()
		o.ended.Wait()
	}
	for _, end := range o.closers {
		end()
	}
}

// onWrite and within enqueue what a write brings, in its transaction. Any queue
// does, since they differ only in where they look for work.
func (o *jobsOf) onWrite() func(context.Context, *sql.Tx, users.Change) error {
	if o == nil {
		return nil
	}
	return func(ctx context.Context, tx *sql.Tx, c users.Change) error {
		event, u := "user.replaced", users.User{}
		switch {
		case c.After == nil:
			event, u = "user.deleted", *c.Before
			u.Version++ // as a removal counts
		case c.Before == nil:
			event, u = "user.created", *c.After
		default:
			u = *c.After
		}
		if orders := o.orders(event, u); len(orders) > 0 {
			_, err := o.files[0].Enqueue(ctx, tx, orders...)
			return err
		}
		return nil
	}
}

func (o *jobsOf) within() func(context.Context, pgx.Tx, []postgres.Event) error {
	if o == nil {
		return nil
	}
	return func(ctx context.Context, tx pgx.Tx, all []postgres.Event) error {
		var orders []jobs.Order
		for _, e := range all {
			orders = append(orders, o.orders("user."+e.Kind, e.User)...)
		}
		_, err := o.servers[0].Enqueue(ctx, tx, orders...)
		return err
	}
}

// orders are the jobs of a write. One that could not be done is left out, since
// the write is none the worse for it.
func (o *jobsOf) orders(event string, u users.User) []jobs.Order {
	var wanted []jobs.Args
	if event != "user.replaced" { // which changes no count
		wanted = append(wanted, jobs.Analytics{Region: u.Region, Day: time.Now().UTC().Format(time.DateOnly), Event: event})
	}
	if event == "user.created" && o.spec.SMTP != "" {
		wanted = append(wanted, jobs.WelcomeEmail{User: u.ID, Email: u.Email, Name: u.Name})
	}
	wanted = append(wanted, o.ofAvatar(event, u)...)
	orders := make([]jobs.Order, 0, len(wanted))
	for _, args := range wanted {
		if err := args.Check(); err != nil {
			o.log.Warn("a job is left out", "user", u.ID, "error", err)
			continue
		}
		orders = append(orders, jobs.Order{Args: args})
	}
	return orders
}

// writeJobs writes the metrics of all workers of this process.
func (a *Services) writeJobs(out io.Writer) {
	a.mu.Lock()
	var workers []*jobs.Worker
	for _, b := range a.bases {
		if b.jobs != nil && b.jobs.worker != nil {
			workers = append(workers, b.jobs.worker)
		}
	}
	a.mu.Unlock()
	jobs.WriteMetrics(out, workers...)
}

// A DeadLetterBox is one shard's.
type DeadLetterBox interface {
	Dead(ctx context.Context, after int64, limit int) ([]jobs.DeadLetter, error)
	Requeue(ctx context.Context, id int64) error
}

// A JobRoom is the jobs of a configuration apart from its users: for workers of
// their own, and for who looks after what could not be done.
type JobRoom struct {
	own     *jobsOf
	boxes   map[string]DeadLetterBox
	caching bool
}

// OpenJobs returns the jobs of spec, which has some, until Close. The cache is
// repaired where there is a client.
func OpenJobs(ctx context.Context, spec Spec, client redis.UniversalClient, log *slog.Logger) (*JobRoom, error) {
	if spec.Jobs == nil {
		return nil, errors.New("the configuration has no users.jobs")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	own, err := (&Services{log: log}).openJobs(spec)
	if err != nil {
		return nil, err
	}
	r := &JobRoom{own: own, boxes: map[string]DeadLetterBox{}, caching: client != nil}
	if r.caching {
		own.levels.add(r, cache.NewRedis(client, nil))
	}
	for i, sh := range spec.shards() {
		if spec.Mode == Embedded {
			r.boxes[sh.Name] = own.files[i]
		} else {
			r.boxes[sh.Name] = own.servers[i]
		}
	}
	return r, nil
}

// Worker returns a worker for queues, nil for all that something is configured
// for, once the tables are there.
func (r *JobRoom) Worker(ctx context.Context, queues []string, concurrency int) (*jobs.Worker, error) {
	w, err := r.own.newWorker(queues, concurrency, r.caching)
	if err != nil {
		return nil, err
	}
	if err := r.own.migrate(ctx); err != nil {
		r.own.log.Warn("tables for jobs could not be made yet", "error", err)
		running, stop := context.WithCancel(context.WithoutCancel(ctx))
		r.own.stop = stop
		r.own.ended.Go(func() { r.own.migrateLater(running) })
	}
	return w, nil
}

// Boxes are the dead letters by shard.
func (r *JobRoom) Boxes() map[string]DeadLetterBox { return r.boxes }

// Close ends what OpenJobs began.
func (r *JobRoom) Close() { r.own.close() }
