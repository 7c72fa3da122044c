package edgecache

import (
	"context"
	"encoding/binary"
	"io"
	"net"
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

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) { // lint:sleep what others do is not told
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// A wire is between a gateway and Redis, and can be cut.
type wire struct {
	Address string
	to      string
	mu      sync.Mutex
	cut     bool
	conns   map[net.Conn]bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Address: ln.Addr().String(), to: to, conns: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		w.Cut()
		wg.Wait()
	})
	return w
}

func (w *wire) carry(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer up.Close()
	w.mu.Lock()
	if w.cut {
		w.mu.Unlock()
		return
	}
	w.conns[c], w.conns[up] = true, true
	w.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, c)
		_ = up.Close()
	}()
	_, _ = io.Copy(c, up)
	_ = c.Close()
	<-done
	w.mu.Lock()
	delete(w.conns, c)
	delete(w.conns, up)
	w.mu.Unlock()
}

// Cut closes what is open, and has nothing through.
func (w *wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for c := range w.conns {
		_ = c.Close()
	}
}

// Mend has connections through again.
func (w *wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

func startRedis(t *testing.T) *redistest.Server { return redistest.Start(t) }

func hashName(name string) uint64 { return xxhash.Sum64String(name) }

// putSum gives a value of the second level the sum that it should have.
func putSum(value []byte) {
	sum := value[len(sharedMagic):]
	binary.LittleEndian.PutUint64(sum, xxhash.Sum64(sum[8:]))
}
