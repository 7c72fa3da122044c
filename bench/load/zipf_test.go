package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestZipf holds what is drawn to the definition: the most frequent ranks each,
// and the rest by decades, within what chance allows (5 standard deviations of
// the binomial, so that one test in a million fails for nothing; the seed is
// fixed anyhow).
func TestZipf(t *testing.T) {
	const draws = 2_000_000
	for _, c := range []struct {
		n uint64
		s float64
	}{{1, 0.99}, {2, 0.99}, {10, 0.5}, {1000, 0.99}, {1_000_000, 0.99}, {1_000_000, 1.3}} {
		weights := make([]float64, c.n+1)
		sum := 0.0
		for k := c.n; k >= 1; k-- {
			weights[k] = math.Pow(float64(k), -c.s)
			sum += weights[k]
		}
		bounds := []uint64{} // the last ranks of cells
		for k := uint64(1); k <= c.n; {
			bounds = append(bounds, min(k, c.n))
			if k < 20 {
				k++
			} else {
				k *= 2
			}
		}
		if bounds[len(bounds)-1] != c.n {
			bounds = append(bounds, c.n)
		}
		counts := make([]int, len(bounds))
		z, pcg := NewZipf(c.n, c.s), rand.NewPCG(1, 2)
		for range draws {
			k := z.Rank(pcg)
			if k < 1 || k > c.n {
				t.Fatalf("rank %d of %d", k, c.n)
			}
			i, _ := slices.BinarySearch(bounds, k)
			counts[i]++
		}
		from := uint64(1)
		for i, to := range bounds {
			p := 0.0
			for k := from; k <= to; k++ {
				p += weights[k] / sum
			}
			want, off := p*draws, 5*math.Sqrt(draws*p*(1-p))
			if got := float64(counts[i]); math.Abs(got-want) > off+1e-6 {
				t.Errorf("n %d, s %v: ranks %d to %d were drawn %.0f times, not %.0f ± %.0f", c.n, c.s, from, to, got, want, off)
			}
			from = to + 1
		}
		if share := Share(c.n, c.s, 1)[0]; math.Abs(share-weights[1]/sum) > 1e-12 {
			t.Errorf("Share says %v", share)
		}
	}
}

func TestSequence(t *testing.T) {
	mix := Mix{Writes: 0.1, Skew: 0.99, Seed: 7}
	type request struct {
		user  int
		write bool
	}
	draw := func(connection uint64) (list []request, writes int) {
		s := NewSequence(mix, 100_000, connection)
		for range 100_000 {
			u, w := s.Next()
			list = append(list, request{u, w})
			if w {
				writes++
			}
		}
		return list, writes
	}
	first, writes := draw(0)
	again, _ := draw(0)
	other, _ := draw(1)
	if !slices.Equal(first, again) {
		t.Error("the same connection asks for something else")
	}
	if slices.Equal(first, other) {
		t.Error("two connections ask for the same")
	}
	if writes < 9_500 || writes > 10_500 { // 5 standard deviations
		t.Errorf("%d of 100000 requests write", writes)
	}
	for n, want := range map[float64]int{0: 0, 1: 1000} {
		s, writes := NewSequence(Mix{Writes: n, Skew: 0.99}, 10, 0), 0
		for range 1000 {
			if _, w := s.Next(); w {
				writes++
			}
		}
		if writes != want {
			t.Errorf("a share of writes of %v: %d of 1000", n, writes)
		}
	}
}

// TestUsersOfRanks: each rank has a user of its own, and neighbours are apart.
func TestUsersOfRanks(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 1000, 99_999, 1_000_000} {
		s := NewSequence(Mix{Skew: 0.99}, n, 0)
		seen := make([]bool, n)
		for rank := 1; rank <= n; rank++ {
			u := s.User(uint64(rank))
			if seen[u] {
				t.Fatalf("n %d: user %d has two ranks", n, u)
			}
			seen[u] = true
		}
	}
	s := NewSequence(Mix{Skew: 0.99}, 1_000_000, 0)
	for rank := uint64(1); rank < 100; rank++ {
		if d := s.User(rank) - s.User(rank+1); max(d, -d) < 1000 {
			t.Errorf("ranks %d and %d are users %d and %d", rank, rank+1, s.User(rank), s.User(rank+1))
		}
	}
}
