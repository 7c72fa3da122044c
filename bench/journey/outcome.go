package main

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sluice-edge/sluice/bench/load"
)

// An outcome is what one phase came to.
type outcome struct {
	name, title string
	why         string // why there are no figures; empty: there are
	processes   int

	mixed part // reads and writes
	reads part // reads alone, after it
}

// A part is one load of a phase.
type part struct {
	requests, writes         int
	perSecond                float64
	mean, p50, p95, p99, max time.Duration
	queries                  float64 // of databases per 1,000 requests, as the service counts
	transactions             float64 // of PostgreSQL per 1,000 requests, as it counts
	cores                    cores
	edge, users              cacheCount
}

func newPart(r *load.Result, c counters, used cores) part {
	per := 1000 / float64(max(r.Requests, 1))
	q := func(h *hdrhistogram.Histogram, p float64) time.Duration {
		return time.Duration(h.ValueAtQuantile(p)) * time.Microsecond
	}
	return part{
		requests: r.Requests, writes: r.Writes, perSecond: r.PerSecond(),
		mean: time.Duration(r.Latency.Mean() * float64(time.Microsecond)),
		p50:  q(r.Latency, 50), p95: q(r.Latency, 95), p99: q(r.Latency, 99), max: q(r.Latency, 100),
		queries: c.queries * per, transactions: c.transactions * per,
		cores: used, edge: c.edge, users: c.users,
	}
}

// cpu is what a role costs, in CPU time per 1,000 requests; all roles where role
// is empty.
func (p part) cpu(role string) time.Duration {
	n := p.cores.Role[role]
	if role == "" {
		n = p.cores.ours()
	}
	return time.Duration(n / max(p.perSecond, 1e-9) * 1000 * float64(time.Second))
}
