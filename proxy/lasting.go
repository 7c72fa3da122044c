package proxy

import (
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

// A lasting is what a backend of kind http keeps over reloads, found by its
// name: a reload forgets no target's load and no budget.
type lasting struct {
	members *routing.Members

	mu     sync.Mutex
	share  float64
	budget *limiter.Budget
	gate   *limiter.Gate
	found  []upstream.Found // by discovery, last
	secret []byte           // signs sticky cookies where the file names no secret
}

// lastings are those of all backends.
type lastings struct {
	mu     sync.Mutex
	byName map[string]*lasting
}

func (l *lastings) of(name string) *lasting {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byName == nil {
		l.byName = make(map[string]*lasting)
	}
	one := l.byName[name]
	if one == nil {
		one = &lasting{members: routing.NewMembers(time.Now())}
		l.byName[name] = one
	}
	return one
}

// retain forgets the backends that g does not have.
func (l *lastings) retain(g *Generation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.byName {
		if _, ok := g.backends[name]; !ok {
			delete(l.byName, name)
		}
	}
}

// budgetOf is the budget for retries, a new one where the share is another.
func (l *lasting) budgetOf(share float64, now time.Time) (*limiter.Budget, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.budget != nil && l.share == share {
		return l.budget, nil
	}
	budget, err := limiter.NewBudget(share, now)
	if err == nil {
		l.budget, l.share = budget, share
	}
	return budget, err
}

// gateOf is the gate for cfg. One that is in use goes on with other bounds once
// configure is called.
func (l *lasting) gateOf(cfg limiter.Concurrency, now time.Time) (gate *limiter.Gate, configure func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh, err := limiter.NewGate(cfg, now)
	if err != nil || fresh == nil || l.gate == nil {
		if err == nil && fresh != nil {
			l.gate = fresh
		}
		return fresh, func() {}, err
	}
	old := l.gate
	return old, func() { _ = old.Configure(cfg) }, nil // it is valid, as NewGate has said
}

// stickySecret is the secret of sticky cookies until the process ends.
func (l *lasting) stickySecret() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secret == nil {
		l.secret = make([]byte, 2*routing.MinSecret)
		_, _ = rand.Read(l.secret) // never fails
	}
	return l.secret
}

// discovered keeps what discovery has found for the generations to come.
func (l *lasting) discovered(found []upstream.Found) {
	l.mu.Lock()
	l.found = slices.Clone(found)
	l.mu.Unlock()
}

func (l *lasting) lastFound() []upstream.Found {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.found)
}
