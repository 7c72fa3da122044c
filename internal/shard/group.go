package shard

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// Writes that can go together are in one transaction of a shard at a time, since
	// more of them come together then; but where one takes longer than stuckAfter,
	// whoever comes next does not wait for it, until there are maxTransactions: the
	// disk is slow then, or somebody holds a lock.
	stuckAfter      = 10 * time.Millisecond
	maxTransactions = 4
	maxGroup        = 64

	// lockPatience is how long a group waits for a lock that somebody else has, before
	// each of its writes is done alone, so that it holds up only those that want the
	// same.
	lockPatience = "100ms"
)

// A line is the writes that wait for those before them on the same shard. They go
// together then: what a transaction costs, its guard, its commit and its way to the
// replicas, is more than what most writes do in it. Who comes when nothing is on its
// way goes at once, and alone.
type line struct {
	mu      sync.Mutex
	waiting []*member
	running int       // transactions
	latest  time.Time // when the last of them began
}

// stuck reports whether what is on its way takes too long to wait for it.
func (l *line) stuck() bool { return time.Since(l.latest) > stuckAfter }

// A member is a write that waits.
type member struct {
	ctx   context.Context
	guard guard
	write Write

	done  chan struct{}
	seen  Seen
	err   error
	alone bool // it is to be done by who waits
}

// enter returns nil for who may go at once, and has to call take then.
func (l *line) enter(ctx context.Context, g guard, w Write) *member {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running == 0 || l.running < maxTransactions && l.stuck() {
		l.running++
		l.latest = time.Now()
		return nil
	}
	m := &member{ctx: ctx, guard: g, write: w, done: make(chan struct{})}
	l.waiting = append(l.waiting, m)
	return m
}

// leave reports whether m had not been taken yet, and is not going to be.
func (l *line) leave(m *member) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting, m)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	return i >= 0
}

// take is who goes next, in the place of those who are done; nobody: that is free.
func (l *line) take() []*member {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.waiting), maxGroup)
	if n == 0 || l.running > 1 && !l.stuck() { // they are left to the others
		l.running--
		return nil
	}
	l.latest = time.Now()
	group := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	return group
}

// together does a write, in one transaction with others where they come faster than
// they are done.
func (c *Cluster) together(ctx context.Context, s *shardHosts, g guard, w Write) (Seen, error) {
	if w.Order == "" || c.cfg.Distributed {
		return c.writeOn(ctx, s, g, w)
	}
	m := s.line.enter(ctx, g, w)
	if m == nil {
		defer c.next(s)
		return c.writeOn(ctx, s, g, w)
	}
	select {
	case <-m.done:
	case <-ctx.Done():
		if s.line.leave(m) {
			return Seen{}, &Unavailable{Shard: s.name, What: "shard " + s.name + " has too many writes before this one", Err: ctx.Err()}
		}
		return Seen{}, s.unknown(ctx.Err())
	}
	if m.alone {
		return c.writeOn(ctx, s, g, w)
	}
	return m.seen, m.err
}

// next has those go who wait.
func (c *Cluster) next(s *shardHosts) {
	group := s.line.take()
	if group == nil {
		return
	}
	c.groups.Go(func() {
		for ; group != nil; group = s.line.take() {
			c.writeGroup(s, group)
		}
	})
}

// writeGroup does the writes of a group. Where that is refused, nothing was written,
// and it is not known by which of them: each goes on alone.
func (c *Cluster) writeGroup(s *shardHosts, group []*member) {
	var seen Seen
	var err error
	if len(group) == 1 {
		m := group[0]
		seen, err = c.writeOn(m.ctx, s, m.guard, m.write)
	} else {
		slices.SortStableFunc(group, func(a, b *member) int { return cmp.Compare(a.write.Order, b.write.Order) })
		all := make([]Write, len(group))
		for i, m := range group {
			all[i] = m.write
		}
		seen, err = c.writeOn(context.Background(), s, guardOfGroup(group), all...)
	}
	var gone *Unavailable
	alone := err != nil && len(group) > 1 && !errors.As(err, &gone)
	for _, m := range group {
		m.seen, m.err, m.alone = seen, err, alone
		close(m.done)
	}
}

// A groupGuard is manyGuard for writes of which none may hold up the others.
type groupGuard struct{ manyGuard }

func (g groupGuard) queue(batch *pgx.Batch) {
	batch.Queue("SET LOCAL lock_timeout = '" + lockPatience + "'")
	g.manyGuard.queue(batch)
}

// guardOfGroup has two epochs of one bucket where its members are not of one mind,
// and is refused then.
func guardOfGroup(group []*member) (g groupGuard) {
	guards := make([]guard, len(group))
	for i, m := range group {
		guards[i] = m.guard
	}
	slices.SortFunc(guards, func(a, b guard) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.epoch, b.epoch))
	})
	for _, one := range slices.Compact(guards) {
		g.buckets, g.epochs = append(g.buckets, int32(one.bucket)), append(g.epochs, one.epoch)
	}
	return g
}
