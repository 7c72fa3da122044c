package health

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func newCircuit(t testing.TB, cfg Breaker, now time.Time, report func(CircuitChange)) *Circuit {
	t.Helper()
	c, err := NewCircuit(cfg, now, report)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func defaultBreaker() (b Breaker) {
	b.SetDefaults()
	return b
}

// A model is the breaker as one would write it without a care for cost.
type model struct {
	cfg     Breaker
	epoch   time.Time
	state   CircuitState
	number  int
	until   time.Time
	row     int
	results []result
	taken   int
	passed  int
}

type result struct {
	tick   int64
	failed bool
}

func (m *model) enter(s CircuitState, now time.Time) {
	*m = model{cfg: m.cfg, epoch: m.epoch, state: s, number: m.number + 1, until: now.Add(m.cfg.OpenFor)}
}

func (m *model) allow(now time.Time) (number int, ok bool) {
	switch {
	case m.state == Closed:
		return m.number, true
	case m.state == HalfOpen && m.taken < m.cfg.HalfOpenRequests:
	case now.Before(m.until):
		return 0, false
	default:
		m.enter(HalfOpen, now)
	}
	m.taken++
	return m.number, true
}

func (m *model) done(number int, o Outcome, now time.Time) {
	switch {
	case number != m.number:
	case m.state == HalfOpen && o == Canceled:
		m.taken--
	case o == Canceled:
	case m.state == HalfOpen && o == Failed:
		m.enter(Open, now)
	case m.state == HalfOpen:
		if m.passed++; m.passed == m.cfg.HalfOpenRequests {
			m.enter(Closed, now)
		}
	default:
		m.count(o == Failed, now)
	}
}

func (m *model) count(failed bool, now time.Time) {
	tick := int64(now.Sub(m.epoch) / (m.cfg.Window / 10))
	m.results = append(m.results, result{tick, failed})
	if !failed {
		m.row = 0
		return
	}
	m.row++
	failures, requests := 0, 0
	for _, r := range m.results {
		if r.tick > tick-10 {
			requests++
			if r.failed {
				failures++
			}
		}
	}
	byRow := m.cfg.MaxFailures > 0 && m.row >= m.cfg.MaxFailures
	byRatio := m.cfg.FailureRatio > 0 && requests >= m.cfg.MinRequests && float64(failures) >= m.cfg.FailureRatio*float64(requests)
	if byRow || byRatio {
		m.enter(Open, now)
	}
}

// TestCircuitModel compares the circuit with the model over long random lives,
// with results that come late and some that never come.
func TestCircuitModel(t *testing.T) {
	var opened, reclosed, halved atomic.Int32
	rapid.Check(t, func(t *rapid.T) {
		cfg := Breaker{
			MaxFailures:      rapid.IntRange(0, 6).Draw(t, "max_failures"),
			FailureRatio:     float64(rapid.IntRange(1, 10).Draw(t, "ratio")) / 10,
			MinRequests:      rapid.IntRange(1, 12).Draw(t, "min_requests"),
			Window:           time.Second,
			OpenFor:          rapid.SampledFrom([]time.Duration{time.Nanosecond, 300 * time.Millisecond, 5 * time.Second}).Draw(t, "open_for"),
			HalfOpenRequests: rapid.IntRange(1, 4).Draw(t, "half_open_requests"),
		}
		now := time.Unix(1e9, 0)
		var changes []CircuitChange
		c, err := NewCircuit(cfg, now, func(x CircuitChange) { changes = append(changes, x) })
		if err != nil {
			t.Fatal(err)
		}
		m := &model{cfg: cfg, epoch: now}
		type open struct {
			ticket Ticket
			number int
		}
		var under []open
		for step := range rapid.IntRange(1, 300).Draw(t, "steps") {
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Millisecond, 40 * time.Millisecond, 400 * time.Millisecond, 3 * time.Second}).Draw(t, "pause"))
			was := m.state
			if len(under) == 0 || rapid.Bool().Draw(t, "allow") {
				ready := c.Ready(now)
				ticket, got := c.Allow(now)
				number, want := m.allow(now)
				if got != want || ready != want {
					t.Fatalf("step %d: Allow %v, Ready %v; want %v", step, got, ready, want)
				}
				if got {
					under = append(under, open{ticket, number})
				}
			} else {
				i := rapid.IntRange(0, len(under)-1).Draw(t, "which")
				o := rapid.SampledFrom([]Outcome{Succeeded, Failed, Failed, Canceled}).Draw(t, "outcome")
				under[i].ticket.Done(o, now)
				m.done(under[i].number, o, now)
				under = append(under[:i], under[i+1:]...)
			}
			if got, _ := c.State(); got != m.state || len(changes) != m.number {
				t.Fatalf("step %d: %v after %d changes; want %v after %d", step, got, len(changes), m.state, m.number)
			}
			switch {
			case was == Closed && m.state == Open:
				opened.Add(1)
			case was == Open && m.state == HalfOpen:
				halved.Add(1)
			case was == HalfOpen && m.state == Closed:
				reclosed.Add(1)
			}
		}
		for i, x := range changes {
			if x.Generation != uint64(i+1) || x.Reason == "" || i > 0 && changes[i-1].To != x.From {
				t.Fatalf("changes %+v", changes)
			}
		}
	})
	if opened.Load() < 20 || halved.Load() < 20 || reclosed.Load() < 5 {
		t.Errorf("the model opened %d, half-opened %d, closed %d times: too few to compare", opened.Load(), halved.Load(), reclosed.Load())
	}
}

func TestCircuitLateResults(t *testing.T) {
	now := time.Now()
	c := newCircuit(t, Breaker{MaxFailures: 1, MinRequests: 1, Window: time.Second, OpenFor: time.Second, HalfOpenRequests: 2}, now, nil)
	late, _ := c.Allow(now)
	late2, _ := c.Allow(now)
	late.Done(Failed, now)
	if s, _ := c.State(); s != Open {
		t.Fatal(s)
	}
	if in := c.RetryIn(now.Add(time.Second / 4)); in != 3*time.Second/4 {
		t.Errorf("retry in %v", in)
	}
	now = now.Add(time.Second)
	first, ok := c.Allow(now)
	if !ok {
		t.Fatal("not half-open in time")
	}
	late2.Done(Failed, now) // of the closed circuit
	if s, _ := c.State(); s != HalfOpen {
		t.Fatalf("a late result made it %v", s)
	}
	if _, ok := c.Allow(now); !ok {
		t.Fatal("the second try found no place")
	}
	if _, ok := c.Allow(now); ok {
		t.Fatal("a third try of two")
	}
	first.Done(Canceled, now)
	if _, ok := c.Allow(now); !ok {
		t.Fatal("a canceled try kept its place")
	}
	now = now.Add(time.Second)
	a, ok := c.Allow(now) // the tries before this hang
	if !ok {
		t.Fatal("tries that hang block the circuit")
	}
	b, _ := c.Allow(now)
	a.Done(Succeeded, now)
	b.Done(Succeeded, now)
	if s, _ := c.State(); s != Closed {
		t.Fatal(s)
	}
	Ticket{}.Done(Failed, now)
}

// TestCircuitConcurrent has many goroutines fail and succeed, and counts who is
// let through a half-open circuit.
func TestCircuitConcurrent(t *testing.T) {
	cfg := Breaker{MaxFailures: 3, FailureRatio: 0.5, MinRequests: 10, Window: time.Second, OpenFor: 10 * time.Millisecond, HalfOpenRequests: 3}
	start := time.Now()
	var mu sync.Mutex
	seen := map[uint64]CircuitChange{}
	c := newCircuit(t, cfg, start, func(x CircuitChange) {
		mu.Lock()
		defer mu.Unlock()
		if old, twice := seen[x.Generation]; twice {
			t.Errorf("%+v and %+v", old, x)
		}
		seen[x.Generation] = x
	})
	var clock atomic.Int64
	var tries sync.Map // *phase → *atomic.Int32
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 3000 {
				now := start.Add(time.Duration(clock.Add(int64(20 * time.Microsecond))))
				ticket, ok := c.Allow(now)
				if !ok {
					continue
				}
				if ticket.phase.state == HalfOpen {
					n, _ := tries.LoadOrStore(ticket.phase, new(atomic.Int32))
					if n.(*atomic.Int32).Add(1) > 3 {
						t.Error("more tries than places")
					}
				}
				ticket.Done(Outcome(min((i*7+g)%5, 1)), now) // four of five fail
			}
		})
	}
	wg.Wait()
	for i := range uint64(len(seen)) {
		if _, ok := seen[i+1]; !ok {
			t.Errorf("generation %d of %d was not reported", i+1, len(seen))
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d transitions", len(seen))
	}
}

func TestCircuitAdopt(t *testing.T) {
	now := time.Now()
	fail := func(c *Circuit, n int) {
		for range n {
			ticket, _ := c.Allow(now)
			ticket.Done(Failed, now)
		}
	}
	cfg := defaultBreaker()
	old := newCircuit(t, cfg, now, nil)
	fail(old, 4)
	c := newCircuit(t, cfg, now.Add(time.Hour), nil)
	c.Adopt(old, now)
	fail(c, 1)
	if s, _ := c.State(); s != Open {
		t.Errorf("%v after 4 failures before the reload and 1 after it", s)
	}
	now = now.Add(20 * time.Second)
	again := newCircuit(t, cfg, now, nil)
	again.Adopt(c, now)
	if in := again.RetryIn(now); in != 10*time.Second {
		t.Errorf("still open for %v, want 10s", in)
	}
	cfg.OpenFor = time.Second
	shorter := newCircuit(t, cfg, now, nil)
	shorter.Adopt(c, now)
	if in := shorter.RetryIn(now); in != time.Second {
		t.Errorf("still open for %v, want 1s", in)
	}
	now = now.Add(time.Second)
	if _, ok := shorter.Allow(now); !ok {
		t.Error("does not half-open")
	}
	half := newCircuit(t, cfg, now, nil)
	half.Adopt(shorter, now)
	for i := range 4 {
		if _, ok := half.Allow(now); ok != (i < 3) {
			t.Errorf("try %d: %v", i, ok)
		}
	}
}

// TestWindowFull counts more than a bucket holds, and keeps the ratio.
func TestWindowFull(t *testing.T) {
	var w window
	for i := range uint64(3 * countMax) {
		w.add(7, i%4/3)
	}
	failures, requests := w.sum(7)
	if share := float64(failures) / float64(requests); share < 0.249 || share > 0.251 || requests < countMax/2 {
		t.Errorf("%d of %d", failures, requests)
	}
	if _, n := w.sum(16); n != requests {
		t.Errorf("%d at the end of the window", n)
	}
	if _, n := w.sum(17); n != 0 {
		t.Errorf("%d after the window", n)
	}
	w.add(17, 1)
	w.add(7, 1) // ten ticks late
	if f, n := w.sum(17); f != 1 || n != 1 {
		t.Errorf("%d of %d, want 1 of 1", f, n)
	}
	w = window{}
	w.add(tickMask, 1)
	w.add(tickMask+1, 1) // the number wraps
	if f, n := w.sum(tickMask + 2); f != 2 || n != 2 {
		t.Errorf("%d of %d over the wrap", f, n)
	}
}

func TestBreakerFaults(t *testing.T) {
	for field, edit := range map[string]func(*Breaker){
		"":                   func(*Breaker) {},
		"max_failures":       func(b *Breaker) { b.MaxFailures = -1 },
		"failure_ratio":      func(b *Breaker) { b.FailureRatio = 1.1 },
		"min_requests":       func(b *Breaker) { b.MinRequests = 0 },
		"window":             func(b *Breaker) { b.Window = -time.Second },
		"open_for":           func(b *Breaker) { b.OpenFor = 0 },
		"half_open_requests": func(b *Breaker) { b.HalfOpenRequests = 0 },
	} {
		b := defaultBreaker()
		edit(&b)
		wantFields(t, b.Validate(), field)
	}
	b := defaultBreaker()
	b.MaxFailures, b.FailureRatio = 0, 0
	wantFields(t, b.Validate(), "max_failures")
	wantFields(t, Breaker{MaxFailures: 1}.Validate(), "min_requests", "window", "open_for", "half_open_requests")
	if _, err := NewCircuit(Breaker{}, time.Now(), nil); err == nil {
		t.Error("NewCircuit takes a bad Breaker")
	}
}

func BenchmarkCircuit(b *testing.B) {
	now := time.Now()
	c := newCircuit(b, defaultBreaker(), now, nil)
	b.ReportAllocs()
	for b.Loop() {
		ticket, _ := c.Allow(now)
		ticket.Done(Succeeded, now)
	}
}

// BenchmarkCircuitParallel has 8 goroutines share one circuit; a tenth of the
// requests fails in the second.
func BenchmarkCircuitParallel(b *testing.B) {
	for _, failing := range []bool{false, true} {
		b.Run(fmt.Sprintf("failing=%v", failing), func(b *testing.B) {
			now := time.Now()
			cfg := defaultBreaker()
			cfg.MaxFailures = 1 << 20 // five goroutines may fail in a row by chance
			c := newCircuit(b, cfg, now, nil)
			b.ReportAllocs()
			parallel8(b, func(i int) {
				ticket, _ := c.Allow(now)
				o := Succeeded
				if failing && i%10 == 0 {
					o = Failed
				}
				ticket.Done(o, now)
			})
			if s, _ := c.State(); s != Closed {
				b.Fatal(s)
			}
		})
	}
}

// parallel8 runs b.N calls of f in 8 goroutines.
func parallel8(b *testing.B, f func(i int)) {
	var wg sync.WaitGroup
	b.ResetTimer()
	for g := range 8 {
		wg.Go(func() {
			for i := range b.N/8 + 1 {
				f(i + g)
			}
		})
	}
	wg.Wait()
}

func TestCircuitAllocates(t *testing.T) {
	now := time.Now()
	cfg := defaultBreaker()
	cfg.MaxFailures, cfg.FailureRatio = 1<<20, 1
	c := newCircuit(t, cfg, now, nil)
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		ticket, _ := c.Allow(now)
		ticket.Done(Outcome(i%3), now)
		i++
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
