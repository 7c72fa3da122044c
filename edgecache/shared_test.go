package edgecache

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// sharedEntry is an entry that g has fetched now.
func (g *testGateway) sharedEntry(size int, vary string) *Entry {
	now := time.Now().UnixNano()
	return &Entry{
		Head: []byte("Content-Type: a/b\r\nSurrogate-Key: tag\r\n"), Body: bytes.Repeat([]byte("x"), size), Length: int64(size),
		Vary: vary, RequestedAt: now - 1000, ReceivedAt: now, Lifetime: 600, Status: 200, Flags: HasTags, Purges: g.purges.Sequence(),
	}
}

const sharedText = "GET http://a/x"

var sharedKey = KeyOf([]byte(sharedText))

func (g *testGateway) fetch(t *testing.T) *Resource {
	t.Helper()
	return g.shared.Get(t.Context(), sharedKey, sharedText)
}

// share has the entry written and waits until others find it.
func share(t *testing.T, from, to *testGateway, e *Entry) {
	t.Helper()
	from.shared.Put(sharedKey, sharedText, e)
	eventually(t, "others find what was shared", func() bool { return to.fetch(t) != nil })
}

func TestSharedBetweenGateways(t *testing.T) {
	server := startRedis(t)
	a, b := startGateway(t, server.Address).ready(t), startGateway(t, server.Address).ready(t)
	if b.fetch(t) != nil {
		t.Fatal("something is there before anything was")
	}
	first, second := a.sharedEntry(100_000, "accept\x00a\n"), a.sharedEntry(10, "accept\x00b\n")
	second.ReceivedAt++
	a.shared.Put(sharedKey, sharedText, first)
	a.shared.Put(sharedKey, sharedText, second)
	eventually(t, "both variants arrive", func() bool { r := b.fetch(t); return r != nil && len(r.Variants) == 2 })
	r := b.fetch(t)
	for i, want := range []*Entry{second, first} { // the latest first
		w := *want
		w.Purges = r.Variants[i].Purges
		if err := sameEntry(r.Variants[i], &w); err != nil {
			t.Errorf("variant %d: %v", i, err)
		}
		if b.purges.Verdict(r, r.Variants[i]) != Valid {
			t.Errorf("variant %d is not valid", i)
		}
	}
	if b.shared.Get(t.Context(), sharedKey, "GET http://a/other") != nil {
		t.Error("another resource with the same key is taken for it")
	}
	a.shared.Put(sharedKey, sharedText, first)
	eventually(t, "it is back", func() bool { return b.fetch(t) != nil })
	a.shared.Delete(sharedKey)
	eventually(t, "it is gone", func() bool { return b.fetch(t) == nil })
}

func TestSharedIsNotForAll(t *testing.T) {
	server := startRedis(t)
	small := func(_ *PurgesConfig, s *SharedConfig) { s.MaxObject = 1000 }
	a := startGateway(t, server.Address, small).ready(t)
	partial, old := a.sharedEntry(10, ""), a.sharedEntry(10, "")
	partial.Parts, partial.Body = []Part{{0, []byte("x")}}, nil
	old.ReceivedAt -= int64(700 * time.Second)
	old.RequestedAt = old.ReceivedAt
	unknown := a.sharedEntry(10, "")
	unknown.Purges = 0 // from before the log was known
	for _, e := range []*Entry{partial, old, unknown, a.sharedEntry(1001, "")} {
		a.shared.Put(sharedKey, sharedText, e)
	}
	a.shared.Put(storeKey(1), "GET http://a/1", a.sharedEntry(10, ""))
	eventually(t, "the last arrives", func() bool { return a.shared.Get(t.Context(), storeKey(1), "GET http://a/1") != nil })
	if r := a.fetch(t); r != nil {
		t.Errorf("%+v was shared", r.Variants[0])
	}
	for i := range 3 * sharedVariants { // one after the other
		share(t, a, a, a.sharedEntry(10, fmt.Sprintf("accept\x00%d\n", i)))
	}
	a.shared.Put(storeKey(2), "GET http://a/2", a.sharedEntry(10, ""))
	eventually(t, "the last arrives", func() bool { return a.shared.Get(t.Context(), storeKey(2), "GET http://a/2") != nil })
	if n := len(a.fetch(t).Variants); n > sharedVariants {
		t.Errorf("%d variants, want at most %d", n, sharedVariants)
	}
	if ttl := server.Do("PTTL", a.shared.key(sharedKey)); len(ttl) != len(":600000") {
		t.Errorf("it lives for %s ms", ttl)
	}
}

// TestPurgedIsNotShared: what was purged after its request is none, on gateways
// that were there then and on those that come later; what was requested after
// the purge is.
func TestPurgedIsNotShared(t *testing.T) {
	server := startRedis(t)
	a, b := startGateway(t, server.Address).ready(t), startGateway(t, server.Address).ready(t)
	for _, x := range []Purge{
		{Kind: PurgeURL, Value: "http://a/x"}, {Kind: PurgePrefix, Value: "http://a/"}, {Kind: PurgeHost, Value: "a"},
		{Kind: PurgeTag, Value: "tag"}, {Kind: PurgeAll},
	} {
		before := a.sharedEntry(10, "")
		share(t, a, b, before)
		_, known, _ := a.purges.log.knowledge()
		b.carries(t, x)
		if b.fetch(t) != nil {
			t.Errorf("%+v: what was purged is still shared where it was", x)
		}
		a.shared.Put(sharedKey, sharedText, before) // a response that was under way
		share(t, a, a, a.requestedAfter(t, known))
		late := startGateway(t, server.Address).ready(t)
		if r := late.fetch(t); r == nil || late.purges.Verdict(r, r.Variants[0]) != Valid {
			t.Errorf("%+v: what was requested later is not shared", x)
		}
		a.shared.Put(sharedKey, sharedText, before)
		eventually(t, "what was purged is none to who comes later either", func() bool { return late.fetch(t) == nil })
		a.shared.Delete(sharedKey)
		eventually(t, "it is gone", func() bool { return a.fetch(t) == nil })
	}
	soft := a.sharedEntry(10, "")
	share(t, a, b, soft)
	b.carries(t, Purge{Kind: PurgeTag, Value: "tag", Soft: true})
	if r := b.fetch(t); r == nil || r.Variants[0].Flags&Invalidated == 0 {
		t.Errorf("what was softly purged comes back as %+v", r)
	}
}

// requestedAfter is an entry that g requests once it knows more of the log.
func (g *testGateway) requestedAfter(t *testing.T, m mark) *Entry {
	t.Helper()
	eventually(t, "it knows more", func() bool { _, now, _ := g.purges.log.knowledge(); return now.log > m.log })
	return g.sharedEntry(10, "")
}

// TestPurgeHeldHereIsNotShared: while the log does not have a purge, the second
// level does not bring back what it is of.
func TestPurgeHeldHereIsNotShared(t *testing.T) {
	server := startRedis(t)
	w := newWire(t, server.Address) // of b's log alone
	a, b := startGateway(t, server.Address).ready(t), startGateway(t, server.Address).ready(t)
	c := startGateway(t, w.Address).ready(t)
	share(t, a, b, a.sharedEntry(10, ""))
	b.shared.cfg.Purges = c.purges
	if b.fetch(t) == nil {
		t.Fatal("it is not shared")
	}
	w.Cut()
	if err := c.purges.Purge(Purge{Kind: PurgeTag, Value: "tag"}); err == nil {
		t.Fatal("the purge was carried")
	}
	if b.fetch(t) != nil {
		t.Error("what was purged here comes back from the second level")
	}
}

// TestSharedAfterLoss: after Redis has lost its data no value of before is used,
// even one that comes to light again.
func TestSharedAfterLoss(t *testing.T) {
	server := startRedis(t)
	a, b := startGateway(t, server.Address).ready(t), startGateway(t, server.Address).ready(t)
	old := a.sharedEntry(10, "")
	share(t, a, b, old)
	log, position, _ := a.purges.log.knew(old.Purges)
	server.Restart()
	eventually(t, "both read the new log", func() bool {
		x, _, ok1 := a.purges.log.knowledge()
		y, _, ok2 := b.purges.log.knowledge()
		return ok1 && ok2 && x.name != log && x.name == y.name
	})
	value := appendShared(nil, &sharedValue{
		log: hashName(log), position: position, expires: time.Now().Add(time.Hour).UnixMilli(),
		resource: &Resource{Text: sharedText, Variants: []*Entry{old}},
	})
	server.Do("HSET", b.shared.key(sharedKey), field(""), string(value))
	if b.fetch(t) != nil {
		t.Error("a value of the log before is used")
	}
	eventually(t, "it is deleted", func() bool { return server.Do("EXISTS", b.shared.key(sharedKey)) == ":0" })
	eventually(t, "what is new is shared", func() bool {
		a.shared.Put(sharedKey, sharedText, a.sharedEntry(10, ""))
		return b.fetch(t) != nil
	})
}

// TestCorruptValues are misses, counted and deleted.
func TestCorruptValues(t *testing.T) {
	server := startRedis(t)
	a := startGateway(t, server.Address).ready(t)
	log, position, _ := a.purges.log.knew(a.purges.Sequence())
	good := func(change func(*Entry, *Resource)) []byte {
		e := a.sharedEntry(100, "")
		r := &Resource{Text: sharedText, Variants: []*Entry{e}}
		change(e, r)
		return appendShared(nil, &sharedValue{log: hashName(log), position: position, expires: time.Now().Add(time.Hour).UnixMilli(), resource: r})
	}
	whole := good(func(*Entry, *Resource) {})
	values := map[string][]byte{
		"empty": {}, "short": whole[:20], "cut": whole[:len(whole)-1], "longer": append(bytes.Clone(whole), 0),
		"another version": append([]byte("slc\x02"), whole[4:]...),
		"no length":       good(func(e *Entry, _ *Resource) { e.Length = 99 }),
		"no lines":        good(func(e *Entry, _ *Resource) { e.Head = []byte("Content-Type") }),
		"a split":         good(func(e *Entry, _ *Resource) { e.Head = []byte("A: b\nC: d\r\n") }),
		"partial":         good(func(e *Entry, _ *Resource) { e.Parts = []Part{{0, nil}} }),
		"another text":    good(func(_ *Entry, r *Resource) { r.Text = "GET http://a/y" }),
		"no variant":      good(func(_ *Entry, r *Resource) { r.Variants = nil }),
		"a status of 20":  good(func(e *Entry, _ *Resource) { e.Status = 20 }),
	}
	for i := range 40 {
		b := bytes.Clone(whole)
		b[rand.IntN(len(b))] ^= 1 << rand.IntN(8)
		values[fmt.Sprintf("with a bit turned (%d)", i)] = b
	}
	for name, value := range values {
		before := a.shared.Stats().Corrupt
		server.Do("HSET", a.shared.key(sharedKey), "x", string(value))
		if a.fetch(t) != nil {
			t.Errorf("a value that is %s is used", name)
		}
		if got := a.shared.Stats().Corrupt; got != before+1 {
			t.Errorf("a value that is %s: %d are counted, want %d", name, got, before+1)
		}
		eventually(t, "it is deleted", func() bool { return server.Do("EXISTS", a.shared.key(sharedKey)) == ":0" })
	}
	server.Do("HSET", a.shared.key(sharedKey), "x", string(whole))
	if a.fetch(t) == nil {
		t.Error("the value that all were made of is not used")
	}
	server.Do("DEL", a.shared.key(sharedKey))
	server.Do("SET", a.shared.key(sharedKey), "of another type")
	if a.fetch(t) != nil {
		t.Error("a key of another type is used")
	}
}

// TestSharedDoesNotWait: Redis that hangs or is gone costs the first few a
// time-out, everybody else nothing, and is used again when it is back.
func TestSharedDoesNotWait(t *testing.T) {
	server := startRedis(t)
	a := startGateway(t, server.Address).ready(t)
	share(t, a, a, a.sharedEntry(10, ""))
	for _, interruption := range []struct{ stop, again func() }{{server.Stop, server.Continue}, {server.Kill, server.Restart}} {
		interruption.stop()
		eventually(t, "the breaker opens", func() bool {
			start := time.Now()
			if a.fetch(t) != nil {
				t.Fatal("something is there without Redis")
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Fatalf("a read took %v", took)
			}
			return a.shared.Stats().Open
		})
		asked := a.shared.Stats().Failed
		start := time.Now()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { a.fetch(t) })
		}
		wg.Wait()
		tries := a.shared.Stats().Failed - asked
		if most := 1 + uint64(time.Since(start)/breakerPause); tries > most {
			t.Errorf("%d of 1000 reads were tried within %v, want %d at most", tries, time.Since(start), most)
		}
		for range 2 * maxJobs { // nobody waits for these either
			a.shared.Put(sharedKey, sharedText, a.sharedEntry(10, ""))
			a.shared.Delete(sharedKey)
		}
		interruption.again()
		eventually(t, "it is used again", func() bool {
			a.shared.Put(sharedKey, sharedText, a.sharedEntry(10, ""))
			return a.fetch(t) != nil
		})
	}
	if a.shared.Stats().Dropped == 0 {
		t.Error("no write was dropped")
	}
}

// TestUndeletedIsNotShared: what was purged or invalidated is none, though nothing
// could be deleted: the queue is full, Redis hangs, the breaker is open. Nor is it
// when all is well again, here, there, or for who comes later.
func TestUndeletedIsNotShared(t *testing.T) {
	server := startRedis(t)
	w := newWire(t, server.Address)
	a, b := startGateway(t, w.Address).ready(t), startGateway(t, server.Address).ready(t)
	old := b.sharedEntry(10, "")
	log, position, _ := b.purges.log.knew(old.Purges)
	value := appendShared(nil, &sharedValue{
		log: hashName(log), position: position, expires: time.Now().Add(time.Hour).UnixMilli(), resource: &Resource{Text: sharedText, Variants: []*Entry{old}},
	})
	share(t, b, a, old)
	w.Cut()
	eventually(t, "the breaker opens", func() bool { a.fetch(t); return a.shared.Stats().Open })
	cache, err := New(Config{Store: a.memory, Second: a.shared, Purger: a.purges, Underway: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	dropped := a.shared.Stats().Dropped
	if n := cache.Invalidate("http://a/x", 200, nil); n != 1 {
		t.Fatalf("%d things are invalidated", n)
	}
	for range 2 * maxJobs {
		a.shared.Delete(sharedKey)
	}
	if a.shared.Stats().Dropped == dropped {
		t.Fatal("nothing was dropped")
	}
	w.Mend()
	eventually(t, "a reads again", func() bool {
		if a.fetch(t) != nil {
			t.Fatal("what was invalidated is shared")
		}
		return !a.shared.Stats().Open && a.purges.out.waiting() == 0
	})
	eventually(t, "b knows", func() bool { return b.fetch(t) == nil })
	for name, g := range map[string]*testGateway{"here": a, "there": b, "with who comes later": startGateway(t, server.Address).ready(t)} {
		server.Do("HSET", g.shared.key(sharedKey), "x", string(value)) // others may have deleted it
		if g.fetch(t) != nil {
			t.Errorf("what was invalidated is shared %s", name)
		}
	}
}

func TestSharedHeedsWhoLeaves(t *testing.T) {
	server := startRedis(t)
	a := startGateway(t, server.Address).ready(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 * breakerFailures {
		if a.shared.Get(gone, sharedKey, sharedText) != nil {
			t.Error("who has left is answered")
		}
	}
	if a.shared.Stats().Open {
		t.Error("clients that leave open the breaker")
	}
}

func TestSharedQueueIsBounded(t *testing.T) {
	server := startRedis(t)
	a := startGateway(t, server.Address).ready(t)
	q := &sharedQueue{kick: make(chan struct{}, 1)}
	big := a.sharedEntry(1<<20, "")
	n := 0
	for q.add(job{what: store, entry: big}) {
		n++
	}
	if n != maxJobBytes>>20 {
		t.Errorf("%d MiB wait", n)
	}
	for q.add(job{what: deleteAll}) {
		n++
	}
	if n != maxJobs {
		t.Errorf("%d jobs wait", n)
	}
	for len(q.take(100)) > 0 {
	}
	if q.bytes != 0 || q.stores != 0 || len(q.jobs) != 0 {
		t.Errorf("an empty queue has %d bytes of %d", q.bytes, q.stores)
	}
}

func TestNewSharedRefuses(t *testing.T) {
	alone := newTestPurges(t, nil)
	if _, err := NewShared(SharedConfig{Purges: alone}); err == nil {
		t.Error("no Redis is taken")
	}
}

func FuzzDecodeShared(f *testing.F) {
	e := &Entry{Head: []byte("A: b\r\n"), Body: []byte("body"), Length: 4, Status: 200, Vary: "a\x00b\n"}
	whole := appendShared(nil, &sharedValue{log: 1, position: 2, expires: 3, resource: &Resource{Text: "GET http://a/", Variants: []*Entry{e}}})
	f.Add(whole[sharedHeader:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeResource(b); err == nil {
			for _, e := range r.Variants {
				_ = e.Size()
			}
			if again, err := decodeResource(appendResource(nil, r)); err != nil || again.Text != r.Text || len(again.Variants) != len(r.Variants) {
				t.Fatalf("%q is decoded, and what that is encoded to is not: %v", b, err)
			}
		}
		value := append(bytes.Clone(whole[:sharedHeader]), b...) // with a sum that fits
		putSum(value)
		if v, err := decodeShared(string(value)); err == nil {
			e := v.resource.Variants[0]
			e.Each(func(name, value []byte) bool { return len(name) > 0 && len(value) >= 0 })
			e.Tags(func(string) bool { return true })
		}
		_, _ = decodeShared(string(b))
	})
}
