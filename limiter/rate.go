package limiter

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Rate is so many requests in so much time: in a file, 100/1m or 5/s.
type Rate struct {
	Count int64
	Per   time.Duration
}

// UnmarshalText reads COUNT/TIME; the 1 of a time may be left out.
func (r *Rate) UnmarshalText(text []byte) error {
	count, per, found := strings.Cut(string(text), "/")
	n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 64)
	if !found || err != nil && !errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%q is no rate such as 100/1m or 5/s", text)
	}
	per = strings.TrimSpace(per)
	if per != "" && (per[0] < '0' || per[0] > '9') {
		per = "1" + per
	}
	d, derr := time.ParseDuration(per)
	if derr != nil {
		return fmt.Errorf("%q is no rate such as 100/1m or 5/s: %q is no time", text, per)
	}
	if err != nil {
		return fmt.Errorf("the rate %s is out of range", text)
	}
	*r = Rate{n, d}
	return r.check()
}

const (
	mostRate   = 1_000_000_000 // requests in a rate, a burst, or at once
	longestPer = 366 * 24 * time.Hour
	leastPer   = time.Millisecond
)

func (r Rate) check() error {
	switch {
	case r.Count <= 0:
		return fmt.Errorf("a rate of %d admits nobody: it is at least 1", r.Count)
	case r.Count > mostRate:
		return fmt.Errorf("a rate is of at most %d requests", mostRate)
	case r.Per < leastPer || r.Per > longestPer:
		return fmt.Errorf("the time of a rate is from %s to %s", leastPer, longestPer)
	case r.Per.Nanoseconds()/r.Count < 100:
		return errors.New("a rate is at most 10,000,000 a second")
	}
	return nil
}

// String writes the rate as in the file.
func (r Rate) String() string {
	if r.Count == 0 {
		return ""
	}
	per := r.Per.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(per, zero) {
			per = per[:len(per)-2]
		}
	}
	return strconv.FormatInt(r.Count, 10) + "/" + per
}

// MarshalText writes the rate as in the file.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// The algorithms of a rate limit.
const (
	// RateGCRA is the generic cell rate algorithm (ITU-T I.371, annex A): a
	// token bucket kept as one time. It admits at most burst + rate·t in any time
	// t.
	RateGCRA = "gcra"
	// RateFixedWindow counts from a key's first request on, until the time of the
	// rate is over. Two windows can meet: twice the rate in a moment.
	RateFixedWindow = "fixed_window"
	// RateSlidingWindow is fixed windows of which the one before counts by how
	// much of it is still within the time of the rate.
	RateSlidingWindow = "sliding_window"
	// RateConcurrency bounds how many requests of a key are under way.
	RateConcurrency = "concurrency"
)

// Where the state of a limit is, and what holds while it cannot be reached.
const (
	RateLocal  = "local"  // in this process; for on_error: this gateway's share
	RateGlobal = "global" // in Redis, for all gateways together
	RateAllow  = "allow"
	RateDeny   = "deny"
)

// A RateSpec says how many requests of one key are admitted.
type RateSpec struct {
	Rate      Rate   `yaml:"rate" doc:"how many requests in how long, such as 100/1m; not for concurrency"`
	Burst     int64  `yaml:"burst" min:"1" max:"1000000000" doc:"how many at once, for gcra; without the key: as many as in the rate"`
	Max       int64  `yaml:"max" min:"1" max:"1000000000" doc:"for concurrency, instead of rate: how many under way at once"`
	Algorithm string `yaml:"algorithm" enum:"gcra|fixed_window|sliding_window|concurrency" default:"gcra" doc:"gcra: at most burst + rate in any time; fixed_window and sliding_window: counters; concurrency: requests under way"`
	Scope     string `yaml:"scope" enum:"local|global" default:"local" doc:"local: each gateway counts for itself; global: all together, in Redis where the file has redis"`
	OnError   string `yaml:"on_error" enum:"local|allow|deny" default:"local" doc:"while Redis is slow or gone: this gateway's share of the limit, everything, or nothing"`
	Nodes     int    `yaml:"nodes" min:"0" max:"10000" default:"0" doc:"gateways to share among for on_error local; 0: as many as Redis last knew of"`
	MaxKeys   int    `yaml:"max_keys" min:"1" max:"100000000" default:"250000" doc:"keys that are remembered; beyond it those are forgotten that are furthest from their limit"`
}

// RateDefaults is a RateSpec that says nothing.
func RateDefaults() RateSpec {
	return RateSpec{Algorithm: RateGCRA, Scope: RateLocal, OnError: RateLocal, MaxKeys: 250_000}
}

// A RateFault is what is wrong with one key of a RateSpec.
type RateFault struct {
	Key string
	Err error
}

func (f *RateFault) Error() string { return f.Key + ": " + f.Err.Error() }
func (f *RateFault) Unwrap() error { return f.Err }

// Check returns everything that a limit cannot mean, each a *RateFault, joined.
// cost is what one request takes.
func (s RateSpec) Check(cost int64) error {
	var all []error
	fault := func(key, format string, args ...any) {
		all = append(all, &RateFault{key, fmt.Errorf(format, args...)})
	}
	most := s.Rate.Count
	switch s.Algorithm {
	case RateConcurrency:
		most = s.Max
		if s.Max <= 0 {
			fault("max", "concurrency needs max: how many may be under way")
		}
		if s.Rate != (Rate{}) {
			fault("rate", "concurrency has no rate; how many may be under way is max")
		}
	case RateGCRA, RateFixedWindow, RateSlidingWindow:
		if s.Max != 0 {
			fault("max", "max is for concurrency; %s has a rate", s.Algorithm)
		}
		if s.Rate == (Rate{}) {
			fault("rate", "a rate is missing, such as 100/1m")
		} else if err := s.Rate.check(); err != nil {
			fault("rate", "%w", err)
		}
	default:
		fault("algorithm", "%q is no algorithm", s.Algorithm)
	}
	if s.Burst != 0 && s.Algorithm != RateGCRA {
		fault("burst", "burst is for gcra")
	}
	if s.Algorithm == RateGCRA && s.Rate.Count > 0 {
		most = s.burst()
		if most < 0 || most > mostRate || float64(s.Rate.Per)/float64(s.Rate.Count)*float64(most) > math.MaxInt64/4 {
			fault("burst", "a burst of %d at %s is out of range", most, s.Rate)
		}
	}
	if cost < 1 || most > 0 && cost > most {
		fault("cost", "a cost of %d is never admitted: it is from 1 to %d", cost, max(most, 1))
	}
	if s.MaxKeys < 0 {
		fault("max_keys", "max_keys is at least 1")
	}
	return errors.Join(all...)
}

func (s RateSpec) burst() int64 {
	if s.Burst == 0 {
		return s.Rate.Count
	}
	return s.Burst
}

// Quota is how many requests the limit's policy speaks of, and in how long; 0 for
// concurrency.
func (s RateSpec) Quota() (count int64, per time.Duration) {
	if s.Algorithm == RateConcurrency {
		return s.Max, 0
	}
	return s.Rate.Count, s.Rate.Per
}
