package routing

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

var keyPolicies = []string{"ring_hash", "maglev"}

// fleet makes n seats of weight 1 with names as targets have them.
func fleet(n int, salt uint64) (seats []Seat) {
	g := NewMembers(epoch)
	for i := range n {
		seats = append(seats, Seat{Member: g.Of(fmt.Sprintf("http://10.%d.0.%d:9001", salt, i), epoch), Weight: 1})
	}
	return seats
}

// owners picks for so many keys.
func owners(b *Balancer, keys int) []string {
	out := make([]string, keys)
	for i := range out {
		out[i] = b.Pick(uint64(i), epoch, nil).Name()
	}
	return out
}

func moved(a, b []string) (share float64) {
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return float64(n) / float64(len(a))
}

func TestKeysAreSpread(t *testing.T) {
	const keys = 40_000
	for _, policy := range keyPolicies {
		for salt := range uint64(10) {
			b := mustBalance(t, keyed(policy), fleet(10, salt))
			count := map[string]int{}
			for _, name := range owners(b, keys) {
				count[name]++
			}
			for name, n := range count {
				if share := float64(n) / (keys / 10); share > 1.15 {
					t.Errorf("%s: %s has %.3f of the mean", policy, name, share)
				}
			}
		}
	}
}

// TestRemovalMovesFewKeys takes each of the targets out of the file in turn, and
// puts one into it.
func TestRemovalMovesFewKeys(t *testing.T) {
	const keys = 10_000
	for policy, more := range map[string]float64{"ring_hash": 0.02, "maglev": 0.05} {
		for _, n := range []int{2, 3, 10, 50} {
			seats := fleet(n, 1)
			before := owners(mustBalance(t, keyed(policy), seats), keys)
			for out := range min(n, 4) {
				rest := slices.Delete(slices.Clone(seats), out, out+1)
				after := owners(mustBalance(t, keyed(policy), rest), keys)
				if share := moved(before, after); share > 1/float64(n)+more {
					t.Errorf("%s: %.4f of the keys move when %d of %d goes", policy, share, out, n)
				}
				if policy == "maglev" {
					continue
				}
				for i := range before {
					if before[i] != after[i] && before[i] != seats[out].Member.Name() {
						t.Fatalf("ring_hash: a key of %s moves when %s goes", before[i], seats[out].Member.Name())
					}
				}
			}
		}
	}
}

// TestUnavailableMovesItsKeysAlone holds both policies to what a change of
// health may move, and to whom: not all to one.
func TestUnavailableMovesItsKeysAlone(t *testing.T) {
	const keys = 50_000
	for _, policy := range keyPolicies {
		seats := fleet(10, 2)
		b := mustBalance(t, keyed(policy), seats)
		before := owners(b, keys)
		gone := seats[3].Member
		gone.SetAvailable(false, epoch)
		after := owners(b, keys)
		heirs := map[string]int{}
		for i := range before {
			switch {
			case after[i] == gone.Name():
				t.Fatalf("%s: a key stays with the unavailable", policy)
			case before[i] == gone.Name():
				heirs[after[i]]++
			case before[i] != after[i]:
				t.Fatalf("%s: a key of %s moves", policy, before[i])
			}
		}
		for name, n := range heirs {
			if n > keys/10/9*3/2 {
				t.Errorf("%s: %s inherits %d", policy, name, n)
			}
		}
		if len(heirs) != 9 {
			t.Errorf("%s: %d heirs, want 9", policy, len(heirs))
		}
		gone.SetAvailable(true, epoch)
		if share := moved(before, owners(b, keys)); share > 0 {
			t.Errorf("%s: %.4f do not come back", policy, share)
		}
	}
}

// TestGatewaysAgree gives two gateways the same targets in another order, and
// holds both to picks written down, which a new version may not change unawares:
// during a roll-out both versions run.
func TestGatewaysAgree(t *testing.T) {
	type picks struct {
		first string // the targets of the first keys
		all   uint64 // a hash of all
	}
	for policy, want := range map[string]picks{
		"ring_hash": {"137246205553695162815124", 0x4787ad318fb74b17},
		"maglev":    {"923429218044298154322832", 0x4e8c83fd13abf60c},
	} {
		one := fleet(10, 3)
		other := fleet(10, 3)
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
		a := owners(mustBalance(t, keyed(policy), one), 10_000)
		if share := moved(a, owners(mustBalance(t, keyed(policy), other), 10_000)); share > 0 {
			t.Errorf("%s: %.4f of the keys go elsewhere when the file is sorted otherwise", policy, share)
		}
		var got strings.Builder
		for _, name := range a {
			got.WriteString(name[len("http://10.3.0."):][:1])
		}
		if got, all := got.String()[:24], xxhash.Sum64String(got.String()); got != want.first || all != want.all {
			t.Errorf("%s: %q and %#x of all, want %+v", policy, got, all, want)
		}
	}
}

// TestBoundedLoadHolds begins and ends exchanges as it likes, with keys that all
// want the same few targets, and looks at every pick.
func TestBoundedLoadHolds(t *testing.T) {
	for _, policy := range keyPolicies {
		t.Run(policy, func(t *testing.T) {
			var balancers []*Balancer
			for _, bound := range []float64{1, 1.25, 2} {
				for _, weights := range [][]int{{1}, {1, 1, 1, 1}, {10, 1, 3, 1, 1, 3, 1, 10}} {
					spec := keyed(policy)
					spec.BoundedLoad = bound
					balancers = append(balancers, mustBalance(t, spec, seatsOf(weights...)))
				}
			}
			rapid.Check(t, func(t *rapid.T) {
				boundedSteps(t, rapid.SampledFrom(balancers).Draw(t, "balancer"))
			})
		})
	}
}

func boundedSteps(t *rapid.T, b *Balancer) {
	b.reset()
	outside := b.group.Of("of an older file", epoch)
	weights := 0
	for _, s := range b.seats {
		weights += s.Weight
	}
	var under []*Member
	for range rapid.IntRange(1, 120).Draw(t, "steps") {
		switch rapid.IntRange(0, 5).Draw(t, "step") {
		case 0:
			outside.Begin()
		case 1:
			if n := len(under); n > 0 {
				at := rapid.IntRange(0, n-1).Draw(t, "ends")
				under[at].Abandon()
				under = slices.Delete(under, at, at+1)
			}
		default:
			m := b.Pick(rapid.Uint64Range(0, 2).Draw(t, "key"), epoch, nil)
			m.Begin()
			under = append(under, m)
			s := b.seats[slices.IndexFunc(b.seats, func(s Seat) bool { return s.Member == m })]
			mean := float64(len(under)) * float64(s.Weight) / float64(weights)
			if load := float64(m.InFlight()); load >= b.spec.BoundedLoad*mean+1 {
				t.Fatalf("%v under way on %s, the mean for its weight is %.2f", load, m.Name(), mean)
			}
		}
	}
}

// TestBoundedLoadKeepsKeys shows that the bound is no more than a bound: where
// nothing is full, every key is at home.
func TestBoundedLoadKeepsKeys(t *testing.T) {
	for _, policy := range keyPolicies {
		seats := fleet(10, 4)
		spec := keyed(policy)
		free := mustBalance(t, spec, seats)
		spec.BoundedLoad = 1.25
		bounded := mustBalance(t, spec, seats)
		for _, s := range seats {
			for range 100 {
				s.Member.Begin()
			}
		}
		if share := moved(owners(free, 1000), owners(bounded, 1000)); share > 0 {
			t.Errorf("%s: %.3f of the keys move under an even load", policy, share)
		}
		home := free.Pick(1, epoch, nil)
		for range 30 {
			home.Begin()
		}
		if m := bounded.Pick(1, epoch, nil); m == home {
			t.Errorf("%s: a full target is picked", policy)
		}
	}
}

// TestBoundedLoadConcurrently has goroutines pick and begin at once. Between the
// two the others do not see it, so each may be one too many.
func TestBoundedLoadConcurrently(t *testing.T) {
	for _, policy := range keyPolicies {
		seats := fleet(8, 5)
		spec := keyed(policy)
		spec.BoundedLoad = 1.25
		b := mustBalance(t, spec, seats)
		const workers, each = 4, 200
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range each {
					b.Pick(1, epoch, nil).Begin()
				}
			})
		}
		wg.Wait()
		for _, s := range seats {
			if load, most := s.Member.InFlight(), int64(workers*each*5/4/8+1+workers); load > most {
				t.Errorf("%s: %d under way on %s, at most %d are allowed", policy, load, s.Member.Name(), most)
			}
		}
	}
}

// TestPanicUsesAllTables fells most targets of two priorities: all are used, each
// by its own keys.
func TestPanicUsesAllTables(t *testing.T) {
	for _, policy := range keyPolicies {
		seats := fleet(8, 6)
		spec := keyed(policy)
		spec.PanicThreshold = 0.5
		for i := range seats {
			seats[i].Priority = i / 4
			if i > 2 {
				seats[i].Member.SetAvailable(false, epoch)
			}
		}
		b := mustBalance(t, spec, seats)
		for name, n := range tally(b, 8000, epoch) {
			if n < 700 || n > 1300 {
				t.Errorf("%s: %s gets %d of 8000", policy, name, n)
			}
		}
		seats[3].Member.SetAvailable(true, epoch) // 4 of 8 are no panic
		if got := tally(b, 1000, epoch); len(got) != 4 || got[seats[0].Member.Name()] == 0 {
			t.Errorf("%s: %v", policy, got)
		}
	}
}

func TestTinyWeightsHaveKeys(t *testing.T) {
	for _, policy := range keyPolicies {
		seats := fleet(200, 7)
		for i := range seats[1:] {
			seats[i+1].Weight = 1000
		}
		b := mustBalance(t, keyed(policy), seats)
		for _, s := range seats[1:] {
			s.Member.SetAvailable(false, epoch)
		}
		if m := b.Pick(1, epoch, nil); m != seats[0].Member {
			t.Errorf("%s: %v", policy, name(m))
		}
	}
}
