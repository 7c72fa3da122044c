package limiter

import "time"

// Backoff is how long to wait before the attempt-th retry, counted from 1:
// "full jitter", a random share of base · 2^(attempt−1), which is most at most.
// random is in [0, 1). See Brooker, "Exponential Backoff And Jitter", AWS
// Architecture Blog, 2015: of the variants, this one has the fewest calls under
// contention.
func Backoff(base, most time.Duration, attempt int, random float64) time.Duration {
	if base <= 0 || most <= 0 || attempt < 1 {
		return 0
	}
	bound := most
	if shift := attempt - 1; shift < 63 && base <= most>>shift {
		bound = base << shift
	}
	return time.Duration(random * float64(bound))
}
