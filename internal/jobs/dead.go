package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// ErrNotDead says that a job is not among the dead letters.
var ErrNotDead = errors.New("the job is not among the dead letters")

// Dead letters are jobs that were tried in vain as often as they may be, or
// whose error was Permanent. They are kept for 30 days.
var deadStates = []rivertype.JobState{rivertype.JobStateDiscarded, rivertype.JobStateCancelled}

// A DeadLetter is a job that was given up.
type DeadLetter struct {
	Shard    string          `json:"shard"`
	ID       int64           `json:"id"`
	Kind     string          `json:"kind"`
	Queue    string          `json:"queue"`
	Attempts int             `json:"attempts"`
	Error    string          `json:"error"` // of the last attempt
	Enqueued time.Time       `json:"enqueued"`
	Died     time.Time       `json:"died"`
	Args     json.RawMessage `json:"args"`
}

// Dead lists dead letters by id, at most limit (up to 10,000) of those above
// the id after.
func (q *Queue[Tx]) Dead(ctx context.Context, after int64, limit int) ([]DeadLetter, error) {
	limit = min(max(limit, 1), 10_000)
	params := river.NewJobListParams().States(deadStates...).First(limit).
		OrderBy(river.JobListOrderByID, river.SortOrderAsc).
		Where("id > @after", river.NamedArgs{"after": after})
	res, err := q.client.JobList(ctx, params)
	if noTables(err) { // nor has there been a job
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing dead letters of shard %s: %w", q.cfg.Shard, err)
	}
	list := make([]DeadLetter, len(res.Jobs))
	for i, j := range res.Jobs {
		list[i] = DeadLetter{
			Shard: q.cfg.Shard, ID: j.ID, Kind: j.Kind, Queue: j.Queue, Attempts: j.Attempt,
			Enqueued: j.CreatedAt, Args: j.EncodedArgs,
		}
		if j.FinalizedAt != nil {
			list[i].Died = *j.FinalizedAt
		}
		if n := len(j.Errors); n > 0 {
			list[i].Error = j.Errors[n-1].Error
		}
	}
	return list, nil
}

// Requeue has a dead letter tried again, at once: if that fails it is dead
// again. The error is ErrNotDead where there is no dead letter of that id.
func (q *Queue[Tx]) Requeue(ctx context.Context, id int64) error {
	job, err := q.client.JobGet(ctx, id)
	switch {
	case errors.Is(err, rivertype.ErrNotFound):
		return fmt.Errorf("job %d of shard %s: %w", id, q.cfg.Shard, ErrNotDead)
	case err != nil:
		return fmt.Errorf("job %d of shard %s: %w", id, q.cfg.Shard, err)
	case !slices.Contains(deadStates, job.State):
		return fmt.Errorf("job %d of shard %s is %s: %w", id, q.cfg.Shard, job.State, ErrNotDead)
	}
	if _, err := q.client.JobRetry(ctx, id); err != nil {
		return fmt.Errorf("requeuing job %d of shard %s: %w", id, q.cfg.Shard, err)
	}
	return nil
}

// noTables reports whether what failed is that nobody has made the tables yet.
func noTables(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "42P01" // undefined_table
	}
	return err != nil && strings.Contains(err.Error(), "no such table") // SQLite has no code for it
}
