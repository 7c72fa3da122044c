package postgres

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

func placeAt(n int) place {
	if n == 0 {
		return place{}
	}
	return place{at: time.UnixMicro(int64(1000 - n)).UTC(), id: shard.ID{1}}
}

// TestCursor draws pages and who answers them, and compares with a place for each
// bucket; what was encoded is what it was.
func TestCursor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c cursor
		var want [shard.Buckets]place
		for range rapid.IntRange(1, 6).Draw(t, "pages") {
			var answered buckets
			step := rapid.SampledFrom([]int{1, 7, 512}).Draw(t, "step")
			odd := rapid.IntRange(0, 3).Draw(t, "odd")
			for b := range shard.Buckets {
				if b/step%4 != odd {
					answered[b/8] |= 1 << (b % 8)
				}
			}
			last := placeAt(rapid.IntRange(0, 9).Draw(t, "last"))
			for b := range want {
				if answered.has(b) {
					want[b] = want[b].further(last)
				}
			}
			text := c.beyond(last, &answered).encode()
			if text == "" {
				t.Fatal("it is an end")
			}
			var err error
			if c, err = decodeCursor(text); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			for b := range want {
				if got := c.of(shard.Bucket(b)); got != want[b] {
					t.Fatalf("bucket %d is at %v, not %v: %.200q", b, got, want[b], text)
				}
			}
		}
	})
}

func TestCursorFaults(t *testing.T) {
	p := placeAt(1).String()
	for _, text := range []string{
		"x", "1", ";;", ";=", p + ";", p + ";s1=" + p, ";4096=" + p, ";5-4=" + p, ";1,1=" + p, ";1=" + p + ";0-2=" + p,
		";~AA=" + p, ";~" + (&buckets{}).String() + "=" + p, ";1-=" + p, ";-1=" + p, ";1=x",
	} {
		if _, err := decodeCursor(text); !errors.Is(err, users.ErrCursor) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
