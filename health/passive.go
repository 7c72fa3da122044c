package health

import "time"

// Passive configures an Ejector.
type Passive struct {
	ConsecutiveFailures int           `yaml:"consecutive_failures" min:"1" max:"1000000" default:"5" doc:"of requests to a target, in a row, until it is ejected"`
	Ejection            time.Duration `yaml:"ejection" default:"30s" doc:"how long at first; each time again adds as much, up to ten times; active checks that fail and then succeed end it"`
	MaxEjected          float64       `yaml:"max_ejected" unit:"percent" default:"50%" doc:"share of the targets that may be out at a time; one always may, unless it is the only one or this is 0%"`
}

// SetDefaults sets what ejection has where nothing is said.
func (p *Passive) SetDefaults() {
	*p = Passive{ConsecutiveFailures: 5, Ejection: 30 * time.Second, MaxEjected: 0.5}
}

// Validate returns every fault, joined, each a *FieldError.
func (p Passive) Validate() error {
	var f faults
	f.unless(p.ConsecutiveFailures >= 1 && p.ConsecutiveFailures <= 1_000_000, "consecutive_failures", "%d is not from 1 to 1000000", p.ConsecutiveFailures)
	f.unless(p.Ejection > 0 && p.Ejection <= 24*time.Hour, "ejection", "%v is not above 0 and up to 24h", p.Ejection)
	f.unless(p.MaxEjected >= 0 && p.MaxEjected <= 1, "max_ejected", "%v is not from 0%% to 100%%", p.MaxEjected)
	return f.join()
}

// allowed is how many of n targets may be out at a time. A share that comes to
// less than one allows one all the same, as Envoy did by rule and does with
// always_eject_one_host; but not the only target, which nothing could stand in
// for.
func (p Passive) allowed(n int) int {
	if n < 2 || p.MaxEjected == 0 {
		return 0
	}
	return max(int(p.MaxEjected*float64(n)+1e-9), 1)
}

// maxTimes bounds how an ejection grows.
const maxTimes = 10

// sentence is how often a target counts as ejected, this time included, and how
// long it is out for. Every span of Ejection that it was well since the last
// time lets one earlier ejection lapse.
func (p Passive) sentence(times int, well time.Duration) (int, time.Duration) {
	times = max(times-int(min(max(well, 0)/p.Ejection, maxTimes)), 0) + 1
	times = min(times, maxTimes)
	return times, time.Duration(times) * p.Ejection
}
