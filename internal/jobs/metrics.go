package jobs

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The outcomes of attempts: done; failed, to be tried again; dead, with the
// last attempt or an error that is Permanent.
const (
	done = iota
	failed
	dead
)

var (
	outcomes = [...]string{"done", "failed", "dead"}
	states   = [...]string{"available", "running", "retryable", "scheduled", "dead"}
)

// A depth is how many jobs of a kind are in one of River's states, and how long
// ago the oldest was due.
type depth struct {
	kind, state string
	n           int64
	age         time.Duration
}

// A meter counts what a worker does, and keeps what it last saw in the shards.
type meter struct {
	counts map[string]*[len(outcomes)]atomic.Uint64 // by kind; the map is not written to

	mu     sync.Mutex
	shards [][]depth
}

func newMeter(shards int) *meter {
	m := &meter{counts: map[string]*[len(outcomes)]atomic.Uint64{}, shards: make([][]depth, shards)}
	for _, kind := range Kinds() {
		m.counts[kind] = new([len(outcomes)]atomic.Uint64)
	}
	return m
}

func (m *meter) count(kind string, outcome int) {
	if c := m.counts[kind]; c != nil {
		c[outcome].Add(1)
	}
}

func (m *meter) saw(shard int, list []depth) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shards[shard] = list
}

const (
	lookEvery  = 5 * time.Second
	lookTime   = 30 * time.Second // a long queue takes a while to count
	pruneEvery = time.Hour
	pruneTime  = time.Minute
	pruneBatch = 10_000 // keys in one statement, so that each of them ends
)

// look counts a shard's jobs every few seconds, and forgets every hour what
// need no longer be remembered.
func (w *Worker) look(ctx context.Context, i int, shard Source) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for pruned := time.Now(); ; {
		bounded, cancel := context.WithTimeout(ctx, lookTime)
		list, err := shard.storage().depth(bounded)
		cancel()
		if err == nil { // what cannot be counted is not none: it stays as it was
			w.meter.saw(i, list)
		}
		if err == nil && time.Since(pruned) > pruneEvery {
			pruned = time.Now()
			err = prune(ctx, shard.storage())
		}
		if err != nil && ctx.Err() == nil {
			w.cfg.Log.Warn("the jobs of a shard cannot be looked at", "shard", shard.name(), "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// prune forgets, a little at a time, which of the jobs that are gone have been
// counted.
func prune(ctx context.Context, b base) error {
	ctx, cancel := context.WithTimeout(ctx, pruneTime)
	defer cancel()
	for {
		n, err := b.prune(ctx, pruneBatch)
		if err != nil || n < pruneBatch {
			return err
		}
	}
}

// WriteMetrics writes jobs_total{kind,outcome}, jobs_depth{kind,state} and
// jobs_oldest_seconds{kind} of some workers together, in Prometheus' text
// format; nothing where there are none. The latter two are what is in the
// shards, whoever works there: how many jobs there are, and how late the oldest
// is that waits for a worker.
func WriteMetrics(out io.Writer, workers ...*Worker) {
	if len(workers) == 0 {
		return
	}
	for _, kind := range Kinds() {
		for i, outcome := range outcomes {
			n := uint64(0)
			for _, w := range workers {
				n += w.meter.counts[kind][i].Load()
			}
			fmt.Fprintf(out, "jobs_total{kind=%q,outcome=%q} %d\n", kind, outcome, n)
		}
	}
	number, oldest := sums(workers)
	for _, kind := range Kinds() {
		for i, state := range states {
			fmt.Fprintf(out, "jobs_depth{kind=%q,state=%q} %d\n", kind, state, number[kind][i])
		}
		fmt.Fprintf(out, "jobs_oldest_seconds{kind=%q} %g\n", kind, oldest[kind].Seconds())
	}
}

func sums(workers []*Worker) (map[string]*[len(states)]int64, map[string]time.Duration) {
	number, oldest := map[string]*[len(states)]int64{}, map[string]time.Duration{}
	for _, kind := range Kinds() {
		number[kind] = new([len(states)]int64)
	}
	for _, w := range workers {
		for _, d := range w.meter.seen() {
			state := d.state
			if state == "discarded" || state == "cancelled" {
				state = "dead"
			}
			i := slices.Index(states[:], state)
			if n := number[d.kind]; n != nil && i >= 0 {
				n[i] += d.n
			}
			if state == "available" || state == "retryable" {
				oldest[d.kind] = max(oldest[d.kind], d.age)
			}
		}
	}
	return number, oldest
}

func (m *meter) seen() []depth {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Concat(m.shards...)
}
