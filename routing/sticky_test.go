package routing

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	oldSecret = []byte("the secret of last year")
	newSecret = []byte("the secret of this year")
)

func mustSticky(t testing.TB, backend string, secrets ...[]byte) *Sticky {
	t.Helper()
	s, err := NewSticky(StickyCookie{Cookie: "target", TTL: time.Hour}, backend, secrets)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// issued is the name and value of a cookie of s.
func issued(s *Sticky, id uint64) string {
	pair, _, _ := strings.Cut(string(s.Issue(nil, id, true, epoch)), ";")
	return pair
}

func TestStickyIssues(t *testing.T) {
	s := mustSticky(t, "orders", newSecret)
	for _, secure := range []bool{true, false} {
		c, err := http.ParseSetCookie(string(s.Issue(nil, 7, secure, epoch)))
		if err != nil {
			t.Fatal(err)
		}
		if c.Name != "target" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure != secure || c.Path != "/" || c.MaxAge != 3600 || c.Domain != "" || len(c.Unparsed) > 0 {
			t.Errorf("%+v", c)
		}
		if id, renew, ok := s.Find("other=1; target="+c.Value+"; more=2", epoch); id != 7 || renew || !ok {
			t.Errorf("%d %v %v", id, renew, ok)
		}
	}
	if got := string(s.Issue([]byte("before "), 7, false, epoch)); !strings.HasPrefix(got, "before target=") {
		t.Errorf("%q", got)
	}
}

func TestStickyFinds(t *testing.T) {
	s := mustSticky(t, "orders", newSecret, oldSecret)
	good := issued(s, 7)
	old := issued(mustSticky(t, "orders", oldSecret), 7)
	for _, c := range []struct {
		name, header string
		after        time.Duration
		ok, renew    bool
	}{
		{name: "as issued", header: good, ok: true},
		{name: "before half of its time", header: good, after: 29 * time.Minute, ok: true},
		{name: "after half of its time", header: good, after: 31 * time.Minute, ok: true, renew: true},
		{name: "stale", header: good, after: time.Hour},
		{name: "of the secret before", header: old, ok: true, renew: true},
		{name: "of a secret unknown", header: issued(mustSticky(t, "orders", []byte("some other secret")), 7)},
		{name: "of an unknown secret", header: issued(mustSticky(t, "orders", []byte("a secret that nobody here knows")), 7)},
		{name: "of another backend", header: issued(mustSticky(t, "order", newSecret), 7)},
		{name: "of another name", header: "x" + good},
		{name: "of a name in another case", header: "T" + good[1:]},
		{name: "behind a broken one", header: "target=broken; " + good, ok: true},
		{name: "behind many", header: strings.Repeat("target="+strings.Repeat("A", stickyText)+"; ", maxSticky) + good},
		{name: "with padding", header: good + "="},
		{name: "in quotes", header: "target=\"" + good[len("target="):] + "\""},
		{name: "empty", header: "target="},
		{name: "none", header: ""},
	} {
		if id, renew, ok := s.Find(c.header, epoch.Add(c.after)); ok != c.ok || renew != c.renew || ok && id != 7 {
			t.Errorf("%s: %d %v %v", c.name, id, renew, ok)
		}
	}
	if _, _, ok := mustSticky(t, "orders", oldSecret).Find(good, epoch); ok {
		t.Error("a gateway that does not have the new secret yet believes it")
	}
}

// TestStickyForged changes good cookies in every way that is not none.
func TestStickyForged(t *testing.T) {
	s := mustSticky(t, "orders", newSecret)
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Uint64().Draw(t, "id")
		good := issued(s, id)
		if got, _, ok := s.Find(good, epoch); !ok || got != id {
			t.Fatalf("%d, %v", got, ok)
		}
		raw, err := base64.RawURLEncoding.DecodeString(good[len("target="):])
		if err != nil {
			t.Fatal(err)
		}
		bit := rapid.IntRange(0, 8*len(raw)-1).Draw(t, "bit")
		raw[bit/8] ^= 1 << (bit % 8)
		if _, _, ok := s.Find("target="+base64.RawURLEncoding.EncodeToString(raw), epoch); ok {
			t.Fatalf("bit %d does not matter", bit)
		}
		text := []byte(good)
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		text[at] = rapid.Byte().Filter(func(b byte) bool { return b != text[at] }).Draw(t, "byte")
		if _, _, ok := s.Find(string(text), epoch); ok {
			t.Fatalf("%q is as good as %q", text, good)
		}
	})
}

// TestStickySealsTheTarget looks for the ID, which is a hash of an address, in
// what the client gets to see.
func TestStickySealsTheTarget(t *testing.T) {
	s := mustSticky(t, "orders", newSecret)
	a, b := issued(s, 1), issued(s, 2)
	at := 0
	for ; a[at] == b[at]; at++ {
	}
	if at > len("target=")+3 { // the first text behind the version's byte
		t.Errorf("%s and %s share too much", a, b)
	}
	if later := string(s.Issue(nil, 1, true, epoch.Add(time.Second))); later[:len("target=")+12] == a[:len("target=")+12] {
		t.Error("two cookies for one target look alike")
	}
}

// TestStickyVersions signs a cookie of a version that is still to come.
func TestStickyVersions(t *testing.T) {
	s := mustSticky(t, "orders", newSecret)
	raw, err := base64.RawURLEncoding.DecodeString(issued(s, 7)[len("target="):])
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range []bool{1: true, 2: false} {
		b := s.keys[0].pool.Get().(*stickyBuffer)
		raw[0] = byte(version)
		copy(b.cookie[:], raw)
		b.sign()
		copy(raw[stickyBytes-stickySum:], b.sum[:])
		if _, _, ok := s.Find("target="+base64.RawURLEncoding.EncodeToString(raw), epoch); ok != want {
			t.Errorf("version %d: %v", version, ok)
		}
	}
}

func TestNewStickyFaults(t *testing.T) {
	for field, c := range map[string]struct {
		spec    StickyCookie
		secrets [][]byte
	}{
		"cookie":      {spec: StickyCookie{Cookie: "a;b", TTL: time.Hour}},
		"ttl":         {spec: StickyCookie{Cookie: "a", TTL: time.Millisecond}},
		"secret_file": {spec: StickyCookie{Cookie: "a", TTL: time.Hour}, secrets: [][]byte{newSecret, []byte("short")}},
	} {
		var at interface{ Field() string }
		if _, err := NewSticky(c.spec, "orders", c.secrets); !errors.As(err, &at) || at.Field() != field {
			t.Errorf("%v, want a fault of %s", err, field)
		}
	}
	var d StickyCookie
	if d.SetDefaults(); d.TTL != time.Hour {
		t.Error(d.TTL)
	}
}

func FuzzStickyFind(f *testing.F) {
	s := mustSticky(f, "orders", newSecret)
	good := issued(s, 7)
	f.Add(good)
	f.Add("a=b; " + good)
	f.Add("target=AAAA;;=;target")
	f.Fuzz(func(t *testing.T, field string) {
		id, _, ok := s.Find(field, epoch)
		if ok && (id != 7 || !strings.Contains(field, good[len("target="):])) {
			t.Fatalf("%q is believed to be of %d", field, id)
		}
	})
}

func TestStickyConcurrently(t *testing.T) {
	s := mustSticky(t, "orders", newSecret, oldSecret)
	var wg sync.WaitGroup
	for i := range uint64(4) {
		wg.Go(func() {
			for range 500 {
				if id, _, ok := s.Find(issued(s, i), epoch); !ok || id != i {
					t.Errorf("%d, %v, want %d", id, ok, i)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkSticky(b *testing.B) {
	s := mustSticky(b, "orders", newSecret)
	good := "a=1; " + issued(s, 7) + "; b=2"
	b.Run("find", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, ok := s.Find(good, epoch); !ok {
				b.Fatal("not found")
			}
		}
	})
	b.Run("issue", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 256)
		for b.Loop() {
			s.Issue(buf[:0], 7, true, epoch)
		}
	})
}
