package health

import (
	"sync/atomic"
	"time"
)

// A State is what checks have found out about a target. It is never changed
// once it can be seen.
type State struct {
	// Healthy says that the target may be used. It is true until the first
	// check has failed.
	Healthy   bool
	Since     time.Time // of Healthy
	Checked   time.Time // when the last check ended; zero before the first has
	Latency   time.Duration
	LastError string // of the last check; empty if it was good
	Successes int    // in a row; one of these two is 0
	Failures  int
	// Recovered is when healthy_after checks in a row had been good that came
	// after a bad one; zero while no check was ever bad, or none since is enough.
	Recovered time.Time
	failed    bool // some check was bad
}

// after is the state that follows on one more check. The first check decides
// alone; after it, a row of checks that say the contrary. A target is
// told to be sick quickly rather than late: it can do harm with the first
// request, while a healthy one is only missed.
func (s State) after(fault string, p *plan, at time.Time, latency time.Duration) State {
	first := s.Checked.IsZero()
	s.Checked, s.Latency, s.LastError = at, latency, fault
	if fault == "" {
		s.Successes, s.Failures = s.Successes+1, 0
		if s.Successes == p.HealthyAfter && s.failed {
			s.Recovered = at
		}
	} else {
		s.Successes, s.Failures = 0, s.Failures+1
		s.Recovered, s.failed = time.Time{}, true
	}
	healthy := s.Healthy
	switch {
	case s.Successes >= p.HealthyAfter:
		healthy = true
	case s.Failures >= p.UnhealthyAfter || first && s.Failures > 0:
		healthy = false
	}
	if healthy != s.Healthy {
		s.Healthy, s.Since = healthy, at
	}
	return s
}

// A record holds a target's state for everybody who watches it: a reload's new
// checker has the same record as the old one, so no result between the two is
// lost and none is told of twice.
type record struct {
	state atomic.Pointer[State]
}

func newRecord(now time.Time) *record {
	r := &record{}
	r.state.Store(&State{Healthy: true, Since: now})
	return r
}

// note adds one check. It reports the new state, and whether this check turned
// it.
func (r *record) note(fault string, p *plan, at time.Time, latency time.Duration) (State, bool) {
	for {
		old := r.state.Load()
		next := old.after(fault, p, at, latency)
		if r.state.CompareAndSwap(old, &next) {
			return next, next.Healthy != old.Healthy
		}
	}
}
