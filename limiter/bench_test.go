package limiter

import (
	"testing"
	"time"
)

func TestNoAllocations(t *testing.T) {
	now := time.Now()
	b, _ := newBudget(t, 0.2)
	for name, cfg := range map[string]Concurrency{"fixed": {Max: 10}, "adaptive": {Adaptive: true}, "full": {Max: 1}} {
		g := newGate(t, cfg)
		if name == "full" {
			g.Try(now)
		}
		if n := testing.AllocsPerRun(1000, func() {
			if ticket, err := g.Acquire(Arrival{At: now}); err == nil {
				ticket.Release(time.Millisecond, Served)
			}
			b.Deposit(now)
			b.Withdraw(now)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func benchGate(b *testing.B, cfg Concurrency, parallel bool) {
	g := newGate(b, cfg)
	now := time.Now()
	b.ReportAllocs()
	one := func() {
		if ticket, ok := g.Try(now); ok {
			ticket.Release(time.Millisecond, Served)
		}
	}
	if !parallel {
		for b.Loop() {
			one()
		}
		return
	}
	b.SetParallelism(4)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			one()
		}
	})
}

func BenchmarkGate(b *testing.B)                 { benchGate(b, Concurrency{Max: 100}, false) }
func BenchmarkGateParallel(b *testing.B)         { benchGate(b, Concurrency{Max: 100}, true) }
func BenchmarkGateAdaptive(b *testing.B)         { benchGate(b, Concurrency{Adaptive: true}, false) }
func BenchmarkGateAdaptiveParallel(b *testing.B) { benchGate(b, Concurrency{Adaptive: true}, true) }

// BenchmarkShed is the answer when place and queue are full.
func BenchmarkShed(b *testing.B) {
	g := newGate(b, Concurrency{Max: 1})
	now := time.Now()
	g.Try(now)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Acquire(Arrival{At: now}); err != ErrSaturated {
			b.Fatal(err)
		}
	}
}

// BenchmarkShedParallel is the same, with 1,000 in the queue.
func BenchmarkShedParallel(b *testing.B) {
	g := newGate(b, Concurrency{Max: 1, Queue: 1000})
	now := time.Now()
	g.Try(now)
	for range 1000 {
		if _, err := g.join(Arrival{At: now}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.SetParallelism(4)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := g.Acquire(Arrival{At: now}); err != ErrSaturated {
				b.Error(err)
			}
		}
	})
}

func BenchmarkBudget(b *testing.B) {
	budget, now := newBudget(b, 0.2)
	b.Run("Deposit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			budget.Deposit(now)
		}
	})
	b.Run("Withdraw", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			budget.Withdraw(now)
		}
	})
	b.Run("DepositParallel", func(b *testing.B) {
		b.SetParallelism(4)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				budget.Deposit(now)
			}
		})
	})
	b.Run("WithdrawParallel", func(b *testing.B) {
		b.SetParallelism(4)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				budget.Withdraw(now)
			}
		})
	})
}
