package shard

import (
	"fmt"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// meters are the metrics of a cluster; nil counts nothing.
type meters struct {
	set     *metrics.Set
	queries sync.Map           // queryKey → *metrics.Counter
	commits []*metrics.Counter // by shard
	seconds map[spot]*metrics.PrometheusHistogram
	lag     map[*host]*metrics.Gauge
}

type spot struct {
	shard int
	role  string
}

type queryKey struct {
	spot
	op string
}

func buckets() []float64 {
	return []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
}

func newMeters(set *metrics.Set, shards []*shardHosts) *meters {
	if set == nil {
		return nil
	}
	m := &meters{set: set, seconds: map[spot]*metrics.PrometheusHistogram{}, lag: map[*host]*metrics.Gauge{}}
	for _, s := range shards {
		m.commits = append(m.commits, set.GetOrCreateCounter(fmt.Sprintf("users_transactions_total{shard=%q}", s.name)))
		for _, role := range []string{"primary", "replica"} {
			m.seconds[spot{s.index, role}] = set.GetOrCreatePrometheusHistogramExt(
				fmt.Sprintf("users_query_duration_seconds{shard=%q,role=%q}", s.name, role), buckets())
		}
		for _, h := range s.hosts {
			if h.listed == "replica" {
				m.lag[h] = set.GetOrCreateGauge(fmt.Sprintf("users_replica_lag_seconds{shard=%q,replica=%q}", s.name, h.address), nil)
			}
		}
	}
	return m
}

func (m *meters) asked(s *shardHosts, role, op string, took time.Duration) {
	if m == nil {
		return
	}
	at := spot{s.index, role}
	m.seconds[at].Update(took.Seconds())
	counter, ok := m.queries.Load(queryKey{at, op})
	if !ok {
		name := fmt.Sprintf("users_queries_total{shard=%q,role=%q,op=%q}", s.name, role, op)
		counter, _ = m.queries.LoadOrStore(queryKey{at, op}, m.set.GetOrCreateCounter(name))
	}
	counter.(*metrics.Counter).Inc()
}

// transacted counts a transaction of writes.
func (m *meters) transacted(s *shardHosts) {
	if m != nil {
		m.commits[s.index].Inc()
	}
}

func (m *meters) probed(_ *shardHosts, h *host, state *hostState) {
	if m == nil || m.lag[h] == nil || !state.up {
		return
	}
	m.lag[h].Set(state.lag.Seconds())
}
