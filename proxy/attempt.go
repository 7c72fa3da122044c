package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

const (
	// leastConnects is how many targets are tried while none can be connected
	// to, also where retry.attempts is less: nobody has seen the request then.
	leastConnects = 3
	// longestBackoff bounds the wait before a retry.
	longestBackoff = time.Second
)

// A lease is what an exchange occupies while it is forwarded.
type lease struct {
	member *routing.Member
	gate   limiter.Ticket
	gated  bool
	took   time.Duration // until the head of the response; 0: there was none
}

// leave ends what the last attempt occupies at its target.
func (l *lease) leave(now time.Time) {
	if l.member == nil {
		return
	}
	if l.took > 0 {
		l.member.End(l.took, now)
	} else {
		l.member.Abandon()
	}
	l.member = nil
}

// end gives everything back.
func (l *lease) end(now time.Time) {
	l.leave(now)
	if !l.gated {
		return
	}
	outcome := limiter.Served
	if l.took == 0 {
		outcome = limiter.Ignored
	}
	l.gate.Release(l.took, outcome)
	l.gated = false
}

// enter takes a place at the backend, and waits for one where there is a queue.
func (b *httpBackend) enter(x *Exchange, now time.Time) error {
	if b.gate == nil {
		return nil
	}
	var ok bool
	if x.lease.gate, ok = b.gate.Try(now); !ok {
		var err error
		x.lease.gate, err = b.gate.Acquire(limiter.Arrival{
			At: now, Priority: x.route.spec.Priority, Deadline: earlier(x.deadline, b.end(x)), Done: x.Context().Done(),
		})
		left := errors.Is(err, limiter.ErrCanceled) && x.gone()
		if !left {
			err = saturated(err)
			b.sheds.observe(time.Since(now), err)
		}
		switch {
		case left:
			return canceled()
		case err != nil:
			return &Problem{
				Status: 503, Detail: "the backend has no place to spare", Type: "connection_limit_reached",
				RetryAfter: b.gate.RetryAfter(), Err: err,
			}
		}
	}
	x.lease.gated = true
	return nil
}

// saturated has a time that is over, which ends the exchange's context as well,
// count as that and not as a client that left.
func saturated(err error) error {
	if errors.Is(err, limiter.ErrCanceled) {
		return limiter.ErrWaited
	}
	return err
}

// canceled is the error of an exchange whose client has left.
func canceled() error {
	return &upstream.Error{Type: "connection_terminated", Canceled: true, Unsent: true, Err: context.Canceled}
}

// forward sends the request until a target's answer stands.
func (b *httpBackend) forward(x *Exchange) error {
	if err := x.hold(b.spec.Retry.MaxBody); err != nil {
		return err
	}
	now := time.Now()
	x.tried.Reset()
	x.key = 0
	if p := b.pool.Load(); p.balancer != nil {
		x.key, _ = p.balancer.Hash(&x.probe)
	}
	b.stick(x, now)
	b.budget.Deposit(now)
	before := x.attempts - x.resent // for another backend, whose fallback this one is
	t, ticket, err := b.pick(x, now)
	if err != nil {
		return first2(x.err, err)
	}
	for {
		err = b.attempt(x, t, ticket, now)
		reason := b.reason(x, err)
		if reason == "" {
			return err
		}
		n, unseen := x.attempts-x.resent-before, unsent(err)
		if !x.tried.Has(t.member) {
			x.tried.Add(t.member)
		}
		if !b.again(x, unseen, n) {
			return err
		}
		if !unseen {
			if err := b.pause(x, n); err != nil {
				return err
			}
		}
		now = time.Now()
		var another bool
		if t, ticket, another = b.pickOther(x, now); !another {
			return err
		}
		x.hangUp() // an answer that does not stand
		x.lease.leave(now)
		b.setup.stats.retried(b.name, reason)
	}
}

// unsent reports whether the target that failed has not seen the request.
func unsent(err error) bool {
	var u *upstream.Error
	return errors.As(err, &u) && u.Unsent
}

// first2 prefers what a target did to there being no other.
func first2(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// attempt sends the request to t once, or twice where the connection turned out
// closed under a request that may come twice: t has very likely not seen it.
func (b *httpBackend) attempt(x *Exchange, t *target, ticket health.Ticket, began time.Time) error {
	x.won = nil
	if b.hedges(x) {
		return b.race(x, t, ticket)
	}
	x.lease.member, x.lease.took = t.member, 0
	t.member.Begin()
	judged := false
	defer func() {
		if !judged { // the client has left, or there was a panic
			ticket.Done(health.Canceled, time.Now())
		}
	}()
	for fresh := false; ; fresh = true {
		b.prepare(x, t)
		if x.gone() {
			return canceled()
		}
		x.attempts++
		x.target = t.spec.URL
		err := x.call.Do(t.pool)
		now := time.Now()
		took := now.Sub(began)
		x.err = err
		if err == nil {
			x.lease.took = max(took, 1)
		}
		if t.judge(ticket, &x.call, err, took, now, !fresh && idempotent(x.Request.Method) && x.replayable()) {
			began = now
			x.resent++
			continue
		}
		judged = true
		if x.requestIn.over {
			return errBodyTooLarge
		}
		return err
	}
}

// judge counts how an attempt ended and gives its ticket back, unless it is to
// be made again: on a connection that turned out closed, where it may be.
func (t *target) judge(ticket health.Ticket, c *upstream.Call, err error, took time.Duration, now time.Time, mayAgain bool) (again bool) {
	if err == nil {
		t.stats.observe(c.Status/100-1, took)
		t.observe(ticket, outcomeFor(c.Status), now)
		return false
	}
	var u *upstream.Error
	if !errors.As(err, &u) {
		ticket.Done(health.Canceled, now)
		return false
	}
	t.stats.observe(outcomeOf(u), took)
	if u.Stale && mayAgain {
		return true
	}
	blame := health.Failed
	if u.Canceled || u.RequestBody || u.Type == "connection_limit_reached" {
		blame = health.Canceled
	}
	t.observe(ticket, blame, now)
	return false
}

// outcomeFor is what a status says of the target that answered with it.
func outcomeFor(status int) health.Outcome {
	if status >= 500 && status != 501 && status != 505 {
		return health.Failed
	}
	return health.Succeeded
}

// reason is the name under retry.on for how an attempt ended; empty where the
// answer stands or nothing could be won by asking again.
func (b *httpBackend) reason(x *Exchange, err error) string {
	if err == nil {
		return b.retry.statuses[x.answered().Status]
	}
	var u *upstream.Error
	switch {
	case !errors.As(err, &u), u.Canceled, u.RequestBody:
		return ""
	case u.Unsent:
		return b.retry.named("connect")
	case u.Timeout():
		if on := b.retry.named("timeout"); on != "" {
			return on
		}
		return b.retry.statuses[504]
	case u.Type == "connection_terminated", u.Type == "http_response_incomplete", u.Stale:
		return b.retry.named("reset")
	case strings.HasPrefix(u.Type, "http_"):
		return b.retry.statuses[502]
	}
	return b.retry.named("reset")
}

// again reports whether the request may be sent once more after n attempts, to a
// target that has not been tried, and takes it from the budget. A backend's only
// target is not asked twice: it would get the more the worse it fares.
func (b *httpBackend) again(x *Exchange, unseen bool, n int) bool {
	targets := len(b.pool.Load().targets)
	most := b.spec.Retry.Attempts
	if unseen && most > 1 {
		most = max(most, leastConnects)
	}
	switch {
	case n >= most, x.tried.Len() >= targets, !x.replayable():
		return false
	case !unseen && (!idempotent(x.Request.Method) || len(x.Request.Upgrade) > 0):
		return false
	}
	now := time.Now()
	if end := earlier(x.deadline, b.end(x)); !end.IsZero() && !now.Before(end) {
		return false
	}
	return b.budget.Withdraw(now)
}

// pickOther takes a target that was not tried; without one, what there is of an
// answer stands.
func (b *httpBackend) pickOther(x *Exchange, now time.Time) (*target, health.Ticket, bool) {
	t, ticket, err := b.pick(x, now)
	if err == nil && x.tried.Has(t.member) {
		ticket.Done(health.Canceled, now)
		return nil, health.Ticket{}, false
	}
	return t, ticket, err == nil
}

// pause waits before the n-th retry of a request that a target has seen.
func (b *httpBackend) pause(x *Exchange, n int) error {
	d := limiter.Backoff(b.spec.Retry.Backoff, longestBackoff, n, rand.Float64())
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-x.Context().Done():
		if x.gone() {
			return canceled()
		}
		return nil // the next attempt finds its time over
	}
}

// retryOn is Retry.On, read.
type retryOn struct {
	connect, reset, timeout bool
	statuses                map[int]string
}

// named returns name if retries are for it.
func (r *retryOn) named(name string) string {
	if name == "connect" && r.connect || name == "reset" && r.reset || name == "timeout" && r.timeout {
		return name
	}
	return ""
}
