package edgecache

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maypok86/otter/v2"
)

func BenchmarkMemoryGet(b *testing.B) {
	m := newTestMemory(b, 64<<20)
	const n = 1000
	var keys [n]Key
	for i := range n {
		put(m, i, storeResource(i, 1024, 1))
		keys[i] = storeKey(i)
		m.Get(keys[i])
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if m.Get(keys[i%n]) == nil {
				b.Error("a miss")
			}
		}
	})
}

func BenchmarkMemoryPut(b *testing.B) {
	m := newTestMemory(b, 64<<20)
	r := storeResource(1, 1024, 1)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		m.Update(storeKey(i), func(*Resource) *Resource { return r })
	}
}

func BenchmarkOtterGet(b *testing.B) {
	c := newOtter(64 << 20)
	const n = 1000
	var keys [n]Key
	for i := range n {
		keys[i] = storeKey(i)
		c.Set(keys[i], storeResource(i, 1024, 1))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, ok := c.GetIfPresent(keys[i%n]); !ok {
				b.Error("a miss")
			}
		}
	})
}

func newOtter(capacity uint64) *otter.Cache[Key, *Resource] {
	return otter.Must(&otter.Options[Key, *Resource]{
		MaximumWeight: capacity,
		Weigher:       func(_ Key, r *Resource) uint32 { return uint32(r.Size()) + 112 },
	})
}

// TestMillion fills a store with a million entries, in a process of its own, and
// says what that costs; MILLION=memory or otter picks the store. See BENCH.md.
func TestMillion(t *testing.T) {
	store := os.Getenv("MILLION")
	if store == "" {
		t.Skip("MILLION=memory or otter measures")
	}
	body := 1024
	if n, err := strconv.Atoi(os.Getenv("MILLION_BODY")); err == nil {
		body = n
	}
	const n = 1_000_000
	set, get, bytes, stop := million(t, store)
	defer stop()
	start := time.Now()
	for i := range n {
		set(i, storeResource(i, body, 1))
	}
	filled := time.Since(start)
	t.Logf("%s: filled at %d puts/s, %s", store, int(n/filled.Seconds()), rss())
	most := int64(0)
	for i := range n / 2 { // churn
		set(n+i, storeResource(n+i, body, 1))
		get(i * 7919 % n)
		most = max(most, bytes())
	}
	peak := highest()
	there := 0
	for i := range n {
		if get(i) || get(n+i) {
			there++
		}
	}
	t.Logf("%s: after half as many more %d resources by sample, at most %d MiB by its own count; peak %d MiB, %s", store, there, most>>20, peak>>20, rss())
	t.Logf("%s: pauses %s", store, pauses())
}

func million(t *testing.T, store string) (set func(int, *Resource), get func(int) bool, bytes func() int64, stop func()) {
	const capacity = 1300 << 20 // a million entries, and some
	if store == "otter" {
		c := newOtter(capacity)
		return func(n int, r *Resource) { c.Set(storeKey(n), r) },
			func(n int) bool { _, ok := c.GetIfPresent(storeKey(n)); return ok },
			func() int64 { return int64(c.WeightedSize()) }, func() {}
	}
	m := newTestMemory(t, capacity)
	pacer := NewPacer(func() int64 { return m.Stats().Bytes })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = pacer.Run(ctx) }()
	return func(n int, r *Resource) { put(m, n, r) },
		func(n int) bool { return m.Get(storeKey(n)) != nil },
		func() int64 { return m.Stats().Bytes }, func() { cancel(); <-done }
}

func resident() int64 {
	b, _ := os.ReadFile("/proc/self/statm")
	pages, _ := strconv.ParseInt(strings.Fields(string(b) + " 0 0")[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// highest is the highest that resident has been.
func highest() (bytes int64) {
	b, _ := os.ReadFile("/proc/self/status")
	if _, after, ok := strings.Cut(string(b), "VmHWM:"); ok {
		_, _ = fmt.Sscan(after, &bytes)
	}
	return bytes << 10
}

func rss() string {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return fmt.Sprintf("RSS %d MiB, heap %d MiB, %d collections, GOGC %d", resident()>>20, s.HeapAlloc>>20, s.NumGC, gogc())
}

func gogc() int {
	n := debug.SetGCPercent(100)
	debug.SetGCPercent(n)
	return n
}

// pauses are the quantiles of all stops of the world so far.
func pauses() string {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	h := sample[0].Value.Float64Histogram()
	total := uint64(0)
	for _, n := range h.Counts {
		total += n
	}
	quantile := func(q float64) float64 {
		sum := uint64(0)
		for i, n := range h.Counts {
			if sum += n; float64(sum) >= q*float64(total) {
				return h.Buckets[i+1] * 1e6
			}
		}
		return 0
	}
	return fmt.Sprintf("p50 %.0f µs, p99 %.0f µs, of %d", quantile(.5), quantile(.99), total)
}

// TestOtterOvershoots shows what keeps otter from being a bound on memory: puts
// are accounted for later.
func TestOtterOvershoots(t *testing.T) {
	if os.Getenv("MILLION") == "" {
		t.Skip("MILLION=otter measures")
	}
	const capacity = 64 << 20
	c := newOtter(capacity)
	most := int64(0)
	for i := range 3000 {
		c.Set(storeKey(i), storeResource(i, 256<<10, 1))
		sum := int64(0)
		for r := range c.Values() {
			sum += int64(r.Size())
		}
		most = max(most, sum)
	}
	t.Logf("otter of %d MiB held up to %d MiB", capacity>>20, most>>20)
}
