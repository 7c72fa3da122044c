package limiter

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// BenchmarkRateLocal is a decision about a known key, from one goroutine and from
// all cores.
func BenchmarkRateLocal(b *testing.B) {
	for _, algorithm := range []string{RateGCRA, RateFixedWindow, RateSlidingWindow, RateConcurrency} {
		spec := RateSpec{Rate: rate(1e6, time.Second), Algorithm: algorithm}
		if algorithm == RateConcurrency {
			spec = RateSpec{Max: 1e6, Algorithm: algorithm}
		}
		l := newRate(b, "x", spec, nil)
		keys := benchKeys(1024)
		now := time.Now()
		for _, key := range keys {
			l.Take(key, 1, now)
		}
		b.Run(algorithm, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				l.Take(keys[i%len(keys)], 1, now)
			}
		})
		b.Run(algorithm+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			var turn atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				// Each in an order of its own: who meets another at one key of the same
				// order goes on with it, and waits for it at each.
				stride := int(turn.Add(2*137)) | 1
				for i := 0; pb.Next(); i += stride {
					l.Take(keys[i%len(keys)], 1, now)
				}
			})
		})
	}
}

func benchKeys(n int) (keys [][]byte) {
	for i := range n {
		keys = append(keys, fmt.Append(nil, "user-", i, "@example.com"))
	}
	return keys
}

// TestRateAllocates holds a decision about a known key to no allocation.
func TestRateAllocates(t *testing.T) {
	for _, spec := range append(whole, RateSpec{Rate: rate(100, time.Hour)}) {
		l := newRate(t, "x", spec, nil)
		key, now := []byte("user-1@example.com"), time.Now()
		l.Take(key, 1, now)
		if n := testing.AllocsPerRun(1000, func() { l.Take(key, 1, now) }); n != 0 {
			t.Errorf("%s: %v allocations", spec.Algorithm, n)
		}
	}
}

// A leased decision by tokens that are at hand allocates as little.
func TestRateLeasedAllocates(t *testing.T) {
	r := NewRateRedis(nil)
	r.Use(connect(t, "127.0.0.1:1"), time.Second)
	l := newRate(t, "x", RateSpec{Rate: rate(1e6, time.Second)}, r)
	key, now := []byte("user-1@example.com"), time.Now()
	hashed := l.seeds.hash(key)
	e := l.leases.shard(hashed).of(hashed, r.now(), 1)
	e.tokens, e.until = 100_000, math.MaxInt64
	if n := testing.AllocsPerRun(1000, func() {
		if d := l.Take(key, 1, now); !d.Allowed || d.kind != takenLease {
			t.Fatalf("%+v", d)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What two cores write is in no line of the cache that both of them need, nor in
// one that is fetched with it.
func TestRateShardsApart(t *testing.T) {
	for name, size := range map[string]uintptr{"rateShard": unsafe.Sizeof(rateShard{}), "leaseShard": unsafe.Sizeof(leaseShard{})} {
		if size%128 != 0 {
			t.Errorf("%s has %d bytes, which are not whole pairs of lines", name, size)
		}
	}
	if size := unsafe.Sizeof(rateLease{}); size != 64 {
		t.Errorf("a lease has %d bytes, want 64", size)
	}
}

// TestRateMemory holds a million live keys to 128 MiB, here and leased.
func TestRateMemory(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("a million keys take long")
	}
	const n = 1_000_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	l := newRate(t, "x", RateSpec{Rate: rate(100, time.Hour), MaxKeys: 2 * n}, nil)
	key, now := make([]byte, 8), time.Now()
	for i := range uint64(n) {
		binary.BigEndian.PutUint64(key, i)
		l.Take(key, 1, now)
	}
	if keys, _ := l.Keys(); keys != n {
		t.Errorf("%d keys are remembered", keys)
	}
	if used := heap() - before; used > 128<<20 {
		t.Errorf("%d MiB for a million keys", used>>20)
	} else {
		t.Logf("%.1f MiB for a million keys", float64(used)/(1<<20))
	}
	runtime.KeepAlive(l)

	before = heap()
	r := NewRateRedis(nil)
	r.Use(connect(t, "127.0.0.1:1"), time.Second)
	leased := newRate(t, "x", RateSpec{Rate: rate(100, time.Hour), MaxKeys: 2 * n}, r)
	for i := range uint64(n) {
		binary.BigEndian.PutUint64(key, i)
		k := sharedKey("x", key)
		s := leased.leases.shard(k)
		s.of(k, 1, n).full = 1 << 62
	}
	if keys, _ := leased.Keys(); keys != n {
		t.Errorf("%d leases are remembered", keys)
	}
	if used := heap() - before; used > 128<<20 {
		t.Errorf("%d MiB for a million leases", used>>20)
	} else {
		t.Logf("%.1f MiB for a million leases", float64(used)/(1<<20))
	}
	runtime.KeepAlive(leased)
}

// BenchmarkRateGlobal is a decision of a limit that gateways share: leased, and
// as the common way has it, a command for each request. It prints how many
// decisions took a command.
func BenchmarkRateGlobal(b *testing.B) {
	server := redistest.Start(b)
	r, _ := share(b, connect(b, server.Address))
	for _, c := range []struct {
		name string
		spec RateSpec
		keys int
	}{
		{"leased", RateSpec{Rate: rate(5e6, time.Second), Burst: 1e6}, 64},
		{"leased over its limit", RateSpec{Rate: rate(1000, time.Second), Burst: 200}, 1},
		{"INCR per request", RateSpec{Rate: rate(1e9, time.Hour), Algorithm: RateFixedWindow}, 64},
	} {
		b.Run(c.name, func(b *testing.B) {
			l, keys := newRate(b, c.name, c.spec, r), benchKeys(c.keys)
			before := r.seq.Load()
			var turn, fell, let atomic.Int64
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for i := int(turn.Add(7)); pb.Next(); i++ {
					d := l.Take(keys[i%len(keys)], 1, time.Now())
					if d.Fallback {
						fell.Add(1)
					}
					if d.Allowed {
						let.Add(1)
					}
				}
			})
			if l.params.Load().lease > 0 {
				b.ReportMetric(100*float64(r.seq.Load()-before)/float64(b.N), "%asked")
			}
			b.ReportMetric(100*float64(fell.Load())/float64(b.N), "%fallback")
			b.ReportMetric(100*float64(let.Load())/float64(b.N), "%allowed")
		})
	}
}
