package proxy

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/routing"
)

// A ruling is what one limit has said of an exchange.
type ruling struct {
	limit    *limit
	rate     *limitRate
	decision limiter.RateDecision
}

// limit holds the exchange to the route's limits: all must admit it. What those
// before the one that denies have taken is given back.
func (x *Exchange) limit() error {
	for _, l := range x.route.limits {
		if l.exempts(x) {
			l.stats.exempt.Inc()
			continue
		}
		rate := l.rateFor(x)
		x.limitKey = l.key(x.limitKey[:0], x)
		d := rate.limiter.Take(x.limitKey, l.spec.Cost, x.start)
		x.rulings = append(x.rulings, ruling{l, rate, d})
		l.stats.count(&d, l.spec.ReportOnly)
		if !d.Allowed && !l.spec.ReportOnly {
			x.refund()
			return &Problem{Status: 429, Detail: "too many requests", RetryAfter: max(d.Retry, time.Second)}
		}
	}
	return nil
}

// refund gives back what all limits have taken.
func (x *Exchange) refund() {
	for i := range x.rulings {
		x.rulings[i].decision.Refund()
	}
}

// unlimit has limit not have happened: the request comes again, with its body.
func (x *Exchange) unlimit() {
	x.refund()
	for i := range x.rulings {
		if r := &x.rulings[i]; r.decision.Allowed {
			r.limit.stats.allowed.Dec()
		}
	}
	x.leave()
}

// leave gives back the places of concurrency limits.
func (x *Exchange) leave() {
	for i := range x.rulings {
		x.rulings[i].decision.Release()
	}
	clear(x.rulings)
	x.rulings = x.rulings[:0]
}

// exempts reports whether the limit does not count the exchange.
func (l *limit) exempts(x *Exchange) bool {
	return l.exempt != nil && l.exempt.Match(&x.probe).Outcome == routing.Found
}

// rateFor is the rate that the exchange's tier has.
func (l *limit) rateFor(x *Exchange) *limitRate {
	if l.by == nil {
		return l.rate
	}
	x.limitKey, _ = l.by.Append(x.limitKey[:0], &x.probe)
	size, n := binary.Uvarint(x.limitKey)
	if n <= 0 || size == 0 {
		return l.rate
	}
	if tier := l.tiers[string(x.limitKey[n:])]; tier != nil {
		return tier
	}
	return l.rate
}

// key appends what the limit counts the exchange by. Where a part is missing,
// that is a key as well: with the client's address or without.
func (l *limit) key(dst []byte, x *Exchange) []byte {
	dst, complete := l.spec.Key.Append(dst, &x.probe)
	if !complete && l.spec.Missing != missingShared {
		dst = appendAddress(dst, x.probe.ClientIP)
	}
	return dst
}

// appendAddress appends an address; of IPv6 the first 64 bits, as the part ip
// does.
func appendAddress(dst []byte, addr netip.Addr) []byte {
	if addr = addr.Unmap(); addr.Is4() {
		b := addr.As4()
		return append(dst, b[:]...)
	}
	b := addr.As16()
	return append(dst, b[:8]...)
}

// tellLimits has the response tell of the limits
// (draft-ietf-httpapi-ratelimit-headers-10).
func (x *Exchange) tellLimits() {
	policy, state := len(x.arena), 0
	for i := range x.rulings {
		if v := &x.rulings[i]; v.told() {
			x.comma(policy)
			x.arena = append(x.arena, v.rate.policy...)
		}
	}
	if state = len(x.arena); state == policy {
		return
	}
	for i := range x.rulings {
		v := &x.rulings[i]
		if !v.told() {
			continue
		}
		x.comma(state)
		x.arena = append(x.arena, '"')
		x.arena = append(x.arena, v.limit.spec.Name...)
		x.arena = append(x.arena, `";r=`...)
		x.arena = strconv.AppendInt(x.arena, max(v.decision.Remaining, 0), 10)
		if _, per := v.rate.spec.Quota(); per > 0 {
			x.arena = append(x.arena, ";t="...)
			x.arena = strconv.AppendInt(x.arena, seconds(max(v.decision.Reset, v.decision.Retry)), 10)
		}
	}
	h := &x.Response.Header
	h.Add("RateLimit-Policy", view(x.arena[policy:state:state]))
	h.Add("RateLimit", view(x.arena[state:len(x.arena):len(x.arena)]))
}

func (v *ruling) told() bool { return v.limit.spec.Headers && !v.limit.spec.ReportOnly }

// comma parts the members of a list that began at from.
func (x *Exchange) comma(from int) {
	if len(x.arena) > from {
		x.arena = append(x.arena, ", "...)
	}
}

// seconds is d in whole seconds, rounded up.
func seconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
