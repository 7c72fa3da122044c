package jobs

import (
	"context"
	"errors"
	"log/slog"

	"github.com/riverqueue/river"
)

// A task is how River calls a handler.
type task[T Args] struct {
	river.WorkerDefaults[T]
	worker *Worker
	shard  string
	do     func(context.Context, Job, T) error // nil: others do it
}

func add[T Args](to *river.Workers, w *Worker, shard string, do func(context.Context, Job, T) error) {
	river.AddWorker[T](to, &task[T]{worker: w, shard: shard, do: do})
}

func (t *task[T]) Work(ctx context.Context, j *river.Job[T]) error {
	outcome := failed // also of a panic, which goes on to River
	if j.Attempt >= j.MaxAttempts {
		outcome = dead
	}
	defer func() { t.worker.meter.count(j.Kind, outcome) }()
	err := t.attempt(ctx, j)
	switch {
	case err == nil:
		outcome = done
	case isPermanent(err):
		outcome = dead
		return river.JobCancel(err)
	}
	return err
}

func (t *task[T]) attempt(ctx context.Context, j *river.Job[T]) error {
	if err := j.Args.Check(); err != nil {
		return err
	}
	if t.do == nil {
		return errors.New("this worker has nothing that does " + j.Kind)
	}
	return t.do(ctx, Job{Shard: t.shard, ID: j.ID, Attempt: j.Attempt, key: keyOf(j.Metadata)}, j.Args)
}

// riverLog is for what River has to say: what failed is in the dead letters and
// the metrics, so that only its own troubles are left.
func riverLog(cfg Config) *slog.Logger {
	return slog.New(warnings{cfg.Log.Handler()}).With("room", "jobs", "shard", cfg.Shard)
}

// warnings leaves out what no operator has to act on: River tells of every
// migration and every start.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
