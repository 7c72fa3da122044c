package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A lab is targets that exist in the head only; it answers connection attempts
// in a synctest bubble.
type lab struct {
	mu     sync.Mutex
	sick   map[string]bool
	hung   map[string]bool
	begun  map[string][]time.Time
	under  int
	most   int
	events []Transition
}

var errRefused = errors.New("refused")

func newLab() *lab {
	return &lab{sick: map[string]bool{}, hung: map[string]bool{}, begun: map[string][]time.Time{}}
}

func (l *lab) dial(ctx context.Context, _, address string) (net.Conn, error) {
	l.mu.Lock()
	l.begun[address] = append(l.begun[address], time.Now())
	l.under++
	l.most = max(l.most, l.under)
	hung, sick := l.hung[address], l.sick[address]
	l.mu.Unlock()
	defer func() { l.mu.Lock(); l.under--; l.mu.Unlock() }()
	if hung {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if sick {
		return nil, errRefused
	}
	a, b := net.Pipe()
	b.Close()
	return a, nil
}

func (l *lab) report(x Transition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, x)
}

func (l *lab) set(m map[string]bool, address string, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m[address] = on
}

func (l *lab) starts(address string) []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.begun[address])
}

func (l *lab) told() []Transition {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

func (l *lab) checker(t testing.TB, workers int) (*Checker, *Group) {
	t.Helper()
	c, err := NewChecker(Config{Report: l.report, Dial: l.dial, Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	a := defaultActive()
	a.Kind = "tcp"
	g, err := c.Group("b", a, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, g
}

func add(t testing.TB, g *Group, url string) *Target {
	t.Helper()
	target, err := g.Add(url)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// run runs c; the function it returns ends it and waits.
func run(t testing.TB, c *Checker) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not return")
		}
	})
}

// pass lets fake time pass, in a bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		c, g := l.checker(t, 0)
		a := add(t, g, "http://a:1")
		defer run(t, c)()
		if !a.Healthy() {
			t.Error("a new target may not be used")
		}
		pass(400 * time.Millisecond)
		if s := a.State(); s.Checked.IsZero() || !s.Healthy || len(l.told()) != 0 {
			t.Errorf("after the first check: %+v, told %v", s, l.told())
		}
		for range 5 {
			l.set(l.sick, "a:1", true)
			pass(30 * time.Second)
			if a.Healthy() {
				t.Fatal("still usable")
			}
			l.set(l.sick, "a:1", false)
			pass(30 * time.Second)
			if !a.Healthy() {
				t.Fatal("not usable again")
			}
		}
		told := l.told()
		if len(told) != 10 {
			t.Fatalf("%d transitions, want 10", len(told))
		}
		for i, x := range told {
			if x.Healthy != (i%2 == 1) || x.Target != "http://a:1" || x.Backend != "b" || (x.Reason == "") != x.Healthy || i > 0 && !x.At.After(told[i-1].At) {
				t.Errorf("transition %d: %+v", i, x)
			}
		}
	})
}

// TestTimeoutBeyondInterval has checks of a hung target take longer than the
// interval: one goes on after the other, and never two at a time.
func TestTimeoutBeyondInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		c, err := NewChecker(Config{Report: l.report, Dial: l.dial})
		if err != nil {
			t.Fatal(err)
		}
		a := defaultActive()
		a.Kind, a.Interval = "tcp", 200*time.Millisecond // and the default of a second
		g, err := c.Group("b", a, nil)
		if err != nil {
			t.Fatal(err)
		}
		x := add(t, g, "http://a:1")
		l.set(l.hung, "a:1", true)
		defer run(t, c)()
		pass(10 * time.Second)
		if n := len(l.starts("a:1")); n < 8 || n > 10 || l.most != 1 || x.Healthy() {
			t.Errorf("%d checks in 10 s, at most %d at a time, healthy %v", n, l.most, x.Healthy())
		}
		l.set(l.hung, "a:1", false)
		pass(2 * time.Second)
		if !x.Healthy() {
			t.Errorf("not back: %+v", x.State())
		}
	})
}

// TestSpread has a thousand targets begin together, and looks how their checks
// lie in time, and how long the pauses of each are.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		c, g := l.checker(t, 0)
		for i := range 1000 {
			add(t, g, fmt.Sprintf("http://a%d:1", i))
		}
		start := time.Now()
		defer run(t, c)()
		pass(61 * time.Second)
		perSecond := map[int]int{}
		for i := range 1000 {
			starts := l.starts(fmt.Sprintf("a%d:1", i))
			if n := len(starts); n < 11 || n > 16 {
				t.Fatalf("target %d: %d checks in a minute", i, n)
			}
			if first := starts[0].Sub(start); first > 1400*time.Millisecond {
				t.Errorf("first check after %v", first)
			}
			for j, at := range starts {
				perSecond[int(at.Sub(start)/time.Second)]++
				if j > 1 && (at.Sub(starts[j-1]) < 4500*time.Millisecond || at.Sub(starts[j-1]) > 5800*time.Millisecond) {
					t.Errorf("a pause of %v", at.Sub(starts[j-1]))
				}
			}
		}
		for second := range 60 { // 200 in the mean
			if n := perSecond[second]; second > 6 && (n > 300 || n < 100) {
				t.Errorf("%d checks in second %d", n, second)
			}
		}
	})
}

// TestHungTargets has most targets hang until the time-out; the others are
// checked in their rhythm all the same.
func TestHungTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		c, g := l.checker(t, 0)
		for i := range 300 {
			address := fmt.Sprintf("a%d:1", i)
			l.hung[address] = i >= 10
			add(t, g, "http://"+address)
		}
		defer run(t, c)()
		pass(60 * time.Second)
		for i := range 300 {
			starts := l.starts(fmt.Sprintf("a%d:1", i))
			for j := 2; j < len(starts); j++ {
				if gap := starts[j].Sub(starts[j-1]); gap > 5900*time.Millisecond {
					t.Errorf("target %d waited %v", i, gap)
				}
			}
		}
		if s := g.Target("http://a20:1").State(); s.Healthy || s.LastError != "no answer within 1s" || s.Latency != time.Second {
			t.Errorf("%+v", s)
		}
		if !g.Target("http://a5:1").Healthy() {
			t.Error("a good target is down")
		}
		if l.most > 128 {
			t.Errorf("%d checks at a time", l.most)
		}
	})
}

// TestWorkers has fewer workers than checks: they wait, and none is lost.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		c, g := l.checker(t, 2)
		for i := range 20 {
			address := fmt.Sprintf("a%d:1", i)
			l.hung[address] = i < 15
			add(t, g, "http://"+address)
		}
		defer run(t, c)()
		pass(60 * time.Second)
		if l.most != 2 {
			t.Errorf("%d checks at a time, want 2", l.most)
		}
		for i := range 20 {
			if n := len(l.starts(fmt.Sprintf("a%d:1", i))); n < 4 {
				t.Errorf("target %d: %d checks", i, n)
			}
		}
	})
}

// TestComeAndGo adds and removes targets while the checker runs.
func TestComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		c, g := l.checker(t, 0)
		stop := run(t, c)
		defer stop()
		pass(time.Hour)
		l.set(l.sick, "a:1", true)
		a := add(t, g, "http://a:1")
		if add(t, g, "http://a:1") != a || g.Target("http://a:1") != a || g.Target("http://b:1") != nil {
			t.Error("targets are not one a name")
		}
		pass(400 * time.Millisecond)
		if a.Healthy() || len(l.told()) != 1 {
			t.Error("one bad first check does not mark it down")
		}
		g.Remove("http://a:1")
		g.Remove("http://a:1")
		n := len(l.starts("a:1"))
		pass(time.Minute)
		if m := len(l.starts("a:1")); m != n {
			t.Errorf("%d checks after it was removed", m-n)
		}
		// Removed in the middle of a check: nothing is told.
		l.set(l.hung, "h:1", true)
		h := add(t, g, "http://h:1")
		pass(700 * time.Millisecond)
		g.Remove("http://h:1")
		pass(10 * time.Second)
		if len(l.told()) != 1 || !h.State().Checked.IsZero() || len(l.starts("h:1")) != 1 {
			t.Errorf("told %v, state %+v, %d checks", l.told(), h.State(), len(l.starts("h:1")))
		}
		// Ended in the middle of a check: no target is blamed.
		h = add(t, g, "http://h:1")
		pass(700 * time.Millisecond)
		stop()
		if !h.Healthy() || !h.State().Checked.IsZero() {
			t.Errorf("the end of the checker counts as a failure: %+v", h.State())
		}
		if err := c.Run(context.Background()); err == nil {
			t.Error("Run runs twice")
		}
	})
}

// TestAdopt reloads, twice, while a target is sick.
func TestAdopt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		c, g := l.checker(t, 0)
		add(t, g, "http://a:1")
		add(t, g, "http://b:1")
		stop := run(t, c)
		pass(10 * time.Second)
		l.set(l.sick, "a:1", true)
		pass(30 * time.Second)
		for range 20 { // the second generation lives for seconds only, and so on
			next, g := l.checker(t, 0)
			a := add(t, g, "http://a:1")
			next.Adopt(c)
			b := add(t, g, "http://b:1") // later, by discovery
			if a.Healthy() || !b.Healthy() || b.State().Checked.IsZero() {
				t.Fatal("the reload forgot the state")
			}
			stop()
			stop = run(t, next)
			c = next
			pass(3 * time.Second)
		}
		defer stop()
		if len(l.told()) != 1 {
			t.Errorf("told %v", l.told())
		}
		for _, address := range []string{"a:1", "b:1"} {
			starts := l.starts(address)
			for i := 2; i < len(starts); i++ {
				if gap := starts[i].Sub(starts[i-1]); gap > 6*time.Second {
					t.Errorf("%s: reloads made a pause of %v", address, gap)
				}
			}
		}
		// Another backend's target of the same name is another target.
		next, _ := NewChecker(Config{Dial: l.dial})
		other, _ := next.Group("other", defaultActive(), nil)
		next.Adopt(c)
		if x := add(t, other, "http://a:1"); !x.Healthy() {
			t.Error("took over another backend's state")
		}
		l.set(l.sick, "a:1", false)
		pass(30 * time.Second)
		if told := l.told(); len(told) != 2 || !told[1].Healthy {
			t.Errorf("told %v", told)
		}
	})
}

// TestCheckerConcurrent has targets come, go and be asked for all at once.
func TestCheckerConcurrent(t *testing.T) {
	l := newLab()
	c, err := NewChecker(Config{Report: l.report, Dial: l.dial})
	if err != nil {
		t.Fatal(err)
	}
	a := defaultActive()
	a.Kind, a.Interval, a.Timeout, a.UnhealthyAfter, a.HealthyAfter = "tcp", 10*time.Millisecond, 10*time.Millisecond, 1, 1
	g, err := c.Group("b", a, nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, c)
	defer stop()
	steady := add(t, g, "http://steady:1")
	var checked atomic.Bool
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			url := fmt.Sprintf("http://a%d:1", i)
			for n := range 300 {
				l.set(l.sick, fmt.Sprintf("a%d:1", i), n%2 == 0)
				x, err := g.Add(url)
				if err != nil {
					t.Error(err)
				}
				x.Healthy()
				_ = x.State()
				if n%3 == 0 {
					g.Remove(url)
				}
				other, _ := NewChecker(Config{})
				other.Adopt(c)
			}
			for deadline := time.Now().Add(10 * time.Second); steady.State().Successes < 3; {
				if time.Now().After(deadline) {
					t.Error("the steady target is not checked")
					return
				}
				<-time.After(time.Millisecond)
			}
			checked.Store(true)
		})
	}
	wg.Wait()
	if !checked.Load() {
		t.Error("never checked")
	}
}

func BenchmarkHealthy(b *testing.B) {
	c, _ := NewChecker(Config{})
	g, _ := c.Group("b", defaultActive(), nil)
	t, _ := g.Add("http://a:1")
	for b.Loop() {
		if !t.Healthy() {
			b.Fatal("down")
		}
	}
}
