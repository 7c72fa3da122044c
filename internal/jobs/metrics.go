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
	pruneEvery = time.Hour
)

// look counts a shard's jobs every few seconds, and forgets every hour what
// need no longer be remembered.
func (w *Worker) look(ctx context.Context, i int, shard Source) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for pruned := time.Now(); ; {
		bounded, cancel := context.WithTimeout(ctx, lookEvery)
		list, err := shard.storage().depth(bounded)
		if err == nil && time.Since(pruned) > pruneEvery {
			pruned = time.Now()
			err = shard.storage().prune(bounded)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			w.cfg.Log.Warn("the jobs of a shard cannot be looked at", "shard", shard.name(), "error", err)
		}
		w.meter.saw(i, list)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// WriteMetrics writes jobs_total{kind,outcome}, jobs_depth{kind,state} and
// jobs_oldest_seconds{kind} in Prometheus' text format. The latter two are of
// all workers together, since they look into the shards: how many jobs there
// are, and how late the oldest is that waits for a worker.
func (w *Worker) WriteMetrics(out io.Writer) { w.meter.write(out) }

func (m *meter) write(out io.Writer) {
	for _, kind := range Kinds() {
		for i, outcome := range outcomes {
			fmt.Fprintf(out, "jobs_total{kind=%q,outcome=%q} %d\n", kind, outcome, m.counts[kind][i].Load())
		}
	}
	number, oldest := m.sums()
	for _, kind := range Kinds() {
		for i, state := range states {
			fmt.Fprintf(out, "jobs_depth{kind=%q,state=%q} %d\n", kind, state, number[kind][i])
		}
		fmt.Fprintf(out, "jobs_oldest_seconds{kind=%q} %g\n", kind, oldest[kind].Seconds())
	}
}

func (m *meter) sums() (map[string]*[len(states)]int64, map[string]time.Duration) {
	number, oldest := map[string]*[len(states)]int64{}, map[string]time.Duration{}
	for _, kind := range Kinds() {
		number[kind] = new([len(states)]int64)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, list := range m.shards {
		for _, d := range list {
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
