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
// # Rates
//
// A Rate is checked by a rule that is told the time (rate_algorithm.go): the
// generic cell rate algorithm (ITU-T I.371, as a virtual scheduling time a key),
// or a fixed or sliding window. A RateLimiter holds keys to it: from a table in
// this process, which forgets first who is furthest from the limit, or for all
// gateways together through RateRedis.
//
//	spec.Check → NewRateLimiter → Take(key, cost, now) → RateDecision
//
// Together means that tokens are leased from a bucket in Redis before they are
// spent, so that a request that finds one waits for nobody; small bursts and the
// windows ask each time. RateLimiter says why the sum of all gateways still stays
// within burst + rate × time in any time, whatever crashes, and what holds while
// Redis is away; TestRateEnvelope is the proof, and TestRateEnvelopeSeesNoCap that
// it would see the opposite. Redis knows keys by their hash alone.
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
