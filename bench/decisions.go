package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sluice-edge/sluice/limiter"
)

// measureDecisions measures decisions a second of the limiter, leased and by one
// script for each, beside a bare INCR for each: as many goroutines as the load has
// connections, over one client as the gateway has it.
func measureDecisions() error {
	client := redis.NewClient(&redis.Options{
		Addr: redisAddr, Protocol: 2, DisableIdentity: true, MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer client.Close()
	shared := limiter.NewRateRedis(nil)
	shared.Use(client, time.Second)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = shared.Run(ctx) })
	defer func() { cancel(); running.Wait() }()

	leased, err := aLimiter("leased", limiter.RateGCRA, limiter.Rate{Count: 9_000_000, Per: time.Second}, shared)
	if err != nil {
		return err
	}
	window, err := aLimiter("window", limiter.RateFixedWindow, limiter.Rate{Count: 1_000_000_000, Per: time.Hour}, shared)
	if err != nil {
		return err
	}
	take := func(l *limiter.RateLimiter) func([]byte) error {
		return func(key []byte) error {
			if d := l.Take(key, 1, time.Now()); !d.Allowed || d.Fallback {
				return fmt.Errorf("a decision without Redis: %+v", d)
			}
			return nil
		}
	}
	kinds := []struct {
		name      string
		decide    func(key []byte) error
		perSecond float64
	}{
		{"leased", take(leased), 0},
		{"the limiter's script for each", take(window), 0},
		{"a bare INCR for each", func(key []byte) error { return client.Incr(ctx, string(key)).Err() }, 0},
	}
	for i := range kinds {
		k := &kinds[i]
		if k.perSecond, err = decisions(k.decide); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	least := kinds[len(kinds)-1].perSecond
	for _, k := range kinds {
		fmt.Printf("  %-30s %12.0f a second  %8.1f × a bare INCR\n", k.name, k.perSecond, k.perSecond/least)
	}
	return nil
}

func aLimiter(name, algorithm string, rate limiter.Rate, shared *limiter.RateRedis) (*limiter.RateLimiter, error) {
	spec := limiter.RateDefaults()
	spec.Rate, spec.Algorithm, spec.Scope = rate, algorithm, limiter.RateGlobal
	return limiter.NewRateLimiter(name, spec, shared, time.Now())
}

// decisions is how many there are in a second, about a few keys.
func decisions(decide func(key []byte) error) (float64, error) {
	var keys [16][]byte
	for i := range keys {
		keys[i] = fmt.Append(nil, "bench-", i)
		if err := decide(keys[i]); err != nil {
			return 0, err
		}
	}
	var all atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range *connections {
		wg.Go(func() {
			n := 0
			for ; time.Since(begin) < *duration; n++ {
				if err := decide(keys[(i+n)%len(keys)]); err != nil {
					first.CompareAndSwap(nil, &err)
					return
				}
			}
			all.Add(int64(n))
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return 0, *err
	}
	return float64(all.Load()) / time.Since(begin).Seconds(), nil
}
