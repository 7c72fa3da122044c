package h2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// What is encoded is decoded as it was, whatever becomes of the table.
func TestEncoder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"Date", "server", "X-Request-Id", "set-cookie", "vary", "X-A", "x-b", "content-length", strings.Repeat("n", 300)}
	values := []string{"", "a", "Tue, 24 Nov 2026 21:00:00 GMT", "\x00\xff", strings.Repeat("v", 200), strings.Repeat("w", 5000)}
	limits := []uint32{0, 100, 4096, 1 << 20, 65}
	var e Encoder
	dec := hpack.NewDecoder(tableSize, nil)
	limit := uint32(tableSize)
	for block := range 3000 {
		for random.IntN(20) == 0 {
			limit = limits[random.IntN(len(limits))]
			e.SetLimit(limit)
			dec.SetAllowedMaxDynamicTableSize(max(limit, tableSize)) // what was allowed before may still be said
		}
		status := []int{200, 204, 206, 304, 400, 404, 500, 201, 999}[random.IntN(9)]
		want := []string{fmt.Sprintf(":status=%d", status)}
		b := e.Status(e.Begin(nil), status)
		for range random.IntN(12) {
			name, value := names[random.IntN(len(names))], values[random.IntN(len(values))]
			if random.IntN(4) == 0 {
				value = fmt.Sprint(random.IntN(1000))
			}
			want = append(want, strings.ToLower(name)+"="+value)
			b = e.Field(b, []byte(name), []byte(value))
		}
		fields, err := dec.DecodeFull(b)
		if err != nil {
			t.Fatalf("block %d: %v", block, err)
		}
		for i, f := range fields {
			if i >= len(want) || f.Name+"="+f.Value != want[i] {
				t.Fatalf("block %d: field %d is %q, want %q", block, i, f.Name+"="+f.Value, want)
			}
		}
		if len(fields) != len(want) || e.used > int(min(limit, tableSize)) {
			t.Fatalf("block %d: %d fields of %d, the table has %d bytes of %d", block, len(fields), len(want), e.used, limit)
		}
	}
}

// What repeats takes a byte soon; what never does takes no room.
func TestEncoderLearns(t *testing.T) {
	var e Encoder
	block := func(i int) []byte {
		b := e.Status(e.Begin(nil), 200)
		b = e.Field(b, []byte("Server"), []byte("nginx/1.22.1"))
		b = e.Field(b, []byte("X-Id"), fmt.Appendf(nil, "%016x", i))
		return e.Field(b, []byte("Set-Cookie"), []byte("secret=1"))
	}
	for i := range 3 {
		block(i)
	}
	b := block(3)
	if len(b) > 1+1+19+11 || !bytes.Contains(b, []byte("secret=1")) || e.n > 3 {
		t.Errorf("the fourth block has %d bytes: %q; the table %d entries", len(b), b, e.n)
	}
	for i := range 1000 {
		block(i + 4)
	}
	if got := block(2000); len(got) != len(b) || e.n > 3 {
		t.Errorf("in the end a block has %d bytes, the table %d entries", len(got), e.n)
	}
	if n := testing.AllocsPerRun(100, func() { e.Field(b[:0], []byte("server"), []byte("nginx/1.22.1")) }); n > 0 {
		t.Errorf("%v allocations a field", n)
	}
}

// A table that the other end has made smaller and larger again is said to have
// been, and is empty.
func TestEncoderLimits(t *testing.T) {
	var e Encoder
	for range 3 {
		e.Field(e.Begin(nil), []byte("a"), []byte("b"))
	}
	e.SetLimit(0)
	e.SetLimit(4096)
	if b := e.Begin(nil); string(b) != "\x20\x3f\xe1\x1f" || e.n != 0 {
		t.Errorf("%x is said, the table has %d entries", b, e.n)
	}
	if b := e.Begin(nil); len(b) != 0 {
		t.Errorf("%x is said again", b)
	}
}

func FuzzEncoder(f *testing.F) {
	f.Add("server", "x", uint32(100))
	f.Fuzz(func(t *testing.T, name, value string, limit uint32) {
		var e Encoder
		dec := hpack.NewDecoder(tableSize, nil)
		for i := range 4 {
			b := e.Field(e.Begin(nil), []byte(name), []byte(value))
			fields, err := dec.DecodeFull(b)
			if err != nil || len(fields) != 1 || fields[0].Value != value || len(fields[0].Name) != len(name) {
				t.Fatalf("%d: %q, %v", i, fields, err)
			}
			if i == 2 {
				e.SetLimit(limit)
			}
		}
	})
}

func BenchmarkEncoder(b *testing.B) {
	var e Encoder
	fields := [][2]string{
		{"Server", "nginx/1.22.1"}, {"Date", "Tue, 24 Nov 2026 21:00:00 GMT"}, {"Content-Type", "text/plain"},
		{"Content-Length", "130"}, {"Via", "1.1 sluice"}, {"X-Request-Id", "0123456789abcdef0123456789abcdef"},
	}
	var raw [][2][]byte
	for _, f := range fields {
		raw = append(raw, [2][]byte{[]byte(f[0]), []byte(f[1])})
	}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = e.Status(e.Begin(out[:0]), 200)
		for _, f := range raw {
			out = e.Field(out, f[0], f[1])
		}
	}
}
