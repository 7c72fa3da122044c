package edgecache

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// patience bounds every wait; none is expected to last.
const patience = 20 * time.Second

// A testGateway is the state of one gateway.
type testGateway struct {
	memory *Memory
	purges *Purges
	shared *Shared
}

// startGateway starts one whose Redis is at that address.
func startGateway(t *testing.T, address string, change ...func(*PurgesConfig, *SharedConfig)) *testGateway {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: address, ContextTimeoutEnabled: true, DialTimeout: 200 * time.Millisecond, MaxRetries: -1, DialerRetries: 1, PoolSize: 32,
	})
	g := &testGateway{memory: newTestMemory(t, 16<<20)}
	p := PurgesConfig{Memory: g.memory, Redis: client, Name: "test", Timeout: 100 * time.Millisecond}
	s := SharedConfig{Redis: client, Name: "test", Timeout: 100 * time.Millisecond}
	for _, f := range change {
		f(&p, &s)
	}
	var err error
	if g.purges, err = NewPurges(p); err != nil {
		t.Fatal(err)
	}
	s.Purges = g.purges
	if g.shared, err = NewShared(s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.purges.Run(ctx) })
	wg.Go(func() { _ = g.shared.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		_ = client.Close()
	})
	return g
}

// ready waits until the gateway knows the log.
func (g *testGateway) ready(t *testing.T) *testGateway {
	t.Helper()
	eventually(t, "the log is read", func() bool {
		_, _, ok := g.purges.log.knowledge()
		return ok && g.purges.blind.Load() == 0
	})
	return g
}

// carries has the gateway purge until the others are told, which a busy machine may
// be too late for.
func (g *testGateway) carries(t *testing.T, x Purge) {
	t.Helper()
	eventually(t, "a purge is carried", func() bool { return g.purges.Purge(x) == nil })
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) { // lint:sleep what others do is not told
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func newWire(t *testing.T, to string) *redistest.Wire { return redistest.NewWire(t, to) }

// newIdleRedis is a client of a server that is not there.
func newIdleRedis(t *testing.T) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func startRedis(t *testing.T) *redistest.Server { return redistest.Start(t) }

func hashName(name string) uint64 { return xxhash.Sum64String(name) }

// putSum gives a value of the second level the sum that it should have.
func putSum(value []byte) {
	sum := value[len(sharedMagic):]
	binary.LittleEndian.PutUint64(sum, xxhash.Sum64(sum[8:]))
}
