package cache_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/redistest"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/cache"
)

// A watcher tells of commands that a client has had an answer to.
type watcher struct{ exists chan struct{} }

func (w watcher) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return next(ctx, network, address)
	}
}

func (w watcher) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if strings.EqualFold(cmd.Name(), "exists") {
			select {
			case w.exists <- struct{}{}:
			default:
			}
		}
		return err
	}
}

func (w watcher) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func patient(s users.Store, client redis.UniversalClient, wait time.Duration) *cache.Store {
	return cache.New(cache.Config{
		Store: s, Level: cache.NewRedis(client, nil), Mode: cache.ModeEvent, TTL: time.Minute, Patience: wait,
		Log: slog.New(slog.DiscardHandler),
	})
}

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
		case <-w.exists: // it waits
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
	if got := server.Do("EXISTS", "sluice:u:lease:"+id); got != ":0" {
		t.Errorf("a lease is left: %s", got)
	}
}

// TestLeaseOfTheDead waits a moment for a process that does not come back, and
// not at all for one that gave up.
func TestLeaseOfTheDead(t *testing.T) {
	server := redistest.Start(t)
	s := &shelf{}
	s.put(person)
	server.Do("SET", "sluice:u:lease:"+id, "somebody", "PX", "600000")
	a := patient(s, clientOf(t, server.Address), 30*time.Millisecond)
	if v := get(t, a, ""); v != 1 || s.reads.Load() != 1 {
		t.Errorf("version %d after %d reads", v, s.reads.Load())
	}
	if got := server.Do("EXISTS", "sluice:u:lease:"+id); got != ":1" {
		t.Error("it ended the lease of another")
	}
	server.Flush()
	server.Do("SET", "sluice:u:lease:"+id, "somebody", "PX", "600000")
	client, w := clientOf(t, server.Address), watcher{make(chan struct{}, 1)}
	client.AddHook(w)
	b := patient(s, client, patience)
	done := make(chan int64, 1)
	go func() { done <- get(t, b, "") }()
	<-w.exists
	server.Do("DEL", "sluice:u:lease:"+id) // and nothing was found
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
