package routing

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write BALANCE.md anew")

// TestSimulation runs every policy through the same made-up days and holds
// BALANCE.md to what comes out. Time and luck are simulated: it always comes out
// the same.
func TestSimulation(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("elsewhere x·y+z may be rounded once, so that latencies compare otherwise")
	}
	got := "# What the policies do\n\n" +
		"Written by `go test ./routing -run TestSimulation -update`, from simulated time and seeded luck.\n" +
		spreadTable(t) + movementTable(t) + slowTable(t) + hotTable(t)
	if *update {
		if err := os.WriteFile("BALANCE.md", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("BALANCE.md")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("BALANCE.md is not what the policies do now; if that is meant, write it anew with -update:\n%s", got)
	}
}

func section(title, text string, head ...string) string {
	return "\n## " + title + "\n\n" + text + "\n\n" + row(head...) + "|" + strings.Repeat("---|", len(head)) + "\n"
}

func row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

// extremes are the least and the most that a target of weight w gets, of w's
// share.
func extremes(b *Balancer, seats []Seat, picks int) (least, most float64) {
	got := tally(b, picks, epoch)
	sum := 0
	for _, s := range seats {
		sum += s.Weight
	}
	var shares []float64
	for _, s := range seats {
		shares = append(shares, float64(got[s.Member.Name()])*float64(sum)/float64(s.Weight)/float64(picks))
	}
	return slices.Min(shares), slices.Max(shares)
}

func spreadTable(t *testing.T) string {
	const picks = 40_000
	out := section("Spread", "What a target gets of 40,000 picks (of different keys), the least and the most of ten, as a multiple of its share; nothing is under way.",
		"policy", "equal weights", "weights 1 to 10", "100 equal targets")
	for _, policy := range policies {
		cells := []string{policy}
		for _, weights := range [][]int{equal(10), {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, equal(100)} {
			seats := fleet(len(weights), 0)
			for i, w := range weights {
				seats[i].Weight = w
			}
			least, most := extremes(mustBalance(t, keyed(policy), seats).seeded(1), seats, picks)
			cells = append(cells, fmt.Sprintf("%.3f – %.3f", least, most))
		}
		out += row(cells...)
	}
	return out
}

func movementTable(t *testing.T) string {
	const keys = 10_000
	out := section("Movement", "How many of 10,000 keys change their target: the mean over up to ten changes, and the worst. No policy can do with less than the first column.",
		"policy", "targets", "at least", "one leaves the file", "one becomes unavailable")
	for _, policy := range keyPolicies {
		for _, n := range []int{3, 10, 100} {
			seats := fleet(n, 0)
			before := owners(mustBalance(t, keyed(policy), seats), keys)
			var left, down []float64
			for i := range min(n, 10) {
				rest := slices.Delete(slices.Clone(seats), i, i+1)
				left = append(left, moved(before, owners(mustBalance(t, keyed(policy), rest), keys)))
				seats[i].Member.SetAvailable(false, epoch)
				down = append(down, moved(before, owners(mustBalance(t, keyed(policy), seats), keys)))
				seats[i].Member.SetAvailable(true, epoch)
			}
			out += row(policy, fmt.Sprint(n), inPercent(1/float64(n)), meanAndWorst(left), meanAndWorst(down))
		}
	}
	return out
}

func inPercent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

func meanAndWorst(all []float64) string {
	sum := 0.0
	for _, x := range all {
		sum += x
	}
	return inPercent(sum/float64(len(all))) + ", " + inPercent(slices.Max(all))
}

// A day is a backend under one request a millisecond.
type day struct {
	b      *Balancer
	seats  []Seat
	took   func(m *Member) int   // milliseconds
	key    func(i uint64) uint64 // of the ith request
	seen   func(key uint64, m *Member)
	picked map[*Member]int
	waits  []int
	worst  float64 // most that one had under way, in multiples of the mean
}

func (d *day) run(requests int) {
	ends := map[int][]*Member{}
	d.picked = map[*Member]int{}
	under := 0
	for ms := range requests {
		now := epoch.Add(time.Duration(ms) * time.Millisecond)
		for _, m := range ends[ms] {
			m.End(time.Duration(d.took(m))*time.Millisecond, now)
			under--
		}
		key := d.key(uint64(ms))
		m := d.b.Pick(key, now, nil)
		if d.seen != nil {
			d.seen(key, m)
		}
		m.Begin()
		under++
		at := ms + d.took(m)
		ends[at] = append(ends[at], m)
		d.picked[m]++
		d.waits = append(d.waits, d.took(m))
		if mean := float64(under) / float64(len(d.seats)); ms > requests/10 {
			d.worst = max(d.worst, float64(m.InFlight())/mean)
		}
	}
	slices.Sort(d.waits)
}

func slowTable(t *testing.T) string {
	out := section("One slow target", "Ten targets, 1,000 requests/s of different keys; nine answer in 20 ms, one in 500 ms. An even share is 10 %. bounded_load is 1.25.",
		"policy", "requests to the slow one", "mean", "p95", "p99", "most in flight on one, in multiples of the mean")
	for _, policy := range policies {
		seats := fleet(10, 0)
		spec := keyed(policy)
		spec.BoundedLoad = 1.25
		slow := seats[0].Member
		d := day{
			b: mustBalance(t, spec, seats).seeded(1), seats: seats, key: scatter,
			took: func(m *Member) int {
				if m == slow {
					return 500
				}
				return 20
			},
		}
		d.run(20_000)
		sum := 0
		for _, w := range d.waits {
			sum += w
		}
		out += row(policy, inPercent(float64(d.picked[slow])/20_000), fmt.Sprintf("%d ms", sum/20_000),
			fmt.Sprintf("%d ms", d.waits[len(d.waits)*95/100]), fmt.Sprintf("%d ms", d.waits[len(d.waits)*99/100]), fmt.Sprintf("%.2f", d.worst))
	}
	return out
}

func hotTable(t *testing.T) string {
	out := section("One hot key", "Ten targets that answer in 50 ms, 1,000 requests/s, of which 40 % have the same key. The bound is rounded up to whole requests, here from 6.25 to 7.",
		"policy", "bounded_load", "most in flight on one, in multiples of the mean", "requests of other keys that are not at home")
	for _, policy := range keyPolicies {
		for _, bound := range []float64{0, 2, 1.25} {
			seats := fleet(10, 0)
			spec := keyed(policy)
			home := mustBalance(t, spec, seats)
			spec.BoundedLoad = bound
			d := day{b: mustBalance(t, spec, seats), seats: seats, took: func(*Member) int { return 50 }}
			d.key = func(i uint64) uint64 {
				if scatter(i)%10 < 4 {
					return 1
				}
				return scatter(i)
			}
			away := 0
			d.seen = func(key uint64, m *Member) {
				if key != 1 && home.Pick(key, epoch, nil) != m {
					away++
				}
			}
			d.run(20_000)
			out += row(policy, fmt.Sprint(bound), fmt.Sprintf("%.2f", d.worst), inPercent(float64(away)/20_000/0.6))
		}
	}
	return out
}
