package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/proxy/upstream"
)

// A race is one request on its way to several targets at once: the first good
// head wins, the others are canceled. An exchange whose backend hedges has one,
// and uses it again for its next attempt and the next exchange.
//
// The first leg runs in the exchange's own goroutine, each further one in that
// of the timer which sent it. While legs run, nobody changes the exchange but
// under mu: only tried, by who sends a leg. The head of the request is built
// before and read by all.
type race struct {
	x       *Exchange
	b       *httpBackend
	request upstream.Request // what every leg sends, but for its body's reader
	pool    []*leg           // of which the first n are in use

	mu       sync.Mutex
	n        int
	running  int
	over     bool  // no leg may begin any more
	canceled error // the exchange was
	won      *leg
	timer    *time.Timer
	wg       sync.WaitGroup // one for the timer that is set or the goroutine it has begun
}

// A leg is the request at one target.
type leg struct {
	call   upstream.Call
	body   bytes.Reader
	target *target
	ticket health.Ticket
	hedge  bool
	err    error
	took   time.Duration
}

// errLost is why a leg is canceled that is not needed any more.
var errLost = errors.New("another target has answered")

// hedges reports whether the request may be with two targets at a time.
func (b *httpBackend) hedges(x *Exchange) bool {
	if b.spec.Hedge.After <= 0 || len(b.pool.Load().targets) < 2 {
		return false
	}
	r := &x.Request
	if !idempotent(r.Method) || len(r.Upgrade) > 0 || len(r.Host) == 0 && x.host == "" {
		return false // without a host, each target is told its own
	}
	return r.Body == nil || x.replay.Size() > 0 && (r.Trailer == nil || len(r.Trailer()) == 0)
}

// race sends the request to t, and while no head comes to others as well.
func (b *httpBackend) race(x *Exchange, t *target, ticket health.Ticket) error {
	b.prepare(x, t)
	r, gone := x.racing(), x.gone() // who cancels after this finds the race
	r.x, r.b, r.request = x, b, x.call.Request
	r.request.Trailer, r.request.Interrupt, r.request.Interim = nil, nil, nil // a body is in memory
	x.lease.member, x.lease.took = nil, 0
	r.mu.Lock()
	r.n, r.running, r.over, r.won = 0, 0, gone || r.canceled != nil, nil
	first := r.add(t, ticket)
	if !r.over {
		r.arm()
	}
	r.mu.Unlock()
	r.run(first)
	r.wg.Wait()
	return r.settle()
}

// racing is the exchange's race.
func (x *Exchange) racing() *race {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.race == nil {
		x.race = &race{}
		x.race.timer = time.AfterFunc(time.Hour, x.race.hedge)
		x.race.timer.Stop()
	}
	return x.race
}

// arm sets the timer for the next leg. With mu held.
func (r *race) arm() {
	r.wg.Add(1)
	r.timer.Reset(r.b.spec.Hedge.After)
}

// add makes a leg. With mu held.
func (r *race) add(t *target, ticket health.Ticket) *leg {
	if r.n == len(r.pool) {
		r.pool = append(r.pool, &leg{})
	}
	l := r.pool[r.n]
	l.target, l.ticket, l.hedge, l.err, l.took = t, ticket, r.n > 0, nil, 0
	r.n++
	r.running++
	r.fill(l)
	t.member.Begin()
	if !r.x.tried.Has(t.member) {
		r.x.tried.Add(t.member)
	}
	return l
}

// fill makes the leg's call ready. With mu held, so that who ends the race meets
// either the call or over.
func (r *race) fill(l *leg) {
	c := &l.call
	c.Reset()
	c.Request = r.request
	if c.Request.Body != nil {
		l.body.Reset(r.x.held)
		c.Request.Body = &l.body
	}
	c.Request.Deadline = r.b.attemptEnd(r.x)
}

// hedge is what the timer calls.
func (r *race) hedge() {
	defer r.wg.Done()
	if l := r.next(); l != nil {
		r.run(l)
	}
}

// next is one more leg, to a target that has not been asked and within the
// budget for retries; nil where there is none.
func (r *race) next() *leg {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil
	}
	now := time.Now()
	t, ticket, ok := r.b.pickOther(r.x, now)
	if !ok {
		return nil
	}
	if !r.b.budget.Withdraw(now) {
		ticket.Done(health.Canceled, now)
		return nil
	}
	l := r.add(t, ticket)
	if r.n <= r.b.spec.Hedge.Max {
		r.arm()
	}
	return l
}

// run asks the leg's target, twice where the connection turned out closed.
func (r *race) run(l *leg) {
	defer func() {
		if v := recover(); v != nil {
			r.b.setup.stats.panics.Inc()
			r.b.setup.Log.Error("panic in a hedged request", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			l.err = fmt.Errorf("panic: %v", v)
			l.ticket.Done(health.Canceled, time.Now())
		}
		r.end(l)
	}()
	for fresh := false; ; fresh = true {
		if !r.may(l, fresh) {
			l.err = canceled()
			l.ticket.Done(health.Canceled, time.Now())
			return
		}
		began := time.Now()
		l.err = l.call.Do(l.target.pool)
		now := time.Now()
		l.took = max(now.Sub(began), 1)
		if !l.target.judge(l.ticket, &l.call, l.err, l.took, now, !fresh) {
			return
		}
	}
}

// may reports whether the leg may ask its target (again).
func (r *race) may(l *leg, again bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if again && !r.over {
		r.fill(l)
	}
	return !r.over
}

// good reports whether the leg's answer ends the race.
func (l *leg) good(b *httpBackend) bool {
	return l.err == nil && b.retry.statuses[l.call.Status] == ""
}

// end takes in how a leg ended.
func (r *race) end(l *leg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	if r.won == nil && l.good(r.b) {
		r.won = l
		for _, other := range r.pool[:r.n] {
			if other != l {
				other.call.Cancel(errLost)
			}
		}
	}
	if r.won != nil || r.running == 0 {
		r.stop()
	}
}

// stop has no leg begin any more. With mu held.
func (r *race) stop() {
	r.over = true
	if r.timer.Stop() {
		r.wg.Done()
	}
}

// cancel ends the race because the exchange is canceled.
func (r *race) cancel(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.canceled == nil {
		r.canceled = err
	}
	for _, l := range r.pool[:r.n] {
		l.call.Cancel(err)
	}
	r.stop()
}

// settle makes the best leg's outcome the exchange's. All legs have ended.
func (r *race) settle() error {
	x, now := r.x, time.Now()
	best := r.best()
	for _, l := range r.pool[:r.n] {
		if l.took > 0 {
			x.attempts++
		}
		if l.hedge {
			r.b.setup.stats.hedged(r.b.name, l == best && l.good(r.b))
		}
		if l == best {
			continue
		}
		_ = l.call.Close()
		if l.err == nil || r.won != nil && l.took > 0 {
			l.target.member.End(l.took, now) // it takes at least as long
		} else {
			l.target.member.Abandon()
		}
	}
	x.won, x.err, x.target = &best.call, best.err, best.target.spec.URL
	x.lease.member = best.target.member
	if best.err == nil {
		x.lease.took = best.took
	}
	return best.err
}

// best is the winner, else the last answer, else the first leg.
func (r *race) best() *leg {
	if r.won != nil {
		return r.won
	}
	best := r.pool[0]
	for _, l := range r.pool[:r.n] {
		if l.err == nil {
			best = l
		}
	}
	return best
}

// close ends the calls of the race.
func (r *race) close() {
	for _, l := range r.pool {
		_ = l.call.Close()
	}
}

// recycle makes the race ready for another exchange.
func (r *race) recycle() {
	for _, l := range r.pool {
		l.call.Reset()
		l.body.Reset(nil)
		l.target, l.ticket, l.err = nil, health.Ticket{}, nil
	}
	r.x, r.b, r.request, r.won, r.canceled, r.n = nil, nil, upstream.Request{}, nil, nil, 0
}

// answered is the call whose answer is the exchange's.
func (x *Exchange) answered() *upstream.Call {
	if x.won != nil {
		return x.won
	}
	return &x.call
}

// hangUp closes the exchange's calls.
func (x *Exchange) hangUp() {
	x.mu.Lock()
	inner := x.inner
	x.inner = nil
	x.mu.Unlock()
	if inner != nil {
		inner.drop()
	}
	_ = x.call.Close()
	if x.race != nil {
		x.race.close()
	}
}
