package limiter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// An admit is a request that was let through, at some time between two.
type admit struct{ from, to time.Duration }

// envelope returns how far admits go beyond burst + rate·t in the worst of all
// windows; 0 or less where they are within it. It takes V ← max(0, V − rate·Δt) + 1
// over the admits in order, which is the worst window so far; only where that
// is too much, since a test does not see the very moment of an admit, it looks
// for a window that is exceeded whenever in between they were.
func envelope(admits []admit, perSecond, burst float64) float64 {
	slices.SortFunc(admits, func(a, b admit) int { return cmp.Compare(a.to, b.to) })
	v, worst, last := 0.0, 0.0, time.Duration(0)
	for _, a := range admits {
		v = max(0, v-perSecond*(a.to-last).Seconds()) + 1
		worst, last = max(worst, v), a.to
	}
	if worst <= burst {
		return worst - burst
	}
	worst = 0
	for _, first := range admits {
		n := 0.0
		for _, a := range admits {
			if a.from < first.from {
				continue
			}
			n++
			worst = max(worst, n-perSecond*(a.to-first.from).Seconds())
		}
	}
	return worst - burst
}

// The check itself must see what is too much.
func TestEnvelope(t *testing.T) {
	burst := func(n int, at time.Duration) (all []admit) {
		for range n {
			all = append(all, admit{at, at})
		}
		return all
	}
	if over := envelope(append(burst(10, 0), burst(10, time.Second)...), 10, 10); over > 0 {
		t.Errorf("what is allowed exceeds by %g", over)
	}
	if over := envelope(append(burst(10, 0), burst(10, time.Second)...), 9, 10); over < 0.99 || over > 1.01 {
		t.Errorf("9 a second instead of 10 exceed by %g, want 1", over)
	}
	if over := envelope(burst(12, 0), 1000, 10); over < 1.99 || over > 2.01 {
		t.Errorf("12 at once exceed by %g, want 2", over)
	}
	late := append(burst(10, 0), admit{0, 3 * time.Second}, admit{0, 3 * time.Second})
	if over := envelope(append(late, burst(10, 3*time.Second)...), 10, 10); over > 0 {
		t.Errorf("admits that may have been in time exceed by %g", over)
	}
}

// A fault is what the way to Redis does to a command.
type fault struct {
	delay     time.Duration // at most so much, before and after
	lost      float64       // share of the commands of which Redis or its answer does not arrive
	doubled   float64       // share of the commands that arrive twice
	late      bool          // the second of them comes after later ones
	duplicate redis.UniversalClient
}

var errLost = errors.New("lost on the way")

func (f *fault) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *fault) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return f.pass(ctx, []redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (f *fault) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return f.pass(ctx, cmds, func() error { return next(ctx, cmds) })
	}
}

func (f *fault) pass(ctx context.Context, cmds []redis.Cmder, next func() error) error {
	lose := func() error {
		<-ctx.Done()
		for _, cmd := range cmds {
			cmd.SetErr(errLost)
		}
		return errLost
	}
	f.wait(ctx)
	if rand.Float64() < f.lost/2 {
		return lose()
	}
	err := next()
	if err == nil && rand.Float64() < f.doubled {
		f.again(cmds)
	}
	f.wait(ctx)
	if rand.Float64() < f.lost/2 || ctx.Err() != nil {
		return lose()
	}
	return err
}

func (f *fault) wait(ctx context.Context) {
	if f.delay == 0 {
		return
	}
	select {
	case <-time.After(rand.N(f.delay)):
	case <-ctx.Done():
	}
}

// again has commands arrive once more.
func (f *fault) again(cmds []redis.Cmder) {
	for _, cmd := range cmds {
		args := cmd.Args()
		send := func() { _ = f.duplicate.Do(context.Background(), args...).Err() }
		if f.late {
			time.AfterFunc(rand.N(100*time.Millisecond), send)
			continue
		}
		send()
	}
}

const (
	fleetRate  = 1000
	fleetBurst = 200
)

// A fleet is gateways that share one limit, and all that they have admitted.
type fleet struct {
	t      *testing.T
	server *redistest.Server
	spec   RateSpec
	script *redis.Script // instead of the lease's; nil: none
	fault  fault
	begin  time.Time

	timeout time.Duration // of requests that wait for Redis

	mu     sync.Mutex
	admits []admit
}

func newFleet(t *testing.T) *fleet {
	return &fleet{
		t: t, server: redistest.Start(t), begin: time.Now(), timeout: time.Second,
		spec: RateSpec{Rate: rate(fleetRate, time.Second), Burst: fleetBurst, OnError: RateDeny},
	}
}

// node is another gateway, whose clock runs faster by that share.
func (f *fleet) node(drift float64) *RateLimiter {
	client := redis.NewClient(&redis.Options{
		Addr: f.server.Address, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, Protocol: 2, DisableIdentity: true,
	})
	plain := redis.NewClient(&redis.Options{Addr: f.server.Address, MaxRetries: -1, Protocol: 2, DisableIdentity: true})
	f.t.Cleanup(func() { client.Close(); plain.Close() })
	way := f.fault
	way.duplicate = plain
	client.AddHook(&way)
	r := NewRateRedis(nil)
	begin := time.Now().Add(-time.Hour)
	r.now = func() int64 { return int64(float64(time.Since(begin)) * (1 + drift)) }
	if f.script != nil {
		r.scripts.lease = f.script
	}
	r.Use(client, f.timeout)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	f.t.Cleanup(func() { cancel(); <-done })
	return newRate(f.t, "fleet", f.spec, r)
}

// load asks by l for a while: at a pace below the limit, so that it comes to
// hold leases; not at all, so that the bucket fills beside them; then for all
// that there is.
func (f *fleet) load(l *RateLimiter, stop <-chan struct{}) {
	began := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		asks := 0
		switch at := time.Since(f.begin) % (700 * time.Millisecond); {
		case at < 300*time.Millisecond:
			if time.Since(began) > 10*time.Millisecond {
				asks, began = 1, time.Now()
			}
		case at < 550*time.Millisecond:
		default:
			asks = 20
		}
		for range asks {
			from := time.Since(f.begin)
			if d := l.Take([]byte("k"), 1, time.Now()); d.Allowed {
				f.mu.Lock()
				f.admits = append(f.admits, admit{from, time.Since(f.begin)})
				f.mu.Unlock()
			}
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// run has nodes ask for a time, while meanwhile happens, and returns how far they
// went beyond the envelope and how many were admitted.
func (f *fleet) run(nodes []*RateLimiter, d time.Duration, meanwhile func(each <-chan time.Time)) (over float64, admitted int) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, l := range nodes {
		wg.Go(func() { f.load(l, stop) })
	}
	if meanwhile != nil {
		beat := time.NewTicker(250 * time.Millisecond)
		quit := make(chan time.Time)
		each := make(chan time.Time)
		wg.Go(func() {
			defer close(each)
			for {
				select {
				case t := <-beat.C:
					select {
					case each <- t:
					case <-quit:
						return
					}
				case <-quit:
					return
				}
			}
		})
		wg.Go(func() { meanwhile(each) })
		defer func() { beat.Stop() }()
		<-time.After(d)
		close(quit)
	} else {
		<-time.After(d)
	}
	close(stop)
	wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return envelope(f.admits, fleetRate, fleetBurst), len(f.admits)
}

func (f *fleet) nodes(n int, drift func(i int) float64) (all []*RateLimiter) {
	for i := range n {
		all = append(all, f.node(drift(i)))
	}
	return all
}

func even(int) float64 { return 0 }

func skewed(i int) float64 { return float64(i%3-1) * 0.05 }

// TestRateEnvelope is the proof that leases hold: what several gateways admit
// together stays within burst + rate·t in every window, whatever happens to them,
// to what they say, and to Redis.
func TestRateEnvelope(t *testing.T) {
	const long = 2100 * time.Millisecond
	hard := fault{delay: 15 * time.Millisecond, lost: 0.1, doubled: 0.2, late: true}
	for name, c := range map[string]struct {
		fault fault
		drift func(int) float64
		crash bool
		stop  bool
		hasty bool // does not wait long for Redis
	}{
		"calm":          {drift: even},
		"delay":         {drift: even, fault: fault{delay: 15 * time.Millisecond}},
		"loss":          {drift: even, fault: fault{lost: 0.2}, hasty: true},
		"duplicates":    {drift: even, fault: fault{doubled: 0.5}},
		"late ones":     {drift: even, fault: fault{doubled: 0.5, late: true}},
		"drift":         {drift: skewed},
		"crashes":       {drift: even, crash: true},
		"Redis stopped": {drift: even, stop: true, hasty: true},
		"everything":    {drift: skewed, fault: hard, crash: true, stop: true, hasty: true},
	} {
		prove := func(t *testing.T) (shown bool) {
			f := newFleet(t)
			f.fault = c.fault
			if c.hasty {
				f.timeout = 50 * time.Millisecond
			}
			meanwhile := func(each <-chan time.Time) {
				stopped := false
				for range each {
					if c.crash {
						f.crash()
					}
					if c.stop {
						if stopped = !stopped; stopped {
							f.server.Stop()
						} else {
							f.server.Continue()
						}
					}
				}
			}
			over, admitted := f.run(f.nodes(6, c.drift), long, meanwhile)
			if over > 0 {
				t.Errorf("%d admitted, and in some window %.1f more than %d + %d/s", admitted, over, fleetBurst, fleetRate)
			}
			t.Logf("%d admitted; the worst window has %.1f to spare", admitted, -over)
			return admitted >= 2*fleetBurst || admitted > 0 && c.hasty
		}
		t.Run(name, func(t *testing.T) {
			for range 4 { // a busy machine may get round to little
				if prove(t) {
					return
				}
			}
			t.Error("too little was admitted, so that this shows nothing")
		})
	}
}

// With on_error local each gateway goes on with its share while Redis is away,
// whether it hangs or comes back empty: at most one burst above the envelope.
func TestRateEnvelopeAway(t *testing.T) {
	for name, c := range map[string]struct{ away, back func(*redistest.Server) }{
		"stopped": {(*redistest.Server).Stop, (*redistest.Server).Continue},
		"killed":  {(*redistest.Server).Kill, (*redistest.Server).Restart},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			f.spec.OnError, f.timeout = RateLocal, 250*time.Millisecond
			nodes := f.nodes(3, even)
			for _, l := range nodes {
				eventually(t, "the nodes know of each other", func() bool { return l.redis.Nodes() == 3 })
			}
			f.begin = time.Now()
			beats, during := 0, 0
			over, admitted := f.run(nodes, 4200*time.Millisecond, func(each <-chan time.Time) {
				for range each {
					switch beats++; beats {
					case 4:
						c.away(f.server)
						during = -f.count()
					case 9:
						during += f.count()
						c.back(f.server)
					}
				}
			})
			if over > fleetBurst {
				t.Errorf("%d admitted, and in some window %.1f more than 2·%d + %d/s", admitted, over-fleetBurst, fleetBurst, fleetRate)
			}
			if during < 100 {
				t.Errorf("%d admitted while Redis was away", during)
			}
			if n := nodes[0].redis; n.Down() {
				t.Error("Redis is back, and nobody knows")
			}
			t.Logf("%d admitted, %d while Redis was away; the worst window is %.1f beyond the envelope", admitted, during, over)
		})
	}
}

func (f *fleet) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.admits)
}

// crash has a gateway come, lease, spend a part, and never be heard of again.
func (f *fleet) crash() {
	l := f.node(0)
	for range 5 {
		from := time.Since(f.begin)
		if d := l.Take([]byte("k"), 1, time.Now()); d.Allowed {
			f.mu.Lock()
			f.admits = append(f.admits, admit{from, time.Since(f.begin)})
			f.mu.Unlock()
		}
	}
	l.redis.Use(nil, 0)
}

// The proof would see it if the script did not hold what is out to its cap.
func TestRateEnvelopeSeesNoCap(t *testing.T) {
	without := strings.Replace(rateLeaseLua, "tonumber(ARGV[7])", "1e9", 1)
	if without == rateLeaseLua {
		t.Fatal("the script has no cap to take out")
	}
	for range 5 { // a machine that is busy may keep the gateways from asking for it
		f := newFleet(t)
		f.script = redis.NewScript(without)
		over, admitted := f.run(f.nodes(6, even), 2100*time.Millisecond, nil)
		t.Logf("%d admitted without a cap: %.1f too many in the worst window", admitted, over)
		if over > 0 {
			return
		}
	}
	t.Error("no window is exceeded without a cap: the proof proves nothing")
}

// An answer that comes twice counts once, and one to an older question not at all.
func TestRateAnswersCountOnce(t *testing.T) {
	r := NewRateRedis(nil)
	r.Use(connect(t, "127.0.0.1:1"), time.Second)
	l := newRate(t, "x", RateSpec{Rate: rate(1000, time.Second), Burst: 200}, r)
	key := l.seeds.hash([]byte("k"))
	s := l.leases.shard(key)
	s.mu.Lock()
	e := s.of(key, r.now(), 100)
	l.ask(key, []byte("k"), e)
	s.mu.Unlock()
	ops := r.take()
	if len(ops) != 1 {
		t.Fatalf("%d questions", len(ops))
	}
	old := *ops[0].(*leaseOp)
	ops[0].command(r)
	for range 2 {
		ops[0].answered(r, []int64{7, 0, 0, 0, 1}, nil)
	}
	if e.tokens != 7 {
		t.Errorf("%d tokens of an answer of 7 that came twice", e.tokens)
	}
	s.mu.Lock()
	l.ask(key, []byte("k"), e)
	s.mu.Unlock()
	next := r.take()[0]
	old.seq = e.seq
	next.command(r)
	old.answered(r, []int64{7, 7, 0, 0, 1}, nil)
	if e.tokens != 7 || !e.asking {
		t.Errorf("%d tokens after an answer to the question before", e.tokens)
	}
	next.answered(r, nil, fmt.Errorf("lost"))
	if e.tokens != 7 || e.asking {
		t.Errorf("%d tokens after a question without an answer", e.tokens)
	}
}
