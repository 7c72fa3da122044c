package routing

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Members are the targets of one backend by name, with what is known of each.
// They outlive reloads: a generation that keeps a target finds its Member, with
// its load and its latency, under the same name. What the configuration says of
// a target (weight, priority) is not here but in the Seat that a Balancer has of
// it, since exchanges of an older generation still go by the older file.
type Members struct {
	began time.Time // what times are counted from; monotonic, so that a stepped clock changes nothing
	epoch atomic.Uint64
	_     [64]byte
	load  atomic.Int64 // exchanges under way on all of them
	_     [64]byte

	mu     sync.Mutex
	byName map[string]*Member
}

// NewMembers returns no members. Times given to it, to its members and to the
// balancers over them must come from one clock.
func NewMembers(now time.Time) *Members {
	return &Members{began: now, byName: map[string]*Member{}}
}

// Of returns the member of that name, made if there is none: available and not
// draining.
func (g *Members) Of(name string, now time.Time) *Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.byName[name]
	if m == nil {
		m = &Member{name: name, id: xxhash.Sum64String(name), group: g}
		m.since.Store(g.at(now))
		g.byName[name] = m
		g.epoch.Add(1)
	}
	return m
}

// Retain forgets the members that list has not, except those that have exchanges
// under way, which a later call forgets. What the list has is known again where it
// was forgotten: somebody else may have called this between its Of and now.
func (g *Members) Retain(list []*Member) {
	keep := make(map[*Member]bool, len(list))
	for _, m := range list {
		keep[m] = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, m := range g.byName {
		if !keep[m] && m.load.Load() == 0 {
			delete(g.byName, name)
		}
	}
	for m := range keep {
		g.byName[m.name] = m
	}
	g.epoch.Add(1)
}

// at is a time as this package counts: in nanoseconds since the group began.
func (g *Members) at(now time.Time) int64 { return int64(now.Sub(g.began)) }

// without returns the members for which skip is false.
func (g *Members) without(skip func(*Member) bool) (list []*Member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.byName {
		if !skip(m) {
			list = append(list, m)
		}
	}
	return list
}

// A Member is one target as balancers see it. All methods may be called
// concurrently.
type Member struct {
	name     string
	id       uint64
	group    *Members
	since    atomic.Int64 // when it became available; unavailable: down
	draining atomic.Bool
	_        [64]byte     // what is above is read by every pick, what is below written
	load     atomic.Int64 // exchanges under way
	latency  latency
	_        [64]byte
}

// down stands in Member.since while the member is not available.
const down = math.MinInt64

// Name returns what the member was made with. Equal names take the same keys in
// every gateway.
func (m *Member) Name() string { return m.name }

// ID returns the hash of the name, the same in every process.
func (m *Member) ID() uint64 { return m.id }

// Begin counts an exchange. Call it as soon as a Pick is taken: until then other
// picks do not see it. One End or Abandon must follow.
func (m *Member) Begin() {
	m.load.Add(1)
	m.group.load.Add(1)
}

// End takes away an exchange that Begin counted and learns how long the member
// took to answer. A failure is not a quick answer: give it the time that the
// client would have had to wait, or Abandon it.
func (m *Member) End(took time.Duration, now time.Time) {
	m.Abandon()
	m.latency.observe(max(took, 0), m.group.at(now))
}

// Abandon takes away an exchange that Begin counted and learns nothing.
func (m *Member) Abandon() {
	m.load.Add(-1)
	m.group.load.Add(-1)
}

// InFlight returns how many exchanges are under way.
func (m *Member) InFlight() int64 { return m.load.Load() }

// Latency returns the peak EWMA of the member's latency as of now; 0 if nothing
// is known of it.
func (m *Member) Latency(now time.Time) time.Duration {
	return time.Duration(m.latency.value(m.group.at(now)))
}

// SetAvailable says from when on the member can, or cannot, be sent requests.
// It reports whether that is news; slow start begins only then.
func (m *Member) SetAvailable(ok bool, now time.Time) (changed bool) {
	for {
		since := m.since.Load()
		if ok == (since != down) {
			return false
		}
		to := int64(down)
		if ok {
			to = m.group.at(now)
		}
		if m.since.CompareAndSwap(since, to) {
			m.group.epoch.Add(1)
			return true
		}
	}
}

// Available reports whether the member can be sent requests.
func (m *Member) Available() bool { return m.since.Load() != down }

// SetDraining says whether the member only keeps the clients that stick to it.
// It reports whether that is news.
func (m *Member) SetDraining(on bool) (changed bool) {
	if !m.draining.CompareAndSwap(!on, on) {
		return false
	}
	m.group.epoch.Add(1)
	return true
}

// Draining reports whether the member only keeps the clients that stick to it.
func (m *Member) Draining() bool { return m.draining.Load() }

// A latency is a peak EWMA as in Twitter's Finagle (PeakEwma): it jumps to a
// latency above it and from there decays, in the time that passes, towards
// those below it and towards zero where there are none.
type latency struct {
	peak  atomic.Uint64 // bits of a float64, nanoseconds
	stamp atomic.Int64  // of the last observation
}

// decay is the time in which the past loses all but 1/e of its weight.
const decay = 10 * time.Second

func weightAfter(elapsed int64) float64 {
	x := float64(elapsed) * (1 / float64(decay))
	switch {
	case x <= 0:
		return 1
	case x < 0.2: // e^−x but for 0.01 %, at a third of its cost
		return 1 - x*(1-x*(1./2-x*(1./6)))
	}
	return math.Exp(-x)
}

func (l *latency) observe(took time.Duration, t int64) {
	w := weightAfter(t - l.stamp.Swap(t)) // each stretch of time is counted by one observation
	for x := float64(took); ; {
		bits := l.peak.Load()
		old := math.Float64frombits(bits)
		next := x
		if x < old {
			next = old*w + x*(1-w)
		}
		if l.peak.CompareAndSwap(bits, math.Float64bits(next)) {
			return
		}
	}
}

func (l *latency) value(t int64) float64 {
	v := math.Float64frombits(l.peak.Load())
	if v == 0 {
		return 0
	}
	return v * weightAfter(t-l.stamp.Load())
}
