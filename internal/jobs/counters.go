package jobs

import (
	"context"
	"time"
)

// A Counter is a sum of Analytics jobs.
type Counter struct {
	Day    string `json:"day"`
	Region string `json:"region"`
	Event  string `json:"event"`
	N      int64  `json:"n"`
}

// An increment is one Analytics job on its way into its counter.
type increment struct {
	job  Job
	args Analytics
	done chan error // buffered: who gave it may have gone
}

const (
	batchSize = 500
	batchWait = 20 * time.Millisecond
)

// A tally collects the increments that jobs bring at about the same time, since
// one statement for all costs little more than one for each.
type tally struct {
	base base
	in   chan increment
}

func newTally(b base) *tally { return &tally{base: b, in: make(chan increment)} }

// add returns once the increment is stored, or was before.
func (t *tally) add(ctx context.Context, job Job, args Analytics) error {
	inc := increment{job: job, args: args, done: make(chan error, 1)}
	select {
	case t.in <- inc:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-inc.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run stores what add brings, until ctx is done.
func (t *tally) run(ctx context.Context) {
	for {
		var batch []increment
		select {
		case <-ctx.Done():
			return
		case inc := <-t.in:
			batch = append(batch, inc)
		}
		batch = t.collect(ctx, batch)
		storing, cancel := context.WithTimeout(ctx, Timeout)
		err := t.base.count(storing, batch)
		cancel()
		for _, inc := range batch {
			inc.done <- err
		}
	}
}

func (t *tally) collect(ctx context.Context, batch []increment) []increment {
	full := time.NewTimer(batchWait)
	defer full.Stop()
	for len(batch) < batchSize {
		select {
		case inc := <-t.in:
			batch = append(batch, inc)
		case <-full.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}
