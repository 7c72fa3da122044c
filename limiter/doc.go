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
//
// # Rate limits without Redis
//
// While Redis answers, the gateways together admit at most B + R·t in any time t
// (see RateLimiter). With on_error local, over any number of outages, it is at
// most one burst more, 2·B + R·t, if these hold:
//
//   - `nodes`, or where it is 0 what Redis last counted, is not less than the
//     gateways that there are, and not more than B − L.
//   - They notice the outage and its end alike. The first that finds Redis again
//     sets the moment when all go back: 400 ms and two timeouts later. A gateway
//     that loses Redis alone, or finds it later than that, admits R/N beside
//     what the others lease for as long, and no more than its share of a burst.
//
// What it stands on: the shares of N gateways are together a bucket of B − L and
// R. At the begin each goes on from what it knows of the common bucket. Where all
// know it, that is the level that it had, and nothing is admitted beyond the
// envelope; one that knows nothing takes it for full. So a window over the begin
// has at most what was used of the bucket at that moment beside the envelope: u,
// of at most B. At the end, before anything is leased, each tells what it has
// admitted, and the bucket is charged with it, below empty if need be. A bucket
// that Redis has lost is taken by the first for as full as it knows, which may
// forget what another knew and the first did not, in the worst case the other
// part of u. Between finding Redis and going back, a gateway pays ahead for all
// that its share can still spend, and gets the rest back; an answer that is lost
// has it pay twice rather than spend twice. So what is admitted too much is
// paid back: clients at their limit are denied for up to 2·B/R after it, and
// outages do not add up.
//
// Usually it is next to nothing: in TestRateEnvelopeAway and make limits-proof,
// where three gateways all see the same load, windows over a whole outage stay
// within B + R·t.
//
// Bursts under 20 (or 100 times the cost) keep to the same, 2·B + R·t, by the same
// words with L = 0: what Redis says of a bucket is kept, the share begins with it,
// and what it admitted is charged on return, paid ahead where it has to be.
//
// The windows keep to one limit more than with Redis: 3·limit in the time of one
// window, where two windows that meet are 2·limit. A gateway's share of a window
// begins anew when it loses Redis, and that is the limit more; on return what was
// admitted in the share's last window is charged to the window in Redis, which then
// ends no earlier than the share's would have. That stands on the same conditions,
// but that it is not paid ahead: what comes in while the word goes to Redis, a few
// ms, is told a moment later. Of a sliding window the part that the window before
// the last one of a share would still weigh is not told.
//
// Of a key that there was no room for nothing is told. Of a concurrency limit each
// gateway has its share of the places, those taken already included.
// A request that costs more than a gateway's share of the burst or the window is
// denied while Redis is away.
//
// A reload that changes the rate of a bucket in Redis keeps the time at which it is
// full, not the requests (in this process it keeps those): it may admit one burst
// more where the rate has become slower, and where it has become faster nobody
// waits for longer than 2·B/R + 2 s of the new one.
//
// A clock of Redis that steps forward by more than δ lets leases overlap once (at
// most L more); one that steps back begins a fixed or sliding window anew, and
// makes no bucket wait for longer than 2·B/R + 2 s.
package limiter
