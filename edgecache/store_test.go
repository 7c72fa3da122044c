package edgecache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// storeKey is the key of the n-th resource of these tests.
func storeKey(n int) Key { return KeyOf(fmt.Appendf(nil, "GET http://example.com/%d", n)) }

// storeResource is a resource with a body of that many bytes, each of which
// says which put it is from.
func storeResource(n, size int, stamp byte) *Resource {
	e := &Entry{
		Head:   []byte("Content-Type: text/plain\r\nCache-Control: max-age=60\r\nETag: \"1\"\r\n"),
		Body:   bytes.Repeat([]byte{stamp}, size),
		Length: int64(size), Status: 200, Lifetime: 60,
		RequestedAt: 1_700_000_000_000_000_000, ReceivedAt: 1_700_000_000_020_000_000, Purges: uint64(stamp),
	}
	return &Resource{Text: fmt.Sprintf("GET http://example.com/%d", n), Variants: []*Entry{e}}
}

func newTestMemory(t testing.TB, capacity int64) *Memory {
	t.Helper()
	m, err := NewMemory(capacity)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func put(m *Memory, n int, r *Resource) {
	m.Update(storeKey(n), func(*Resource) *Resource { return r })
}

func TestMemoryKeepsWhatItIsGiven(t *testing.T) {
	m := newTestMemory(t, 64<<20)
	limit := m.segmentWords * wordBytes / inSegment
	for n, r := range []*Resource{
		{Text: "GET http://a/"},
		{Text: "GET http://a/\x00de", PassUntil: 1 << 60},
		storeResource(2, 0, 1),
		storeResource(3, 1024, 2),
		storeResource(4, limit-1000, 3),
		storeResource(5, limit, 4),
		storeResource(6, 5<<20, 5),
		{Text: "GET http://a/v", Variants: []*Entry{
			{Vary: "accept\x00text/html\n", Head: []byte("A: b\r\n"), Status: 404, Length: 3, Body: []byte("abc"), Flags: NoCache | HasTags, Reason: 3, Purges: 7},
			{Status: 206, Length: -1, Parts: []Part{{5, []byte("five")}, {1 << 40, []byte("far")}}, Purges: 9, Modified: -5, StaleError: 1<<32 - 1},
			{Status: 200, Flags: Heuristic, InitialAge: 1, Lifetime: 2, StaleRevalidate: 3},
		}},
	} {
		put(m, n, r)
		want := reflect.ValueOf(*r)
		for range 3 { // decoded anew, and as it is kept
			got := m.Get(storeKey(n))
			if got == nil {
				t.Fatalf("resource %d is not there", n)
			}
			if got.Text != r.Text || got.PassUntil != r.PassUntil || len(got.Variants) != len(r.Variants) {
				t.Fatalf("resource %d is %+v, want %+v", n, got, want)
			}
			for i, e := range r.Variants {
				if err := sameEntry(got.Variants[i], e); err != nil {
					t.Errorf("resource %d, variant %d: %v", n, i, err)
				}
			}
		}
	}
}

// sameEntry compares two entries, to which no slice and an empty one are alike.
func sameEntry(got, want *Entry) error {
	if !bytes.Equal(got.Head, want.Head) || !bytes.Equal(got.Body, want.Body) || len(got.Parts) != len(want.Parts) {
		return fmt.Errorf("head %q, %d bytes of body, %d parts", got.Head, len(got.Body), len(got.Parts))
	}
	for i, p := range want.Parts {
		if got.Parts[i].Start != p.Start || !bytes.Equal(got.Parts[i].Data, p.Data) {
			return fmt.Errorf("part %d is %+v", i, got.Parts[i])
		}
	}
	g, w := *got, *want
	g.Head, g.Body, g.Parts, w.Head, w.Body, w.Parts = nil, nil, nil, nil, nil, nil
	if (got.Parts == nil) != (want.Parts == nil) || !reflect.DeepEqual(g, w) {
		return fmt.Errorf("%+v, want %+v", g, w)
	}
	return nil
}

// TestMemoryIsBounded puts, replaces, reads and deletes at random: what is found
// is what was put last, and at no time is more used than may be.
func TestMemoryIsBounded(t *testing.T) {
	most := 6000
	if raceEnabled {
		most = 1000
	}
	rapid.Check(t, func(t *rapid.T) {
		m, err := NewMemory(rapid.Int64Range(minCapacity, 4<<20).Draw(t, "capacity"))
		if err != nil {
			t.Fatal(err)
		}
		sizes := rapid.SampledFrom([]int{100, 1000, 10_000, 100_000, 2_000_000})
		random := rand.New(rand.NewPCG(1, rapid.Uint64().Draw(t, "seed")))
		last := map[int]byte{}
		size := sizes.Draw(t, "size")
		keys := rapid.IntRange(1, 3000).Draw(t, "keys")
		for step := range rapid.IntRange(1, most).Draw(t, "steps") {
			n := int(float64(keys) * random.Float64() * random.Float64())
			switch random.IntN(10) {
			case 0:
				m.Update(storeKey(n), func(*Resource) *Resource { return nil })
				delete(last, n)
			case 1, 2, 3, 4:
				last[n] = byte(step)
				put(m, n, storeResource(n, random.IntN(size), byte(step)))
			default:
				checkStored(t, m, n, last)
			}
			if stats := m.Stats(); stats.Bytes > stats.Capacity {
				t.Fatalf("step %d: %d bytes in %d", step, stats.Bytes, stats.Capacity)
			}
		}
		checkAccounts(t, m)
	})
}

func checkStored(t *rapid.T, m *Memory, n int, last map[int]byte) {
	r := m.Get(storeKey(n))
	if r == nil {
		return
	}
	stamp, ok := last[n]
	if !ok {
		t.Fatalf("%d is there, but was deleted", n)
	}
	e := r.Variants[0]
	if e.Purges != uint64(stamp) || !strings.HasSuffix(r.Text, fmt.Sprintf("/%d", n)) || len(e.Body) != int(e.Length) ||
		bytes.Count(e.Body, []byte{stamp}) != len(e.Body) {
		t.Fatalf("%d is %q of put %d, want put %d", n, r.Text, e.Purges, stamp)
	}
}

// checkAccounts counts everything anew.
func checkAccounts(t interface{ Fatalf(string, ...any) }, m *Memory) {
	var bytes int64
	for _, q := range []*queue{&m.small, &m.main} {
		var sum int64
		for s := q.oldest; s != nil; s = s.prev {
			sum += s.cost
			live := 0
			for off := 0; off < s.used; off += s.length(off) {
				k := s.key(off)
				if p := m.find(hashOf(m.seed, &k), &k); p.segment == s && p.off == off {
					live += s.length(off)
				}
			}
			if live != s.live {
				t.Fatalf("a segment has %d words alive, and says %d", live, s.live)
			}
		}
		if sum != q.bytes {
			t.Fatalf("a queue has %d bytes, and says %d", sum, q.bytes)
		}
		bytes += sum
	}
	n := 0
	m.records(func(*segment, int) bool { n++; return true })
	if n != m.Stats().Resources {
		t.Fatalf("%d resources, and it says %d", n, m.Stats().Resources)
	}
	for i := range m.index {
		bytes += int64(len(*m.index[i].slots.Load()))*wordBytes + 32
	}
	bytes += int64(len(m.ghost.slots))*wordBytes + int64(len(m.segments))*17 + int64(len(m.warm))*warmCost + int64(m.segmentWords)*wordBytes/inSegment
	if bytes != m.Stats().Bytes {
		t.Fatalf("%d bytes, and it says %d", bytes, m.Stats().Bytes)
	}
}

// TestMemoryAtOnce has readers and writers meet; every body is of one put, also
// while its segment goes.
func TestMemoryAtOnce(t *testing.T) {
	m := newTestMemory(t, minCapacity)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(g)))
			for step := range 3000 {
				n := int(2000 * random.Float64() * random.Float64())
				if step%3 == 0 {
					put(m, n, storeResource(n, random.IntN(3000), byte(step)))
					continue
				}
				r := m.Get(storeKey(n))
				if r == nil {
					continue
				}
				e := r.Variants[0]
				if r.Text != fmt.Sprintf("GET http://example.com/%d", n) || bytes.Count(e.Body, []byte{byte(e.Purges)}) != int(e.Length) {
					t.Errorf("%d is %q with a mixed body", n, r.Text)
					return
				}
				if stats := m.Stats(); stats.Bytes > stats.Capacity {
					t.Errorf("%d bytes in %d", stats.Bytes, stats.Capacity)
				}
			}
		})
	}
	wg.Wait()
	checkAccounts(t, m)
	if m.Stats().Evicted == 0 {
		t.Error("nothing was evicted")
	}
}

// TestMemoryTakesLargeResources: one of 8 MiB in 256 MiB is let in, takes little
// with it at first sight, and stays once it is asked for.
func TestMemoryTakesLargeResources(t *testing.T) {
	if raceEnabled {
		t.Skip("nothing is at once here, and it takes long")
	}
	m := newTestMemory(t, 256<<20)
	for n := 0; m.Stats().Evicted == 0; n++ {
		put(m, n, storeResource(n, 16<<10, 1))
		if n%2 == 0 {
			m.Get(storeKey(n))
		}
	}
	before := m.Stats()
	large := -1
	put(m, large, storeResource(large, 8<<20, 2))
	if m.Get(storeKey(large)) == nil {
		t.Fatal("it is not there")
	}
	if gone := m.Stats().Evicted - before.Evicted; gone > 1500 { // 8 MiB are 512 of them; those that move on are in between
		t.Errorf("it evicted %d of %d", gone, before.Resources)
	}
	for n := 1 << 20; n < 1<<20+12_000; n++ { // a scan as large as three quarters of all
		put(m, n, storeResource(n, 16<<10, 3))
	}
	if m.Get(storeKey(large)) == nil {
		t.Error("a scan evicted it, though it had been used")
	}
	put(m, -2, storeResource(-2, 100<<20, 4))
	if m.Get(storeKey(-2)) != nil || m.Stats().Refused != 1 {
		t.Error("a resource of more than a quarter of all was let in")
	}
	checkAccounts(t, m)
}

// TestMemoryResistsScans: what is used stays while ten times the capacity
// passes through.
func TestMemoryResistsScans(t *testing.T) {
	if raceEnabled {
		t.Skip("nothing is at once here, and it takes long")
	}
	m := newTestMemory(t, 8<<20)
	const hot = 2000
	for n := range hot {
		put(m, n, storeResource(n, 1000, 1))
		m.Get(storeKey(n))
	}
	for n := range 80_000 {
		put(m, hot+n, storeResource(hot+n, 1000, 2))
		m.Get(storeKey(n % hot))
	}
	there := 0
	for n := range hot {
		if m.Get(storeKey(n)) != nil {
			there++
		}
	}
	if there < hot*99/100 {
		t.Errorf("%d of %d that are in use are left", there, hot)
	}
	checkAccounts(t, m)
}

// TestMemoryReusesHoles: the same keys put again and again take no room from
// others.
func TestMemoryReusesHoles(t *testing.T) {
	if raceEnabled {
		t.Skip("nothing is at once here, and it takes long")
	}
	m := newTestMemory(t, 8<<20)
	const others = 2000
	for n := range others {
		put(m, n, storeResource(n, 1000, 1))
	}
	for step := range 100_000 {
		put(m, others+step%500, storeResource(others+step%500, 1000, 2))
	}
	if stats := m.Stats(); stats.Resources != others+500 || stats.Evicted != 0 {
		t.Errorf("%d resources, %d evicted", stats.Resources, stats.Evicted)
	}
	checkAccounts(t, m)
}

func TestMemoryHitAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m := newTestMemory(t, 64<<20)
	put(m, 1, storeResource(1, 1024, 1))
	put(m, 2, storeResource(2, 4<<20, 1))
	for n := 1; n <= 2; n++ {
		k := storeKey(n)
		m.Get(k)
		m.Get(k)
		if allocs := testing.AllocsPerRun(100, func() { m.Get(k) }); allocs != 0 {
			t.Errorf("a hit of resource %d allocates %v times", n, allocs)
		}
	}
}

// TestWarmLetsGo: a resource that was decoded does not hold the memory of a
// segment that is gone.
func TestWarmLetsGo(t *testing.T) {
	m := newTestMemory(t, 1<<20)
	for n := range 5000 {
		put(m, n, storeResource(n, 500, 1))
		for range 3 {
			m.Get(storeKey(n))
		}
	}
	kept := 0
	for i := range m.warm {
		if w := m.warm[i].Load(); w != nil {
			kept++
			if m.segments[w.segment.id].Load() != w.segment {
				t.Fatal("a decoded resource holds a segment that was cleared")
			}
		}
	}
	if kept == 0 {
		t.Error("nothing is kept decoded")
	}
}

func TestNewMemoryRefuses(t *testing.T) {
	if _, err := NewMemory(minCapacity - 1); err == nil {
		t.Error("less than the least is no error")
	}
}

// TestUpdateSeesWhatIsThere holds Update to its contract.
func TestUpdateSeesWhatIsThere(t *testing.T) {
	m := newTestMemory(t, 1<<20)
	seen := []bool{}
	for _, next := range []*Resource{nil, storeResource(1, 10, 1), storeResource(1, 10, 2), nil, nil} {
		m.Update(storeKey(1), func(r *Resource) *Resource { seen = append(seen, r != nil); return next })
	}
	if want := []bool{false, false, true, true, false}; !reflect.DeepEqual(seen, want) {
		t.Errorf("changes saw %v, want %v", seen, want)
	}
	put(m, 1, storeResource(1, 10, 3))
	m.Update(storeKey(1), func(r *Resource) *Resource { return r })
	if r := m.Get(storeKey(1)); r == nil || r.Variants[0].Purges != 3 {
		t.Errorf("a change that changes nothing leaves %v", r)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				m.Update(storeKey(1), func(r *Resource) *Resource {
					c := *r
					c.PassUntil++
					return &c
				})
			}
		})
	}
	wg.Wait()
	if r := m.Get(storeKey(1)); r == nil || r.PassUntil != 4000 {
		t.Errorf("4000 changes at once left %v", r)
	}
}

// TestPacerPercent: a cache of a gigabyte leaves the pace as it is without.
func TestPacerPercent(t *testing.T) {
	for _, c := range []struct {
		live, held int64
		want       int
	}{
		{10 << 20, 0, 100},          // the runtime has a least heap of its own
		{100 << 20, 0, 100},         // no cache: as Go does
		{1100 << 20, 1000 << 20, 9}, // 100 MiB of others
		{1010 << 20, 1000 << 20, 3}, // 32 MiB at least
		{900 << 20, 1000 << 20, 3},  // much of it has come since
		{9 << 30, 9 << 30, 2},
		{8 << 30, 4 << 30, 50},
	} {
		if got := percent(c.live, c.held); got != c.want {
			t.Errorf("%d MiB alive, %d MiB held: %d %%, want %d", c.live>>20, c.held>>20, got, c.want)
		}
	}
}
