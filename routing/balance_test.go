package routing

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// epoch is when every test begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// keyed is a Balance of that policy, without bounded load.
func keyed(policy string) Balance {
	b := Balance{Policy: policy}
	if policy == "ring_hash" || policy == "maglev" {
		b.Hash = Key{{kind: byIP}}
	}
	return b
}

// seatsOf makes seats named t0, t1, … of those weights.
func seatsOf(weights ...int) (seats []Seat) {
	g := NewMembers(epoch)
	for i, w := range weights {
		seats = append(seats, Seat{Member: g.Of(fmt.Sprintf("t%d", i), epoch), Weight: w})
	}
	return seats
}

func equal(n int) []int { return slices.Repeat([]int{1}, n) }

func mustBalance(t testing.TB, spec Balance, seats []Seat) *Balancer {
	t.Helper()
	b, err := NewBalancer(spec, seats)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seeded makes the balancer's luck repeat itself.
func (b *Balancer) seeded(seed uint64) *Balancer {
	b.random = func() uint64 { seed += golden; return scatter(seed) }
	return b
}

// tally picks n times, each time with the next key.
func tally(b *Balancer, n int, now time.Time) map[string]int {
	got := map[string]int{}
	for i := range n {
		name := "none"
		if m := b.Pick(scatter(uint64(i)), now, nil); m != nil {
			name = m.Name()
		}
		got[name]++
	}
	return got
}

func TestInterleaveIsNginx(t *testing.T) {
	for _, c := range []struct {
		weights []int
		want    string
	}{
		{[]int{5, 1, 1}, "aabacaa"}, // nginx's own example, in the message of its commit 52327e0627f4
		{[]int{1, 1, 1}, "abc"},
		{[]int{1000, 1000}, "ab"},
		{[]int{4, 2, 2}, "abca"},
		{[]int{3, 2}, "ababa"},
	} {
		b := mustBalance(t, keyed("round_robin"), seatsOf(c.weights...))
		var got strings.Builder
		for range len(c.want) {
			m := b.Pick(0, epoch, nil)
			got.WriteByte(m.Name()[1] - '0' + 'a')
		}
		if got.String() != c.want {
			t.Errorf("%v: %s, want %s", c.weights, got.String(), c.want)
		}
	}
}

// nginx is ngx_http_upstream_get_peer, as it stands.
func nginx(weights []int) (round []int32) {
	sum, current := 0, make([]int, len(weights))
	for _, w := range weights {
		sum += w
	}
	for range sum {
		best := 0
		for i, w := range weights {
			current[i] += w
			if current[i] > current[best] {
				best = i
			}
		}
		current[best] -= sum
		round = append(round, int32(best))
	}
	return round
}

func TestInterleaveProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 12), 1, 12).Draw(t, "weights")
		reduced := slices.Clone(weights)
		divide(reduced)
		if got, want := interleave(weights), nginx(reduced); !slices.Equal(got, want) {
			t.Fatalf("%v\nwant %v", got, want)
		}
	})
}

// TestRoundRobinWindows counts picks in every window of Σweights.
func TestRoundRobinWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 9), 1, 8).Draw(t, "weights")
		sum := 0
		for _, w := range weights {
			sum += w
		}
		seats := seatsOf(weights...)
		b, err := NewBalancer(keyed("round_robin"), seats)
		if err != nil {
			t.Fatal(err)
		}
		var picks []*Member
		count := map[*Member]int{}
		for i := range 4 * sum {
			m := b.Pick(0, epoch, nil)
			picks, count[m] = append(picks, m), count[m]+1
			if i < sum-1 {
				continue
			}
			for at, s := range seats {
				if count[s.Member] != weights[at] {
					t.Fatalf("window to %d: %s %d times, want %d", i, s.Member.Name(), count[s.Member], weights[at])
				}
			}
			count[picks[i-sum+1]]--
		}
	})
}

func TestScheduleIsBounded(t *testing.T) {
	weights := make([]int, 1000)
	sum := 0
	for i := range weights {
		weights[i] = 1 + i
		sum += 1 + i
	}
	round := interleave(weights)
	if len(round) > maxSchedule+len(weights) {
		t.Fatalf("%d turns", len(round))
	}
	count := make([]int, len(weights))
	for _, i := range round {
		count[i]++
	}
	for i, n := range count {
		want := float64(len(round)) * float64(weights[i]) / float64(sum)
		if n < 1 || math.Abs(float64(n)-want) > 1.5 {
			t.Errorf("weight %d: %d turns of %d, want %.1f", weights[i], n, len(round), want)
		}
	}
}

// TestSharesFollowWeights holds all policies to the weights, when nothing is
// under way.
func TestSharesFollowWeights(t *testing.T) {
	weights := []int{1, 2, 3, 4, 10}
	const n, sum = 80_000, 20.
	for policy, tolerance := range map[string]float64{
		"round_robin": 0.0001, "least_request": 0.05, "ewma": 0.05, "random": 0.05, "ring_hash": 0.25, "maglev": 0.03,
	} {
		got := tally(mustBalance(t, keyed(policy), seatsOf(weights...)).seeded(1), n, epoch)
		for i, w := range weights {
			name := fmt.Sprintf("t%d", i)
			if share := float64(got[name]) / (n * float64(w) / sum); math.Abs(share-1) > tolerance {
				t.Errorf("%s: weight %d gets %.3f of its share", policy, w, share)
			}
		}
	}
}

// TestPickProperties changes members as it likes, and says of every policy and
// every pick whether it was one of those allowed.
func TestPickProperties(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			var balancers []*Balancer // made beforehand: tables cost most of the time
			for seed, threshold := range []float64{0, 0.3, 0.5, 1, 0.5, 0} {
				luck := rand.New(rand.NewPCG(uint64(seed), 0))
				spec := keyed(policy)
				spec.PanicThreshold, spec.BoundedLoad, spec.SlowStart = threshold, 1.25, 10*time.Second
				seats := seatsOf(equal(1 + luck.IntN(9))...)
				for i := range seats {
					seats[i].Weight, seats[i].Priority = []int{1, 2, 3, 1000}[luck.IntN(4)], luck.IntN(3)
				}
				balancers = append(balancers, mustBalance(t, spec, seats))
			}
			rapid.Check(t, func(t *rapid.T) {
				pickSteps(t, rapid.SampledFrom(balancers).Draw(t, "balancer"))
			})
		})
	}
}

func pickSteps(t *rapid.T, b *Balancer) {
	b.reset()
	now := epoch
	for range 40 {
		s := rapid.SampledFrom(b.seats).Draw(t, "seat")
		now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
		switch rapid.IntRange(0, 4).Draw(t, "change") {
		case 0, 1:
			s.Member.SetAvailable(!s.Member.Available(), now)
		case 2:
			s.Member.SetDraining(!s.Member.Draining())
		case 3:
			s.Member.Begin()
		}
		var tried Tried
		for range rapid.IntRange(0, 3).Draw(t, "tried") {
			tried.Add(rapid.SampledFrom(b.seats).Draw(t, "was tried").Member)
		}
		m := b.Pick(rapid.Uint64().Draw(t, "key"), now, &tried)
		allowed := candidates(b.seats, b.spec.PanicThreshold, &tried)
		if m == nil && len(allowed) > 0 || m != nil && !slices.Contains(allowed, m) {
			t.Fatalf("picked %v of %v", name(m), names(allowed))
		}
	}
}

// reset makes all members as they were in the beginning, but for their latency.
func (b *Balancer) reset() {
	for _, s := range b.seats {
		s.Member.SetAvailable(true, epoch)
		s.Member.SetDraining(false)
		for s.Member.InFlight() > 0 {
			s.Member.Abandon()
		}
	}
}

// candidates is what Pick's comment says, written down as plainly as can be.
func candidates(seats []Seat, threshold float64, tried *Tried) []*Member {
	up, in := 0., 0.
	for _, s := range seats {
		if !s.Member.Draining() {
			in++
			if s.Member.Available() {
				up++
			}
		}
	}
	panicking := up < threshold*in
	of := func(priority int, skip *Tried) (list []*Member) {
		for _, s := range seats {
			m := s.Member
			if !m.Draining() && (m.Available() || panicking) && (s.Priority == priority || panicking) && !skip.Has(m) {
				list = append(list, m)
			}
		}
		return list
	}
	for _, skip := range []*Tried{tried, nil} {
		for priority := range 3 {
			if list := of(priority, skip); len(list) > 0 {
				return list
			}
		}
	}
	return nil
}

func name(m *Member) string {
	if m == nil {
		return "none"
	}
	return m.Name()
}

func names(list []*Member) (out []string) {
	for _, m := range list {
		out = append(out, m.Name())
	}
	return out
}

func TestRetriesVisitAll(t *testing.T) {
	for _, policy := range policies {
		seats := seatsOf(1000, 1, 1, 5, 1)
		seats[4].Priority = 1
		b := mustBalance(t, keyed(policy), seats)
		var tried Tried
		for i := range seats {
			m := b.Pick(7, epoch, &tried)
			if tried.Has(m) {
				t.Errorf("%s: attempt %d at %s again", policy, i, m.Name())
			}
			if i == 4 != (m == seats[4].Member) {
				t.Errorf("%s: attempt %d at %s", policy, i, m.Name())
			}
			tried.Add(m)
		}
		if m := b.Pick(7, epoch, &tried); m == nil {
			t.Errorf("%s: nobody, when all were tried", policy)
		}
	}
}

func TestSlowStart(t *testing.T) {
	const n, slow = 40_000, 30 * time.Second
	for _, policy := range []string{"round_robin", "least_request", "ewma", "random"} {
		spec := keyed(policy)
		spec.SlowStart = slow
		seats := seatsOf(2, 2, 2, 2)
		b := mustBalance(t, spec, seats).seeded(1)
		now := epoch.Add(time.Hour)
		seats[3].Member.SetAvailable(false, now)
		if got := tally(b, n, now); got["t3"] > 0 {
			t.Errorf("%s: %d to the unavailable", policy, got["t3"])
		}
		seats[3].Member.SetAvailable(true, now)
		last := 0
		for _, c := range []struct {
			after  time.Duration
			weight float64 // of one that has started
		}{
			{0, 1. / 20}, {slow / 4, 6. / 20}, {slow / 2, 11. / 20}, {slow, 1}, {2 * slow, 1},
		} {
			got := tally(b, n, now.Add(c.after))["t3"]
			want := n * c.weight / (3 + c.weight)
			if math.Abs(float64(got)-want) > want*0.08 || got < last {
				t.Errorf("%s: %d of %d after %v, want about %.0f", policy, got, n, c.after, want)
			}
			last = got * 9 / 10
		}
	}
}

func TestSlowStartOfAllIsNone(t *testing.T) {
	spec := keyed("round_robin")
	spec.SlowStart = time.Minute
	if got := tally(mustBalance(t, spec, seatsOf(1, 1, 2)), 400, epoch.Add(time.Second)); got["t2"] != 200 {
		t.Errorf("%v", got)
	}
}

func TestDrainingKeepsItsClients(t *testing.T) {
	for _, policy := range policies {
		seats := seatsOf(1, 1)
		b := mustBalance(t, keyed(policy), seats)
		m := seats[0].Member
		m.SetDraining(true)
		if got := tally(b, 100, epoch); got["t1"] != 100 {
			t.Errorf("%s: %v", policy, got)
		}
		if b.Stick(m.ID(), epoch, nil) != m {
			t.Errorf("%s: a client of a draining member is sent away", policy)
		}
		m.SetAvailable(false, epoch)
		if b.Stick(m.ID(), epoch, nil) != nil || b.Stick(1, epoch, nil) != nil {
			t.Errorf("%s: a client sticks to nobody", policy)
		}
		seats[1].Member.SetDraining(true)
		if got := b.Pick(0, epoch, nil); got != nil {
			t.Errorf("%s: %s, when all drain", policy, got.Name())
		}
		var tried Tried
		tried.Add(seats[1].Member)
		if b.Stick(seats[1].Member.ID(), epoch, &tried) != nil {
			t.Errorf("%s: a client sticks to what has just failed", policy)
		}
	}
}

func TestLoadDecides(t *testing.T) {
	for _, policy := range []string{"least_request", "ewma"} {
		seats := seatsOf(1, 1)
		b := mustBalance(t, keyed(policy), seats)
		for _, s := range seats {
			s.Member.Begin()
			s.Member.End(time.Millisecond, epoch)
		}
		seats[0].Member.Begin()
		if got := tally(b, 100, epoch); got["t1"] != 100 {
			t.Errorf("%s: %v, with one under way on t0", policy, got)
		}
		seats[1].Member.Begin()
		seats[1].Member.Begin()
		if got := tally(b, 100, epoch); got["t0"] != 100 {
			t.Errorf("%s: %v, with one under way on t0 and two on t1", policy, got)
		}
	}
	heavy := seatsOf(4, 1)
	b := mustBalance(t, keyed("least_request"), heavy)
	for range 6 {
		heavy[0].Member.Begin() // (6+1)/4 < (1+1)/1
	}
	heavy[1].Member.Begin()
	if got := tally(b, 100, epoch); got["t0"] != 100 {
		t.Errorf("least_request: %v", got)
	}
}

func TestPeakEWMA(t *testing.T) {
	m := seatsOf(1)[0].Member
	at := func(d time.Duration) time.Time { return epoch.Add(d) }
	near := func(got, want time.Duration) {
		t.Helper()
		if math.Abs(float64(got-want)) > float64(want)/1000 {
			t.Errorf("%v, want %v", got, want)
		}
	}
	observe := func(took time.Duration, now time.Time) { m.Begin(); m.End(took, now) }
	observe(10*time.Millisecond, at(0))
	near(m.Latency(at(0)), 10*time.Millisecond)
	observe(100*time.Millisecond, at(time.Second)) // jumps
	near(m.Latency(at(time.Second)), 100*time.Millisecond)
	observe(10*time.Millisecond, at(11*time.Second))                // comes down with time
	near(m.Latency(at(11*time.Second)), 43_109_150*time.Nanosecond) // 100/e + 10·(1−1/e) ms
	was := m.Latency(at(11 * time.Second))
	near(m.Latency(at(21*time.Second)), time.Duration(float64(was)/math.E))
	for i := range 10_000 { // many at short distance come down all the same
		observe(time.Millisecond, at(11*time.Second+time.Duration(i)*10*time.Millisecond))
	}
	if got := m.Latency(at(111 * time.Second)); got > 1100*time.Microsecond || m.InFlight() != 0 {
		t.Errorf("%v, %d under way", got, m.InFlight())
	}
}

func TestMembersOutliveBalancers(t *testing.T) {
	g := NewMembers(epoch)
	a := g.Of("a", epoch)
	b := g.Of("b", epoch)
	b.Begin()
	a.SetAvailable(false, epoch)
	if g.Of("a", epoch) != a || a.SetAvailable(false, epoch) || !a.SetDraining(true) || a.SetDraining(true) {
		t.Error("a member forgets")
	}
	g.Retain([]*Member{a})
	if g.Of("b", epoch) != b {
		t.Error("one with an exchange under way is forgotten")
	}
	b.Abandon()
	g.Retain([]*Member{a})
	c := g.Of("c", epoch) // of a generation that is being built
	g.Retain([]*Member{a})
	g.Retain([]*Member{a, c}) // which is served now
	if g.Of("c", epoch) != c {
		t.Error("what was made before others were forgotten is unknown")
	}
	if g.Of("b", epoch) == b || g.Of("a", epoch) != a {
		t.Error("the wrong members are kept")
	}
}

func TestNewBalancerFaults(t *testing.T) {
	g := NewMembers(epoch)
	a, b := g.Of("a", epoch), g.Of("b", epoch)
	_, err := NewBalancer(Balance{}, []Seat{
		{Member: a, Weight: 0}, {Member: b, Weight: 1001}, {Member: a, Weight: 1, Priority: -1}, {Member: NewMembers(epoch).Of("c", epoch), Weight: 1},
	})
	var places []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var s *SeatError
		if !errors.As(e, &s) {
			t.Fatal(e)
		}
		places = append(places, fmt.Sprint(s.Seat, s.Field))
	}
	if want := []string{"0weight", "1weight", "2priority", "2", "3"}; !slices.Equal(places, want) {
		t.Errorf("%q, want %q", places, want)
	}
	if _, err := NewBalancer(Balance{}, nil); err == nil {
		t.Error("no seats")
	}
	for spec, field := range map[*Balance]string{
		{Policy: "fastest"}:                     "policy",
		{Policy: "maglev"}:                      "hash",
		{Policy: "random", BoundedLoad: 0.9}:    "bounded_load",
		{Policy: "random", SlowStart: -1}:       "slow_start",
		{BoundedLoad: math.NaN()}:               "bounded_load",
		{Policy: "ewma", PanicThreshold: 1.001}: "panic_threshold",
	} {
		var at interface{ Field() string }
		if err := spec.Validate(); !errors.As(err, &at) || at.Field() != field {
			t.Errorf("%+v: %v, want a fault of %s", spec, err, field)
		}
	}
	var d Balance
	if d.SetDefaults(); d.Validate() != nil {
		t.Error(d.Validate())
	}
}

func TestStatus(t *testing.T) {
	seats := seatsOf(1, 1, 1, 1)
	seats[2].Priority, seats[3].Priority = 1, 1
	spec := keyed("round_robin")
	spec.PanicThreshold = 0.5
	b := mustBalance(t, spec, seats)
	f := func(want string) {
		t.Helper()
		if got := fmt.Sprintf("%+v", b.Status(epoch)); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	f("{Policy:round_robin Panic:false Priority:0 Candidates:[t0 t1] Members:4}")
	seats[0].Member.SetAvailable(false, epoch)
	seats[1].Member.SetAvailable(false, epoch)
	f("{Policy:round_robin Panic:false Priority:1 Candidates:[t2 t3] Members:4}")
	seats[2].Member.SetAvailable(false, epoch)
	f("{Policy:round_robin Panic:true Priority:0 Candidates:[t0 t1 t2 t3] Members:4}")
}

// TestConcurrentChanges picks while members come and go. Of two of them one is
// always up, and a pick that begins after a change has returned sees it.
func TestConcurrentChanges(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			spec := keyed(policy)
			spec.BoundedLoad, spec.SlowStart = 1.25, 5*time.Millisecond
			seats := seatsOf(1, 2, 3, 4)
			b := mustBalance(t, spec, seats)
			var stop atomic.Bool
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					for n := uint64(i); !stop.Load(); n += 4 {
						var tried Tried
						m := b.Pick(n, epoch.Add(time.Duration(n)*time.Microsecond), &tried)
						if m == nil {
							t.Error("nobody, though some are always up")
							return
						}
						m.Begin()
						tried.Add(m)
						if o := b.Pick(n, epoch, &tried); o == nil {
							t.Error("nobody to retry at")
							return
						}
						b.Stick(m.ID(), epoch, nil)
						m.End(time.Duration(n%100), epoch)
					}
				})
			}
			for i := range 2000 {
				m := seats[i%2].Member
				m.SetAvailable(false, epoch)
				for key := range uint64(3) {
					if b.Pick(key, epoch, nil) == m {
						t.Errorf("%s was picked after it had become unavailable", m.Name())
					}
				}
				seats[2].Member.SetDraining(i%3 == 0)
				m.SetAvailable(true, epoch.Add(time.Duration(i)*time.Millisecond))
			}
			stop.Store(true)
			wg.Wait()
			for _, s := range seats {
				if s.Member.InFlight() != 0 {
					t.Errorf("%d under way on %s", s.Member.InFlight(), s.Member.Name())
				}
			}
		})
	}
}
