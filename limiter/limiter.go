// Package limiter decides whether an exchange may go on.
//
// It answers three questions, each with a type of its own, none of which knows
// of HTTP:
//
//   - Gate: may one more request be in flight at this backend? A fixed limit, or
//     one that follows the latency, with a short queue by priority behind it.
//   - Budget: may this request be sent once more? Retries stay a share of the
//     requests. Backoff says when.
//   - RateLimiter: may this client send another request now? In this process, or
//     for all gateways together by tokens that they lease from Redis. Its names
//     begin with Rate.
//
// # Adaptive limit
//
// The limit of `adaptive: true` is Gradient2 of Netflix's concurrency-limits
// (github.com/Netflix/concurrency-limits, Gradient2Limit.java at 78a74b9): in
// each window of samples, with short the mean latency of the window and base
// the long-term one,
//
//	gradient = max(0.5, min(1, tolerance · base ÷ short))
//	wanted   = limit · gradient + queue
//	limit    = limit · (1 − smoothing) + wanted · smoothing
//
// and no growth while fewer than half of the places are taken. Three things
// differ:
//
//   - Their queue is 4 whatever the limit, ours a tenth of it, so that the latency
//     at which growth ends does not depend on the size of the backend.
//   - Until latency first answers, ours grows by half in each window: a gateway
//     that has just started does not shed for long what the backend can take.
//   - Their base takes in the latency of an overload until it excuses it, so a
//     lasting one raises limit and latency without end. Ours rises only when the
//     latency cannot be our doing: when there was room, or when a probe with three
//     fifths of the limit left it unchanged. Where the probe lowered it, the lower
//     one is the base. The same probe takes in a real change (a slower release of
//     the backend) within a second or two.
//
// TestSimulation prints what comes of it: under 2 and 4 times what 4 or 40
// servers can do, admitted requests take 1.4 times as long as without load, and
// 98 % or more of the capacity is used. A backend that takes one request at a
// time has no room for such fractions: there, it is 2.5 to 2.8 times.
package limiter

import (
	"errors"
	"fmt"
	"time"
)

// Concurrency bounds how many requests are in flight at a backend.
type Concurrency struct {
	Max          int           `yaml:"max" min:"0" max:"1000000" doc:"in flight at once; 0: unbounded, or 1000 where adaptive"`
	Queue        int           `yaml:"queue" min:"0" max:"1000000" doc:"how many may wait for a place; beyond it: 503"`
	QueueTimeout time.Duration `yaml:"queue_timeout" doc:"how long one of them waits; 0: as long as its client and its route's timeout do" default:"0s"`
	Adaptive     bool          `yaml:"adaptive" doc:"follow the latency: as many as the backend takes without slowing down, at most max"`
}

const mostPlaces = 1_000_000

// Validate says what a config cannot mean.
func (c Concurrency) Validate() error {
	switch {
	case c.Max < 0, c.Queue < 0, c.QueueTimeout < 0:
		return errors.New("max, queue and queue_timeout may not be negative")
	case c.Max > mostPlaces, c.Queue > mostPlaces:
		return fmt.Errorf("max and queue are at most %d", mostPlaces)
	case c.Max == 0 && !c.Adaptive && (c.Queue > 0 || c.QueueTimeout > 0):
		return errors.New("a queue without a limit is never used: set max or adaptive")
	case c.Queue == 0 && c.QueueTimeout > 0:
		return errors.New("queue_timeout without a queue is never used: set queue")
	}
	return nil
}

// What Acquire returns instead of a ticket. The first three are to be answered
// with 503 and Gate.RetryAfter; errors.Is takes all three as ErrSaturated.
var (
	ErrSaturated = errors.New("limiter: all places are taken")
	ErrDisplaced = fmt.Errorf("%w: a request of higher priority took this one's place in the queue", ErrSaturated)
	ErrWaited    = fmt.Errorf("%w: none came free in time", ErrSaturated)
	ErrCanceled  = errors.New("limiter: canceled while waiting for a place")
)
