package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

// lookEvery is how often a backend looks for targets whose time out is over.
const lookEvery = 100 * time.Millisecond

// parts makes what the backend decides with, besides its targets.
func (b *httpBackend) parts(now time.Time) (faults []error) {
	add := func(path string, err error) {
		for _, one := range unjoin(err) {
			faults = append(faults, within(path, one))
		}
	}
	add("retry", b.readRetry())
	add("balance", b.spec.Balance.Validate())
	var err error
	b.budget, err = b.lasting.budgetOf(b.spec.Retry.Budget, now)
	add("retry.budget", err)
	b.gate, b.regate, err = b.lasting.gateOf(b.spec.Concurrency, now)
	add("concurrency", err)
	if b.gate != nil {
		b.sheds = b.setup.stats.gate(b.name, b.spec.Concurrency.Adaptive)
	}
	if a := b.spec.Health.Active; a != nil {
		tls, err := b.tlsOf("").Config("")
		add("transport", err)
		if err == nil {
			b.group, err = b.setup.checker().Group(b.name, *a, tls)
			add("health.active", err)
		}
	}
	if b.spec.Health.Passive.MaxEjected > 0 {
		b.ejector, err = health.NewEjector(b.spec.Health.Passive, now, b.ejected)
		add("health.passive", err)
	}
	if b.spec.Breaker != nil {
		b.circuit, err = health.NewCircuit(*b.spec.Breaker, now, func(c health.CircuitChange) { b.broke(nil, c) })
		add("breaker", err)
		if err != nil {
			b.spec.Breaker = nil // it has been said: targets need not say it again
		}
	}
	add("discovery", b.spec.Discovery.Validate())
	add("sticky", b.makeSticky())
	return faults
}

func (b *httpBackend) readRetry() error {
	b.retry.statuses = make(map[int]string)
	var faults []error
	for i, on := range b.spec.Retry.On {
		switch n, err := strconv.Atoi(on); {
		case on == "connect":
			b.retry.connect = true
		case on == "reset":
			b.retry.reset = true
		case on == "timeout":
			b.retry.timeout = true
		case err == nil && n >= 500 && n <= 599:
			b.retry.statuses[n] = on
		default:
			faults = append(faults, &SpecError{fmt.Sprintf("on[%d]", i), fmt.Errorf("%q is none of connect, reset, timeout and the statuses from 500 to 599", on)})
		}
	}
	return errors.Join(faults...)
}

func (b *httpBackend) makeSticky() error {
	spec := b.spec.Sticky
	if spec == nil {
		return nil
	}
	secrets, err := b.stickySecrets()
	if err != nil {
		return err
	}
	b.sticky, err = routing.NewSticky(*spec, b.name, secrets)
	return err
}

func (b *httpBackend) stickySecrets() (secrets [][]byte, err error) {
	file := b.spec.Sticky.SecretFile
	if file == "" {
		return [][]byte{b.lasting.stickySecret()}, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, &SpecError{"secret_file", err}
	}
	for line := range bytes.Lines(data) {
		if secret := bytes.TrimSpace(line); len(secret) > 0 {
			secrets = append(secrets, secret)
		}
	}
	if len(secrets) == 0 {
		return nil, &SpecError{"secret_file", fmt.Errorf("%s holds no secret", file)}
	}
	return secrets, nil
}

// adopt takes over what an earlier generation has found out.
func (b *httpBackend) adopt(old *httpBackend, now time.Time) {
	if old == nil {
		return
	}
	if b.ejector != nil && old.ejector != nil {
		b.ejector.Adopt(old.ejector, now)
	}
	if b.circuit != nil && old.circuit != nil {
		b.circuit.Adopt(old.circuit, now)
	}
	b.pool.Load().adopt(old.pool.Load(), now)
}

// adopt has the breakers of targets that are new in p go on where those of the
// same name in old are.
func (p *pool) adopt(old *pool, now time.Time) {
	for _, t := range p.targets {
		if was := old.byMember[t.member]; was != nil && was != t && t.circuit != nil && was.circuit != nil {
			t.circuit.Adopt(was.circuit, now)
		}
	}
}

// begin puts the backend's view of its targets in the place of an earlier
// generation's.
func (b *httpBackend) begin(now time.Time) {
	b.change.Lock()
	defer b.change.Unlock()
	b.regate()
	if !b.closed {
		b.act(b.pool.Load(), now)
	}
}

// act makes p's targets those that are told available or not, and forgets all
// others. With change held.
func (b *httpBackend) act(p *pool, now time.Time) {
	var members []*routing.Member
	for _, t := range p.targets {
		members = append(members, t.member)
		t.acts.Store(true)
		t.refresh(now)
	}
	b.lasting.members.Retain(members)
}

// run looks after the targets until ctx ends.
func (b *httpBackend) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if b.spec.Discovery.Enabled() {
		d, err := upstream.NewDiscovery(b.spec.Discovery, b.setup.Log, b.known, b.discovered)
		if err != nil {
			return err // it was found valid
		}
		wg.Go(func() { _ = d.Run(ctx) }) // it ends with ctx
	}
	if b.ejector == nil && b.circuit == nil && b.group == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			b.look(now)
		}
	}
}

// look brings back the targets whose time out is over, or whose checks have seen
// them recover. It looks at all: what the generation before still found out
// while this one began was told to nobody.
func (b *httpBackend) look(now time.Time) {
	if b.ejector != nil {
		b.ejector.Sweep(now)
	}
	for _, t := range b.pool.Load().targets {
		if t.outlier != nil && t.checked != nil {
			t.outlier.Recover(t.checked.State().Recovered, now)
		}
		t.refresh(now)
	}
}

// discovered is told of all targets whenever they have changed.
func (b *httpBackend) discovered(found []upstream.Found) {
	b.change.Lock()
	defer b.change.Unlock()
	if b.closed {
		return // another generation looks by now
	}
	old := b.pool.Load()
	next, err := b.newPool(b.places(found), old)
	if err != nil {
		b.setup.Log.Error("discovered targets cannot be used; those before them stay", "error", err)
		return
	}
	b.lasting.discovered(found)
	now := time.Now()
	next.adopt(old, now)
	b.pool.Store(next)
	b.act(next, now)
	for _, t := range old.targets {
		if !next.has(t) {
			b.dismiss(t, next, now)
		}
	}
}

// dismiss ends what looks after a target that is gone.
func (b *httpBackend) dismiss(t *target, next *pool, now time.Time) {
	t.close()
	if next.byMember[t.member] != nil {
		return // it is there with another weight
	}
	b.forget(t.spec.URL, now)
	t.stats.retire()
}

// forget ends the checks of a target and what is known of it.
func (b *httpBackend) forget(url string, now time.Time) {
	if b.group != nil {
		b.group.Remove(url)
	}
	if b.ejector != nil {
		b.ejector.Remove(url, now)
	}
}

// checked is told of a target's health when that has changed.
func (b *httpBackend) checked(c health.Transition) {
	if c.Healthy {
		b.setup.Log.Info("target is healthy", "target", c.Target)
	} else {
		b.setup.Log.Warn("target is unhealthy", "target", c.Target, "reason", c.Reason)
	}
	b.refresh(c.Target, c.At)
}

// ejected is told when requests have taken a target out, or it is back.
func (b *httpBackend) ejected(e health.Ejection) {
	if e.Ejected {
		b.setup.Log.Warn("target is ejected", "target", e.Target, "for", e.For.String(), "times", e.Times)
		b.setup.stats.ejections(b.name, e.Target).Inc()
	} else {
		b.setup.Log.Info("target is back", "target", e.Target)
	}
	b.refresh(e.Target, e.At)
}

// broke is told of the state of a breaker: t's, or without t the backend's.
func (b *httpBackend) broke(t *target, c health.CircuitChange) {
	name := ""
	if t != nil {
		name = t.spec.URL
	}
	if c.To == health.Open {
		b.setup.Log.Warn("breaker is open", "target", name, "reason", c.Reason)
	} else {
		b.setup.Log.Info("breaker is "+c.To.String(), "target", name)
	}
	if t != nil {
		t.refresh(c.At)
	}
}

func (b *httpBackend) refresh(url string, now time.Time) {
	p := b.pool.Load()
	if p == nil {
		return
	}
	for _, t := range p.targets {
		if t.spec.URL == url {
			t.refresh(now)
		}
	}
}

// maxCookieFields bounds in how many Cookie fields of a request a sticky cookie is
// looked for: each may cost some signatures.
const maxCookieFields = 4

// stick finds out which target the client was at.
func (b *httpBackend) stick(x *Exchange, now time.Time) {
	x.stuck, x.renew = 0, b.sticky != nil
	if b.sticky == nil {
		return
	}
	for n := range maxCookieFields {
		field, more := x.Request.Nth("Cookie", n)
		if !more {
			return
		}
		if id, renew, ok := b.sticky.Find(field, now); ok {
			x.stuck, x.renew = id, renew
			return
		}
	}
}

// keep has the client come back to the target that has answered.
func (b *httpBackend) keep(x *Exchange) {
	m := x.lease.member
	if b.sticky == nil || m == nil || !x.renew && m.ID() == x.stuck {
		return
	}
	n := len(x.arena)
	x.arena = b.sticky.Issue(x.arena, m.ID(), x.Request.Scheme == "https", time.Now())
	cookie := view(x.arena[n:len(x.arena):len(x.arena)])
	if x.forCache { // the others who get the response go elsewhere
		x.cookie = cookie
		return
	}
	x.Response.Header.Add("Set-Cookie", cookie)
}
