package session_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/redistest"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/session"
)

// TestSliding: a session that is shown goes on, one that is not ends.
func TestSliding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		m := session.NewMemory(time.Hour)
		s, err := m.Start(ctx, "u")
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			time.Sleep(59 * time.Minute) // lint:sleep the clock of synctest
			got, err := m.Find(ctx, s.Secret)
			if err != nil || time.Until(got.ExpiresAt).Round(time.Second) != time.Hour || !got.CreatedAt.Equal(s.CreatedAt) {
				t.Fatalf("%+v, %v", got, err)
			}
		}
		m.Configure(time.Minute)
		if _, err := m.Find(ctx, s.Secret); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // lint:sleep the clock of synctest
		if _, err := m.Find(ctx, s.Secret); !errors.Is(err, users.ErrNoSession) {
			t.Errorf("it did not end: %v", err)
		}
	})
}

// TestEndAll ends what has begun, and nothing of anybody else.
func TestEndAll(t *testing.T) {
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Address, MaxRetries: -1})
	t.Cleanup(func() { client.Close() })
	ctx := context.Background()
	for name, all := range map[string]users.Sessions{
		"memory": session.NewMemory(time.Hour), "redis": session.NewRedis(client, time.Hour, nil),
	} {
		mine, err1 := all.Start(ctx, "me")
		other, err2 := all.Start(ctx, "other")
		if err := errors.Join(err1, err2, all.EndAll(ctx, "me")); err != nil {
			t.Fatal(err)
		}
		if _, err := all.Find(ctx, mine.Secret); !errors.Is(err, users.ErrNoSession) {
			t.Errorf("%s: mine goes on: %v", name, err)
		}
		if s, err := all.Find(ctx, other.Secret); err != nil || s.UserID != "other" {
			t.Errorf("%s: another's ended: %+v, %v", name, s, err)
		}
	}
}

// TestRedisForgets: whatever Redis has lost of a user, nobody is let in for it, and
// who logs in anew is.
func TestRedisForgets(t *testing.T) {
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Address, MaxRetries: -1})
	t.Cleanup(func() { client.Close() })
	ctx := context.Background()
	all := session.NewRedis(client, time.Hour, nil)
	ended, err := all.Start(ctx, "u")
	if err := errors.Join(err, all.EndAll(ctx, "u")); err != nil {
		t.Fatal(err)
	}
	for _, lost := range []string{"", "sluice:logins:u", "sluice:session:*"} {
		good, err := all.Start(ctx, "u")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := all.Find(ctx, good.Secret); err != nil {
			t.Fatal(err)
		}
		if _, err := all.Find(ctx, ended.Secret); !errors.Is(err, users.ErrNoSession) {
			t.Errorf("what was ended goes on: %v", err)
		}
		if lost == "" {
			continue
		}
		keys, err := client.Keys(ctx, lost).Result()
		if err != nil || len(keys) == 0 {
			t.Fatal(keys, err)
		}
		client.Del(ctx, keys...)
		for _, s := range []users.Session{good, ended} {
			if _, err := all.Find(ctx, s.Secret); !errors.Is(err, users.ErrNoSession) {
				t.Errorf("without %s: %v", lost, err)
			}
		}
	}
}

// TestRedisExpiry: Redis itself forgets sessions, later each time they are shown.
func TestRedisExpiry(t *testing.T) {
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Address, MaxRetries: -1})
	t.Cleanup(func() { client.Close() })
	ctx := context.Background()
	all := session.NewRedis(client, time.Hour, nil)
	s, err := all.Start(ctx, "u")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := client.Keys(ctx, "sluice:session:*").Result()
	if err != nil || len(keys) != 1 || strings.Contains(keys[0], s.Secret) {
		t.Fatalf("keys %v, %v", keys, err)
	}
	client.Expire(ctx, keys[0], time.Minute)
	if _, err := all.Find(ctx, s.Secret); err != nil {
		t.Fatal(err)
	}
	if left, err := client.TTL(ctx, keys[0]).Result(); err != nil || left < 59*time.Minute {
		t.Errorf("%v left, %v", left, err)
	}
}
