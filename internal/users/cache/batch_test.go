package cache_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/redistest"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/cache"
)

// TestTogether: look-ups and puts that meet go to Redis together, and each gets
// what is its own, also where Redis has forgotten its scripts.
func TestTogether(t *testing.T) {
	server := redistest.Start(t)
	client := clientOf(t, server.Address)
	level := cache.NewRedis(client, nil)
	ctx := context.Background()
	for round := range 3 {
		if err := client.ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		server.Stop()
		var wg sync.WaitGroup
		for i := range 600 {
			wg.Go(func() {
				u := &users.User{ID: fmt.Sprintf("%d-%d", round, i), Version: int64(i + 1)}
				if err := level.Tell(ctx, u.ID, &cache.Entry{Version: u.Version, User: u, Expires: time.Now().Add(time.Minute)}); err != nil {
					t.Errorf("telling of %s: %v", u.ID, err)
				}
			})
		}
		server.Continue()
		wg.Wait()
		server.Stop()
		for i := range 600 {
			wg.Go(func() {
				id := fmt.Sprintf("%d-%d", round, i)
				e, _, err := level.Find(ctx, id)
				if err != nil || e == nil || e.User == nil || e.User.ID != id || e.Version != int64(i+1) {
					t.Errorf("%s: %+v, %v", id, e, err)
				}
			})
		}
		server.Continue()
		wg.Wait()
	}
	stats, err := client.Info(ctx, "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	var scripts, evals, loads int
	for line := range strings.Lines(stats) {
		_, _ = fmt.Sscanf(line, "cmdstat_evalsha:calls=%d", &scripts)
		_, _ = fmt.Sscanf(line, "cmdstat_eval:calls=%d", &evals)
		_, _ = fmt.Sscanf(line, "cmdstat_script|load:calls=%d", &loads)
	}
	if all := 2 * 3 * 600; scripts == 0 || scripts > all/4 {
		t.Errorf("%d scripts for %d calls", scripts, all)
	}
	if evals > 0 || loads > 2*3 { // one of each after each flush
		t.Errorf("%d scripts sent whole, and %d loaded", evals, loads)
	}
}

// TestLeft: whoever does not wait any longer costs Redis no trust.
func TestLeft(t *testing.T) {
	server := redistest.Start(t)
	level := cache.NewRedis(clientOf(t, server.Address), nil)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for range 10 {
		if _, _, err := level.Find(gone, "somebody"); err == nil {
			t.Error("found without waiting")
		}
	}
	if _, _, err := level.Find(context.Background(), "somebody"); err != nil {
		t.Errorf("after them: %v", err)
	}
}

// TestHung: however many ask while Redis hangs, nobody waits for more than a
// time-out and that of the batch before.
func TestHung(t *testing.T) {
	server := redistest.Start(t)
	client := clientOf(t, server.Address)
	if err := client.Ping(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	level := cache.NewRedis(client, nil)
	server.Stop()
	defer server.Continue()
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 20 * 256 { // of a second each, were they one after the other
		wg.Go(func() {
			if _, _, err := level.Find(context.Background(), fmt.Sprint(i)); err == nil {
				t.Error("found where nobody answers")
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the last waited %v", took)
	}
}
