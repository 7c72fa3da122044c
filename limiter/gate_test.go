package limiter

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newGate(tb testing.TB, cfg Concurrency) *Gate {
	tb.Helper()
	g, err := NewGate(cfg, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

func TestConcurrencyRejected(t *testing.T) {
	for _, cfg := range []Concurrency{
		{Max: -1}, {Max: 1, Queue: -1}, {Max: 1, Queue: 1, QueueTimeout: -1}, {Max: 1 << 40}, {Max: 1, Queue: 1 << 40},
		{Queue: 1}, {QueueTimeout: 1}, {Max: 1, QueueTimeout: 1},
	} {
		if g, err := NewGate(cfg, time.Now()); err == nil || g != nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

func TestNilGate(t *testing.T) {
	g := newGate(t, Concurrency{})
	if g != nil {
		t.Fatal("a gate that bounds nothing is not nil")
	}
	ticket, err := g.Acquire(Arrival{})
	if err != nil {
		t.Fatal(err)
	}
	ticket.Release(time.Second, Served)
	if g.InFlight() != 0 || g.Waiting() != 0 || g.Limit() != 0 || g.RetryAfter() != time.Second {
		t.Error("a nil gate counts")
	}
}

func TestFixed(t *testing.T) {
	g := newGate(t, Concurrency{Max: 2})
	now := time.Now()
	a, _ := g.Acquire(Arrival{At: now})
	if _, err := g.Acquire(Arrival{At: now}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Acquire(Arrival{At: now, Priority: 9}); err != ErrSaturated {
		t.Fatalf("a third of two: %v", err)
	}
	a.Release(0, Served)
	a.Release(0, Served)
	if n := g.InFlight(); n != 1 {
		t.Fatalf("%d in flight after one of two was released twice", n)
	}
	if _, ok := g.Try(now); !ok {
		t.Fatal("no room after a release")
	}
}

// A crowd is a number of arrivals that wait, in a synctest bubble.
type crowd struct {
	g      *Gate
	mu     sync.Mutex
	served []string
	failed map[string]error
	wg     sync.WaitGroup
}

func (c *crowd) arrive(name string, a Arrival) {
	a.At = time.Now()
	c.wg.Go(func() {
		ticket, err := c.g.Acquire(a)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil {
			c.failed[name] = err
			return
		}
		c.served = append(c.served, name)
		ticket.Release(0, Served)
	})
	synctest.Wait() // so that arrivals have an order
}

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{g: newGate(t, Concurrency{Max: 1, Queue: 3}), failed: map[string]error{}}
		held, _ := c.g.Try(time.Now())
		c.arrive("low 1", Arrival{})
		c.arrive("low 2", Arrival{})
		c.arrive("high 1", Arrival{Priority: 5})
		c.arrive("low 3", Arrival{})             // shed at once
		c.arrive("high 2", Arrival{Priority: 5}) // displaces low 2
		c.arrive("middle", Arrival{Priority: 3}) // displaces low 1
		c.arrive("middle 2", Arrival{Priority: 3})
		if n := c.g.Waiting(); n != 3 {
			t.Errorf("%d wait", n)
		}
		held.Release(0, Served)
		c.wg.Wait()
		if want := []string{"high 1", "high 2", "middle"}; !slices.Equal(c.served, want) {
			t.Errorf("served %q, want %q", c.served, want)
		}
		for name, want := range map[string]error{"low 1": ErrDisplaced, "low 2": ErrDisplaced, "low 3": ErrSaturated, "middle 2": ErrSaturated} {
			if err := c.failed[name]; err != want || !errors.Is(err, ErrSaturated) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		if c.g.InFlight() != 0 || c.g.Waiting() != 0 || len(c.g.line.levels) != 0 {
			t.Errorf("left over: %d in flight, %d waiting, levels %v", c.g.InFlight(), c.g.Waiting(), c.g.line.levels)
		}
	})
}

func TestQueueEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{g: newGate(t, Concurrency{Max: 1, Queue: 9, QueueTimeout: time.Second}), failed: map[string]error{}}
		held, _ := c.g.Try(time.Now())
		done := make(chan struct{})
		began := time.Now()
		c.arrive("client leaves", Arrival{Done: done})
		c.arrive("deadline", Arrival{Deadline: began.Add(300 * time.Millisecond)})
		c.arrive("deadline passed", Arrival{Deadline: began.Add(-time.Millisecond)})
		c.arrive("timeout", Arrival{Deadline: began.Add(time.Hour)})
		if n := c.g.Waiting(); n != 3 {
			t.Errorf("%d wait", n)
		}
		close(done)
		synctest.Wait()
		c.mu.Lock()
		left := c.failed["client leaves"]
		c.mu.Unlock()
		if left != ErrCanceled || c.g.Waiting() != 2 {
			t.Errorf("%v, %d wait", left, c.g.Waiting())
		}
		if errors.Is(ErrCanceled, ErrSaturated) {
			t.Error("a client that left was shed")
		}
		c.wg.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
		for _, name := range []string{"deadline", "deadline passed", "timeout"} {
			if c.failed[name] != ErrWaited {
				t.Errorf("%s: %v", name, c.failed[name])
			}
		}
		held.Release(0, Served)
		if c.g.InFlight() != 0 || c.g.Waiting() != 0 {
			t.Errorf("left over: %d in flight, %d waiting", c.g.InFlight(), c.g.Waiting())
		}
	})
}

func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{g: newGate(t, Concurrency{Max: 1, Queue: 5}), failed: map[string]error{}}
		held, _ := c.g.Try(time.Now())
		c.arrive("a", Arrival{})
		c.arrive("b", Arrival{})
		if err := c.g.Configure(Concurrency{Max: -1}); err == nil || c.g.Limit() != 1 {
			t.Errorf("a bad config: %v, limit %d", err, c.g.Limit())
		}
		if err := c.g.Configure(Concurrency{Max: 3}); err != nil {
			t.Fatal(err)
		}
		c.wg.Wait()
		if len(c.served) != 2 || c.g.InFlight() != 1 {
			t.Errorf("served %q, %d in flight", c.served, c.g.InFlight())
		}
		if err := c.g.Configure(Concurrency{}); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, ok := c.g.Try(time.Now()); !ok {
				t.Fatal("bounded without a bound")
			}
		}
		if err := c.g.Configure(Concurrency{Adaptive: true, Max: 7}); err != nil || c.g.Limit() != 7 {
			t.Errorf("%v, limit %d", err, c.g.Limit())
		}
		held.Release(0, Ignored)
	})
}

// TestCrowd has many goroutines come, wait, leave and finish at random, with a
// limit that changes: never are more admitted than the limit at its highest,
// and at the end nobody is left.
func TestCrowd(t *testing.T) {
	for _, cfg := range []Concurrency{
		{Max: 3}, {Max: 3, Queue: 4}, {Max: 8, Queue: 100, QueueTimeout: 50 * time.Microsecond}, {Max: 5, Queue: 10, Adaptive: true},
	} {
		g := newGate(t, cfg)
		var inside, most, served, shed atomic.Int64
		var wg sync.WaitGroup
		for seed := range uint64(16) {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(seed, 9))
				for range 2000 {
					done := make(chan struct{})
					a := Arrival{At: time.Now(), Priority: random.IntN(3), Done: done}
					switch random.IntN(4) {
					case 0:
						time.AfterFunc(time.Duration(random.IntN(100))*time.Microsecond, func() { close(done) })
					case 1:
						a.Deadline = a.At.Add(time.Duration(random.IntN(100)) * time.Microsecond)
					}
					ticket, err := g.Acquire(a)
					if err != nil {
						shed.Add(1)
						continue
					}
					n := inside.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					for range random.IntN(200) { // some work
						_ = g.InFlight()
					}
					inside.Add(-1)
					ticket.Release(time.Since(a.At), Outcome(random.IntN(2)))
					served.Add(1)
				}
			})
		}
		for range 50 { // the limit goes down and up meanwhile
			next := cfg
			next.Max = 1 + rand.IntN(cfg.Max)
			if err := g.Configure(next); err != nil {
				t.Error(err)
			}
		}
		if err := g.Configure(cfg); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if n := int(most.Load()); n > cfg.Max {
			t.Errorf("%+v: %d at once", cfg, n)
		}
		if g.InFlight() != 0 || g.Waiting() != 0 || g.line.count != 0 {
			t.Errorf("%+v: left over: %d in flight, %d waiting", cfg, g.InFlight(), g.Waiting())
		}
		if n := served.Load(); n == 0 || n+shed.Load() != 16*2000 {
			t.Errorf("%+v: served %d, shed %d", cfg, n, shed.Load())
		}
	}
}

// TestAdaptiveGate sees the limit of a gate fall and come back by latency alone.
func TestAdaptiveGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, Concurrency{Adaptive: true, Max: 100})
		full := func(rounds int, latency func(inFlight int) time.Duration) {
			for range rounds {
				var tickets []Ticket
				for {
					ticket, ok := g.Try(time.Now())
					if !ok {
						break
					}
					tickets = append(tickets, ticket)
				}
				l := latency(len(tickets))
				time.Sleep(l) // lint:sleep the bubble's clock
				for i := range tickets {
					tickets[i].Release(l, Served)
				}
			}
		}
		first := g.Limit()
		full(1000, func(int) time.Duration { return 10 * time.Millisecond })
		if first != gradientFirst || g.Limit() != 100 {
			t.Errorf("limit %d, then %d", first, g.Limit())
		}
		full(1000, func(n int) time.Duration { return max(10*time.Millisecond, time.Duration(n)*time.Millisecond/3) })
		if l := g.Limit(); l > 60 {
			t.Errorf("limit %d for a backend that takes 30", l)
		}
		if g.RetryAfter() != time.Second {
			t.Errorf("come back after %v", g.RetryAfter())
		}
		before := g.Limit()
		for range 1000 {
			ticket, _ := g.Try(time.Now())
			time.Sleep(time.Second) // lint:sleep the bubble's clock
			ticket.Release(time.Second, Ignored)
		}
		if g.Limit() != before {
			t.Errorf("ignored samples moved the limit from %d to %d", before, g.Limit())
		}
	})
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		latency        time.Duration
		waiting, limit int
		want           time.Duration
	}{
		{0, 0, 10, time.Second},
		{100 * time.Millisecond, 100, 10, 2 * time.Second},
		{time.Second, 49, 10, 5 * time.Second},
		{time.Minute, 1000, 1, 30 * time.Second},
		{time.Second, 0, 0, time.Second},
	} {
		if got := retryAfter(c.latency, c.waiting, c.limit); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestMeter closes windows by time and by fullness, at the largest of sums.
func TestMeter(t *testing.T) {
	m := newMeter(0)
	for i := range 9 {
		if _, ok := m.sample(time.Hour, time.Millisecond, i); ok {
			t.Fatal("a window of fewer than 10 samples")
		}
	}
	if _, ok := m.sample(time.Hour, 2*time.Hour, 1); !ok {
		t.Fatal("10 samples are no window")
	}
	if want := float64((9*time.Millisecond + sampleMost) / 10); m.gradient.base != want {
		t.Errorf("base %v, want %v", m.gradient.base, want)
	}
	if n := m.most.Load(); n != 0 {
		t.Errorf("%d in flight in the next window", n)
	}
	for range windowFull - 1 {
		if _, ok := m.sample(0, sampleMost, 1); ok {
			t.Fatal("closed before its time")
		}
	}
	if _, ok := m.sample(0, sampleMost, 1); !ok {
		t.Fatal("a full window is not closed")
	}
	if m.gradient.recent > float64(sampleMost) {
		t.Errorf("the sum overflowed: %v", m.gradient.recent)
	}
}
