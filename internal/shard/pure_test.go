package shard

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func letters() []Place {
	return []Place{
		{Name: "n", From: "n", To: "t"}, {Name: "a", From: "a", To: "g"},
		{Name: "g", From: "g", To: "n"}, {Name: "t", From: "t"},
	}
}

// TestEveryKeyHasOneShard draws shards and keys for each strategy.
func TestEveryKeyHasOneShard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "shards")
		cuts := rapid.SliceOfNDistinct(rapid.StringN(1, 4, -1), n-1, n-1, rapid.ID[string]).Draw(t, "cuts")
		slices.Sort(cuts)
		places := make([]Place, n)
		for i := range places {
			places[i] = Place{Name: fmt.Sprint(i), Regions: []string{fmt.Sprint("r", i)}, Default: i == n/2}
			if i > 0 {
				places[i].From, places[i-1].To = cuts[i-1], cuts[i-1]
			}
		}
		key := rapid.String().Draw(t, "key")
		region := fmt.Sprint("r", rapid.IntRange(0, 50).Draw(t, "region"))
		for _, strategy := range []string{"hash", "range", "geo"} {
			a, err := NewAssigner(strategy, places)
			if err != nil {
				t.Fatal(err)
			}
			b := a.Bucket(key, region)
			home := a.Home(b)
			if b >= Buckets || home < 0 || home >= n {
				t.Fatalf("%s: bucket %d on shard %d of %d", strategy, b, home, n)
			}
			p := places[home]
			switch strategy {
			case "hash":
				if b != KeyBucket(key) {
					t.Fatalf("bucket %d, not the key's own %d", b, KeyBucket(key))
				}
			case "range":
				if (home > 0 && key < p.From) || (p.To != "" && key >= p.To) {
					t.Fatalf("%q is on %q up to %q", key, p.From, p.To)
				}
			case "geo":
				if p.Regions[0] != region && !(p.Default && len(region) > 0 && !known(places, region)) {
					t.Fatalf("%s is on the shard of %v", region, p.Regions)
				}
			}
		}
	})
}

func known(places []Place, region string) bool {
	return slices.ContainsFunc(places, func(p Place) bool { return slices.Contains(p.Regions, region) })
}

func TestRangeByLetter(t *testing.T) {
	a, err := NewAssigner("range", letters())
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"anna@x": "a", "fred@x": "a", "g": "g", "mzz": "g", "nora": "n", "szz": "n", "t": "t", "zoe": "t", "0day": "a", "{": "t", "": "a",
	} {
		if got := letters()[a.Home(a.Bucket(key, ""))].Name; got != want {
			t.Errorf("%q is on %s, want %s", key, got, want)
		}
	}
}

func TestAssignerFaults(t *testing.T) {
	for _, c := range []struct {
		strategy string
		places   []Place
		want     string
	}{
		{"hash", nil, "no shards"},
		{"alphabet", letters(), "no strategy"},
		{"range", []Place{{Name: "a", From: "a", To: "g"}, {Name: "b", From: "h"}}, "next"},
		{"range", []Place{{Name: "a", From: "a", To: "g"}, {Name: "b", From: "f"}}, "next"},
		{"range", []Place{{Name: "a"}, {Name: "b"}}, "next"},
		{"range", []Place{{Name: "a", From: "g", To: "a"}}, "before it begins"},
		{"geo", []Place{{Name: "a", Regions: []string{"eu"}}}, "default"},
		{"geo", []Place{{Name: "a", Default: true}, {Name: "b", Default: true}}, "both"},
		{"geo", []Place{{Name: "a", Regions: []string{"eu"}, Default: true}, {Name: "b", Regions: []string{"eu"}}}, "is of"},
	} {
		if _, err := NewAssigner(c.strategy, c.places); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: %v, want %q", c.strategy, c.places, err, c.want)
		}
	}
}

// TestHomesAreEven counts buckets on shards.
func TestHomesAreEven(t *testing.T) {
	for n := 1; n <= 64; n++ {
		count := make([]int, n)
		for b := range Buckets {
			count[blocks{n}.Home(Bucket(b))]++
		}
		if slices.Max(count)-slices.Min(count) > 1 {
			t.Errorf("%d shards have %v buckets", n, count)
		}
	}
}

func TestIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Bucket(rapid.IntRange(0, Buckets-1).Draw(t, "bucket"))
		at := time.UnixMilli(rapid.Int64Range(0, 1<<47).Draw(t, "ms"))
		id := NewID(b, at)
		if id.Bucket() != b {
			t.Fatalf("%s is of %d, not %d", id, id.Bucket(), b)
		}
		again, err := ParseID(id.String())
		if err != nil || again != id {
			t.Fatalf("%s reads as %s, %v", id, again, err)
		}
		later := NewID(Bucket(0), at.Add(time.Millisecond))
		if id.String() >= later.String() {
			t.Fatalf("%s is not before %s", id, later)
		}
		foreign := ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "foreign"))
		if foreign.Bucket() >= Buckets {
			t.Fatalf("%s is of %d", foreign, foreign.Bucket())
		}
	})
	for _, s := range []string{"", "x", "018F4E3C-7A1B-7000-8000-000000000000", "018f4e3c-7a1b-7000-8000-00000000000", "018f4e3c-7a1b-7000-8000-0000000000-0", "018f4e3c-7a1b-7000-800-0000000000000"} {
		if id, err := ParseID(s); !errors.Is(err, ErrID) {
			t.Errorf("%q reads as %s, %v", s, id, err)
		}
	}
}

func TestTokens(t *testing.T) {
	names := []string{"s1", "s2", "s3"}
	rapid.Check(t, func(t *rapid.T) {
		var tok Token
		for range rapid.IntRange(0, 8).Draw(t, "writes") {
			tok.Saw(rapid.Int64Range(1, 1<<40).Draw(t, "version"), rapid.IntRange(0, 2).Draw(t, "shard"),
				Position{rapid.Uint32().Draw(t, "timeline"), rapid.Uint64().Draw(t, "lsn")})
		}
		got, err := DecodeToken(tok.Encode(names), names)
		if err != nil || got.Version != tok.Version {
			t.Fatalf("%q: %v", tok.Encode(names), err)
		}
		for i := range names {
			if got.At(i) != tok.At(i) {
				t.Fatalf("shard %d: %v, want %v", i, got.At(i), tok.At(i))
			}
		}
	})
	for _, s := range []string{"x", "-1", "1|s1", "1|s1|1|g", "1|s9|1|1", "1|s1|1|1|", "|||", "1|s1|99999999999|1", "1|s1|1|1|s1|1|1|s1|1|1|s1|1|1"} {
		if tok, err := DecodeToken(s, names); !errors.Is(err, ErrToken) {
			t.Errorf("%q reads as %v, %v", s, tok, err)
		}
	}
	at := func(timeline uint32, lsn uint64) Position { return Position{timeline, lsn} }
	for _, c := range []struct {
		have, want Position
		covers     bool
	}{
		{at(1, 10), at(1, 10), true}, {at(1, 9), at(1, 10), false}, {at(2, 10), at(1, 10), true},
		{at(1, 99), at(2, 10), false}, {at(2, 9), at(1, 10), false}, {at(0, 0), at(0, 0), true},
	} {
		if got := c.have.Covers(c.want); got != c.covers {
			t.Errorf("%v covers %v: %v", c.have, c.want, got)
		}
	}
}

// TestTokensAreNotShared has two tokens grow out of one.
func TestTokensAreNotShared(t *testing.T) {
	var base Token
	base.Saw(1, 0, Position{1, 1})
	a, b := base, base
	a.Saw(2, 1, Position{1, 5})
	b.Saw(3, 1, Position{1, 7})
	if a.At(1) != (Position{1, 5}) || b.At(1) != (Position{1, 7}) {
		t.Errorf("%v and %v", a, b)
	}
}

func TestKeyBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.String().Draw(t, "key")
		if got, want := KeyBucket(key), Bucket(crc32.ChecksumIEEE([]byte(key))%Buckets); got != want {
			t.Fatalf("%q is of %d, want %d", key, got, want)
		}
	})
}

func TestRouter(t *testing.T) {
	a, _ := NewAssigner("hash", letters())
	m := &Map{Version: 2}
	for b := range m.Entries {
		m.Entries[b] = Entry{int32(a.Home(Bucket(b))), 1}
	}
	var r Router
	if !r.Swap(m) || r.Swap(&Map{Version: 1}) || r.Swap(&Map{Version: 2}) || r.Map() != m {
		t.Error("an older map was taken")
	}
	id := NewID(777, time.Now()).String()
	if n := testing.AllocsPerRun(100, func() {
		id, _ := ParseID(id)
		if r.Lookup(id.Bucket()).Epoch != 1 || r.Lookup(KeyBucket("anna@example.com")).Epoch != 1 {
			t.Fatal("no epoch")
		}
	}); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}

func BenchmarkRoute(b *testing.B) {
	a, _ := NewAssigner("range", letters())
	m := &Map{Version: 1}
	for i := range m.Entries {
		m.Entries[i] = Entry{int32(a.Home(Bucket(i))), 1}
	}
	var r Router
	r.Swap(m)
	id := NewID(777, time.Now()).String()
	b.Run("id", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			id, _ := ParseID(id)
			_ = r.Lookup(id.Bucket())
		}
	})
	b.Run("range", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = r.Lookup(a.Bucket("somebody@example.com", ""))
		}
	})
}
