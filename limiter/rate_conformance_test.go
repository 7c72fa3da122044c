package limiter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/sluice-edge/sluice/internal/redistest"
)

func TestMain(m *testing.M) {
	redis.SetLogger(new(logging.VoidLogger)) // tests kill it on purpose
	os.Exit(m.Run())
}

// connect opens a client as cmd/gateway does, and closes it with the test.
func connect(t testing.TB, address string) redis.UniversalClient {
	c := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: []string{address}, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, Protocol: 2,
		DialTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, DisableIdentity: true,
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// share runs a node's part in Redis until the test ends, or stop is called.
func share(t testing.TB, client redis.UniversalClient) (r *RateRedis, stop func()) {
	return shareWithin(t, client, 10*time.Second)
}

func shareWithin(t testing.TB, client redis.UniversalClient, timeout time.Duration) (r *RateRedis, stop func()) {
	r = NewRateRedis(nil)
	r.Use(client, timeout)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	t.Cleanup(stop)
	return r, stop
}

func rate(count int64, per time.Duration) Rate { return Rate{count, per} }

// newRate is a limiter; what spec leaves out is the default.
func newRate(t testing.TB, name string, spec RateSpec, shared *RateRedis) *RateLimiter {
	t.Helper()
	d := RateDefaults()
	if spec.Algorithm == "" {
		spec.Algorithm = d.Algorithm
	}
	if spec.OnError == "" {
		spec.OnError = d.OnError
	}
	spec.Scope = RateLocal
	if shared != nil {
		spec.Scope = RateGlobal
	}
	l, err := NewRateLimiter(name, spec, shared, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// eachStore runs a test over memory, over Redis and over a Redis Cluster.
func eachStore(t *testing.T, f func(t *testing.T, make func(spec RateSpec) *RateLimiter)) {
	named := func(t *testing.T, r *RateRedis) func(RateSpec) *RateLimiter {
		n := 0
		return func(spec RateSpec) *RateLimiter {
			n++
			return newRate(t, fmt.Sprint("limit-", n), spec, r)
		}
	}
	t.Run("memory", func(t *testing.T) { f(t, named(t, nil)) })
	t.Run("redis", func(t *testing.T) {
		r, _ := share(t, connect(t, redistest.Start(t).Address))
		f(t, named(t, r))
		if r.Down() {
			t.Error("Redis was away")
		}
	})
	t.Run("cluster", func(t *testing.T) {
		addresses := redistest.Addresses(redistest.StartCluster(t))
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addresses, MaxRedirects: 3, Protocol: 2})
		t.Cleanup(func() { client.Close() })
		eventually(t, "the cluster is up", func() bool { return client.Set(t.Context(), "x", 1, 0).Err() == nil })
		r, _ := share(t, client)
		f(t, named(t, r))
		if r.Down() {
			t.Error("Redis was away")
		}
	})
}

// eventually polls what nothing tells.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-late:
			t.Fatalf("not in time: %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// admitted is how many of n requests of a key are admitted now.
func admitted(l *RateLimiter, key string, n int) (count int) {
	for range n {
		if d := l.Take([]byte(key), 1, time.Now()); d.Allowed {
			count++
		}
	}
	return count
}

// whole are specs of all algorithms that admit ten at once, and no more for an
// hour; the burst of the first is leased, that of the second is not.
var whole = []RateSpec{
	{Rate: rate(10, time.Hour)},
	{Rate: rate(10, time.Hour), Algorithm: RateFixedWindow},
	{Rate: rate(10, time.Hour), Algorithm: RateSlidingWindow},
	{Max: 10, Algorithm: RateConcurrency},
}

func TestRateConformance(t *testing.T) {
	eachStore(t, func(t *testing.T, make func(RateSpec) *RateLimiter) {
		for _, spec := range whole {
			t.Run(spec.Algorithm, func(t *testing.T) { conform(t, make(spec)) })
		}
	})
}

func conform(t *testing.T, l *RateLimiter) {
	for i := range 10 {
		d := l.Take([]byte("a"), 1, time.Now())
		if !d.Allowed || d.Fallback || d.Remaining != int64(9-i) {
			t.Fatalf("request %d: %+v", i+1, d)
		}
	}
	for range 3 {
		d := l.Take([]byte("a"), 1, time.Now())
		if d.Allowed || d.Fallback || d.Remaining != 0 || d.Retry <= 0 || d.Retry > 2*time.Hour {
			t.Fatalf("beyond the limit: %+v", d)
		}
	}
	if n := admitted(l, "b", 12); n != 10 {
		t.Errorf("%d of another key, want 10", n)
	}
	if d := l.Take([]byte("c"), 7, time.Now()); !d.Allowed || d.Remaining != 3 {
		t.Errorf("cost 7: %+v", d)
	}
	if d := l.Take([]byte("c"), 4, time.Now()); d.Allowed {
		t.Errorf("cost 4 of 3: %+v", d)
	}
	if d := l.Take([]byte("c"), 3, time.Now()); !d.Allowed || d.Remaining != 0 {
		t.Errorf("cost 3 of 3: %+v", d)
	}
	for range 4 { // what is given back is there again, and nothing more
		var d RateDecision
		eventually(t, "the refund has arrived", func() bool {
			d = l.Take([]byte("d"), 10, time.Now())
			return d.Allowed
		})
		d.Refund()
		d.Refund()
	}
	eventually(t, "the refund has arrived", func() bool { return l.Take([]byte("d"), 10, time.Now()).Allowed })
	if d := l.Take([]byte("d"), 1, time.Now()); d.Allowed {
		t.Errorf("an eleventh: %+v", d)
	}
}

// A leased bucket is shared by its nodes; what they do not need they leave.
func TestRateLeasedShares(t *testing.T) {
	server := redistest.Start(t)
	var nodes []*RateLimiter
	for range 3 {
		r, _ := share(t, connect(t, server.Address))
		nodes = append(nodes, newRate(t, "shared", RateSpec{Rate: rate(100, time.Hour)}, r))
	}
	for _, l := range nodes {
		eventually(t, "the nodes know of each other", func() bool { return l.redis.Nodes() == 3 })
	}
	total := 0
	for range 60 {
		for _, l := range nodes {
			total += admitted(l, "a", 1)
		}
	}
	// The capacity of the bucket is 90; 10 may be out besides.
	if total > 100 || total < 80 {
		t.Errorf("%d admitted, want from 80 to 100", total)
	}
}

// A request that costs more than can be leased is not denied for that.
func TestRateLeasedCost(t *testing.T) {
	r, _ := share(t, connect(t, redistest.Start(t).Address))
	for _, c := range []struct{ burst, cost, want int64 }{{100, 30, 3}, {1000, 10, 100}, {1000, 250, 4}} {
		l := newRate(t, fmt.Sprint("cost-", c.cost), RateSpec{Rate: rate(c.burst, time.Hour)}, r)
		n := int64(0)
		for range 2 * c.want {
			if l.Take([]byte("a"), c.cost, time.Now()).Allowed {
				n++
			}
		}
		if n > c.want || 10*n < 8*c.want {
			t.Errorf("cost %d of %d: %d admitted, want about %d", c.cost, c.burst, n, c.want)
		}
	}
}

// Windows end: what was denied is admitted after Retry.
func TestRateRetry(t *testing.T) {
	eachStore(t, func(t *testing.T, make func(RateSpec) *RateLimiter) {
		for _, algorithm := range []string{RateGCRA, RateFixedWindow, RateSlidingWindow} {
			t.Run(algorithm, func(t *testing.T) {
				l := make(RateSpec{Rate: rate(4, 200*time.Millisecond), Algorithm: algorithm})
				if n := admitted(l, "a", 4); n != 4 {
					t.Fatalf("%d of 4 admitted", n)
				}
				var d RateDecision
				for d = l.Take([]byte("a"), 1, time.Now()); d.Allowed; { // slow machines see time pass
					d = l.Take([]byte("a"), 1, time.Now())
				}
				if d.Retry <= 0 || d.Retry > 400*time.Millisecond {
					t.Fatalf("%+v", d)
				}
				<-time.After(d.Retry + time.Millisecond)
				if d := l.Take([]byte("a"), 1, time.Now()); !d.Allowed {
					t.Errorf("after Retry: %+v", d)
				}
			})
		}
	})
}

// While one node holds all places, another gets none; when it dies it does.
func TestRateConcurrencyShared(t *testing.T) {
	server := redistest.Start(t)
	one, _ := share(t, connect(t, server.Address))
	two, _ := share(t, connect(t, server.Address))
	spec := RateSpec{Max: 3, Algorithm: RateConcurrency}
	a, b := newRate(t, "c", spec, one), newRate(t, "c", spec, two)
	var held []RateDecision
	for range 3 {
		d := a.Take([]byte("k"), 1, time.Now())
		if !d.Allowed {
			t.Fatalf("%+v", d)
		}
		held = append(held, d)
	}
	if d := b.Take([]byte("k"), 1, time.Now()); d.Allowed {
		t.Errorf("a fourth: %+v", d)
	}
	held[0].Release()
	held[0].Release() // once is enough
	eventually(t, "a place is free", func() bool { return b.Take([]byte("k"), 1, time.Now()).Allowed })
	if d := a.Take([]byte("k"), 1, time.Now()); d.Allowed {
		t.Errorf("a fourth: %+v", d)
	}
	held[1].Release()
	held[2].Release()
	eventually(t, "all places of one are free", func() bool {
		n, _ := a.Keys()
		return n == 0
	})
}

// The keys in Redis say nothing of the request.
func TestRateKeysAreHashed(t *testing.T) {
	server := redistest.Start(t)
	client := connect(t, server.Address)
	r, _ := share(t, client)
	for _, spec := range append(whole, RateSpec{Rate: rate(100, time.Hour)}) {
		newRate(t, "secretive", spec, r).Take([]byte("alice@example.com"), 1, time.Now())
	}
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) < 5 {
		t.Fatalf("%q, %v", keys, err)
	}
	for _, key := range keys {
		if strings.Contains(key, "alice") || !strings.HasPrefix(key, "sluice:limit:") {
			t.Errorf("the key %q", key)
		}
		if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 0 {
			t.Errorf("%s lives for ever", key)
		}
	}
}

func TestRateCheck(t *testing.T) {
	for _, c := range []struct {
		spec RateSpec
		cost int64
		want string
	}{
		{RateSpec{Rate: rate(1, time.Second)}, 1, ""},
		{RateSpec{}, 1, "rate: a rate is missing"},
		{RateSpec{Rate: rate(0, time.Second)}, 1, "rate: a rate of 0 admits nobody"},
		{RateSpec{Rate: rate(-1, time.Second)}, 1, "rate: "},
		{RateSpec{Rate: rate(1<<40, time.Hour)}, 1, "rate: a rate is of at most"},
		{RateSpec{Rate: rate(1e9, time.Second)}, 1, "rate: a rate is at most 10,000,000 a second"},
		{RateSpec{Rate: rate(1, time.Microsecond)}, 1, "rate: the time of a rate"},
		{RateSpec{Rate: rate(1, 366*24*time.Hour), Burst: 1e9}, 1, "burst: a burst of 1000000000"},
		{RateSpec{Rate: rate(1, time.Second), Burst: 5}, 6, "cost: a cost of 6 is never admitted"},
		{RateSpec{Rate: rate(1, time.Second)}, 0, "cost: "},
		{RateSpec{Rate: rate(1, time.Second), Burst: 5, Algorithm: RateFixedWindow}, 1, "burst: burst is for gcra"},
		{RateSpec{Algorithm: RateConcurrency}, 1, "max: concurrency needs max"},
		{RateSpec{Algorithm: RateConcurrency, Max: 3, Rate: rate(1, time.Second)}, 1, "rate: concurrency has no rate"},
		{RateSpec{Max: 3, Rate: rate(1, time.Second)}, 1, "max: max is for concurrency"},
		{RateSpec{Algorithm: "token"}, 1, `algorithm: "token" is no algorithm`},
	} {
		if c.spec.Algorithm == "" {
			c.spec.Algorithm = RateGCRA
		}
		err := c.spec.Check(c.cost)
		var fault *RateFault
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !errors.As(err, &fault)) {
			t.Errorf("%+v, cost %d: %v, want %s", c.spec, c.cost, err, c.want)
		}
	}
}

func TestRateText(t *testing.T) {
	for text, want := range map[string]Rate{
		"100/1m": rate(100, time.Minute), "5/s": rate(5, time.Second), " 7 / 1h30m ": rate(7, 90*time.Minute), "1/ms": rate(1, time.Millisecond),
	} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%q: %v, %v", text, r, err)
		}
		var again Rate
		if err := again.UnmarshalText([]byte(r.String())); err != nil || again != r {
			t.Errorf("%q is written as %q", text, r)
		}
	}
	for _, text := range []string{"", "100", "/1m", "x/1m", "1/", "1/parsec", "0/1s", "-1/1s", "99999999999999999999/1s", "1/0s", "1/-1s", "1.5/1s"} {
		if err := new(Rate).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for a rate", text)
		}
	}
}
