package cache_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/redistest"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/cache"
)

// A watcher tells of look-ups that were told that another process reads.
type watcher struct{ waits chan struct{} }

func (w watcher) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (w watcher) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (w watcher) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			script, ok := cmd.(*redis.Cmd)
			if !ok {
				continue
			}
			if found, err := script.Slice(); err == nil && slices.Contains(found, any(int64(0))) {
				select {
				case w.waits <- struct{}{}:
				default:
				}
			}
		}
		return err
	}
}

func patient(s users.Store, client redis.UniversalClient, wait time.Duration) *cache.Store {
	return cache.New(cache.Config{
		Store: s, Level: cache.NewRedis(client, nil), Mode: cache.ModeEvent, TTL: time.Minute, Patience: wait,
		Log: slog.New(slog.DiscardHandler),
	})
}

func leaseOf(id string) string { return "sluice:u:lease:{sluice:u:" + id + "}" }

// TestLease has several processes want what is not cached at the same time: one of
// them reads.
func TestLease(t *testing.T) {
	server := redistest.Start(t)
	s := &shelf{read: make(chan struct{}, 100), hold: make(chan struct{})}
	s.put(person)
	first := patient(s, clientOf(t, server.Address), patience)
	var wg sync.WaitGroup
	wg.Go(func() { get(t, first, "") })
	<-s.read
	for range 3 {
		client, w := clientOf(t, server.Address), watcher{make(chan struct{}, 1)}
		client.AddHook(w)
		other := patient(s, client, patience)
		for range 10 {
			wg.Go(func() {
				if v := get(t, other, ""); v != 1 {
					t.Errorf("version %d", v)
				}
			})
		}
		select {
		case <-w.waits:
		case <-s.read:
			t.Fatal("another process reads as well")
		}
	}
	s.mu.Lock()
	hold := s.hold
	s.hold = nil
	s.mu.Unlock()
	close(hold)
	wg.Wait()
	// Who looked into the cache before the first had ended, and asked for the lease
	// after it, has read too.
	if n := s.reads.Load(); n > 4 {
		t.Errorf("%d reads", n)
	}
	if got := server.Do("EXISTS", leaseOf(id)); got != ":0" {
		t.Errorf("a lease is left: %s", got)
	}
}

// TestLeaseOfTheDead waits a moment for a process that does not come back, and
// not at all for one that gave up.
func TestLeaseOfTheDead(t *testing.T) {
	server := redistest.Start(t)
	s := &shelf{}
	s.put(person)
	server.Do("SET", leaseOf(id), "somebody", "PX", "600000")
	a := patient(s, clientOf(t, server.Address), 30*time.Millisecond)
	if v := get(t, a, ""); v != 1 || s.reads.Load() != 1 {
		t.Errorf("version %d after %d reads", v, s.reads.Load())
	}
	if got := server.Do("EXISTS", leaseOf(id)); got != ":1" {
		t.Error("it ended the lease of another")
	}
	server.Flush()
	server.Do("SET", leaseOf(id), "somebody", "PX", "600000")
	client, w := clientOf(t, server.Address), watcher{make(chan struct{}, 1)}
	client.AddHook(w)
	b := patient(s, client, patience)
	done := make(chan int64, 1)
	go func() { done <- get(t, b, "") }()
	<-w.waits
	server.Do("DEL", leaseOf(id)) // and nothing was found
	if v := <-done; v != 1 || s.reads.Load() != 2 {
		t.Errorf("version %d after %d reads", v, s.reads.Load())
	}
}

// TestDoubt does not believe what is cached of a user whose write nobody knows the
// end of, even where Redis could not be asked for it.
func TestDoubt(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := &shelf{}
	s.put(person)
	a := patient(unsure{s}, clientOf(t, server.Address), 0)
	get(t, a, "")
	for _, down := range []bool{false, true} {
		if down {
			server.Kill()
		}
		if _, _, err := a.Replace(context.Background(), person, 0, ""); err == nil {
			t.Fatal("it is sure")
		}
		if down {
			server.RestartWithData()
		}
		want := s.user.Version
		for range 2 {
			if v := get(t, a, ""); v != want {
				t.Errorf("down %v: version %d, not %d", down, v, want)
			}
		}
	}
}

// An unsure store does what it says that it may not have done.
type unsure struct{ *shelf }

func (u unsure) Replace(ctx context.Context, p users.User, expect int64, after users.Token) (users.User, users.Token, error) {
	_, _, _ = u.shelf.Replace(ctx, p, expect, after)
	return users.User{}, "", &users.Unavailable{What: "who knows", Unknown: true}
}

// TestMissTrips counts what a miss costs: two round trips.
func TestMissTrips(t *testing.T) {
	server := redistest.Start(t)
	client := clientOf(t, server.Address)
	s := &shelf{}
	s.put(person)
	a := patient(s, client, patience)
	get(t, a, "") // connections, scripts, the generation
	server.Do("DEL", "sluice:u:"+id)
	var trips counter
	client.AddHook(&trips)
	if v := get(t, a, ""); v != 1 || s.reads.Load() != 2 {
		t.Fatalf("version %d after %d reads", v, s.reads.Load())
	}
	if n := trips.n.Load(); n != 2 {
		t.Errorf("%d round trips", n)
	}
	if got := server.Do("EXISTS", leaseOf(id)); got != ":0" {
		t.Errorf("a lease is left: %s", got)
	}
	if v := get(t, a, ""); v != 1 || s.reads.Load() != 2 {
		t.Errorf("version %d after %d reads: it was not put", v, s.reads.Load())
	}
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("in vain")
	}
}

// TestLeaseOfTheGone has who took a lease go before it knows.
func TestLeaseOfTheGone(t *testing.T) {
	server := redistest.Start(t)
	client := clientOf(t, server.Address)
	level := cache.NewRedis(client, nil)
	if _, _, err := level.Find(context.Background(), id); err != nil { // connects
		t.Fatal(err)
	}
	trips := counter{begun: make(chan struct{}, 10), ended: make(chan struct{}, 10)}
	client.AddHook(&trips)
	server.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error, 1)
	go func() {
		_, _, err := level.Lease(ctx, id)
		gone <- err
	}()
	await(t, trips.begun)
	cancel()
	if err := <-gone; err == nil {
		t.Fatal("it was told while Redis hangs")
	}
	server.Continue()
	await(t, trips.ended) // the look-up
	await(t, trips.begun) // the return
	deadline := time.Now().Add(patience)
	for server.Do("EXISTS", leaseOf(id)) != ":0" {
		if time.Now().After(deadline) {
			t.Fatal("the lease is left")
		}
	}
}

// TestCluster has entries and leases on several servers, and one of them forget.
func TestCluster(t *testing.T) {
	nodes := redistest.StartCluster(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: redistest.Addresses(nodes), MaxRedirects: 3, Protocol: 2})
	t.Cleanup(func() { client.Close() })
	ctx := context.Background()
	s := patient(everybody{}, client, patience)
	var wg sync.WaitGroup
	for round := range 2 {
		for i := range 50 {
			wg.Go(func() {
				id := fmt.Sprintf("01a20f93-25a6-76a0-90b8-%012x", round*50+i)
				if u, _, err := s.Get(ctx, id, ""); err != nil || u.ID != id {
					t.Errorf("%s: %+v, %v", id, u, err)
				}
			})
		}
		wg.Wait()
		if round == 0 {
			nodes[1].Do("SCRIPT", "FLUSH")
		}
	}
	entries, leases := 0, 0
	for _, n := range nodes {
		entries += n.Keys("sluice:u:01a*")
		leases += n.Keys("sluice:u:lease:*")
	}
	if entries != 100 || leases != 0 {
		t.Errorf("%d entries and %d leases", entries, leases)
	}
}

// A counter counts round trips.
type counter struct {
	n            atomic.Int32
	begun, ended chan struct{} // of pipelines; nil: nobody wants to know
}

func (c *counter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(1)
		if c.begun != nil {
			c.begun <- struct{}{}
			defer func() { c.ended <- struct{}{} }()
		}
		return next(ctx, cmds)
	}
}
