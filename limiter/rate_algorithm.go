package limiter

import (
	"math/bits"
	"time"
)

// A RateDecision says whether a request may go on, and what is left.
type RateDecision struct {
	Allowed   bool
	Remaining int64         // how many more of cost 1 would be admitted now
	Reset     time.Duration // until all of the quota is there again; of windows, until this one ends
	Retry     time.Duration // for a request that is denied: when it would not be, if nobody else came
	Fallback  bool          // decided by on_error

	limiter *RateLimiter
	key     rateKey
	cost    int64
	at      int64  // when, in ns since the limiter's start
	lease   uint64 // the lease that was spent from
	kind    rateTaken
}

// rateTaken is where a decision took from, and what it gives back to.
type rateTaken uint8

const (
	takenNothing rateTaken = iota
	takenMemory
	takenSpill // shared by the keys that there is no room for
	takenLease
	takenRedis
	takenInFlight
	takenAway // from this node's share, which Redis is to be told of
)

// A rateState is what is remembered of one key. Its zero value is that of a key
// that never came.
//
//	gcra            a: the theoretical arrival time; b: unused
//	fixed_window    a: the window's begin; b: requests in it
//	sliding_window  a: the window's begin; b: requests in it<<32 | in the one before
//	concurrency     a: under way; b: unused
//
// Times are in ns since the limiter's start, and never 0.
type rateState struct{ a, b int64 }

// A rateRule is a RateSpec made ready for arithmetic. It knows nothing of clocks
// or memory.
type rateRule struct {
	algorithm string
	interval  int64 // gcra: ns of one request
	tolerance int64 // gcra: ns of a whole burst
	window    int64 // ns
	limit     int64 // of a window; under way; the burst
}

func newRateRule(s RateSpec) rateRule {
	r := rateRule{algorithm: s.Algorithm, window: int64(s.Rate.Per), limit: s.Rate.Count}
	switch s.Algorithm {
	case RateConcurrency:
		r.limit = s.Max
	case RateGCRA:
		r.limit = s.burst()
		// Rounded up: the rate is never exceeded, if only by a billionth.
		r.interval = (int64(s.Rate.Per) + s.Rate.Count - 1) / s.Rate.Count
		r.tolerance = r.interval * r.limit
	}
	return r
}

// share is the rule for one of n gateways; together they are at most the rule,
// but that each admits something.
func (r rateRule) share(n int64) rateRule {
	if n <= 1 {
		return r
	}
	if r.algorithm == RateGCRA {
		// A burst of a fraction is that of the slower rate: tolerance is the same.
		r.interval *= n
		r.limit = max(r.limit/n, 1)
		r.tolerance = r.interval * r.limit
		return r
	}
	r.limit = max(r.limit/n, 1)
	return r
}

// take decides about a request of that cost at now, and changes s if it is
// admitted.
func (r *rateRule) take(s *rateState, now, cost int64) (d RateDecision) {
	switch r.algorithm {
	case RateGCRA:
		return r.takeGCRA(s, now, cost)
	case RateFixedWindow:
		return r.takeFixed(s, now, cost)
	case RateSlidingWindow:
		return r.takeSliding(s, now, cost)
	}
	if d.Allowed = s.a+cost <= r.limit; d.Allowed {
		s.a += cost
	} else {
		d.Retry = time.Second
	}
	d.Remaining = max(r.limit-s.a, 0)
	return d
}

func (r *rateRule) takeGCRA(s *rateState, now, cost int64) (d RateDecision) {
	arrival := max(s.a, now)
	// A cost above the burst may be that of the configuration before a reload, and
	// its time too much for 64 bits.
	next := arrival + r.interval*min(cost, r.limit+1)
	if late := next - now - r.tolerance; late > 0 {
		d.Retry = time.Duration(late)
	} else {
		d.Allowed, s.a, arrival = true, next, next
	}
	d.Reset = time.Duration(arrival - now)
	d.Remaining = max(r.tolerance-(arrival-now), 0) / r.interval
	return d
}

func (r *rateRule) takeFixed(s *rateState, now, cost int64) (d RateDecision) {
	begin, count := s.a, s.b
	if begin == 0 || now-begin >= r.window {
		begin, count = now, 0
	}
	left := time.Duration(begin + r.window - now)
	if d.Allowed = count+cost <= r.limit; d.Allowed {
		count += cost
		s.a, s.b = begin, count
	} else {
		d.Retry = left
	}
	d.Reset, d.Remaining = left, max(r.limit-count, 0)
	return d
}

func (r *rateRule) takeSliding(s *rateState, now, cost int64) (d RateDecision) {
	begin, current, before := r.slide(s, now)
	left := begin + r.window - now
	old := scale(before, left, r.window) // rounded up
	if d.Allowed = old+current+cost <= r.limit; d.Allowed {
		current += cost
		s.a, s.b = begin, current<<32|before
	} else {
		d.Retry = time.Duration(r.slidingRetry(current, before, left, cost))
	}
	d.Reset, d.Remaining = time.Duration(left), max(r.limit-old-current, 0)
	return d
}

// slide is the window of now, the requests in it and in the one before.
func (r *rateRule) slide(s *rateState, now int64) (begin, current, before int64) {
	begin, current, before = s.a, s.b>>32, s.b&(1<<32-1)
	switch {
	case begin == 0 || now-begin >= 2*r.window:
		return now, 0, 0
	case now-begin >= r.window:
		return begin + r.window, 0, current
	}
	return begin, current, before
}

// slidingRetry is when a request that is denied would be admitted.
func (r *rateRule) slidingRetry(current, before, left, cost int64) int64 {
	if free := r.limit - current - cost; free >= 0 { // once so much of the window before has gone
		return max(left-scaleDown(free, r.window, before), 1)
	}
	free := r.limit - cost
	return left + max(r.window-scaleDown(free, r.window, current), 0)
}

// scale is x·num/den, rounded up.
func scale(x, num, den int64) int64 {
	hi, lo := bits.Mul64(uint64(x), uint64(max(num, 0)))
	lo, carry := bits.Add64(lo, uint64(den-1), 0)
	q, _ := bits.Div64(hi+carry, lo, uint64(den))
	return int64(q)
}

// scaleDown is x·num/den, rounded down; num where den is not more than x.
func scaleDown(x, num, den int64) int64 {
	if x = max(x, 0); den <= x {
		return num
	}
	hi, lo := bits.Mul64(uint64(x), uint64(num))
	q, _ := bits.Div64(hi, lo, uint64(den))
	return int64(q)
}

// refund gives back what was taken at that time.
func (r *rateRule) refund(s *rateState, at, cost int64) {
	switch r.algorithm {
	case RateGCRA:
		s.a -= r.interval * min(cost, r.limit)
	case RateFixedWindow:
		if s.a != 0 && at >= s.a { // else it was another window
			s.b = max(s.b-cost, 0)
		}
	case RateSlidingWindow:
		if current := s.b >> 32; s.a != 0 && at >= s.a {
			s.b -= min(cost, current) << 32
		} else if before := s.b & (1<<32 - 1); at >= s.a-r.window {
			s.b -= min(cost, before)
		}
	default:
		s.a = max(s.a-cost, 0)
	}
}

// convert has s mean under r what it meant under the rule before: so many
// requests, which are another time.
func (r *rateRule) convert(s *rateState, before *rateRule, now int64) {
	if r.algorithm == RateGCRA && s.a > now {
		used := min((s.a-now+before.interval-1)/before.interval, r.limit)
		s.a = now + used*r.interval
	}
}

// idle reports whether s is as good as no state at all.
func (r *rateRule) idle(s *rateState, now int64) bool {
	switch r.algorithm {
	case RateGCRA:
		return s.a <= now
	case RateFixedWindow:
		return now-s.a >= r.window
	case RateSlidingWindow:
		return now-s.a >= 2*r.window
	}
	return s.a == 0
}

// held reports whether s must not be forgotten: one more request would be denied,
// or some are under way.
func (r *rateRule) held(s *rateState, now int64) bool {
	if r.algorithm == RateConcurrency {
		return s.a > 0
	}
	copied := *s
	return !r.take(&copied, now, 1).Allowed
}

// load is how near its limit a key is, to compare keys that are not over it.
func (r *rateRule) load(s *rateState, now int64) int64 {
	switch r.algorithm {
	case RateGCRA, RateConcurrency:
		return s.a
	case RateFixedWindow:
		return s.b
	}
	_, current, before := r.slide(s, now)
	return current + before
}
