package limiter

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func newBudget(tb testing.TB, share float64) (*Budget, time.Time) {
	tb.Helper()
	now := time.Now()
	b, err := NewBudget(share, now)
	if err != nil {
		tb.Fatal(err)
	}
	return b, now
}

func TestBudgetRejected(t *testing.T) {
	for _, share := range []float64{-0.1, 101, math.NaN(), math.Inf(1)} {
		if _, err := NewBudget(share, time.Now()); err == nil {
			t.Errorf("a share of %v is taken", share)
		}
	}
}

// spend withdraws until there is no more.
func spend(b *Budget, now time.Time) int {
	for n := 0; ; n++ {
		if n > 1_000_000 || !b.Withdraw(now) {
			return n
		}
	}
}

func TestBudget(t *testing.T) {
	for _, c := range []struct {
		share    float64
		requests int
		want     int
	}{
		{0, 1000, 0}, {0.2, 0, 10}, {0.2, 1, 10}, {0.2, 49, 10}, {0.2, 50, 10}, {0.2, 1000, 200}, {0.125, 1000, 125}, {1, 10, 10}, {2, 100, 200},
	} {
		b, now := newBudget(t, c.share)
		for range c.requests {
			b.Deposit(now)
		}
		if n := spend(b, now); n != c.want || b.Retries() != int64(c.want) {
			t.Errorf("%+v: %d retries", c, n)
		}
	}
}

func TestBudgetExpires(t *testing.T) {
	b, now := newBudget(t, 0.2)
	for range 1000 {
		b.Deposit(now)
	}
	at := func(d time.Duration) time.Time { return now.Add(d) }
	if !b.Withdraw(at(10*time.Second + 999*time.Millisecond)) {
		t.Error("expired too early")
	}
	if n := spend(b, at(11*time.Second)); n != 10-1 { // the floor, of which the one above has taken its part
		t.Errorf("%d retries of what has expired", n)
	}
	if n := spend(b, at(500*time.Second)); n != 10 {
		t.Errorf("%d retries from the floor after a silence", n)
	}
	if n := spend(b, at(400*time.Second)); n != 0 {
		t.Errorf("%d retries by a clock that went back", n)
	}
	for range 24 * 360 { // a day of hardly any requests does not weigh on what comes
		now = now.Add(10 * time.Second)
		b.Deposit(at(500 * time.Second))
		spend(b, at(500*time.Second))
	}
	now = now.Add(500*time.Second + 20*time.Second)
	for range 1050 {
		b.Deposit(now)
	}
	if n := spend(b, now); n < 200 {
		t.Errorf("%d retries of 1050 requests after a day of debts", n)
	}
}

// TestBudgetBound has every attempt fail, at random rates above the documented
// one, with bursts: attempts are never more than 1.2 times the requests, from
// the start and in any span.
func TestBudgetBound(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		share := []float64{0.05, 0.1, 0.2, 0.5, 1}[random.IntN(5)]
		b, start := newBudget(t, share)
		least := budgetFloor / share / 10 // requests a second
		type count struct{ requests, retries int }
		var total count
		var by []count // by second, at its end
		for second := range 120 {
			n := int(math.Ceil(least * (1 + random.ExpFloat64()*float64(random.IntN(4)))))
			for i := range n {
				now := start.Add(time.Duration(second)*time.Second + time.Duration(i)*time.Second/time.Duration(n))
				b.Deposit(now)
				total.requests++
				for range 1 + random.IntN(3) {
					if !b.Withdraw(now) {
						break
					}
					total.retries++
				}
				if float64(total.retries) > max(share*float64(total.requests), budgetFloor) {
					t.Fatalf("seed %d, share %v: %d retries of %d requests", seed, share, total.retries, total.requests)
				}
			}
			by = append(by, total)
		}
		for from := range by {
			for to := from + 1; to < len(by); to++ {
				requests, retries := by[to].requests-by[from].requests, by[to].retries-by[from].retries
				if float64(retries) > share*float64(requests)+budgetFloor {
					t.Fatalf("seed %d, share %v, seconds %d to %d: %d retries of %d requests", seed, share, from, to, retries, requests)
				}
			}
		}
		if float64(total.retries) < 0.98*share*float64(total.requests)-1 {
			t.Errorf("seed %d, share %v: only %d retries of %d requests", seed, share, total.retries, total.requests)
		}
	}
}

// TestBudgetRandom fails now and then, at any rate, idle in between: the bound
// of any span with what was saved before it.
func TestBudgetRandom(t *testing.T) {
	const share = 0.2
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		b, start := newBudget(t, share)
		requests, retries, floor := make([]int, 100), make([]int, 100), make([]int, 100)
		for second := range 100 {
			now := start.Add(time.Duration(second) * time.Second)
			for range random.IntN(1 << random.IntN(8)) {
				b.Deposit(now)
				requests[second]++
			}
			for range random.IntN(1 << random.IntN(7)) {
				before := b.spent.Load()
				if !b.Withdraw(now) {
					break
				}
				retries[second]++
				if b.price*b.requests.Load()-before < budgetUnit {
					floor[second]++
				}
			}
		}
		for to := range 100 {
			window, all := 0, 0
			for s := max(0, to-budgetSlots); s <= to; s++ {
				window += floor[s]
				all += retries[s]
			}
			if window > budgetFloor {
				t.Fatalf("seed %d: %d retries from the floor in the window of second %d", seed, window, to)
			}
			for from, sum, of := to, 0, 0; from >= 0; from-- {
				sum += retries[from] - floor[from]
				of += requests[from]
				saved := of
				for s := max(0, from-budgetSlots); s < from; s++ {
					saved += requests[s]
				}
				if float64(sum) > share*float64(saved) {
					t.Fatalf("seed %d, seconds %d to %d: %d retries of %d requests", seed, from, to, sum, saved)
				}
			}
		}
	}
}

func TestBudgetConcurrent(t *testing.T) {
	b, start := newBudget(t, 0.2)
	const each = 20_000
	var wg sync.WaitGroup
	var mu sync.Mutex
	retries := 0
	for range 8 {
		wg.Go(func() {
			n := 0
			for i := range each {
				now := start.Add(time.Duration(i) * time.Millisecond) // 20 s
				b.Deposit(now)
				for b.Withdraw(now) {
					n++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			retries += n
		})
	}
	wg.Wait()
	if most := each * 8 / 5; retries > most || retries < most*9/10 || b.Retries() != int64(retries) {
		t.Errorf("%d retries (%d counted) of %d requests", retries, b.Retries(), each*8)
	}
}

func TestBackoff(t *testing.T) {
	const base, most = 25 * time.Millisecond, time.Second
	for _, c := range []struct {
		attempt int
		random  float64
		want    time.Duration
	}{
		{0, 0.5, 0}, {1, 0, 0}, {1, 0.5, base / 2}, {2, 0.5, base}, {3, 0.5, 2 * base}, {6, 0.5, 400 * time.Millisecond},
		{7, 0.5, most / 2}, {63, 0.5, most / 2}, {64, 0.5, most / 2}, {1 << 40, 0.5, most / 2},
	} {
		if got := Backoff(base, most, c.attempt, c.random); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if Backoff(0, most, 1, 0.5) != 0 || Backoff(base, 0, 1, 0.5) != 0 || Backoff(base, 10*time.Millisecond, 1, 0.5) != 5*time.Millisecond {
		t.Error("bounds")
	}
	if d := Backoff(base, math.MaxInt64, 40, math.Nextafter(1, 0)); d <= 0 {
		t.Errorf("overflow: %v", d)
	}
}
