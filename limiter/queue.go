package limiter

import (
	"slices"
	"time"
)

// A waiter is an arrival in the queue.
type waiter struct {
	priority   int
	queued     bool
	prev, next *waiter
	ready      chan error // gets exactly one value: nil for a place
	timer      *time.Timer
}

func (w *waiter) alarm(after time.Duration) <-chan time.Time {
	if w.timer == nil {
		w.timer = time.NewTimer(after)
	} else {
		w.timer.Reset(after)
	}
	return w.timer.C
}

// silence ends the alarm: since Go 1.23 nothing of it is left in the channel.
func (w *waiter) silence() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// A line is a queue by priority, and by arrival within one.
type line struct {
	count  int
	levels []level // the highest priority first; none is empty
}

type level struct {
	priority    int
	first, last *waiter
}

// find returns where the level of a priority is, or would be.
func (l *line) find(priority int) (int, bool) {
	return slices.BinarySearchFunc(l.levels, priority, func(v level, p int) int { return p - v.priority })
}

func (l *line) push(w *waiter) {
	i, ok := l.find(w.priority)
	if !ok {
		l.levels = slices.Insert(l.levels, i, level{priority: w.priority})
	}
	v := &l.levels[i]
	w.prev, w.next = v.last, nil
	if v.last == nil {
		v.first = w
	} else {
		v.last.next = w
	}
	v.last = w
	w.queued = true
	l.count++
}

func (l *line) remove(w *waiter) {
	i, _ := l.find(w.priority)
	v := &l.levels[i]
	if w.prev == nil {
		v.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		v.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	l.count--
	if v.first == nil {
		l.levels = slices.Delete(l.levels, i, i+1)
	}
}

// first is who is served next: the oldest of the highest priority.
func (l *line) first() *waiter { return l.levels[0].first }

// last is who is displaced next: the youngest of the lowest priority.
func (l *line) last() *waiter { return l.levels[len(l.levels)-1].last }

// outranks reports whether somebody in the line has a lower priority.
func (l *line) outranks(priority int) bool {
	return l.count > 0 && l.levels[len(l.levels)-1].priority < priority
}
