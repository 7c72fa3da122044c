package limiter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// An outage is gateways over one Redis, of which a test says when each of them
// finds it gone and when again.
type outage struct {
	t      *testing.T
	client redis.UniversalClient
	spec   RateSpec
}

// newOutage is of a limit that does not fill up while a test lasts: 90 tokens in
// the bucket, and 10 that may be out.
func newOutage(t *testing.T) *outage {
	return &outage{t, connect(t, redistest.Start(t).Address), RateSpec{Rate: rate(100, time.Hour), Nodes: 2}}
}

func (o *outage) node() *RateLimiter {
	r := NewRateRedis(nil)
	r.Use(o.client, 10*time.Second)
	return newRate(o.t, "outage", o.spec, r)
}

// take is how many of n are admitted; it does what the goroutine would.
func (o *outage) take(l *RateLimiter, n int) (admitted int) {
	o.t.Helper()
	for range n {
		done := make(chan RateDecision, 1)
		go func() { done <- l.Take([]byte("k"), 1, time.Now()) }()
		for decided := false; !decided; {
			select {
			case d := <-done:
				decided = true
				if d.Allowed {
					admitted++
				}
			case <-l.redis.kick:
				l.redis.flush(o.t.Context())
			}
		}
	}
	return admitted
}

// level is how many tokens the bucket in Redis has.
func (o *outage) level(l *RateLimiter) int {
	o.t.Helper()
	ctx := o.t.Context()
	full, err := o.client.HGet(ctx, sharedKey(l.name, []byte("k")).name("lease"), "t").Float64()
	if err != nil {
		o.t.Fatal(err)
	}
	now, err := o.client.Time(ctx).Result()
	if err != nil {
		o.t.Fatal(err)
	}
	p := l.params.Load()
	return int(p.rule.limit-p.lease) - int(math.Round((full-float64(now.UnixMicro()))*1000/float64(p.rule.interval)))
}

func lose(l *RateLimiter) { l.redis.broken(errors.New("gone")) }

// What a gateway that lost Redis alone has admitted beside the others is a debt
// of the bucket, below empty if need be, whether or not anybody asks again.
func TestRateDebt(t *testing.T) {
	o := newOutage(t)
	one, two := o.node(), o.node()
	lose(two)
	if n := o.take(two, 100); n != 45 {
		t.Fatalf("%d admitted of a share of 90/2", n)
	}
	first := o.take(one, 100)
	if first < 80 || first > 100 {
		t.Fatalf("%d of 100 admitted", first)
	}
	two.redis.close(t.Context())
	if n := o.level(one); n > 90-first-45+10 || n < -60 {
		t.Errorf("a level of %d after %d and 45", n, first)
	}
	if n := o.take(one, 20) + o.take(two, 20); n > 100-first {
		t.Errorf("%d more are admitted", n)
	}
	lose(two)
	if n := o.take(two, 20); n != 0 {
		t.Errorf("%d admitted when Redis is lost again", n)
	}
}

// A gateway that waits for the others pays for what it may admit until then, and
// gets back, once, what it has not.
func TestRatePaysAhead(t *testing.T) {
	o := newOutage(t)
	one, two := o.node(), o.node()
	for _, l := range []*RateLimiter{one, two} {
		lose(l)
		o.take(l, 5)
		l.redis.resume.Store(l.redis.now() + int64(time.Second))
		l.redis.settle(t.Context())
	}
	if n := o.level(one); n > 0 || n < -4 {
		t.Errorf("a level of %d while each may still admit its share", n)
	}
	o.take(one, 10)
	o.take(two, 20)
	one.redis.close(t.Context())
	two.redis.close(t.Context())
	for range 2 {
		if n := o.level(one); n < 90-40-4 || n > 90-40 {
			t.Errorf("a level of %d after 15 and 25", n)
		}
		two.redis.settle(t.Context())
	}
}

// A key that is new while the gateway waits for the others is paid for as well.
func TestRatePaysAheadForNew(t *testing.T) {
	o := newOutage(t)
	l := o.node()
	lose(l)
	l.redis.resume.Store(l.redis.now() + int64(time.Second))
	o.take(l, 5)
	l.redis.flush(t.Context())
	if n := o.level(l); n > 45 || n < 45-5 {
		t.Errorf("a level of %d while a share of 45 may be spent", n)
	}
}

// A credit is not given twice where the answer to the first was lost.
func TestRateCreditCountsOnce(t *testing.T) {
	o := newOutage(t)
	l := o.node()
	lose(l)
	o.take(l, 5)
	l.redis.resume.Store(l.redis.now() + int64(time.Second))
	l.redis.settle(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.redis.close(ctx) // the credit is lost
	l.redis.open.Store(false)
	l.redis.settle(t.Context())
	if n := o.level(l); n > 45 {
		t.Errorf("a level of %d: a credit that was lost is given again", n)
	}
}

// Keys that are invented while Redis is away take no more memory than else, and
// what there is no room for shares one share.
func TestRateAwayBounded(t *testing.T) {
	r := NewRateRedis(nil)
	r.Use(connect(t, "127.0.0.1:1"), time.Second)
	l := newRate(t, "x", RateSpec{Rate: rate(100, time.Hour), MaxKeys: 1000, Nodes: 1}, r)
	lose(l)
	admitted := 0
	for i := range 20_000 {
		if l.Take(fmt.Append(nil, "invented-", i), 1, time.Now()).Allowed {
			admitted++
		}
	}
	if n, _ := l.Keys(); n > 1000 {
		t.Errorf("%d keys are remembered, of at most 1000", n)
	}
	if most := 1000 + 90*len(l.leases.shards); admitted > most || admitted < 1000 {
		t.Errorf("%d are admitted, want at most %d", admitted, most)
	}
}

// A reload that changes the rate keeps what was used, as requests.
func TestRateReload(t *testing.T) {
	slow, fast := RateSpec{Rate: rate(10, time.Hour), Algorithm: RateGCRA, Scope: RateLocal}, RateSpec{Rate: rate(10, time.Second), Algorithm: RateGCRA, Scope: RateLocal}
	l := newRate(t, "x", slow, nil)
	admitted(l, "a", 20)
	admitted(l, "b", 4)
	if err := l.Configure(fast); err != nil {
		t.Fatal(err)
	}
	d := l.Take([]byte("a"), 10, time.Now())
	if d.Allowed || d.Retry > time.Second {
		t.Errorf("used up at 10/h, and at 10/s then: %+v", d)
	}
	if d := l.Take([]byte("b"), 7, time.Now()); d.Allowed || d.Retry > 100*time.Millisecond {
		t.Errorf("7 after 4 of 10: %+v", d)
	}
	l = newRate(t, "x", fast, nil)
	admitted(l, "a", 20)
	if err := l.Configure(slow); err != nil {
		t.Fatal(err)
	}
	if d := l.Take([]byte("a"), 10, time.Now()); d.Allowed || d.Retry < 20*time.Minute {
		t.Errorf("used up at 10/s, and at 10/h then: %+v", d)
	}
}

// No key of a client is taken for one of another limit or tier.
func TestRateKeysApart(t *testing.T) {
	if sharedKey("a", []byte("\x00b\x00c")) == sharedKey("a\x00b", []byte("c")) || sharedKey("a", []byte("bc")) == sharedKey("ab", []byte("c")) {
		t.Error("two limits have a key in common")
	}
	if long := strings.Repeat("x", 4096); sharedKey("a", []byte(long)) == sharedKey("a", []byte(long+"x")) {
		t.Error("two long keys are one")
	}
}

// What Redis gives too late to be spent is no denial: on_error decides. That the
// bucket is empty is one, however late.
func TestRateSlowIsNotEmpty(t *testing.T) {
	for _, c := range []struct {
		give, gap int64
		allowed   bool
	}{{50, 0, true}, {0, 1000, false}} {
		synctest.Test(t, func(t *testing.T) {
			r := NewRateRedis(nil)
			client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}) // nobody connects
			defer client.Close()
			r.Use(client, time.Second)
			l := newRate(t, "slow", RateSpec{Rate: rate(1000, time.Hour)}, r)
			decided := make(chan RateDecision, 1)
			go func() { decided <- l.Take([]byte("k"), 1, time.Now()) }()
			synctest.Wait()
			ops := r.take()
			if len(ops) != 1 {
				t.Fatalf("%d questions", len(ops))
			}
			ops[0].command(r)
			time.Sleep(rateTerm - rateDrift/2) // lint:sleep in a bubble
			ops[0].answered(r, []int64{c.give, 0, 0, c.gap, 1}, nil)
			if d := <-decided; d.Allowed != c.allowed || d.Fallback != c.allowed {
				t.Errorf("%d given after the term: %+v", c.give, d)
			}
		})
	}
}

// A Redis that hangs costs those who ask at that moment one timeout, and nobody
// after them.
func TestRateHangs(t *testing.T) {
	for _, spec := range append(whole, RateSpec{Rate: rate(100, time.Hour)}) {
		server := redistest.Start(t)
		r, _ := shareWithin(t, connect(t, server.Address), time.Second)
		l := newRate(t, "x", spec, r)
		l.Take([]byte("a"), 1, time.Now())
		server.Stop()
		begin := time.Now()
		for i := range 300 {
			if d := l.Take(fmt.Append(nil, "b", i), 1, time.Now()); !d.Fallback || !d.Allowed {
				t.Fatalf("%s, request %d: %+v", spec.Algorithm, i, d)
			}
		}
		if took := time.Since(begin); took > 60*time.Second { // else it is 300 s
			t.Errorf("%s: 300 requests took %v", spec.Algorithm, took)
		}
		server.Continue()
	}
}
