package edgecache

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func newTestPurges(t testing.TB, m *Memory) *Purges {
	t.Helper()
	p, err := NewPurges(PurgesConfig{Memory: m})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// purgeable is a stored resource as purges see it.
func purgeable(url, head string, purges uint64) (*Resource, *Entry) {
	e := &Entry{Head: []byte(head), Purges: purges, Status: 200}
	for _, name := range []string{"Cache-Groups", "Surrogate-Key", "Cache-Tag"} {
		if strings.Contains(head, name) {
			e.Flags |= HasTags
		}
	}
	return &Resource{Text: "GET " + url + "\x00de", Variants: []*Entry{e}}, e
}

func TestPurgeNames(t *testing.T) {
	const tags = "Surrogate-Key: shop p-12\r\nCache-Tag: news,p-13\r\nCache-Groups: \"a b\", \"c\"\r\n"
	for _, c := range []struct {
		purge Purge
		url   string
		head  string
		want  bool
	}{
		{Purge{Kind: PurgeURL, Value: "https://a.example/x"}, "https://a.example/x", "", true},
		{Purge{Kind: PurgeURL, Value: "https://a.example/x"}, "https://a.example/x?q=1", "", true},
		{Purge{Kind: PurgeURL, Value: "https://a.example/x"}, "https://a.example/xy", "", false},
		{Purge{Kind: PurgeURL, Value: "https://a.example/x"}, "https://a.example/x/", "", false},
		{Purge{Kind: PurgeURL, Value: "https://a.example/x"}, "http://a.example/x", "", false},
		{Purge{Kind: PurgeURL, Value: "https://a.example/x"}, "https://b.example/x", "", false},
		{Purge{Kind: PurgeURL, Value: "https://a.example/x?a=1&b=2"}, "https://a.example/x?a=1&b=2", "", true},
		{Purge{Kind: PurgeURL, Value: "https://a.example/x?a=1&b=2"}, "https://a.example/x?b=2&a=1", "", true},
		{Purge{Kind: PurgeURL, Value: "https://a.example/x?a=1&b=2"}, "https://a.example/x?b=2", "", true}, // a is not in the key
		{Purge{Kind: PurgeURL, Value: "https://a.example/x?a=1&b=2"}, "https://a.example/x", "", true},
		{Purge{Kind: PurgeURL, Value: "https://a.example/x?a=1&b=2"}, "https://a.example/x?a=2", "", false},
		{Purge{Kind: PurgeURL, Value: "https://a.example/x?a=1&b=2"}, "https://a.example/x?a=1&b=2&c=3", "", false},
		{Purge{Kind: PurgeURL, Value: "https://a.example/x?a&b&c&d&e"}, "https://a.example/x?z", "", true}, // too many to tell
		{Purge{Kind: PurgePrefix, Value: "https://a.example/x"}, "https://a.example/x", "", true},
		{Purge{Kind: PurgePrefix, Value: "https://a.example/x"}, "https://a.example/xy/z?q", "", true},
		{Purge{Kind: PurgePrefix, Value: "https://a.example/x"}, "https://a.example/y/x", "", false},
		{Purge{Kind: PurgePrefix, Value: "https://a.example/x"}, "https://a.example/", "", false},
		{Purge{Kind: PurgeHost, Value: "A.example"}, "https://a.example/x", "", true},
		{Purge{Kind: PurgeHost, Value: "a.example"}, "https://a.example:8443/x", "", true},
		{Purge{Kind: PurgeHost, Value: "a.example:8443"}, "https://a.example:8443/x", "", true},
		{Purge{Kind: PurgeHost, Value: "a.example:8443"}, "https://a.example/x", "", false},
		{Purge{Kind: PurgeHost, Value: "[::1]"}, "https://[::1]:8443/x", "", true},
		{Purge{Kind: PurgeHost, Value: "example"}, "https://a.example/x", "", false},
		{Purge{Kind: PurgeTag, Value: "shop"}, "https://a.example/x", tags, true},
		{Purge{Kind: PurgeTag, Value: "p-12"}, "https://a.example/x", tags, true},
		{Purge{Kind: PurgeTag, Value: "p-13"}, "https://a.example/x", tags, true},
		{Purge{Kind: PurgeTag, Value: "a b"}, "https://a.example/x", tags, true},
		{Purge{Kind: PurgeTag, Value: "p-1"}, "https://a.example/x", tags, false},
		{Purge{Kind: PurgeTag, Value: "Shop"}, "https://a.example/x", tags, false},
		{Purge{Kind: PurgeTag, Value: "shop"}, "https://a.example/x", "", false},
		{Purge{Kind: PurgeTag, Value: "c", Origin: "https://a.example"}, "https://a.example/x", tags, true},
		{Purge{Kind: PurgeTag, Value: "c", Origin: "https://b.example"}, "https://a.example/x", tags, false},
		{Purge{Kind: PurgeAll}, "https://a.example/x", "", true},
	} {
		for _, soft := range []bool{false, true} {
			p := newTestPurges(t, nil)
			c.purge.Soft = soft
			r, e := purgeable(c.url, c.head, p.Sequence())
			if got := p.Verdict(r, e); got != Valid {
				t.Fatalf("%s: verdict %d before anything was purged", c.url, got)
			}
			if err := p.Purge(c.purge); err != nil {
				t.Fatal(err)
			}
			want := Valid
			if c.want {
				if want = Purged; soft {
					want = Stale
				}
			}
			if got := p.Verdict(r, e); got != want {
				t.Errorf("purge %+v of %s: verdict %d, want %d", c.purge, c.url, got, want)
			}
			if r, later := purgeable(c.url, c.head, p.Sequence()); p.Verdict(r, later) != Valid {
				t.Errorf("purge %+v of %s holds for a request that came later", c.purge, c.url)
			}
		}
	}
}

// TestPurgesAddUp: the latest purge that names an entry counts, whatever else
// was purged; a hard one is not softened by what follows.
func TestPurgesAddUp(t *testing.T) {
	p := newTestPurges(t, nil)
	r, e := purgeable("http://a/x", "", 0)
	for i := range 5000 { // the table of rules grows
		p.Invalidate(Purge{Kind: PurgeURL, Value: fmt.Sprintf("http://a/other/%d", i)})
	}
	if got := p.Verdict(r, e); got != Valid {
		t.Fatalf("verdict %d, though it was not named", got)
	}
	steps := []struct {
		soft bool
		want Verdict
	}{{true, Stale}, {false, Purged}, {true, Purged}}
	for i, step := range steps {
		p.Invalidate(Purge{Kind: PurgeURL, Value: "http://a/x", Soft: step.soft})
		if got := p.Verdict(r, e); got != step.want {
			t.Errorf("after purge %d: verdict %d, want %d", i, got, step.want)
		}
	}
	for i := range 5000 {
		r, e := purgeable(fmt.Sprintf("http://a/other/%d", i), "", 0)
		if p.Verdict(r, e) != Purged {
			t.Fatalf("purge %d was forgotten", i)
		}
	}
}

// TestPurgeHoldsWhenItReturns, whoever else purges: no use of an entry that
// begins after it, nor of a response whose request was under way.
func TestPurgeHoldsWhenItReturns(t *testing.T) {
	p := newTestPurges(t, nil)
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range 2000 {
				url := fmt.Sprintf("http://a/%d/%d", g, i)
				r, e := purgeable(url, "", p.Sequence())
				_ = p.Purge(Purge{Kind: PurgeURL, Value: url})
				if p.Verdict(r, e) != Purged {
					t.Errorf("%s is served after its purge", url)
					return
				}
				if r, e := purgeable(url, "", p.Sequence()); p.Verdict(r, e) != Valid {
					t.Errorf("%s is not served after a new request", url)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestSpares is for fetches whose tags are not known yet.
func TestSpares(t *testing.T) {
	for _, c := range []struct {
		purge Purge
		want  bool
	}{
		{Purge{Kind: PurgeURL, Value: "http://a/x"}, false},
		{Purge{Kind: PurgeURL, Value: "http://a/y"}, true},
		{Purge{Kind: PurgeHost, Value: "b"}, true},
		{Purge{Kind: PurgeTag, Value: "any"}, false},
		{Purge{Kind: PurgeAll, Soft: true}, false},
	} {
		p := newTestPurges(t, nil)
		r, after := &Resource{Text: "GET http://a/x"}, p.Sequence()
		if !p.Spares(r, after) {
			t.Fatal("nothing was purged")
		}
		p.Invalidate(c.purge)
		if got := p.Spares(r, after); got != c.want {
			t.Errorf("%+v: spares is %v", c.purge, got)
		}
	}
	p := newTestPurges(t, nil)
	after := p.Sequence()
	p.distrust(&p.blind)
	if p.Spares(&Resource{Text: "GET http://a/x"}, after) {
		t.Error("a fetch from before a doubt is joined")
	}
}

func TestVerdictAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := newTestPurges(t, nil)
	r, e := purgeable("http://a.example:8080/x/y?q=1&r=2", "Surrogate-Key: a b c\r\n", 0)
	for kind := PurgeURL; kind <= PurgeTag; kind++ {
		p.Invalidate(Purge{Kind: kind, Value: "http://b/?x"})
	}
	if allocs := testing.AllocsPerRun(100, func() {
		if p.Verdict(r, e) != Valid {
			t.Error("purged")
		}
	}); allocs != 0 {
		t.Errorf("a verdict allocates %v times", allocs)
	}
}

func BenchmarkVerdict(b *testing.B) {
	p := newTestPurges(b, nil)
	r, e := purgeable("http://a.example:8080/x/y?q=1&r=2", "Surrogate-Key: a b c\r\n", 0)
	for kind := PurgeURL; kind <= PurgeTag; kind++ {
		p.Invalidate(Purge{Kind: kind, Value: "http://b/?x"})
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Verdict(r, e)
	}
}

// TestSweep frees what was purged and, so that rules can go, lets the rest be
// younger than they are.
func TestSweep(t *testing.T) {
	m := newTestMemory(t, 64<<20)
	p := newTestPurges(t, m)
	const n = 3000
	for i := range n {
		r := storeResource(i, 100, 0)
		if i%100 == 0 {
			r = storeResource(i, 100_000, 0)
		}
		put(m, i, r)
		m.Get(storeKey(i))
		m.Get(storeKey(i))
	}
	for i := range n / 2 {
		p.Invalidate(Purge{Kind: PurgeURL, Value: fmt.Sprintf("http://example.com/%d", i)})
	}
	late, e := purgeable("http://example.com/late", "", p.Sequence()-1) // its request is under way
	before := m.Stats().Bytes
	p.sweep(p.Sequence(), true)
	if stats := m.Stats(); stats.Resources != n/2 || stats.Bytes > before {
		t.Errorf("%d resources of %d are left, in %d bytes of %d", stats.Resources, n, stats.Bytes, before)
	}
	if p.rules.count() != 0 {
		t.Errorf("%d rules are left", p.rules.count())
	}
	for i := n / 2; i < n; i++ {
		r := m.Get(storeKey(i))
		if r == nil || p.Verdict(r, r.Variants[0]) != Valid {
			t.Fatalf("%d is not served any more: %+v", i, r)
		}
	}
	if got := p.Verdict(late, e); got != Doubted {
		t.Errorf("verdict %d on a response from before the rules that were forgotten, want %d", got, Doubted)
	}
	checkAccounts(t, m)
}
