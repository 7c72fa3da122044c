package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivermigrate"
)

// Handlers do the jobs, each at least once: a handler that was interrupted is
// called again with the same Job.Key. One that is nil leaves its kind to other
// workers.
type Handlers struct {
	Welcome  func(context.Context, Job, WelcomeEmail) error // see Mailer
	Avatar   func(context.Context, Job, Avatar) error       // see Images
	CacheFix func(context.Context, Job, CacheFix) error
}

// A Source is the Queue of a shard, whatever its database.
type Source interface {
	// Migrate makes or renews the tables. It may be called at any time, and by
	// several processes at once.
	Migrate(ctx context.Context) error

	name() string
	storage() base
	worker(*river.Config) (service, error)
}

// A service is a river.Client at work.
type service interface {
	Start(ctx context.Context) error
	Stopped() <-chan struct{}
}

// WorkerConfig is what a worker is made of.
type WorkerConfig struct {
	Shards   []Source
	Handlers Handlers
	// Queues are those that are worked; nil: all that there are handlers for.
	Queues []string
	// Concurrency is how many jobs of one queue and shard are done at a time;
	// 0: 4.
	Concurrency int
	// Timeout and Lease are the constants of these names unless given. A lease
	// is longer than a time-out.
	Timeout, Lease time.Duration
	// Backoff is the wait after a first failure; 0: 1 s. It doubles with each.
	Backoff time.Duration
	Log     *slog.Logger // nil: none
}

// A Worker does the jobs of shards.
type Worker struct {
	cfg   WorkerConfig
	meter *meter
}

// NewWorker returns a worker. It starts nothing.
func NewWorker(cfg WorkerConfig) (*Worker, error) {
	if cfg.Queues == nil {
		for _, q := range Queues() {
			if cfg.Handlers.missing(q) == "" {
				cfg.Queues = append(cfg.Queues, q)
			}
		}
	}
	cfg.Concurrency = cmp.Or(cfg.Concurrency, 4)
	cfg.Timeout, cfg.Lease = cmp.Or(cfg.Timeout, Timeout), cmp.Or(cfg.Lease, Lease)
	cfg.Backoff = cmp.Or(cfg.Backoff, firstWait)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Worker{cfg: cfg, meter: newMeter(len(cfg.Shards))}, nil
}

func (c *WorkerConfig) check() error {
	if len(c.Shards) == 0 {
		return errors.New("jobs: a worker has shards")
	}
	if c.Concurrency < 1 || c.Concurrency > river.QueueNumWorkersMax {
		return fmt.Errorf("jobs: concurrency %d is not from 1 to %d", c.Concurrency, river.QueueNumWorkersMax)
	}
	if c.Lease <= c.Timeout {
		return fmt.Errorf("jobs: a lease of %v is no longer than the time-out of %v", c.Lease, c.Timeout)
	}
	for i, q := range c.Queues {
		if !slices.Contains(Queues(), q) {
			return &UnknownError{What: "queue", Name: q, Known: Queues()}
		}
		if slices.Contains(c.Queues[:i], q) {
			return fmt.Errorf("jobs: queue %s is given twice", q)
		}
		if kind := c.Handlers.missing(q); kind != "" {
			return fmt.Errorf("jobs: queue %s cannot be worked, since nothing is configured that does %s", q, kind)
		}
	}
	return nil
}

// missing is the kind of a queue that there is no handler for.
func (h *Handlers) missing(queue string) string {
	switch {
	case queue == "mail" && h.Welcome == nil:
		return WelcomeEmail{}.Kind()
	case queue == "images" && h.Avatar == nil:
		return Avatar{}.Kind()
	case queue == "cache" && h.CacheFix == nil:
		return CacheFix{}.Kind()
	}
	return ""
}

// Run does jobs until ctx is done; those under way then have Timeout to finish.
// A shard that cannot be reached is tried again and holds up no other.
func (w *Worker) Run(ctx context.Context) error {
	services := make([]service, len(w.cfg.Shards))
	tallies := make([]*tally, len(services))
	for i, shard := range w.cfg.Shards {
		tallies[i] = newTally(shard.storage())
		var err error
		if services[i], err = shard.worker(w.river(shard.name(), tallies[i])); err != nil {
			return fmt.Errorf("jobs of shard %s: %w", shard.name(), err)
		}
	}
	// The tallies outlast the jobs that wait for them.
	counting, stop := context.WithCancel(context.WithoutCancel(ctx))
	var counters, all sync.WaitGroup
	for i, shard := range w.cfg.Shards {
		counters.Go(func() { tallies[i].run(counting) })
		all.Go(func() { w.serve(ctx, shard, services[i]) })
		all.Go(func() { w.look(ctx, i, shard) })
	}
	all.Wait()
	stop()
	counters.Wait()
	return nil
}

// serve runs one shard's service, from when the shard can be reached.
func (w *Worker) serve(ctx context.Context, shard Source, s service) {
	for attempt := 1; ; attempt++ {
		err := prepare(ctx, shard)
		if err == nil {
			err = s.Start(ctx)
		}
		if err == nil {
			w.await(ctx, shard, s)
			return
		}
		if ctx.Err() != nil {
			return
		}
		w.cfg.Log.Warn("the jobs of a shard cannot be worked yet", "shard", shard.name(), "error", err)
		select {
		case <-time.After(min(wait(firstWait/4, attempt, 0.5), 10*time.Second)):
		case <-ctx.Done():
			return
		}
	}
}

// prepare makes the tables: whoever else was to make them may have begun while the
// shard was down.
func prepare(ctx context.Context, shard Source) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return shard.Migrate(ctx)
}

// await waits for the end of a service. Jobs that do not heed the end of their
// time are left behind: others will do them again when their lease is over.
func (w *Worker) await(ctx context.Context, shard Source, s service) {
	select {
	case <-s.Stopped():
		return
	case <-ctx.Done():
	}
	late := time.NewTimer(w.cfg.Timeout + farewell)
	defer late.Stop()
	select {
	case <-s.Stopped():
	case <-late.C:
		w.cfg.Log.Error("jobs that do not end are left behind", "shard", shard.name())
	}
}

const (
	farewell = 5 * time.Second // for what River does once the jobs have ended
	maxStuck = 100             // jobs that do not end, and give their place to others
)

// stuck has a job that does not heed the end of its time give its place in the
// queue to others. It is tried as often as any other, and then dead.
func (w *Worker) stuck(_ context.Context, job river.JobStuckHandlerParams) river.JobStuckHandlerResult {
	w.cfg.Log.Error("a job does not end with its time", "kind", job.Kind, "job", job.ID, "stuck", job.TotalStuckJobs)
	return river.JobStuckHandlerResult{AddWorkerSlot: job.TotalStuckJobs <= maxStuck}
}

func (w *Worker) river(shard string, t *tally) *river.Config {
	workers := river.NewWorkers()
	h := w.cfg.Handlers
	// All kinds, also those that this worker does not do: a leader buries stuck
	// jobs whose kind it does not know.
	add(workers, w, shard, h.Welcome)
	add(workers, w, shard, h.Avatar)
	add(workers, w, shard, h.CacheFix)
	add(workers, w, shard, t.add)
	queues := make(map[string]river.QueueConfig, len(w.cfg.Queues))
	for _, q := range w.cfg.Queues {
		queues[q] = river.QueueConfig{MaxWorkers: w.cfg.Concurrency}
	}
	return &river.Config{
		Workers: workers, Queues: queues,
		Logger:          riverLog(Config{Shard: shard, Log: w.cfg.Log}),
		JobStuckHandler: w.stuck, JobStuckThreshold: min(w.cfg.Timeout, river.JobStuckThresholdDefault),
		JobTimeout: w.cfg.Timeout, RescueStuckJobsAfter: w.cfg.Lease, SoftStopTimeout: w.cfg.Timeout,
		RetryPolicy: backoff(w.cfg.Backoff), MaxAttempts: MaxAttempts,
		CompletedJobRetentionPeriod: doneFor,
		CancelledJobRetentionPeriod: deadFor, DiscardedJobRetentionPeriod: deadFor,
	}
}

func (q *Queue[Tx]) name() string  { return q.cfg.Shard }
func (q *Queue[Tx]) storage() base { return q.base }

func (q *Queue[Tx]) worker(cfg *river.Config) (service, error) {
	cfg.Schema = q.schema
	q.base.tune(cfg)
	return river.NewClient(q.driver, cfg)
}

// Migrate makes or renews the tables. It may be called at any time, and by
// several processes at once.
func (q *Queue[Tx]) Migrate(ctx context.Context) error {
	m, err := rivermigrate.New(q.driver, &rivermigrate.Config{Schema: q.schema, Logger: riverLog(q.cfg)})
	if err == nil {
		err = q.base.migrate(ctx, func(ctx context.Context) error {
			_, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("migrating the jobs of shard %s: %w", q.cfg.Shard, err)
	}
	return nil
}
