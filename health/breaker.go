package health

import "time"

// Breaker configures a Circuit.
type Breaker struct {
	MaxFailures      int           `yaml:"max_failures" min:"0" default:"5" doc:"in a row until it opens; 0: however many"`
	FailureRatio     float64       `yaml:"failure_ratio" min:"0" max:"1" default:"0.5" doc:"share of the requests in window that opens it; 0: however large"`
	MinRequests      int           `yaml:"min_requests" min:"1" max:"100000" default:"20" doc:"in window, before failure_ratio counts"`
	Window           time.Duration `yaml:"window" default:"10s" doc:"slides in tenths"`
	OpenFor          time.Duration `yaml:"open_for" default:"30s" doc:"how long it lets nothing through before it tries again"`
	HalfOpenRequests int           `yaml:"half_open_requests" min:"1" max:"10000" default:"3" doc:"let through to try; all of them must succeed to close it"`
}

// SetDefaults sets what a breaker has where nothing is said.
func (b *Breaker) SetDefaults() {
	*b = Breaker{
		MaxFailures: 5, FailureRatio: 0.5, MinRequests: 20, Window: 10 * time.Second,
		OpenFor: 30 * time.Second, HalfOpenRequests: 3,
	}
}

// maxMinRequests is far below what a bucket of the window counts exactly.
const maxMinRequests = 100_000

// Validate returns every fault, joined, each a *FieldError.
func (b Breaker) Validate() error {
	var f faults
	f.unless(b.MaxFailures >= 0 && b.MaxFailures <= 1<<30, "max_failures", "%d is not from 0 to %d", b.MaxFailures, 1<<30)
	f.unless(b.FailureRatio >= 0 && b.FailureRatio <= 1, "failure_ratio", "%v is not from 0 to 1", b.FailureRatio)
	f.unless(b.MaxFailures != 0 || b.FailureRatio != 0, "max_failures", "is 0, and so is failure_ratio: nothing would open the breaker")
	f.unless(b.MinRequests >= 1 && b.MinRequests <= maxMinRequests, "min_requests", "%d is not from 1 to %d", b.MinRequests, maxMinRequests)
	f.unless(b.Window >= 100*time.Millisecond && b.Window <= 24*time.Hour, "window", "%v is not from 100ms to 24h", b.Window)
	f.unless(b.OpenFor > 0, "open_for", "%v is not above 0", b.OpenFor)
	f.unless(b.HalfOpenRequests >= 1 && b.HalfOpenRequests <= 10_000, "half_open_requests", "%d is not from 1 to 10000", b.HalfOpenRequests)
	return f.join()
}
