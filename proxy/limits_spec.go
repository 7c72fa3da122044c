package proxy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/routing"
)

// A Limit is one element of a route's `limits`: how many requests of each key
// are let through. All limits of a route must admit a request.
type Limit struct {
	Name             string      `yaml:"name" doc:"shown in RateLimit, metrics and explain; limits of one name, which must be equal, count together; ROUTE-N where nothing is said"`
	Key              routing.Key `yaml:"key" doc:"what is counted for itself: a part of the request, or a list of them" default:"ip"`
	limiter.RateSpec `yaml:",inline"`
	Cost             int64  `yaml:"cost" min:"1" max:"1000000000" default:"1" doc:"how many a request counts for"`
	Missing          string `yaml:"missing" enum:"ip|shared" default:"ip" doc:"requests without a part of key are counted by the client's address, or all together; never not at all"`
	Exempt           Exempt `yaml:"exempt" doc:"requests that are not counted"`
	Tiers            Tiers  `yaml:"tiers" doc:"other rates for some clients"`
	Headers          bool   `yaml:"headers" default:"true" doc:"tell clients by RateLimit and RateLimit-Policy"`
	ReportOnly       bool   `yaml:"report_only" default:"false" doc:"count and tell metrics, and refuse nobody"`
}

// SetDefaults is a limit that says nothing.
func (l *Limit) SetDefaults() {
	l.RateSpec = limiter.RateDefaults()
	l.Cost, l.Missing, l.Headers = 1, missingIP, true
	_ = l.Key.UnmarshalText([]byte("ip"))
}

const (
	missingIP     = "ip"
	missingShared = "shared"
)

// Exempt says which requests a limit does not count: those of any of these.
type Exempt struct {
	ClientIPs []string          `yaml:"client_ips" doc:"addresses and ranges of the client, after trusted proxies"`
	Headers   map[string]string `yaml:"headers" doc:"name to exact value, re:… or present; one that holds is enough"`
}

// Tiers give some clients another rate.
type Tiers struct {
	By    routing.Part    `yaml:"by" doc:"the part of the request that says which tier, such as header:X-Plan or jwt:plan"`
	Rates map[string]Tier `yaml:"rates" doc:"value of that part to rate; all others have the limit's own"`
}

// A Tier is another rate. Its text form is the rate alone.
type Tier struct {
	Rate  limiter.Rate `yaml:"rate" doc:"instead of the limit's"`
	Burst int64        `yaml:"burst" min:"1" max:"1000000000" doc:"instead of the limit's; without the key: as many as in the rate"`
	Max   int64        `yaml:"max" min:"1" max:"1000000000" doc:"instead of the limit's, for concurrency"`
}

// UnmarshalText reads the short form.
func (t *Tier) UnmarshalText(text []byte) error {
	*t = Tier{}
	return t.Rate.UnmarshalText(text)
}

// tier is the limit's spec for a tier.
func (l *Limit) tier(t Tier) limiter.RateSpec {
	s := l.RateSpec
	s.Rate, s.Burst, s.Max = t.Rate, t.Burst, t.Max
	return s
}

// table is what matches the requests that are exempt; nil: none.
func (e *Exempt) table() (*routing.Table, error) {
	var rules []routing.Rule
	if len(e.ClientIPs) > 0 {
		rules = append(rules, routing.Rule{Name: "client_ips", Match: routing.Match{ClientIPs: e.ClientIPs}})
	}
	for name, want := range e.Headers {
		rules = append(rules, routing.Rule{Name: name, Match: routing.Match{Headers: map[string]string{name: want}}})
	}
	if len(rules) == 0 {
		return nil, nil
	}
	table, err := routing.NewTable(rules)
	var all []error
	for _, one := range flatten(err) {
		var fault *routing.RuleError
		if errors.As(one, &fault) {
			one = &SpecError{Path: "exempt." + strings.TrimPrefix(fault.Field, "match."), Err: fault.Err}
		}
		all = append(all, one)
	}
	return table, errors.Join(all...)
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, one := range many.Unwrap() {
			all = append(all, flatten(one)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// checkLimitName holds a limit's name to what a structured field can say (RFC 9651,
// section 3.3.3) without quoting.
func checkLimitName(name string) error {
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return fmt.Errorf("%q has characters beyond visible ASCII without quotes", name)
		}
	}
	return nil
}
