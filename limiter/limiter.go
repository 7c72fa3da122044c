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
