package cache_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/redistest"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/cache"
)

// everybody is a store of any user, who costs nothing to find.
type everybody struct{ users.Store }

func (everybody) Get(_ context.Context, id string, _ users.Token) (users.User, users.Source, error) {
	u := person
	u.ID, u.Version = id, 1
	return u, users.Source{}, nil
}

// BenchmarkRedis reads as 64 clients at a time do, everything on one machine:
// users of whom Redis has none, or all.
func BenchmarkRedis(b *testing.B) {
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Address, MaxRetries: -1, Protocol: 2, ContextTimeoutEnabled: true})
	b.Cleanup(func() { client.Close() })
	s := newCache(everybody{}, cache.NewRedis(client, nil), cache.ModeEvent, 0)
	next := new(atomic.Int64)
	read := func(b *testing.B, of int64) {
		b.SetParallelism(32)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				n := next.Add(1)
				if of > 0 {
					n %= of
				}
				if _, _, err := s.Get(context.Background(), fmt.Sprintf("01a20f93-25a6-76a0-90b8-%012x", n), ""); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.Run("hit", func(b *testing.B) { read(b, 500) })
	b.Run("miss", func(b *testing.B) { next.Add(1 << 20); read(b, 0) })
}
