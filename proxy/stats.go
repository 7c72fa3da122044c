package proxy

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// latencyBuckets are the upper bounds of every latency histogram, in seconds.
var latencyBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// methods are the values of the label method: the registered ones, and one for
// whatever else a client makes up, so that it cannot make up series.
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "CONNECT", "TRACE", "other"}

func methodIndex(method []byte) int {
	for i, m := range methods {
		if string(method) == m {
			return i
		}
	}
	return len(methods) - 1
}

// stats are the metrics of a Proxy. They outlast generations: a route that a
// reload keeps goes on counting where it was.
type stats struct {
	set                  *metrics.Set
	inFlight, tunnels    atomic.Int64
	bytesIn, bytesOut    *metrics.Counter
	panics               *metrics.Counter
	mirrored, unmirrored *metrics.Counter
	none                 *routeStats // of exchanges without a route

	mu     sync.Mutex
	routes map[string]*routeStats
}

// retried counts a retry.
func (s *stats) retried(backend, reason string) {
	s.set.GetOrCreateCounter(retriesName(backend, reason)).Inc()
}

func retriesName(backend, reason string) string {
	return fmt.Sprintf("sluice_retries_total{backend=%q,reason=%q}", backend, reason)
}

// hedged counts a request that was sent to a further target while the first was
// silent.
func (s *stats) hedged(backend string, won bool) {
	outcome := "lost"
	if won {
		outcome = "won"
	}
	s.set.GetOrCreateCounter(hedgesName(backend, outcome)).Inc()
}

func hedgesName(backend, outcome string) string {
	return fmt.Sprintf("sluice_hedges_total{backend=%q,outcome=%q}", backend, outcome)
}

// ejections counts how often a target was taken out by what requests came to.
func (s *stats) ejections(backend, target string) *metrics.Counter {
	return s.set.GetOrCreateCounter(ejectionsName(backend, target))
}

func ejectionsName(backend, target string) string {
	return fmt.Sprintf("sluice_ejections_total{backend=%q,target=%q}", backend, target)
}

func newStats(set *metrics.Set) *stats {
	s := &stats{
		set:        set,
		bytesIn:    set.NewCounter("http_request_bytes_total"),
		bytesOut:   set.NewCounter("http_response_bytes_total"),
		panics:     set.NewCounter("sluice_panics_total"),
		mirrored:   set.NewCounter(`sluice_mirrored_total{outcome="sent"}`),
		unmirrored: set.NewCounter(`sluice_mirrored_total{outcome="dropped"}`),
		routes:     make(map[string]*routeStats),
	}
	set.NewGauge("http_requests_in_flight", func() float64 { return float64(s.inFlight.Load()) })
	set.NewGauge("sluice_tunnels", func() float64 { return float64(s.tunnels.Load()) })
	s.none = s.route("")
	return s
}

// routeStats are the metrics of one route, made when first counted.
type routeStats struct {
	stats   *stats
	name    string
	methods [len(methods)]atomic.Pointer[methodStats]
	caching [cacheResults]atomic.Pointer[metrics.Counter]
}

type methodStats struct {
	duration *metrics.PrometheusHistogram
	statuses [600]atomic.Pointer[metrics.Counter]
}

func (s *stats) route(name string) *routeStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.routes[name]
	if !ok {
		r = &routeStats{stats: s, name: name}
		s.routes[name] = r
	}
	return r
}

// retire forgets the series of the routes of old that next no longer has. The
// exchanges still under way on them count into nothing.
func (s *stats) retire(old, next *Generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := make(map[string]bool, len(next.routes))
	for _, r := range next.routes {
		kept[r.name] = true
	}
	for _, r := range old.routes {
		if kept[r.name] {
			continue
		}
		delete(s.routes, r.name)
		for how := range r.stats.caching {
			if r.stats.caching[how].Load() != nil {
				s.set.UnregisterMetric(r.stats.cachedName(cacheResult(how)))
			}
		}
		for i := range r.stats.methods {
			m := r.stats.methods[i].Load()
			if m == nil {
				continue
			}
			s.set.UnregisterMetric(r.stats.durationName(i))
			for status := range m.statuses {
				if m.statuses[status].Load() != nil {
					s.set.UnregisterMetric(r.stats.totalName(i, status))
				}
			}
		}
	}
}

func (r *routeStats) durationName(method int) string {
	return fmt.Sprintf(`http_request_duration_seconds{method=%q,route=%q}`, methods[method], r.name)
}

func (r *routeStats) totalName(method, status int) string {
	return fmt.Sprintf(`http_requests_total{method=%q,route=%q,status="%d"}`, methods[method], r.name, status)
}

func (r *routeStats) cachedName(how cacheResult) string {
	return fmt.Sprintf(`sluice_cache_requests_total{route=%q,result=%q}`, r.name, cacheResultNames[how])
}

// cached counts what came of asking the cache.
func (r *routeStats) cached(how cacheResult) {
	c := r.caching[how].Load()
	if c == nil {
		c = r.stats.set.GetOrCreateCounter(r.cachedName(how))
		r.caching[how].Store(c)
	}
	c.Inc()
}

// CacheResults are how many exchanges came to what, of all routes.
func (p *Proxy) CacheResults() map[string]uint64 {
	all := make(map[string]uint64)
	p.stats.mu.Lock()
	defer p.stats.mu.Unlock()
	for _, r := range p.stats.routes {
		for how := range r.caching {
			if c := r.caching[how].Load(); c != nil {
				all[cacheResultNames[how]] += c.Get()
			}
		}
	}
	return all
}

// observe counts one exchange.
func (r *routeStats) observe(method []byte, status int, took time.Duration) {
	i := methodIndex(method)
	m := r.methods[i].Load()
	if m == nil {
		r.methods[i].CompareAndSwap(nil, &methodStats{
			duration: r.stats.set.GetOrCreatePrometheusHistogramExt(r.durationName(i), latencyBuckets),
		})
		m = r.methods[i].Load()
	}
	if status < 0 || status >= len(m.statuses) {
		status = 0
	}
	c := m.statuses[status].Load()
	if c == nil {
		c = r.stats.set.GetOrCreateCounter(r.totalName(i, status))
		m.statuses[status].Store(c)
	}
	c.Inc()
	m.duration.Update(took.Seconds())
}

// attemptStats are the metrics of the attempts at one target.
type attemptStats struct {
	set             *metrics.Set
	backend, target string
	duration        *metrics.PrometheusHistogram
	outcomes        [len(outcomes)]atomic.Pointer[metrics.Counter]
}

// outcomes are the values of the label outcome: the class of the status, or
// how the attempt failed.
var outcomes = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx", "connect", "timeout", "reset", "protocol", "canceled", "client"}

func (s *stats) attempts(backend, target string) *attemptStats {
	return &attemptStats{
		set: s.set, backend: backend, target: target,
		duration: s.set.GetOrCreatePrometheusHistogramExt(attemptName(backend), latencyBuckets),
	}
}

func attemptName(backend string) string {
	return fmt.Sprintf("sluice_attempt_duration_seconds{backend=%q}", backend)
}

// retire forgets the series of a target that is gone, since discovery may bring
// up any number of them. Exchanges still under way count into nothing.
func (a *attemptStats) retire() {
	for i := range a.outcomes {
		a.set.UnregisterMetric(a.outcomeName(i)) // another generation may have made it
	}
	a.set.UnregisterMetric(ejectionsName(a.backend, a.target))
}

func (a *attemptStats) outcomeName(i int) string {
	return fmt.Sprintf(`sluice_attempts_total{backend=%q,target=%q,outcome=%q}`, a.backend, a.target, outcomes[i])
}

func (a *attemptStats) observe(outcome int, took time.Duration) {
	c := a.outcomes[outcome].Load()
	if c == nil {
		c = a.set.GetOrCreateCounter(a.outcomeName(outcome))
		a.outcomes[outcome].Store(c)
	}
	c.Inc()
	a.duration.Update(took.Seconds())
}
