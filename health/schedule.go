package health

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// share is how many of a target's checks are under way at a time on average if
// all run into the time-out. There are never two of one target.
func (p *plan) share() float64 { return min(float64(p.Timeout)/float64(p.Interval), 1) }

// jittered is the interval give or take a tenth.
func (p *plan) jittered() time.Duration {
	return p.Interval - p.Interval/10 + rand.N(p.Interval/5+1)
}

// first is when a target's checks begin: soon, but not all at once with those of
// the other newcomers; one that an earlier generation has checked goes on in
// the rhythm that it had.
func (t *Target) first(now time.Time, newcomers int) time.Time {
	spread := min(t.group.plan.Interval, 100*time.Millisecond+time.Duration(newcomers)*time.Millisecond)
	soon := now.Add(rand.N(spread))
	if s := t.State(); !s.Checked.IsZero() {
		if then := s.Checked.Add(t.group.plan.jittered()); then.After(soon) {
			return then
		}
	}
	return soon
}

// next is when a target's next check begins. The second comes after a random
// part of the interval: it spreads out those that came together.
func (t *Target) next(begun time.Time) time.Time {
	p := t.group.plan
	if t.checks == 1 {
		return begun.Add(p.Interval/10 + rand.N(p.Interval))
	}
	return begun.Add(p.jittered())
}

// Run checks until ctx ends, and returns nil when all checks under way have
// ended. It can be called once.
func (c *Checker) Run(ctx context.Context) error {
	if !c.start() {
		return errors.New("health: the checker has run already")
	}
	ctx = context.WithValue(ctx, untilStop{}, ctx)
	var wg sync.WaitGroup
	defer c.stop(&wg)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-c.wake:
		}
		timer.Reset(c.dispatch(ctx, &wg))
	}
}

// start gives every target its first time.
func (c *Checker) start() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started {
		return false
	}
	c.started = true
	now := time.Now()
	for _, g := range c.groups {
		for _, t := range g.targets {
			c.schedule(t, t.first(now, c.targets))
		}
	}
	return true
}

// stop waits for the checks and closes their connections.
func (c *Checker) stop(wg *sync.WaitGroup) {
	wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.groups {
		for _, t := range g.targets {
			t.probe.close()
		}
	}
}

// dispatch begins what is due, as far as workers go, and returns how long to
// wait for more.
func (c *Checker) dispatch(ctx context.Context, wg *sync.WaitGroup) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for len(c.queue) > 0 {
		t := c.queue[0]
		if wait := t.due.Sub(now); wait > 0 {
			return max(wait, c.beat)
		}
		if c.busy >= c.workers() {
			c.stuck = true
			break // until a check ends
		}
		c.queue.pop()
		c.busy++
		t.checks++
		wg.Go(func() { c.check(ctx, t) })
	}
	return time.Hour
}

func (c *Checker) workers() int {
	if c.cfg.Workers > 0 {
		return c.cfg.Workers
	}
	return min(8+int(math.Round(2*c.need)), 1024)
}

// check does one check of t and puts t back into the queue.
func (c *Checker) check(ctx context.Context, t *Target) {
	p := t.group.plan
	begun := time.Now()
	try, cancel := context.WithTimeoutCause(ctx, p.Timeout, errSlow{p.Timeout})
	err := t.probe.check(try)
	if err != nil && try.Err() != nil {
		err = context.Cause(try)
	}
	cancel()
	if ctx.Err() == nil {
		c.note(t, begun, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	if t.gone {
		t.probe.close() // what this check has left open
	} else {
		c.schedule(t, t.next(begun))
	}
	if c.stuck {
		c.stuck = false
		c.look()
	}
}

// errSlow is that a check ran into its time-out.
type errSlow struct{ after time.Duration }

func (e errSlow) Error() string { return "no answer within " + e.after.String() }

func (c *Checker) note(t *Target, begun time.Time, err error) {
	c.mu.Lock()
	gone, rec := t.gone, t.rec
	c.mu.Unlock()
	if gone {
		return
	}
	fault := ""
	if err != nil {
		fault = err.Error()
	}
	now := time.Now()
	if s, turned := rec.note(fault, t.group.plan, now, now.Sub(begun)); turned {
		c.cfg.Report(Transition{Backend: t.group.name, Target: t.name, Healthy: s.Healthy, Reason: fault, At: now})
	}
}

// schedule puts t into the queue, and wakes the scheduler if t is its first.
func (c *Checker) schedule(t *Target, due time.Time) {
	t.due = due
	c.queue.push(t)
	if c.queue[0] == t {
		c.look()
	}
}

func (c *Checker) look() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// A queue is a heap of targets, the next one due first.
type queue []*Target

func (q *queue) push(t *Target) {
	*q = append(*q, t)
	q.up(len(*q) - 1)
}

func (q *queue) pop() *Target {
	t := (*q)[0]
	q.remove(0)
	return t
}

// drop takes out t, if it is there.
func (q *queue) drop(t *Target) {
	for i, other := range *q {
		if other == t {
			q.remove(i)
			return
		}
	}
}

func (q *queue) remove(i int) {
	h := *q
	last := len(h) - 1
	h[i], h[last] = h[last], nil
	*q = h[:last]
	if i < last {
		q.down(i)
		q.up(i)
	}
}

func (q *queue) less(i, j int) bool { return (*q)[i].due.Before((*q)[j].due) }

func (q *queue) swap(i, j int) { (*q)[i], (*q)[j] = (*q)[j], (*q)[i] }

func (q *queue) up(i int) {
	for i > 0 && q.less(i, (i-1)/2) {
		q.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (q *queue) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(*q) {
			return
		}
		if child+1 < len(*q) && q.less(child+1, child) {
			child++
		}
		if !q.less(child, i) {
			return
		}
		q.swap(i, child)
		i = child
	}
}
