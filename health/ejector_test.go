package health

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func newEjector(t testing.TB, cfg Passive, now time.Time, report func(Ejection)) *Ejector {
	t.Helper()
	e, err := NewEjector(cfg, now, report)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func defaultPassive() (p Passive) {
	p.SetDefaults()
	return p
}

func failTimes(m *Member, n int, now time.Time) {
	for range n {
		m.Observe(false, now)
	}
}

func TestEjection(t *testing.T) {
	now := time.Now()
	var told []Ejection
	e := newEjector(t, defaultPassive(), now, func(x Ejection) { told = append(told, x) })
	a := e.Add("a")
	e.Add("b")
	if e.Add("a") != a {
		t.Error("a second member of one name")
	}
	failTimes(a, 4, now)
	a.Observe(true, now)
	failTimes(a, 4, now)
	if !a.Usable(now) {
		t.Fatal("ejected, though never five in a row")
	}
	a.Observe(false, now)
	if a.Usable(now) {
		t.Fatal("usable after five in a row")
	}
	failTimes(a, 50, now.Add(time.Second)) // of before
	a.Observe(true, now)
	if times, left := a.Ejected(now.Add(10 * time.Second)); times != 1 || left != 20*time.Second {
		t.Errorf("ejected %d times, %v left", times, left)
	}
	if a.Usable(now.Add(30*time.Second - 1)) {
		t.Error("back too early")
	}
	if !a.Usable(now.Add(30 * time.Second)) {
		t.Error("not back in time")
	}
	if len(told) != 2 || !told[0].Ejected || told[0].For != 30*time.Second || told[1].Ejected || told[1].Target != "a" {
		t.Errorf("told %+v", told)
	}
}

// TestEjectionRecovers brings a target back before its time, over a reload too.
func TestEjectionRecovers(t *testing.T) {
	epoch := time.Now()
	var told []Ejection
	report := func(x Ejection) { told = append(told, x) }
	e := newEjector(t, defaultPassive(), epoch, report)
	a := e.Add("a")
	e.Add("b")
	now := epoch.Add(time.Minute)
	a.Recover(now, now) // nothing to recover from
	failTimes(a, 5, now)
	for _, recovered := range []time.Time{{}, epoch, now} {
		if a.Recover(recovered, now.Add(time.Second)); a.Usable(now.Add(time.Second)) {
			t.Errorf("back by what was before: %v", recovered)
		}
	}
	next := newEjector(t, defaultPassive(), now, report)
	a = next.Add("a")
	next.Add("b")
	next.Adopt(e, now)
	if a.Recover(now, now); a.Usable(now) {
		t.Error("a reload forgets when it was ejected")
	}
	back := now.Add(2 * time.Second)
	a.Recover(now.Add(time.Second), back)
	if times, left := a.Ejected(back); !a.Usable(back) || times != 1 || left != 0 {
		t.Errorf("ejected %d times, %v left", times, left)
	}
	if len(told) != 2 || told[1] != (Ejection{Target: "a", Times: 1, At: back}) {
		t.Errorf("told %+v", told)
	}
	failTimes(a, 5, back)
	if times, _ := a.Ejected(back); times != 2 {
		t.Errorf("the next time counts as %d", times)
	}
}

// TestEjectionGrows ejects again and again, and then leaves the target in peace.
func TestEjectionGrows(t *testing.T) {
	now := time.Now()
	var told []Ejection
	e := newEjector(t, defaultPassive(), now, func(x Ejection) { told = append(told, x) })
	a := e.Add("a")
	e.Add("b")
	for want := 1; want <= 13; want++ {
		failTimes(a, 5, now)
		span := time.Duration(min(want, 10)) * 30 * time.Second
		if _, left := a.Ejected(now); left != span {
			t.Fatalf("ejection %d takes %v, want %v", want, left, span)
		}
		now = now.Add(span)
		e.Sweep(now)
		if last := told[len(told)-1]; last.Ejected {
			t.Fatalf("Sweep did not bring it back: %+v", last)
		}
	}
	for _, c := range []struct {
		peace time.Duration
		times int
	}{{29 * time.Second, 10}, {95 * time.Second, 8}, {24 * time.Hour, 1}} {
		now = now.Add(c.peace)
		failTimes(a, 5, now)
		times, left := a.Ejected(now)
		if times != c.times {
			t.Errorf("after %v of peace it counts %d, want %d", c.peace, times, c.times)
		}
		now = now.Add(left)
		e.Sweep(now)
	}
}

func TestEjectionShare(t *testing.T) {
	for _, c := range []struct {
		share   float64
		n, want int
	}{
		{0.5, 1, 0}, {0.5, 2, 1}, {0.5, 3, 1}, {0.5, 4, 2}, {0.1, 3, 1}, {0.1, 30, 3}, {1, 3, 3}, {0, 10, 0}, {0.07, 100, 7},
	} {
		now := time.Now()
		cfg := defaultPassive()
		cfg.MaxEjected = c.share
		e := newEjector(t, cfg, now, nil)
		var all []*Member
		for i := range c.n {
			all = append(all, e.Add(fmt.Sprint(i)))
		}
		for range 3 {
			for _, m := range all {
				failTimes(m, 5, now)
			}
		}
		out := 0
		for _, m := range all {
			if !m.Usable(now) {
				out++
			}
		}
		if out != c.want {
			t.Errorf("%v of %d: %d are out, want %d", c.share, c.n, out, c.want)
		}
	}
}

// TestEjectionInvariants has random lives never break the bound, and everybody
// comes back.
func TestEjectionInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		cfg := Passive{
			ConsecutiveFailures: rapid.IntRange(1, 4).Draw(t, "failures"),
			Ejection:            time.Second, MaxEjected: float64(rapid.IntRange(0, 10).Draw(t, "share")) / 10,
		}
		out := map[string]bool{}
		report := func(x Ejection) {
			if out[x.Target] == x.Ejected {
				t.Fatalf("told twice: %+v", x)
			}
			out[x.Target] = x.Ejected
		}
		e, err := NewEjector(cfg, now, report)
		if err != nil {
			t.Fatal(err)
		}
		members := map[string]*Member{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond)
			name := fmt.Sprint(rapid.IntRange(0, 7).Draw(t, "name"))
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				delete(members, name)
				delete(out, name)
				e.Remove(name, now)
			case 1, 2:
				members[name] = e.Add(name)
			case 3:
				next, _ := NewEjector(cfg, now, report)
				for name := range members {
					members[name] = next.Add(name)
				}
				next.Adopt(e, now)
				e = next
			default:
				if m := members[name]; m != nil {
					failTimes(m, rapid.IntRange(0, 5).Draw(t, "failures"), now)
				}
			}
			n := 0
			for name, m := range members {
				usable := m.Usable(now)
				if usable == out[name] {
					t.Fatalf("%s: usable %v, told otherwise", name, usable)
				}
				if !usable {
					n++
				}
			}
			if n > cfg.allowed(len(members)) {
				t.Fatalf("%d of %d are out at %v", n, len(members), cfg.MaxEjected)
			}
		}
		e.Sweep(now.Add(time.Minute))
		for name, m := range members {
			if !m.Usable(now) || out[name] {
				t.Fatalf("%s does not come back", name)
			}
		}
	})
}

func TestEjectorAdopt(t *testing.T) {
	now := time.Now()
	old := newEjector(t, defaultPassive(), now, nil)
	a, b := old.Add("a"), old.Add("b")
	failTimes(a, 5, now)
	failTimes(b, 4, now)
	now = now.Add(10 * time.Second)
	e := newEjector(t, defaultPassive(), now, nil)
	a, c := e.Add("a"), e.Add("c")
	e.Add("d")
	e.Adopt(old, now)
	if times, left := a.Ejected(now); times != 1 || left != 20*time.Second || a.Usable(now) {
		t.Errorf("a: %d times, %v left", times, left)
	}
	b = e.Add("b") // later, by discovery
	failTimes(b, 1, now)
	failTimes(c, 4, now)
	if b.Usable(now) || !c.Usable(now) {
		t.Errorf("b %v c %v; b had failed four times before", b.Usable(now), c.Usable(now))
	}
	// A new bound, or fewer targets, brings back who has least left.
	less := defaultPassive()
	less.MaxEjected = 0.25
	fewer := newEjector(t, less, now, nil)
	a, b = fewer.Add("a"), fewer.Add("b")
	fewer.Adopt(e, now)
	if !a.Usable(now) || b.Usable(now) {
		t.Errorf("a %v b %v", a.Usable(now), b.Usable(now))
	}
	fewer.Remove("a", now)
	if !b.Usable(now) {
		t.Error("the only target is out")
	}
}

// TestEjectorConcurrent races everything with everything.
func TestEjectorConcurrent(t *testing.T) {
	start := time.Now()
	cfg := Passive{ConsecutiveFailures: 2, Ejection: time.Millisecond, MaxEjected: 0.5}
	var ejected, back atomic.Int32
	e := newEjector(t, cfg, start, func(x Ejection) {
		if x.Ejected {
			ejected.Add(1)
		} else {
			back.Add(1)
		}
	})
	var members []*Member
	for i := range 8 {
		members = append(members, e.Add(fmt.Sprint(i)))
	}
	var clock atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 5000 {
				now := start.Add(time.Duration(clock.Add(1000)))
				m := members[(i+g)%8]
				if m.Usable(now) {
					m.Observe((i*13+g)%3 == 0, now)
				}
				if i%500 == 0 {
					name := fmt.Sprint("x", g)
					e.Add(name)
					e.Sweep(now)
					e.Remove(name, now)
				}
			}
		})
	}
	wg.Wait()
	e.Sweep(start.Add(time.Hour))
	if e.free.Load() != 4 || ejected.Load() == 0 || ejected.Load() != back.Load() {
		t.Errorf("free %d, ejected %d, back %d", e.free.Load(), ejected.Load(), back.Load())
	}
}

func TestPassiveFaults(t *testing.T) {
	wantFields(t, defaultPassive().Validate())
	wantFields(t, Passive{}.Validate(), "consecutive_failures", "ejection")
	wantFields(t, Passive{5, time.Second, 1.5}.Validate(), "max_ejected")
	wantFields(t, Passive{5, -time.Second, -1}.Validate(), "ejection", "max_ejected")
	if _, err := NewEjector(Passive{}, time.Now(), nil); err == nil {
		t.Error("NewEjector takes a bad Passive")
	}
}

func TestObserveAllocates(t *testing.T) {
	now := time.Now()
	e := newEjector(t, defaultPassive(), now, nil)
	a := e.Add("a") // alone: every failure is one too many, none ejects
	if n := testing.AllocsPerRun(1000, func() { a.Observe(false, now); a.Observe(true, now); a.Usable(now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	now := time.Now()
	for _, c := range []struct {
		name string
		ok   func(i int) bool
	}{
		{"success", func(int) bool { return true }},
		{"mixed", func(i int) bool { return i%10 != 0 }},
		{"failure", func(int) bool { return false }}, // more than may be out
	} {
		b.Run(c.name, func(b *testing.B) {
			e := newEjector(b, defaultPassive(), now, nil)
			m := e.Add("a")
			b.ReportAllocs()
			parallel8(b, func(i int) { m.Observe(c.ok(i), now) })
		})
	}
	b.Run("usable", func(b *testing.B) {
		m := newEjector(b, defaultPassive(), now, nil).Add("a")
		for b.Loop() {
			m.Usable(now)
		}
	})
}
