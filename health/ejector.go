package health

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// An Ejection is one transition of a Member.
type Ejection struct {
	Target  string
	Ejected bool // false: it is back
	Times   int  // how often it counts as ejected
	For     time.Duration
	At      time.Time
}

// An Ejector takes targets of one backend out of use while requests to them
// fail (outlier ejection).
//
// What follows a success is one load. The lock is taken only to eject and to
// bring back, and to add and remove.
type Ejector struct {
	cfg     Passive
	report  func(Ejection)
	epoch   time.Time    // what times count from, by the monotonic clock
	free    atomic.Int32 // how many more may be out
	soonest atomic.Int64 // since epoch, ns: before it nobody comes back

	mu      sync.Mutex
	members map[string]*Member
	known   map[string]sentence // of an earlier generation's members
}

// A Member is one target as its Ejector sees it.
type Member struct {
	ejector  *Ejector
	target   string
	failures atomic.Int32 // in a row
	until    atomic.Int64 // since epoch, ns, never 0 while it is out; 0: in use

	// Under the ejector's lock.
	times int
	began time.Duration // since epoch: when it was ejected
	ended time.Duration // since epoch: when it came back
	gone  bool
}

// A sentence is what is handed over of a member.
type sentence struct {
	failures int32
	until    int64
	times    int
	began    time.Duration
	ended    time.Duration
}

// never is beyond every time.
const never = 1<<63 - 1

// NewEjector returns an ejector without members. The error is that of Validate.
// report, which may be nil, is called once for each transition, by the goroutine
// that made it and outside any lock.
func NewEjector(cfg Passive, now time.Time, report func(Ejection)) (*Ejector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if report == nil {
		report = func(Ejection) {}
	}
	e := &Ejector{cfg: cfg, report: report, epoch: now, members: map[string]*Member{}}
	e.soonest.Store(never)
	return e, nil
}

// Add returns the member of a target's name, a new one where there is none.
func (e *Ejector) Add(target string) *Member {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.members[target]
	if m == nil {
		m = &Member{ejector: e, target: target}
		e.members[target] = m
		e.recount()
		if s, ok := e.known[target]; ok {
			delete(e.known, target)
			if e.free.Load() <= 0 {
				s.until = 0
			}
			m.take(s)
			e.recount()
		}
	}
	return m
}

// Remove forgets a target. What its member is told from then on has no effect.
// If too large a share is out without it, who has least left comes back.
func (e *Ejector) Remove(target string, now time.Time) {
	e.mu.Lock()
	var back []Ejection
	if m := e.members[target]; m != nil {
		m.gone = true
		m.until.Store(0)
		delete(e.members, target)
		e.recount()
		back = e.trim(now)
	}
	e.mu.Unlock()
	e.tell(back)
}

// Observe is told how a request to the target ended.
func (m *Member) Observe(ok bool, now time.Time) {
	if ok {
		if m.failures.Load() != 0 {
			m.failures.Store(0)
		}
		return
	}
	if until := m.until.Load(); until != 0 {
		if int64(now.Sub(m.ejector.epoch)) < until {
			return // began before it was ejected
		}
		m.ejector.Sweep(now)
	}
	if int(m.failures.Add(1)) >= m.ejector.cfg.ConsecutiveFailures {
		m.ejector.eject(m, now)
	}
}

// Usable reports whether the target is not ejected, and brings it back when its
// time is over.
func (m *Member) Usable(now time.Time) bool {
	until := m.until.Load()
	if until == 0 {
		return true
	}
	if int64(now.Sub(m.ejector.epoch)) < until {
		return false
	}
	m.ejector.Sweep(now)
	return true
}

// Ejected returns how often the target counts as ejected, and for how long it is
// still out; 0 when it is in use.
func (m *Member) Ejected(now time.Time) (times int, left time.Duration) {
	m.ejector.mu.Lock()
	defer m.ejector.mu.Unlock()
	if until := m.until.Load(); until != 0 {
		left = max(time.Duration(until)-now.Sub(m.ejector.epoch), 0)
	}
	return m.times, left
}

// Recover brings the target back before its time if it was ejected before
// recovered, a time at which its checks had seen it ill and well again (State).
// Checks that were good all along say nothing: what they ask for is not what
// fails.
func (m *Member) Recover(recovered, now time.Time) {
	if m.until.Load() == 0 || recovered.IsZero() {
		return
	}
	e := m.ejector
	var back []Ejection
	e.mu.Lock()
	if m.until.Load() != 0 && recovered.Sub(e.epoch) > m.began {
		back = append(back, m.release(now.Sub(e.epoch), now))
		e.recount()
	}
	e.mu.Unlock()
	e.tell(back)
}

// Sweep brings back all whose time is over. Usable does it when asked; calling
// Sweep every now and then has it happen without requests as well.
func (e *Ejector) Sweep(now time.Time) {
	if int64(now.Sub(e.epoch)) < e.soonest.Load() {
		return
	}
	e.mu.Lock()
	back := e.expire(now)
	e.mu.Unlock()
	e.tell(back)
}

func (e *Ejector) eject(m *Member, now time.Time) {
	at := now.Sub(e.epoch)
	if e.free.Load() <= 0 && int64(at) < e.soonest.Load() {
		return // with every target failing, this is where each failure ends
	}
	e.mu.Lock()
	told := e.expire(now)
	if !m.gone && m.until.Load() == 0 && e.free.Load() > 0 {
		var span time.Duration
		m.times, span = e.cfg.sentence(m.times, at-m.ended)
		m.began = at
		m.until.Store(max(int64(at+span), 1))
		m.failures.Store(0)
		e.recount()
		told = append(told, Ejection{Target: m.target, Ejected: true, Times: m.times, For: span, At: now})
	}
	e.mu.Unlock()
	e.tell(told)
}

// expire brings back whose time is over.
func (e *Ejector) expire(now time.Time) []Ejection {
	at := now.Sub(e.epoch)
	var back []Ejection
	for _, m := range e.members {
		if until := m.until.Load(); until != 0 && time.Duration(until) <= at {
			back = append(back, m.release(time.Duration(until), now))
		}
	}
	if back != nil {
		e.recount()
	}
	return back
}

// trim brings back those with least left until no more are out than may be.
func (e *Ejector) trim(now time.Time) []Ejection {
	out := e.out()
	slices.SortFunc(out, func(a, b *Member) int { return cmp.Compare(a.until.Load(), b.until.Load()) })
	var back []Ejection
	for _, m := range out[:max(len(out)-e.cfg.allowed(len(e.members)), 0)] {
		back = append(back, m.release(now.Sub(e.epoch), now))
	}
	if back != nil {
		e.recount()
	}
	return back
}

func (e *Ejector) out() []*Member {
	var out []*Member
	for _, m := range e.members {
		if m.until.Load() != 0 {
			out = append(out, m)
		}
	}
	return out
}

// recount refreshes what is read without the lock.
func (e *Ejector) recount() {
	out, soonest := e.out(), int64(never)
	for _, m := range out {
		soonest = min(soonest, m.until.Load())
	}
	e.free.Store(int32(e.cfg.allowed(len(e.members)) - len(out)))
	e.soonest.Store(soonest)
}

func (m *Member) release(ended time.Duration, now time.Time) Ejection {
	m.ended = ended
	m.failures.Store(0)
	m.until.Store(0)
	return Ejection{Target: m.target, Times: m.times, At: now}
}

func (m *Member) take(s sentence) {
	m.failures.Store(s.failures)
	m.until.Store(s.until)
	m.times, m.began, m.ended = s.times, s.began, s.ended
}

func (e *Ejector) tell(all []Ejection) {
	for _, x := range all {
		e.report(x)
	}
}

// Adopt takes over the state of old's members, by name: after the targets were
// added, and before e is used. Those that are added later get theirs then, as
// far as max_ejected has room.
func (e *Ejector) Adopt(old *Ejector, now time.Time) {
	known := old.sentences()
	e.mu.Lock()
	e.epoch, e.known = old.epoch, known
	for name, m := range e.members {
		if s, ok := known[name]; ok {
			delete(known, name)
			m.take(s)
		}
	}
	e.recount()
	back := e.trim(now)
	e.mu.Unlock()
	e.tell(back)
}

func (e *Ejector) sentences() map[string]sentence {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make(map[string]sentence, len(e.members))
	for name, m := range e.members {
		all[name] = sentence{m.failures.Load(), m.until.Load(), m.times, m.began, m.ended}
	}
	return all
}
