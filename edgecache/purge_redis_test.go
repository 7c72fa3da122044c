package edgecache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// stored is an entry that the gateway requests now.
func (g *testGateway) stored(url string) func() Verdict {
	r, e := purgeable(url, "Surrogate-Key: tag\r\n", g.purges.Sequence())
	return func() Verdict { return g.purges.Verdict(r, e) }
}

func TestPurgesAreCarried(t *testing.T) {
	server := startRedis(t)
	a, b := startGateway(t, server.Address).ready(t), startGateway(t, server.Address).ready(t)
	var took []time.Duration
	for i := range 50 {
		url := fmt.Sprintf("http://a/%d", i)
		here, there, other := a.stored(url), b.stored(url), b.stored(url+"/other")
		a.carries(t, Purge{Kind: PurgeURL, Value: url, Soft: i%2 == 1})
		if here() == Valid {
			t.Fatal("it does not hold where it was made")
		}
		start := time.Now()
		eventually(t, "a purge arrives", func() bool { return there() != Valid })
		took = append(took, time.Since(start))
		if want := []Verdict{Purged, Stale}[i%2]; there() != want {
			t.Fatalf("verdict %d, want %d", there(), want)
		}
		if other() != Valid {
			t.Fatal("what was not named is purged too")
		}
	}
	slices.Sort(took)
	t.Logf("after Purge had returned, others had it in %v (median), %v (most)", took[25], took[49])
	for _, x := range []Purge{{Kind: PurgeTag, Value: "tag"}, {Kind: PurgeHost, Value: "a"}, {Kind: PurgePrefix, Value: "http://a/"}, {Kind: PurgeAll}} {
		there := b.stored("http://a/x")
		a.carries(t, x)
		eventually(t, "a purge arrives", func() bool { return there() == Purged })
	}
}

// TestPurgeWithoutRedis holds here, says so, and is carried later.
func TestPurgeWithoutRedis(t *testing.T) {
	for name, interrupt := range map[string]func(*testing.T) (address string, stop, again func()){
		"killed": func(t *testing.T) (string, func(), func()) {
			s := startRedis(t)
			return s.Address, s.Kill, s.Restart
		},
		"hanging": func(t *testing.T) (string, func(), func()) {
			s := startRedis(t)
			return s.Address, s.Stop, s.Continue
		},
	} {
		t.Run(name, func(t *testing.T) {
			address, stop, again := interrupt(t)
			a, b := startGateway(t, address).ready(t), startGateway(t, address).ready(t)
			stop()
			here, there := a.stored("http://a/x"), b.stored("http://a/x")
			if err := a.purges.Purge(Purge{Kind: PurgeURL, Value: "http://a/x"}); !errors.Is(err, ErrHeldHere) {
				t.Fatalf("it says %v, want ErrHeldHere", err)
			}
			if here() != Purged {
				t.Fatal("it does not hold where it was made")
			}
			if a.purges.Stats().Waiting != 1 {
				t.Errorf("%d purges wait to be carried", a.purges.Stats().Waiting)
			}
			eventually(t, "a gateway doubts what it has while it cannot read the log", func() bool { return there() == Doubted })
			again()
			eventually(t, "the purge arrives later", func() bool { return there() == Purged })
			eventually(t, "nothing waits", func() bool { return a.purges.Stats().Waiting == 0 })
			eventually(t, "what is new is trusted", func() bool { return b.stored("http://a/x")() == Valid && b.purges.blind.Load() == 0 })
		})
	}
}

// TestBlindGatewayServes: while Redis is away an entry is good until the next
// doubt, and is good again when Redis has been away and lost nothing.
func TestBlindGatewayServes(t *testing.T) {
	server := startRedis(t)
	a := startGateway(t, server.Address).ready(t)
	before := a.stored("http://a/x")
	server.Stop()
	eventually(t, "it doubts", func() bool { return before() == Doubted })
	for range 3 {
		validated := a.stored("http://a/x")
		if seq := a.purges.Sequence(); validated() != Valid && a.purges.Sequence() == seq {
			t.Fatal("what was just validated is not served")
		}
		eventually(t, "it doubts again", func() bool { return validated() == Doubted })
	}
	server.Continue()
	eventually(t, "it trusts again", func() bool { return before() == Valid })
}

// TestMissedPurges: a gateway that was cut off while others purged never trusts
// what was purged, not for a moment, when it is back.
func TestMissedPurges(t *testing.T) {
	server := startRedis(t)
	w := newWire(t, server.Address)
	a, b := startGateway(t, server.Address).ready(t), startGateway(t, w.Address).ready(t)
	purged, kept := b.stored("http://a/x"), b.stored("http://a/y")
	w.Cut()
	eventually(t, "it doubts", func() bool { return purged() == Doubted && kept() == Doubted })
	a.carries(t, Purge{Kind: PurgeURL, Value: "http://a/x"})
	for range 3*logBatch - 7 { // more than one read brings
		a.purges.Invalidate(Purge{Kind: PurgeURL, Value: "http://a/z"})
	}
	eventually(t, "all are carried", func() bool { return a.purges.Stats().Waiting == 0 })
	w.Mend()
	eventually(t, "it trusts what was not purged", func() bool {
		v := purged()
		if v == Valid {
			t.Fatal("it trusts what was purged")
		}
		return kept() == Valid
	})
	if purged() != Purged {
		t.Errorf("verdict %d on what was purged", purged())
	}
}

// TestLostLog: where the log cannot show that nothing was missed, all is doubted
// for good, and what is new is not.
func TestLostLog(t *testing.T) {
	const log = "sluice:{test}:purges"
	for name, lose := range map[string]func(t *testing.T, do func(...string) string, a *testGateway){
		"flushed": func(t *testing.T, do func(...string) string, _ *testGateway) { do("FLUSHALL") },
		"cut":     func(t *testing.T, do func(...string) string, _ *testGateway) { do("XTRIM", log, "MAXLEN", "1") },
		"evicted": func(t *testing.T, do func(...string) string, _ *testGateway) { do("DEL", log) },
		"unnamed": func(t *testing.T, do func(...string) string, _ *testGateway) { do("DEL", log+":name") },
		"replaced by an older one": func(t *testing.T, do func(...string) string, a *testGateway) {
			// As a replica that did not have the last purge would be.
			_, last, _ := a.purges.log.knowledge()
			do("XDEL", log, fmt.Sprintf("%d-%d", last.log>>20, last.log&(1<<20-1)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := startRedis(t)
			w := newWire(t, server.Address)
			a, b := startGateway(t, server.Address).ready(t), startGateway(t, w.Address).ready(t)
			pass := func() {
				for i := range 3 {
					a.carries(t, Purge{Kind: PurgeURL, Value: fmt.Sprintf("http://a/%d", i)})
				}
			}
			pass()
			end, err := a.purges.cfg.Redis.XRevRangeN(t.Context(), log, "+", "-", 1).Result()
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "both know all", func() bool {
				_, x, _ := a.purges.log.knowledge()
				_, y, _ := b.purges.log.knowledge()
				return x.log == y.log && x.log == logPosition(end[0].ID)
			})
			w.Cut()
			old := b.stored("http://a/old")
			if name == "cut" {
				pass()
			}
			if name == "replaced by an older one" {
				lose(t, server.Do, b)
				pass()
			} else {
				lose(t, server.Do, b)
			}
			w.Mend()
			eventually(t, "it doubts for good", func() bool { return old() == Doubted && b.purges.doubt.Load() > 1 && b.purges.blind.Load() == 0 })
			eventually(t, "it trusts what is new", func() bool {
				fresh := b.stored("http://a/new")
				return fresh() == Valid && b.purges.blind.Load() == 0
			})
			var there func() Verdict
			eventually(t, "purges are carried again", func() bool {
				there = b.stored("http://a/new")
				return a.purges.Purge(Purge{Kind: PurgeURL, Value: "http://a/new"}) == nil
			})
			eventually(t, "the purge arrives", func() bool { return there() >= Doubted })
			if old() == Valid {
				t.Error("it trusts what it had before")
			}
		})
	}
}

// TestPurgeIsReadBack: what the log has taken and lost again before anybody read it,
// as where a replica takes over that did not have it yet, is carried once more.
func TestPurgeIsReadBack(t *testing.T) {
	const log = "sluice:{test}:purges"
	server := startRedis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Address, ContextTimeoutEnabled: true})
	defer client.Close()
	gateway := func() *Purges {
		p, err := NewPurges(PurgesConfig{Redis: client, Name: "test", Timeout: patience, Blindness: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	step := func(f func(context.Context) error) {
		t.Helper()
		if err := f(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	a, b := gateway(), gateway()
	step(a.catchUp)
	step(b.catchUp)
	r, e := purgeable("http://a/x", "", b.Sequence())
	a.Invalidate(Purge{Kind: PurgeURL, Value: "http://a/x"})
	step(a.carry)
	last, err := client.XRevRangeN(t.Context(), log, "+", "-", 1).Result()
	if err != nil {
		t.Fatal(err)
	}
	server.Do("XDEL", log, last[0].ID)
	if n := a.out.waiting(); n != 0 {
		t.Fatalf("%d purges wait", n)
	}
	step(a.catchUp)
	if n := a.out.waiting(); n != 1 {
		t.Fatalf("%d purges wait after the log was read without it, want 1", n)
	}
	step(a.carry)
	step(b.catchUp)
	if v := b.Verdict(r, e); v != Purged {
		t.Errorf("the other's verdict is %d", v)
	}
	step(a.catchUp)
	if n, m := a.out.waiting(), len(a.out.told); n+m != 0 {
		t.Errorf("%d purges wait and %d are to be read back, though it was", n, m)
	}
}

// TestPurgeIsWholeWithItsNumber: who sees a purge's number finds it among those that
// the log does not have yet. Else what the second level has, held to what is known of
// the log by that number, would pass for newer than the purge.
func TestPurgeIsWholeWithItsNumber(t *testing.T) {
	p, err := NewPurges(PurgesConfig{Redis: newIdleRedis(t), Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	r, e := purgeable("http://a/x", "", 0)
	p.out.mu.Lock()
	done := make(chan struct{})
	go func() { defer close(done); p.Invalidate(Purge{Kind: PurgeURL, Value: "http://a/x"}) }()
	eventually(t, "there is a rule", func() bool { return p.rules.judge(r, e, 0, false) == Purged })
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
		if p.Sequence() > 0 {
			t.Fatal("the purge has its number before others can be told of it")
		}
	}
	p.out.mu.Unlock()
	<-done
	if p.Sequence() != 1 || p.out.waiting() != 1 {
		t.Errorf("number %d, %d purges wait", p.Sequence(), p.out.waiting())
	}
}

// TestSucceed: what others have not been told, and what is still purged by who began
// before, goes to who comes after.
func TestSucceed(t *testing.T) {
	newOne := func() *Purges {
		p, err := NewPurges(PurgesConfig{Redis: newIdleRedis(t), Name: "test", Timeout: time.Millisecond, Blindness: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	old, next, last := newOne(), newOne(), newOne()
	old.Invalidate(Purge{Kind: PurgeURL, Value: "http://a/x"})
	old.Succeed(next)
	next.Succeed(last)
	if err := old.Purge(Purge{Kind: PurgeTag, Value: "t"}); !errors.Is(err, ErrHeldHere) {
		t.Errorf("it says %v", err)
	}
	r, e := purgeable("http://a/x", "", 0)
	s, f := purgeable("http://a/y", "Surrogate-Key: t\r\n", 0)
	for _, p := range []*Purges{old, last} {
		if p.Verdict(r, e) != Purged || p.Verdict(s, f) != Purged {
			t.Errorf("verdicts %d and %d", p.Verdict(r, e), p.Verdict(s, f))
		}
	}
	if n := last.out.waiting(); n != 2 {
		t.Errorf("%d purges wait to be told, want 2", n)
	}
}

// TestPurgesLeaveNothingUntold: who ends tells what is left.
func TestPurgesLeaveNothingUntold(t *testing.T) {
	server := startRedis(t)
	a := startGateway(t, server.Address).ready(t)
	there := a.stored("http://a/x")
	p, err := NewPurges(PurgesConfig{Redis: a.purges.cfg.Redis, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	p.Invalidate(Purge{Kind: PurgeURL, Value: "http://a/x"})
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.Run(over)
	if p.out.waiting() != 0 {
		t.Error("it has left without a word")
	}
	eventually(t, "the purge arrives", func() bool { return there() == Purged })
}

// TestOutboxOverflows: more purges than are kept become one of all.
func TestOutboxOverflows(t *testing.T) {
	server := startRedis(t)
	a, b := startGateway(t, server.Address).ready(t), startGateway(t, server.Address).ready(t)
	server.Stop()
	there := b.stored("http://b/never-named")
	for i := range 2*maxParcels + 1 {
		a.purges.Invalidate(Purge{Kind: PurgeURL, Value: fmt.Sprintf("http://a/%d", i)})
	}
	if n := a.purges.Stats().Waiting; n > maxParcels {
		t.Errorf("%d purges wait", n)
	}
	server.Continue()
	eventually(t, "the purge of all arrives", func() bool { return there() == Purged })
}

// TestPurgesUnderInterruptions is the promise, of two gateways over one Redis
// that is killed, frozen, emptied and restarted: who purges without an error is
// not served what he purged, by the gateway that he asked from then on, by the
// other from Blindness on. (The test gives it as long again, since machines that
// test are slow.)
func TestPurgesUnderInterruptions(t *testing.T) {
	server := startRedis(t)
	gateways := []*testGateway{startGateway(t, server.Address).ready(t), startGateway(t, server.Address).ready(t)}
	o := &origin{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, g := range gateways {
		for range 2 {
			wg.Go(func() { o.load(t, g, stop) })
		}
		wg.Go(func() { o.purge(t, g, stop) })
	}
	for _, interrupt := range []func(){server.Kill, server.Restart, server.Stop, server.Continue, server.Flush, server.Kill, server.Restart} {
		o.step(t)
		interrupt()
	}
	eventually(t, "purges are carried again", func() bool { return gateways[0].purges.Purge(Purge{Kind: PurgeTag, Value: "none"}) == nil })
	o.step(t)
	close(stop)
	wg.Wait()
	t.Logf("%d uses, %d of them stored, %d purges carried, %d held here", o.uses.Load(), o.hits.Load(), o.carried.Load(), o.here.Load())
	if o.hits.Load() == 0 || o.carried.Load() == 0 || o.here.Load() == 0 {
		t.Error("something did not happen at all")
	}
}

// origin has a version of each resource, which grows with each purge.
type origin struct {
	versions [50]atomic.Int64
	mu       sync.Mutex
	purged   [50][]purgedVersion

	uses, hits, carried, here atomic.Int64
}

// purgedVersion was purged; from then on it is not to be served, by gateway at
// once and by others later.
type purgedVersion struct {
	version int64
	at      time.Time
	gateway *testGateway
	carried bool
}

// step waits for purges, or for some that had to wait for Redis in vain.
func (o *origin) step(t *testing.T) {
	carried, here := o.carried.Load(), o.here.Load()
	eventually(t, "purges go on", func() bool { return o.carried.Load() > carried+200 || o.here.Load() > here+5 })
}

func (o *origin) load(t *testing.T, g *testGateway, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		key := rand.IntN(len(o.versions))
		began := time.Now()
		version, hit := o.get(g, key)
		o.uses.Add(1)
		if hit {
			o.hits.Add(1)
		}
		if err := o.check(g, key, version, began); err != nil {
			t.Error(err)
			return
		}
		time.Sleep(100 * time.Microsecond) // lint:sleep leaves the machine to the others
	}
}

// get is what a gateway does: serve what is stored, if it is valid, or ask and
// store.
func (o *origin) get(g *testGateway, key int) (version int64, hit bool) {
	if r := g.memory.Get(storeKey(key)); r != nil {
		if e := r.Variants[0]; g.purges.Verdict(r, e) == Valid {
			return e.Modified, true
		}
	}
	purges := g.purges.Sequence()
	version = o.versions[key].Load()
	r, e := purgeable(o.url(key), "", purges)
	e.Modified = version
	put(g.memory, key, r)
	return version, false
}

func (o *origin) url(key int) string { return fmt.Sprintf("http://a/%d", key) }

func (o *origin) check(g *testGateway, key int, version int64, began time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.purged[key] {
		if version > p.version || began.Before(p.at) {
			continue
		}
		late := began.Sub(p.at)
		if p.gateway == g || p.carried && late > 2*time.Second {
			return fmt.Errorf("version %d of %d was served %v after it had been purged (by this gateway: %v)", version, key, late, p.gateway == g)
		}
	}
	return nil
}

func (o *origin) purge(t *testing.T, g *testGateway, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		key := rand.IntN(len(o.versions))
		old := o.versions[key].Add(1) - 1
		err := g.purges.Purge(Purge{Kind: PurgeURL, Value: o.url(key)})
		switch {
		case err == nil:
			o.carried.Add(1)
		case errors.Is(err, ErrHeldHere):
			o.here.Add(1)
		default:
			t.Error(err)
		}
		o.mu.Lock()
		o.purged[key] = append(o.purged[key], purgedVersion{old, time.Now(), g, err == nil})
		if n := len(o.purged[key]); n > 100 {
			o.purged[key] = o.purged[key][n-100:]
		}
		o.mu.Unlock()
		time.Sleep(time.Millisecond) // lint:sleep leaves the machine to the others
	}
}

func TestNewPurgesRefuses(t *testing.T) {
	for name, c := range map[string]PurgesConfig{
		"a client that does not heed deadlines":  {Redis: redis.NewClient(&redis.Options{})},
		"a cluster that does not heed deadlines": {Redis: redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})},
		"a ring":                                 {Redis: redis.NewRing(&redis.RingOptions{})},
		"no time for Redis within blindness":     {Redis: redis.NewClient(&redis.Options{ContextTimeoutEnabled: true}), Blindness: time.Second, Timeout: time.Second},
	} {
		if _, err := NewPurges(c); err == nil {
			t.Errorf("%s is taken", name)
		}
		_ = c.Redis.Close()
	}
}
