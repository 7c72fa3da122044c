package cache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/sluice-edge/sluice/internal/redistest"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/cache"
	"github.com/sluice-edge/sluice/internal/users/storetest"
)

// patience bounds every wait; none is expected to last.
const patience = 20 * time.Second

// A shelf is a store of one user at a time, the reads of which can be held up and
// may be old, as those of a replica.
type shelf struct {
	users.Store
	mu    sync.Mutex
	user  users.User // Version 0: none
	old   *users.User
	reads atomic.Int64
	hold  chan struct{} // where it is not nil, a read waits for it after it has read
	read  chan struct{} // gets one for each read that waits
}

const id = "01a20f93-25a6-76a0-90b8-76569fc04157"

func (s *shelf) Get(ctx context.Context, id string, after users.Token) (users.User, users.Source, error) {
	s.reads.Add(1)
	s.mu.Lock()
	u, hold := s.user, s.hold
	if s.old != nil && after == "" {
		u = *s.old
	}
	s.mu.Unlock()
	if hold != nil {
		s.read <- struct{}{}
		<-hold
	}
	if u.Version == 0 {
		return u, users.Source{}, users.ErrNotFound
	}
	return u, users.Source{}, nil
}

func (s *shelf) Create(_ context.Context, u users.User, _ users.Once, _ users.Token) (users.User, bool, users.Token, error) {
	return s.put(u), false, "t", nil
}

func (s *shelf) Replace(_ context.Context, u users.User, _ int64, _ users.Token) (users.User, users.Token, error) {
	return s.put(u), "t", nil
}

func (s *shelf) put(u users.User) users.User {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.ID, u.Version = id, s.user.Version+1
	s.user = u
	return u
}

func (s *shelf) Delete(context.Context, string, int64, users.Token) (int64, users.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version := s.user.Version + 1
	s.user = users.User{}
	return version, "t", nil
}

func (s *shelf) Health(context.Context) []users.Check { return nil }

// clientOf is a client as the commands open it.
func clientOf(t *testing.T, address string) *redis.Client {
	t.Helper()
	redis.SetLogger(new(logging.VoidLogger)) // its errors come back from its calls
	c := redis.NewClient(&redis.Options{
		Addr: address, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second, PoolTimeout: time.Second,
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func newCache(s users.Store, level cache.Level, mode string, local time.Duration) *cache.Store {
	return cache.New(cache.Config{
		Store: s, Level: level, Mode: mode, TTL: time.Minute, LocalTTL: local, Log: slog.New(slog.DiscardHandler),
	})
}

var person = users.User{ID: id, Name: "N", Email: "n@example.com", Attributes: json.RawMessage("{}")}

func get(t *testing.T, s users.Store, after users.Token) (version int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	u, _, err := s.Get(ctx, id, after)
	if errors.Is(err, users.ErrNotFound) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return u.Version
}

func replace(t *testing.T, s users.Store) users.Token {
	t.Helper()
	_, seen, err := s.Replace(context.Background(), person, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// eachLevel runs f with each kind of level; two of the same are two processes.
func eachLevel(t *testing.T, f func(t *testing.T, level func() cache.Level)) {
	t.Run("memory", func(t *testing.T) {
		m := cache.NewMemory()
		f(t, func() cache.Level { return m })
	})
	t.Run("redis", func(t *testing.T) {
		client := clientOf(t, redistest.Start(t).Address)
		f(t, func() cache.Level { return cache.NewRedis(client, nil) })
	})
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		mode                          string
		afterWrite, readsAfter, token int64
	}{
		{cache.ModeTTL, 1, 0, 2},          // old, until it expires; not with the token
		{cache.ModeEvent, 2, 1, 2},        // read again
		{cache.ModeWriteThrough, 2, 0, 2}, // replaced
	} {
		t.Run(c.mode, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level func() cache.Level) {
				s := &shelf{}
				s.put(person)
				a := newCache(s, level(), c.mode, 0)
				get(t, a, "")
				n := s.reads.Load()
				if v := get(t, a, ""); v != 1 || s.reads.Load() != n {
					t.Errorf("version %d, not cached", v)
				}
				seen := replace(t, a)
				if v := get(t, a, ""); v != c.afterWrite || s.reads.Load()-n != c.readsAfter {
					t.Errorf("version %d after %d reads, want %d after %d", v, s.reads.Load()-n, c.afterWrite, c.readsAfter)
				}
				if v := get(t, a, seen); v != c.token {
					t.Errorf("version %d with the token", v)
				}
			})
		})
	}
}

// TestStaleSet is the race that versions close: a reader has read before a write,
// and stores what it has read after it.
func TestStaleSet(t *testing.T) {
	eachLevel(t, func(t *testing.T, level func() cache.Level) {
		s := &shelf{read: make(chan struct{}, 1)}
		s.put(person)
		reader, writer := newCache(s, level(), cache.ModeEvent, 0), newCache(s, level(), cache.ModeEvent, 0)
		s.mu.Lock()
		s.hold = make(chan struct{})
		s.mu.Unlock()
		got := make(chan int64, 1)
		go func() { got <- get(t, reader, "") }()
		<-s.read
		replace(t, writer)
		s.mu.Lock()
		hold := s.hold
		s.hold = nil
		s.mu.Unlock()
		close(hold)
		if v := <-got; v != 1 {
			t.Errorf("it read version %d", v)
		}
		for _, one := range []users.Store{reader, writer} {
			if v := get(t, one, ""); v != 2 {
				t.Errorf("version %d was cached over version 2", v)
			}
		}
	})
}

// TestLaggingReplica fills the cache from a replica that has not seen the write.
func TestLaggingReplica(t *testing.T) {
	eachLevel(t, func(t *testing.T, level func() cache.Level) {
		s := &shelf{}
		s.put(person)
		a := newCache(s, level(), cache.ModeEvent, 0)
		before := s.user
		s.old = &before
		seen := replace(t, a)
		get(t, a, "") // from the replica
		if v := get(t, a, seen); v != 2 {
			t.Errorf("version %d with the token", v)
		}
		s.mu.Lock()
		s.old = nil
		s.mu.Unlock()
		if v := get(t, a, ""); v != 2 {
			t.Errorf("the old version %d was kept", v)
		}
	})
}

func TestNegative(t *testing.T) {
	eachLevel(t, func(t *testing.T, level func() cache.Level) {
		s := &shelf{}
		a := newCache(s, level(), cache.ModeEvent, 0)
		for range 3 {
			if v := get(t, a, ""); v != 0 {
				t.Fatalf("version %d of nobody", v)
			}
		}
		if n := s.reads.Load(); n != 1 {
			t.Errorf("%d reads of nobody", n)
		}
		if _, _, _, err := a.Create(context.Background(), person, users.Once{}, ""); err != nil {
			t.Fatal(err)
		}
		if v := get(t, a, ""); v != 1 {
			t.Errorf("version %d after the create", v)
		}
		version, seen, err := a.Delete(context.Background(), id, 0, "")
		if err != nil || version != 2 {
			t.Fatal(version, err)
		}
		if v := get(t, a, ""); v != 0 {
			t.Errorf("version %d after the end", v)
		}
		if v := get(t, a, seen); v != 0 {
			t.Errorf("version %d after the end, with the token", v)
		}
	})
}

// TestOneFlight has many ask for what is not cached: one reads.
func TestOneFlight(t *testing.T) {
	s := &shelf{read: make(chan struct{}, 100), hold: make(chan struct{})}
	s.put(person)
	a := newCache(s, cache.NewMemory(), cache.ModeEvent, 0)
	var wg sync.WaitGroup
	wg.Go(func() { get(t, a, "") })
	<-s.read
	for range 50 {
		wg.Go(func() {
			if v := get(t, a, ""); v != 1 {
				t.Errorf("version %d", v)
			}
		})
	}
	close(s.hold)
	wg.Wait()
	// Who looked before the first had ended, and came to read after it, reads too.
	if n := s.reads.Load(); n > 5 {
		t.Errorf("%d reads", n)
	}
}

// TestLocal reads from the level in the process, and writes past it.
func TestLocal(t *testing.T) {
	server := redistest.Start(t)
	client := clientOf(t, server.Address)
	s := &shelf{}
	s.put(person)
	a := newCache(s, cache.NewRedis(client, nil), cache.ModeEvent, time.Minute)
	b := newCache(s, cache.NewRedis(client, nil), cache.ModeEvent, time.Minute)
	get(t, a, "")
	get(t, b, "")
	server.Flush()
	if get(t, a, ""); s.reads.Load() != 1 {
		t.Errorf("%d reads", s.reads.Load())
	}
	seen := replace(t, b)
	if v := get(t, b, ""); v != 2 {
		t.Errorf("version %d where it was written", v)
	}
	if v := get(t, a, ""); v != 1 {
		t.Errorf("version %d in another process: there is nothing that tells it", v)
	}
	if v := get(t, a, seen); v != 2 {
		t.Errorf("version %d in another process with the token", v)
	}
}

// TestRedisFaults goes on without Redis, and does not believe it afterwards where
// it could not be told of a write.
func TestRedisFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		down func(*redistest.Server)
		up   func(*redistest.Server)
	}{
		{"killed", (*redistest.Server).Kill, (*redistest.Server).RestartWithData},
		{"hung", (*redistest.Server).Stop, (*redistest.Server).Continue},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
			client := clientOf(t, server.Address)
			s := &shelf{}
			s.put(person)
			a := newCache(s, cache.NewRedis(client, nil), cache.ModeEvent, 0)
			get(t, a, "")
			n := s.reads.Load()
			if get(t, a, ""); s.reads.Load() != n {
				t.Fatal("it is not cached")
			}
			c.down(server)
			if v := get(t, a, ""); v != 1 {
				t.Errorf("version %d without Redis", v)
			}
			replace(t, a) // Redis still has version 1, and is not told
			if v := get(t, a, ""); v != 2 {
				t.Errorf("version %d without Redis, after a write", v)
			}
			c.up(server)
			deadline := time.Now().Add(patience)
			for cached := false; !cached; {
				n := s.reads.Load()
				if v := get(t, a, ""); v != 2 {
					t.Fatalf("version %d: Redis was believed", v)
				}
				cached = s.reads.Load() == n
				if time.Now().After(deadline) {
					t.Fatal("Redis is not used any more")
				}
			}
			b := newCache(s, cache.NewRedis(client, nil), cache.ModeEvent, 0)
			if v := get(t, b, ""); v != 2 {
				t.Errorf("version %d in another process", v)
			}
		})
	}
}

// TestFullRedis has a write come when Redis has no room for it: what it had of the
// user goes all the same, so that no other process finds it.
func TestFullRedis(t *testing.T) {
	for _, mode := range []string{cache.ModeEvent, cache.ModeWriteThrough} {
		t.Run(mode, func(t *testing.T) {
			server := redistest.Start(t)
			s := &shelf{}
			level := cache.NewRedis(clientOf(t, server.Address), nil)
			a := newCache(s, cache.NewRedis(clientOf(t, server.Address), nil), mode, 0)
			b := newCache(s, level, mode, 0)
			replace(t, a)
			if got := get(t, b, ""); got != 1 {
				t.Fatalf("version %d", got)
			}
			server.Do("CONFIG", "SET", "maxmemory", "1")
			if c := level.Check(t.Context()); c.Err == nil {
				t.Error("a Redis that is full is in order")
			}
			replace(t, a)
			if got := get(t, b, ""); got != 2 {
				t.Errorf("version %d after a write that Redis had no room for", got)
			}
			server.Do("CONFIG", "SET", "maxmemory", "0")
			if c := level.Check(t.Context()); c.Err != nil {
				t.Error(c.Err)
			}
		})
	}
}

// An outage of Redis is one line now and then, not one for each write.
func TestLostIsSaidOnce(t *testing.T) {
	var said bytes.Buffer
	s := cache.New(cache.Config{
		Store: &shelf{user: person}, Level: cache.NewRedis(clientOf(t, "127.0.0.1:1"), nil), Mode: cache.ModeEvent, TTL: time.Minute,
		Log: slog.New(slog.NewTextHandler(&said, nil)),
	})
	for range 5 {
		replace(t, s)
	}
	if n := strings.Count(said.String(), "lost"); n != 1 {
		t.Errorf("%d lines:\n%s", n, said.String())
	}
}

// TestFlush empties Redis between a read and its put.
func TestFlush(t *testing.T) {
	server := redistest.Start(t)
	s := &shelf{read: make(chan struct{}, 1)}
	s.put(person)
	a := newCache(s, cache.NewRedis(clientOf(t, server.Address), nil), cache.ModeEvent, 0)
	hold := make(chan struct{})
	s.hold = hold
	got := make(chan int64, 1)
	go func() { got <- get(t, a, "") }()
	<-s.read
	s.mu.Lock()
	s.hold = nil
	s.mu.Unlock()
	replace(t, a)
	server.Flush() // and the tombstone with all else
	close(hold)
	<-got
	if v := get(t, a, ""); v != 2 {
		t.Errorf("version %d was kept", v)
	}
}

// TestConformance holds a cache before a store to what holds for stores.
func TestConformance(t *testing.T) {
	client := clientOf(t, redistest.Start(t).Address)
	for _, mode := range []string{cache.ModeTTL, cache.ModeEvent, cache.ModeWriteThrough} {
		t.Run(mode, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) users.Store {
				return newCache(storetest.NewMemory(), cache.NewRedis(client, nil), mode, time.Second)
			})
		})
	}
}

// TestTokenGrowth has one client write to many users: its token stays small, and
// its reads right.
func TestTokenGrowth(t *testing.T) {
	ctx := context.Background()
	a := newCache(storetest.NewMemory(), cache.NewMemory(), cache.ModeTTL, 0)
	var all []users.User
	var seen users.Token
	for i := range 40 {
		u := person
		u.Email = fmt.Sprintf("n%d@example.com", i)
		u, _, next, err := a.Create(ctx, u, users.Once{}, seen)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Get(ctx, u.ID, ""); err != nil { // version 1 is cached
			t.Fatal(err)
		}
		all, seen = append(all, u), next
	}
	for i, u := range all {
		got, next, err := a.Replace(ctx, u, 0, seen)
		if err != nil {
			t.Fatal(err)
		}
		all[i], seen = got, next
	}
	if len(seen) > 600 {
		t.Errorf("a token of %d bytes", len(seen))
	}
	for _, u := range all {
		if got, _, err := a.Get(ctx, u.ID, seen); err != nil || got.Version != 2 {
			t.Errorf("version %d with the token, %v", got.Version, err)
		}
	}
}
