package limiter

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// small are limits that Redis is asked about each time, of ten at once and then
// none for an hour.
var small = whole[:3]

// newSmallOutage is an outage of such a limit.
func newSmallOutage(t *testing.T, spec RateSpec) *outage {
	spec.Nodes = 2
	return &outage{t, connect(t, redistest.Start(t).Address), spec}
}

// What a gateway admitted without Redis is charged when it is back, beyond the
// limit if need be, and does not count twice.
func TestRateSmallDebt(t *testing.T) {
	for _, spec := range small {
		t.Run(spec.Algorithm, func(t *testing.T) {
			o := newSmallOutage(t, spec)
			one, two := o.node(), o.node()
			if n := o.take(one, 3); n != 3 {
				t.Fatalf("%d admitted", n)
			}
			lose(two)
			if n := o.take(two, 10); n != 5 {
				t.Fatalf("%d admitted of a share of 10/2", n)
			}
			two.redis.close(t.Context())
			two.redis.settle(t.Context())
			if n := o.take(one, 10) + o.take(two, 10); n != 10-3-5 {
				t.Errorf("%d admitted after 3 and 5 of 10", n)
			}
			lose(two)
			if n := o.take(two, 10); n != 0 {
				t.Errorf("%d admitted when Redis is lost again", n)
			}
		})
	}
}

// A debt goes beyond the limit: it is not forgiven because there is no room.
func TestRateSmallDebtBeyond(t *testing.T) {
	for _, spec := range small {
		t.Run(spec.Algorithm, func(t *testing.T) {
			o := newSmallOutage(t, spec)
			one, two := o.node(), o.node()
			o.take(one, 10)
			lose(two)
			o.take(two, 10)
			two.redis.close(t.Context())
			d := one.Take([]byte("other"), 1, time.Now())
			if !d.Allowed {
				t.Fatalf("another key: %+v", d)
			}
			d = two.Take([]byte("k"), 1, time.Now())
			least := 50 * time.Minute // of the window
			if spec.Algorithm == "" || spec.Algorithm == RateGCRA {
				least = 35 * time.Minute // 15 of 10 are taken, and one comes in 6 minutes
			}
			if d.Allowed || d.Retry < least {
				t.Errorf("15 of 10 are taken: %+v", d)
			}
		})
	}
}

// Where Redis comes back empty, what was admitted meanwhile is all that it knows.
func TestRateSmallDebtAfterLoss(t *testing.T) {
	for _, spec := range small {
		t.Run(spec.Algorithm, func(t *testing.T) {
			o := newSmallOutage(t, spec)
			one, two := o.node(), o.node()
			for _, l := range []*RateLimiter{one, two} {
				lose(l)
				o.take(l, 4)
			}
			if err := o.client.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			one.redis.close(t.Context())
			two.redis.close(t.Context())
			if n := o.take(one, 10) + o.take(two, 10); n != 2 {
				t.Errorf("%d admitted after 4 and 4 of 10", n)
			}
		})
	}
}

// What Redis last said of a bucket holds while it is away: its burst is not there
// a second time.
func TestRateSmallKnows(t *testing.T) {
	o := newSmallOutage(t, small[0])
	l := o.node()
	if n := o.take(l, 8); n != 8 {
		t.Fatalf("%d admitted", n)
	}
	lose(l)
	if n := o.take(l, 10); n > 1 {
		t.Errorf("%d admitted of the share of the 2 that were left", n)
	}
}

// A gateway that waits for the others pays for what it may admit until then, and
// gets back what it has not.
func TestRateSmallPaysAhead(t *testing.T) {
	o := newSmallOutage(t, small[0])
	one, two := o.node(), o.node()
	lose(one)
	o.take(one, 2)
	one.redis.resume.Store(one.redis.now() + int64(time.Second))
	one.redis.settle(t.Context())
	if n := o.take(two, 10); n != 4 && n != 5 { // it pays for one more, which may come in
		t.Errorf("%d admitted while 5 may still be spent elsewhere", n)
	}
	o.take(one, 1)
	one.redis.close(t.Context())
	if n := o.take(one, 10) + o.take(two, 10); n != 2 && n != 3 {
		t.Errorf("%d admitted after 3 and 4 or 5 of 10", n)
	}
}

// What another limit denies is given back while Redis is away as well.
func TestRateSmallRefundAway(t *testing.T) {
	for _, spec := range append(slices.Clone(small), RateSpec{Rate: rate(100, time.Hour)}) {
		o := newSmallOutage(t, spec)
		l := o.node()
		lose(l)
		for i := range 500 {
			d := l.Take([]byte("k"), 1, time.Now())
			if !d.Allowed {
				t.Fatalf("%s: request %d after as many that were given back: %+v", spec.Algorithm, i, d)
			}
			d.Refund()
		}
	}
}

// What is given back late is not given to a window that began after it was taken.
func TestRateLateRefund(t *testing.T) {
	for _, algorithm := range []string{RateFixedWindow, RateSlidingWindow} {
		t.Run(algorithm, func(t *testing.T) {
			client, scripts := connect(t, redistest.Start(t).Address), newRateScripts()
			p := newRate(t, "late", RateSpec{Rate: rate(4, time.Hour), Algorithm: algorithm}, nil).params.Load()
			ask := func(cost int64, more ...any) int64 {
				script, args := p.sync(scripts, cost)
				v, err := script.Run(t.Context(), client, []string{"k"}, append(args, more...)...).Int64Slice()
				if err != nil {
					t.Fatal(err)
				}
				return v[0]
			}
			if ask(4) != 1 {
				t.Fatal("an empty window has no room")
			}
			ask(-4, time.Minute.Microseconds()) // taken a minute ago: in no window that is left
			if ask(1) != 0 {
				t.Error("a fifth of 4 is admitted")
			}
			ask(-1, 0)
			if ask(1) != 1 {
				t.Error("what was given back is not there")
			}
		})
	}
}

// With on_error local small bursts keep to one burst beyond the envelope as larger
// ones do, and windows to one limit beyond the two that can meet.
func TestRateSmallEnvelopeAway(t *testing.T) {
	for _, c := range []struct {
		name string
		spec RateSpec
		most func(admits []admit) float64 // admitted beyond what is allowed
	}{
		{"gcra", RateSpec{Rate: rate(100, time.Second), Burst: 15, Algorithm: RateGCRA}, func(all []admit) float64 { return envelope(all, 100, 15) - 15 }},
		{"fixed_window", RateSpec{Rate: rate(60, time.Second), Algorithm: RateFixedWindow}, func(all []admit) float64 { return float64(busiest(all, time.Second) - 3*60) }},
		{"sliding_window", RateSpec{Rate: rate(60, time.Second), Algorithm: RateSlidingWindow}, func(all []admit) float64 { return float64(busiest(all, time.Second) - 3*60) }},
	} {
		for name, back := range map[string]struct{ away, back func(*redistest.Server) }{
			"stopped": {(*redistest.Server).Stop, (*redistest.Server).Continue},
			"killed":  {(*redistest.Server).Kill, (*redistest.Server).Restart},
		} {
			t.Run(fmt.Sprint(c.name, "/", name), func(t *testing.T) {
				t.Parallel()
				f := newFleet(t)
				f.spec, f.timeout = c.spec, 250*time.Millisecond
				f.spec.OnError = RateLocal
				nodes := f.nodes(3, even)
				for _, l := range nodes {
					eventually(t, "the nodes know of each other", func() bool { return l.redis.Nodes() == 3 })
				}
				f.begin = time.Now()
				beats, during := 0, 0
				f.run(nodes, 4200*time.Millisecond, func(each <-chan time.Time) {
					for range each {
						switch beats++; beats {
						case 4:
							back.away(f.server)
							during = -f.count()
						case 9:
							during += f.count()
							back.back(f.server)
						}
					}
				})
				if over := c.most(f.admits); over > 0 {
					t.Errorf("%d admitted, and in some window %.1f more than is allowed", len(f.admits), over)
				}
				if during < 20 {
					t.Errorf("%d admitted while Redis was away", during)
				}
				t.Logf("%d admitted, %d while Redis was away; %.1f to spare", len(f.admits), during, -c.most(f.admits))
			})
		}
	}
}

// busiest is how many were admitted at least in the worst window of that length.
func busiest(admits []admit, window time.Duration) (most int) {
	for _, first := range admits {
		n := 0
		for _, a := range admits {
			if a.from >= first.from && a.to < first.from+window {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// A Redis that hangs while it is told of what was admitted costs one time-out, not
// one for each shard of each limit; and nothing of it is forgotten.
func TestRateSettleEndsWithFailure(t *testing.T) {
	failures := 0
	r := NewRateRedis(func(error) { failures++ })
	r.Use(connect(t, "127.0.0.1:1"), time.Second)
	l := newRate(t, "x", RateSpec{Rate: rate(100, time.Hour), Nodes: 1}, r)
	lose(l)
	const keys = 2000
	for i := range keys {
		if d := l.Take(fmt.Append(nil, "k", i), 1, time.Now()); !d.Allowed {
			t.Fatalf("%+v", d)
		}
	}
	for range 2 {
		failures = 0
		r.settle(t.Context())
		if failures == 0 || failures > keys/8 {
			t.Errorf("%d of %d words to a Redis that is gone", failures, keys)
		}
	}
	owing := 0
	for i := range l.leases.shards {
		owing += len(l.leases.shards[i].owing)
	}
	if owing != keys {
		t.Errorf("%d keys are still to be told of, want %d", owing, keys)
	}
}

// An exchange that began before a reload may cost more than the limit has now, and
// more than 64 bits of ns.
func TestRateCostBeyond(t *testing.T) {
	for _, spec := range []RateSpec{
		{Rate: rate(1, 366*24*time.Hour)}, {Rate: rate(1, 366*24*time.Hour), Algorithm: RateFixedWindow},
		{Rate: rate(1, 366*24*time.Hour), Algorithm: RateSlidingWindow}, {Max: 1, Algorithm: RateConcurrency},
	} {
		l := newRate(t, "x", spec, nil)
		for _, cost := range []int64{2, 1000, mostRate} {
			if d := l.Take([]byte("a"), cost, time.Now()); d.Allowed || d.Retry <= 0 {
				t.Errorf("%s: cost %d of 1: %+v", spec.Algorithm, cost, d)
			}
		}
		if d := l.Take([]byte("a"), 1, time.Now()); !d.Allowed {
			t.Errorf("%s: cost 1 of 1: %+v", spec.Algorithm, d)
		}
	}
}
