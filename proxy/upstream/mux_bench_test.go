package upstream

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// carriedTarget answers 13 bytes, or a MiB at /big.
var carriedTarget = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/big" {
		io.WriteString(w, mebibyte)
		return
	}
	w.Header().Set("Content-Length", "13")
	io.WriteString(w, "Hello, world!")
})

var mebibyte = strings.Repeat("x", 1<<20)

func benchCarrier(b *testing.B, c *Call, p *Pool) {
	if err := c.Do(p); err != nil {
		b.Fatal(err)
	}
	if _, err := c.WriteTo(io.Discard); err != nil {
		b.Fatal(err)
	}
	c.Close()
}

// BenchmarkCarriers compares the protocols over one net/http target, whose cost
// is in it: calls in turn, calls beside each other, and bodies of a MiB.
func BenchmarkCarriers(b *testing.B) {
	for _, carrier := range []string{"http1", "h2c"} {
		start := func(b *testing.B) *Pool {
			p := startTarget(b, carrier, Config{Header: patience, Idle: patience}, carriedTarget)
			b.ReportAllocs()
			b.ResetTimer()
			return p
		}
		b.Run(carrier+"/turn", func(b *testing.B) {
			p := start(b)
			var c Call
			benchRequest(&c)
			for b.Loop() {
				benchCarrier(b, &c, p)
			}
		})
		b.Run(carrier+"/parallel", func(b *testing.B) {
			p := start(b)
			defer cpu(b)()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				var c Call
				benchRequest(&c)
				for pb.Next() {
					benchCarrier(b, &c, p)
				}
			})
		})
		b.Run(carrier+"/MiB", func(b *testing.B) {
			p := start(b)
			defer cpu(b)()
			b.SetBytes(1 << 20)
			c := get("/big")
			for range b.N {
				benchCarrier(b, c, p)
			}
		})
	}
}
