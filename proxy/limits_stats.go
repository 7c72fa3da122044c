package proxy

import (
	"fmt"
	"slices"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/routing"
)

// limitStats count what one limit decides.
type limitStats struct {
	set                               *metrics.Set
	name                              string
	allowed, denied, exempt, reported *metrics.Counter
	fallbacks                         *metrics.Counter
}

func newLimitStats(set *metrics.Set, name string) *limitStats {
	s := &limitStats{set: set, name: name}
	s.allowed = set.GetOrCreateCounter(s.series("allowed"))
	s.denied = set.GetOrCreateCounter(s.series("denied"))
	s.exempt = set.GetOrCreateCounter(s.series("exempt"))
	s.reported = set.GetOrCreateCounter(s.series("reported"))
	s.fallbacks = set.GetOrCreateCounter(s.fallbackSeries())
	return s
}

func (s *limitStats) series(decision string) string {
	return fmt.Sprintf("sluice_limit_decisions_total{limit=%q,decision=%q}", s.name, decision)
}

func (s *limitStats) fallbackSeries() string {
	return fmt.Sprintf("sluice_limit_fallbacks_total{limit=%q}", s.name)
}

// count counts a decision; reported is one that would have been a denial.
func (s *limitStats) count(d *limiter.RateDecision, report bool) {
	switch {
	case d.Allowed:
		s.allowed.Inc()
	case report:
		s.reported.Inc()
	default:
		s.denied.Inc()
	}
	if d.Fallback {
		s.fallbacks.Inc()
	}
}

// retire forgets the series of a limit that is gone.
func (s *limitStats) retire() {
	for _, decision := range []string{"allowed", "denied", "exempt", "reported"} {
		s.set.UnregisterMetric(s.series(decision))
	}
	s.set.UnregisterMetric(s.fallbackSeries())
}

// LimitsInfo is what the admin API shows of rate limits.
type LimitsInfo struct {
	Redis  *LimitsRedis `json:"redis,omitempty"` // nil: the file has none
	Limits []LimitInfo  `json:"limits"`
}

// LimitsRedis is the state of what gateways share.
type LimitsRedis struct {
	Up    bool `json:"up"`    // false: on_error decides
	Nodes int  `json:"nodes"` // gateways that share limits
}

// A LimitInfo is one limit as the admin API shows it.
type LimitInfo struct {
	Name       string   `json:"name"`
	Routes     []string `json:"routes"`
	Key        string   `json:"key"`
	Algorithm  string   `json:"algorithm"`
	Scope      string   `json:"scope"`
	OnError    string   `json:"on_error"`
	Rate       string   `json:"rate,omitempty"`
	Burst      int64    `json:"burst,omitempty"`
	Max        int64    `json:"max,omitempty"`
	Cost       int64    `json:"cost"`
	Tiers      []string `json:"tiers,omitempty"`
	ReportOnly bool     `json:"report_only"`
	Keys       int      `json:"keys"`     // that are remembered here, of all tiers
	Overflow   uint64   `json:"overflow"` // requests whose key there was no room for
	Allowed    uint64   `json:"allowed"`
	Denied     uint64   `json:"denied"`
	Exempt     uint64   `json:"exempt"`
	Reported   uint64   `json:"reported"`
	Fallbacks  uint64   `json:"fallbacks"` // decided by on_error
}

// Limits lists g's limits by their names.
func (g *Generation) Limits() LimitsInfo {
	info := LimitsInfo{Limits: []LimitInfo{}}
	if g.spec.Redis != nil {
		info.Redis = &LimitsRedis{Up: !g.shared.Down(), Nodes: g.shared.Nodes()}
	}
	for _, name := range sortedNames(g.limits) {
		one := g.limits[name].inform()
		for _, r := range g.routes {
			if slices.Contains(r.limits, g.limits[name]) {
				one.Routes = append(one.Routes, r.name)
			}
		}
		info.Limits = append(info.Limits, one)
	}
	return info
}

func (l *limit) inform() LimitInfo {
	s := &l.spec
	info := LimitInfo{
		Name: s.Name, Key: s.Key.String(), Algorithm: s.Algorithm, Scope: s.Scope, OnError: s.OnError,
		Rate: s.Rate.String(), Burst: s.Burst, Max: s.Max, Cost: s.Cost, ReportOnly: s.ReportOnly,
		Tiers:   sortedNames(l.tiers),
		Allowed: l.stats.allowed.Get(), Denied: l.stats.denied.Get(), Exempt: l.stats.exempt.Get(),
		Reported: l.stats.reported.Get(), Fallbacks: l.stats.fallbacks.Get(),
	}
	for _, rate := range l.rates() {
		keys, full := rate.limiter.Keys()
		info.Keys, info.Overflow = info.Keys+keys, info.Overflow+full
	}
	return info
}

// A LimitProbe says how a limit would count a request.
type LimitProbe struct {
	Name   string
	Exempt bool
	Tier   string // empty: the limit's own rate
	Rate   string // in words
	By     string // the parts that it is counted by
	Key    string // what these are in the request, in the plain; Redis knows a hash of it
	Note   string // which bucket takes it where one is missing
}

// probeLimits says how the limits of x's route would count it, and takes
// nothing.
func (x *Exchange) probeLimits() (all []LimitProbe) {
	for _, l := range x.route.limits {
		one := LimitProbe{Name: l.spec.Name, Exempt: l.exempts(x), By: l.spec.Key.String(), Key: l.spec.Key.Describe(&x.probe)}
		rate := l.rateFor(x)
		for name, tier := range l.tiers {
			if tier == rate {
				one.Tier = name
			}
		}
		one.Rate = describeRate(rate.spec)
		switch missing := len(l.spec.Key.Missing(&x.probe)) > 0; {
		case missing && l.spec.Missing == missingShared:
			one.Note = "counted with all others that have none"
		case missing:
			one.Note = "counted by the client's address, " + routing.ClientNetwork(x.probe.ClientIP)
		}
		all = append(all, one)
	}
	return all
}

func describeRate(s limiter.RateSpec) string {
	if s.Algorithm == limiter.RateConcurrency {
		return fmt.Sprintf("%d under way, %s", s.Max, s.Scope)
	}
	text := s.Rate.String()
	if s.Burst > 0 {
		text += fmt.Sprintf(" burst %d", s.Burst)
	}
	return fmt.Sprintf("%s, %s, %s", text, s.Algorithm, s.Scope)
}
