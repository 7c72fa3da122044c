package routing

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// BenchmarkPick is a pick, Begin and Abandon with it in "begun", from one
// goroutine and from eight for each processor. Exchanges are under way, so that
// bounded load has to look.
func BenchmarkPick(b *testing.B) {
	for _, policy := range policies {
		for _, n := range []int{10, 1000} {
			bal := loaded(b, policy, n)
			now := bal.group.began.Add(time.Second)
			b.Run(fmt.Sprintf("%s/%d/serial", policy, n), func(b *testing.B) {
				b.ReportAllocs()
				key := uint64(0)
				for b.Loop() {
					key++
					bal.Pick(key, now, nil)
				}
			})
			b.Run(fmt.Sprintf("%s/%d/parallel", policy, n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(4) // eight goroutines on two processors
				b.RunParallel(func(pb *testing.PB) {
					for key := uint64(0); pb.Next(); key++ {
						bal.Pick(key, now, nil)
					}
				})
			})
			b.Run(fmt.Sprintf("%s/%d/begun", policy, n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(4)
				b.RunParallel(func(pb *testing.PB) {
					for key := uint64(0); pb.Next(); key++ {
						m := bal.Pick(key, now, nil)
						m.Begin()
						m.Abandon()
					}
				})
			})
		}
	}
}

func loaded(t testing.TB, policy string, n int) *Balancer {
	spec := keyed(policy)
	spec.BoundedLoad = 1.25
	now := time.Now() // with a monotonic clock, as exchanges have it
	g := NewMembers(now)
	var seats []Seat
	for i := range n {
		m := g.Of(fmt.Sprint(i), now)
		m.Begin()
		m.Begin()
		m.End(time.Duration(1+i%7)*time.Millisecond, now)
		seats = append(seats, Seat{Member: m, Weight: 1})
	}
	return mustBalance(t, spec, seats)
}

// BenchmarkView is what the first pick costs after a member has changed.
func BenchmarkView(b *testing.B) {
	for _, policy := range policies {
		for _, n := range []int{10, 1000} {
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				bal := loaded(b, policy, n)
				for b.Loop() {
					bal.look(0, math.MaxInt32)
				}
			})
		}
	}
}

// BenchmarkNewBalancer is what a reload costs.
func BenchmarkNewBalancer(b *testing.B) {
	for _, policy := range []string{"round_robin", "ring_hash", "maglev"} {
		for _, n := range []int{10, 1000} {
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				seats, spec := seatsOf(equal(n)...), keyed(policy)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := NewBalancer(spec, seats); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for _, policy := range policies {
		b := loaded(t, policy, 10)
		var tried Tried
		tried.Add(b.seats[1].Member)
		key := uint64(0)
		if n := testing.AllocsPerRun(1000, func() {
			key++
			m := b.Pick(key, epoch, nil)
			m.Begin()
			b.Pick(key, epoch, &tried)
			b.Stick(m.ID(), epoch, &tried)
			m.End(time.Millisecond, epoch)
		}); n > 0 {
			t.Errorf("%s: %v allocations", policy, n)
		}
	}
}
