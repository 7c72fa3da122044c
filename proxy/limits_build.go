package proxy

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/routing"
)

// A limit is a Limit ready to be held to.
type limit struct {
	spec   Limit
	rate   *limitRate
	by     routing.Key // one part; nil: there are no tiers
	tiers  map[string]*limitRate
	exempt *routing.Table // nil: nobody
	stats  *limitStats
}

// A limitRate is the limiter of one tier.
type limitRate struct {
	id      string
	spec    limiter.RateSpec
	limiter *limiter.RateLimiter
	policy  string // as in RateLimit-Policy
}

// limits are what all limits have in common, and what they keep over reloads,
// found by their names.
type limits struct {
	shared *limiter.RateRedis

	mu       sync.Mutex
	limiters map[string]*limiter.RateLimiter
	stats    map[string]*limitStats
}

func newLimits(set *metrics.Set) *limits {
	failures := set.GetOrCreateCounter(`sluice_redis_errors_total{use="limits"}`)
	l := &limits{
		shared:   limiter.NewRateRedis(func(error) { failures.Inc() }),
		limiters: make(map[string]*limiter.RateLimiter), stats: make(map[string]*limitStats),
	}
	set.NewGauge("sluice_limit_redis_up", func() float64 {
		if l.shared.Down() {
			return 0
		}
		return 1
	})
	set.NewGauge("sluice_limit_nodes", func() float64 { return float64(l.shared.Nodes()) })
	return l
}

// of is the limiter that goes on under that name, or a new one.
func (l *limits) of(id string, spec limiter.RateSpec) (*limiter.RateLimiter, error) {
	l.mu.Lock()
	old := l.limiters[id]
	l.mu.Unlock()
	if old != nil && old.Takes(spec) {
		return old, nil
	}
	return limiter.NewRateLimiter(id, spec, l.shared, time.Now())
}

func (l *limits) statsOf(set *metrics.Set, name string) *limitStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats[name]
	if s == nil {
		s = newLimitStats(set, name)
		l.stats[name] = s
	}
	return s
}

// adopt has the limits be as g says, and forgets those that it does not have.
func (l *limits) adopt(g *Generation) {
	l.shared.Use(g.spec.Redis, g.spec.RedisTimeout)
	l.mu.Lock()
	defer l.mu.Unlock()
	limiters, stats := make(map[string]*limiter.RateLimiter), make(map[string]*limitStats)
	for _, one := range g.limits {
		stats[one.spec.Name] = one.stats
		for _, rate := range one.rates() {
			_ = rate.limiter.Configure(rate.spec) // checked when it was built
			limiters[rate.id] = rate.limiter
		}
	}
	for name, s := range l.stats {
		if stats[name] == nil {
			s.retire()
		}
	}
	l.limiters, l.stats = limiters, stats
}

// rates are the limit's own and those of its tiers.
func (l *limit) rates() []*limitRate {
	all := []*limitRate{l.rate}
	for _, name := range sortedNames(l.tiers) {
		all = append(all, l.tiers[name])
	}
	return all
}

// limits builds those of a route.
func (b *builder) limits(path string, r *route, specs []Limit) {
	for i := range specs {
		spec, at := specs[i], fmt.Sprintf("%s[%d]", path, i)
		if spec.Name == "" {
			spec.Name = fmt.Sprintf("%s-%d", r.name, i+1)
		}
		if other := b.g.limits[spec.Name]; other != nil {
			if !reflect.DeepEqual(other.spec, spec) {
				b.fault(at+".name", fmt.Errorf("another limit has the name %q and says something else; equal ones count together", spec.Name))
				continue
			}
			r.limits = append(r.limits, other)
			continue
		}
		if l := b.limit(at, spec); l != nil {
			if b.g.limits == nil {
				b.g.limits = make(map[string]*limit)
			}
			b.g.limits[spec.Name] = l
			r.limits = append(r.limits, l)
		}
	}
}

// limit is nil where the spec has a fault.
func (b *builder) limit(path string, spec Limit) *limit {
	before := len(b.faults)
	if err := checkLimitName(spec.Name); err != nil {
		b.fault(path+".name", err)
	}
	l := &limit{spec: spec, rate: b.rate(path, &spec, "", spec.RateSpec)}
	var err error
	if l.exempt, err = spec.Exempt.table(); err != nil {
		b.fault(path, err)
	}
	hasTiers := len(spec.Tiers.Rates) > 0
	switch by := spec.Tiers.By != (routing.Part{}); {
	case by && hasTiers:
		l.by, l.tiers = routing.Key{spec.Tiers.By}, make(map[string]*limitRate)
	case by != hasTiers:
		b.fault(path+".tiers", errors.New("tiers need both: by, what says which tier, and rates"))
	}
	for _, name := range sortedNames(spec.Tiers.Rates) {
		tier := b.rate(below(path+".tiers.rates", name), &spec, name, spec.tier(spec.Tiers.Rates[name]))
		if l.tiers != nil {
			l.tiers[name] = tier
		}
	}
	if len(b.faults) > before {
		return nil
	}
	l.stats = b.p.limits.statsOf(b.p.cfg.Metrics, spec.Name)
	return l
}

// rate is nil where the spec has a fault.
func (b *builder) rate(path string, l *Limit, tier string, spec limiter.RateSpec) *limitRate {
	if err := spec.Check(l.Cost); err != nil {
		for _, one := range flatten(err) {
			at := path
			var fault *limiter.RateFault
			if errors.As(one, &fault) {
				at, one = path+"."+fault.Key, fault.Err
			}
			b.fault(at, one)
		}
		return nil
	}
	r := &limitRate{id: l.Name, spec: spec}
	if tier != "" {
		r.id += "\x00" + tier
	}
	var err error
	if r.limiter, err = b.p.limits.of(r.id, spec); err != nil {
		b.fault(path, err)
		return nil
	}
	count, per := spec.Quota()
	r.policy = fmt.Sprintf(`"%s";q=%d;w=%d`, l.Name, count, seconds(per))
	if per == 0 {
		r.policy = fmt.Sprintf(`"%s";q=%d;qu="concurrent-requests"`, l.Name, count)
	}
	return r
}
