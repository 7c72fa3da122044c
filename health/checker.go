package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// A Transition is one change of a target's health.
type Transition struct {
	Backend string
	Target  string
	Healthy bool
	Reason  string // of the check that decided; empty if it was good
	At      time.Time
}

// Config is what a Checker is made of.
type Config struct {
	// Report is called once for each transition, by the goroutine that checked:
	// in order for each target. That a new target's first check is good is no
	// transition. Nil: nobody is told.
	Report func(Transition)
	// Workers bounds how many checks may be under way; 0: twice as many as are
	// needed when every target runs into its time-out, and at most 1024.
	Workers int
	// Dial connects; nil: a net.Dialer. It resolves names, and returns when its
	// context ends.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// The scheduler looks for what is due some beats an interval, of the shortest
// that there is: to wake up for each check would cost several times the checks,
// of which a beat begins a few at once.
const (
	beats   = 20
	maxBeat = 250 * time.Millisecond
)

// A Checker checks the targets of all backends of one generation: one goroutine
// knows what is due when, and a bounded number of others do the checks.
type Checker struct {
	cfg  Config
	wake chan struct{} // has the scheduler look again

	mu      sync.Mutex
	groups  map[string]*Group
	records map[string]*record // of an earlier generation, by backend and target
	queue   queue
	started bool
	beat    time.Duration // between two looks at the queue, at least
	busy    int           // checks under way
	stuck   bool          // checks are due, and no more may begin
	need    float64       // checks under way if each runs into its time-out
	targets int
}

// A Group is the targets of one backend.
type Group struct {
	checker *Checker
	name    string
	plan    *plan
	tls     *tls.Config
	targets map[string]*Target // under the checker's lock
}

// A Target is one target under checks.
type Target struct {
	group *Group
	name  string
	probe probe
	rec   *record

	// Under the checker's lock.
	due    time.Time
	checks int // begun
	gone   bool
}

// NewChecker returns a checker of nothing yet.
func NewChecker(cfg Config) (*Checker, error) {
	if cfg.Workers < 0 {
		return nil, errors.New("health: Config.Workers is below 0")
	}
	if cfg.Report == nil {
		cfg.Report = func(Transition) {}
	}
	if cfg.Dial == nil {
		cfg.Dial = dialer((&net.Dialer{}).DialContext).DialContext
	}
	return &Checker{cfg: cfg, wake: make(chan struct{}, 1), groups: map[string]*Group{}}, nil
}

// Group adds a backend. The error joins a *FieldError for each fault of cfg.
// tlsConfig is for https targets; nil verifies their host by the system's
// authorities.
func (c *Checker) Group(backend string, cfg Active, tlsConfig *tls.Config) (*Group, error) {
	p, err := cfg.compile()
	if err != nil {
		return nil, err
	}
	if tlsConfig == nil {
		tlsConfig = &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(64)}
	}
	g := &Group{checker: c, name: backend, plan: p, tls: tlsConfig, targets: map[string]*Target{}}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.groups[backend] != nil {
		return nil, fmt.Errorf("health: backend %q is checked already", backend)
	}
	if beat := min(cfg.Interval/beats, maxBeat); c.beat == 0 || beat < c.beat {
		c.beat = beat
	}
	c.groups[backend] = g
	return g, nil
}

// Add begins to check a target, named by its URL (http://host:port,
// https://host:port or unix:/path), before Run or while it runs; where there is
// one of that name, it is returned. An error of the port is a *FieldError.
//
// A new target may be used until its first check has failed. That check comes
// within 350 ms, and a millisecond for each target there is, but
// no later than an interval.
func (g *Group) Add(url string) (*Target, error) {
	p, err := newProbe(g.plan, g.tls, g.checker.cfg.Dial, url)
	if err != nil {
		return nil, err
	}
	c := g.checker
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := g.targets[url]; t != nil {
		return t, nil
	}
	now := time.Now()
	t := &Target{group: g, name: url, probe: p, rec: c.records[key(g.name, url)]}
	if t.rec == nil {
		t.rec = newRecord(now)
	}
	g.targets[url] = t
	c.targets++
	c.need += g.plan.share()
	if c.started {
		c.schedule(t, t.first(now, c.targets))
	}
	return t, nil
}

// Remove ends the checks of a target. One that is under way ends without a
// result.
func (g *Group) Remove(url string) {
	c := g.checker
	c.mu.Lock()
	t := g.targets[url]
	if t == nil {
		c.mu.Unlock()
		return
	}
	t.gone = true
	delete(g.targets, url)
	c.queue.drop(t)
	c.targets--
	c.need -= g.plan.share()
	c.mu.Unlock()
	t.probe.close()
}

// Target returns the target of that URL, or nil.
func (g *Group) Target(url string) *Target {
	g.checker.mu.Lock()
	defer g.checker.mu.Unlock()
	return g.targets[url]
}

// Healthy reports whether the target may be used.
func (t *Target) Healthy() bool { return t.rec.state.Load().Healthy }

// State returns what is known of the target.
func (t *Target) State() State { return *t.rec.state.Load() }

// Adopt takes over what old knows of the targets that both have, by backend and
// URL, before c runs; it holds for targets that are added later, too. The two
// then share it: what old still finds out, c knows.
func (c *Checker) Adopt(old *Checker) {
	known := old.known()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records = known
	for _, g := range c.groups {
		for name, t := range g.targets {
			if r := known[key(g.name, name)]; r != nil {
				t.rec = r
			}
		}
	}
}

func (c *Checker) known() map[string]*record {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := map[string]*record{}
	for _, g := range c.groups {
		for name, t := range g.targets {
			known[key(g.name, name)] = t.rec
		}
	}
	return known
}

func key(backend, target string) string { return backend + "\x00" + target }
