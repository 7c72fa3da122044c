package proxy

import (
	"bufio"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/redistest"
	"github.com/sluice-edge/sluice/limiter"
)

// BenchmarkForwardLimited is BenchmarkForward under a limit.
func BenchmarkForwardLimited(b *testing.B) {
	for _, limits := range [][]Limit{nil, {aLimit("1000000/1s", "ip")}} {
		b.Run(fmt.Sprint(len(limits)), func(b *testing.B) {
			spec := limitedTo(limits...)
			spec.Backends = backends(map[string]any{"a": to(startRaw(b, smallAnswer))})
			c, err := startSpec(b, spec).Dial()
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			r := bufio.NewReader(c)
			roundTrips(b, c, r, 10)
			b.ReportAllocs()
			b.ResetTimer()
			roundTrips(b, c, r, b.N)
		})
	}
}

// BenchmarkLimits is all that a limit adds to the walk of an exchange: the
// decision, its count, the fields of the response, and the end.
func BenchmarkLimits(b *testing.B) {
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Address, Protocol: 2, DisableIdentity: true})
	b.Cleanup(func() { client.Close() })
	for _, c := range []struct {
		name   string
		change func(*Limit)
	}{
		{"local", func(*Limit) {}},
		{"leased", func(l *Limit) { l.Scope, l.Burst = limiter.RateGlobal, 1_000_000 }},
	} {
		b.Run(c.name, func(b *testing.B) {
			spec := limitedTo(aLimit("9000000/1s", "ip", c.change))
			spec.Redis, spec.RedisTimeout = client, time.Second
			p := build(b, spec)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- p.limits.shared.Run(ctx) }()
			b.Cleanup(func() { cancel(); <-done })
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) { walkLimits(b, p, pb) })
		})
	}
}

func walkLimits(b *testing.B, p *Proxy, pb *testing.PB) {
	x := (&Probe{URL: "/"}).exchange(p.gen.Load())
	x.start = time.Now()
	x.identify()
	if err := x.match(); err != nil {
		b.Error(err)
		return
	}
	arena := len(x.arena)
	for pb.Next() {
		if err := x.limit(); err != nil {
			b.Error(err)
			return
		}
		x.tellLimits()
		x.leave()
		x.arena, x.Response.Header.Fields = x.arena[:arena], x.Response.Header.Fields[:0]
	}
}
