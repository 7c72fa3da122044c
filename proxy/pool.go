package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

// A pool is the targets of a backend at one moment, and who picks among them.
// Discovery replaces it whole.
type pool struct {
	targets  []*target
	byMember map[*routing.Member]*target
	balancer *routing.Balancer // nil without targets
}

// A place is a target as the file or discovery names it.
type place struct {
	Target
	host string // what requests name as their host; empty: that of the URL
}

// newPool makes a pool of places. Targets that old has, unchanged, are taken
// over; those that are not wanted any more are the caller's to close. On an
// error nothing stays open that was not before.
func (b *httpBackend) newPool(places []place, old *pool) (*pool, error) {
	p := &pool{byMember: make(map[*routing.Member]*target, len(places))}
	var opened []*target
	var faults []error
	for i, at := range places {
		t := old.find(at)
		if t == nil {
			var err error
			if t, err = b.newTarget(at.Target, at.host); err != nil {
				if fault := targetFault(i, err); !slices.ContainsFunc(faults, fault.same) {
					faults = append(faults, fault)
				}
				continue
			}
			opened = append(opened, t)
		}
		p.targets = append(p.targets, t)
		p.byMember[t.member] = t
	}
	if len(faults) == 0 && len(p.targets) > 0 {
		faults = b.seat(p)
	}
	if len(faults) > 0 {
		for _, t := range opened {
			t.close()
			if !old.knows(t.spec.URL) {
				b.forget(t.spec.URL, time.Now())
			}
		}
		return nil, errors.Join(faults...)
	}
	return p, nil
}

// seat gives the pool's targets a balancer.
func (b *httpBackend) seat(p *pool) (faults []error) {
	seats := make([]routing.Seat, len(p.targets))
	for i, t := range p.targets {
		seats[i] = routing.Seat{Member: t.member, Weight: t.spec.Weight, Priority: t.spec.Priority}
	}
	spec := b.spec.Balance
	spec.PanicThreshold = b.spec.Health.PanicThreshold
	var err error
	if p.balancer, err = routing.NewBalancer(spec, seats); err == nil {
		return nil
	}
	for _, one := range unjoin(err) {
		var fault *routing.SeatError
		if errors.As(one, &fault) {
			faults = append(faults, &SpecError{fmt.Sprintf("targets[%d]%s", fault.Seat, dotted(fault.Field)), fault.Err})
			continue
		}
		faults = append(faults, within("balance", one))
	}
	return faults
}

// find returns the target that stands for the place, or nil.
func (p *pool) find(at place) *target {
	if p == nil {
		return nil
	}
	for _, t := range p.targets {
		if t.spec == at.Target && t.authority == authorityOf(at.URL, at.host) {
			return t
		}
	}
	return nil
}

// knows reports whether the pool has a target of that URL.
func (p *pool) knows(url string) bool {
	return p != nil && slices.ContainsFunc(p.targets, func(t *target) bool { return t.spec.URL == url })
}

// has reports whether the pool has that very target.
func (p *pool) has(t *target) bool { return p.byMember[t.member] == t }

func dotted(field string) string {
	if field == "" {
		return ""
	}
	return "." + field
}

// targetFault says where in the backend's keys the fault of target i lies.
func targetFault(i int, err error) *SpecError {
	place := fmt.Sprintf("targets[%d].url", i)
	var fault *upstream.ConfigError
	if errors.As(err, &fault) && strings.HasPrefix(fault.Key, "tls.") {
		place = "transport." + fault.Key
	}
	return &SpecError{place, err}
}

// within puts a fault of a part at the part's place.
func within(path string, err error) *SpecError {
	var named interface{ Field() string }
	var spec *SpecError
	switch {
	case errors.As(err, &spec):
		return &SpecError{path + "." + spec.Path, spec.Err}
	case errors.As(err, &named) && named.Field() != "":
		path += "." + named.Field()
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // the place is in the path
		}
	}
	return &SpecError{path, err}
}

// unjoin takes joined errors apart.
func unjoin(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, one := range many.Unwrap() {
			all = append(all, unjoin(one)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// errNoTarget is why an exchange finds no target to go to.
var errNoTarget = errors.New("no target can take the request")

// noTarget is what the client is told then.
func noTarget(wait time.Duration) error {
	return &Problem{
		Status: 503, Detail: "no target of the backend can take the request", Type: "destination_unavailable",
		RetryAfter: max(wait, time.Second), Err: errNoTarget,
	}
}

// pick takes a target for an attempt, none that was tried before where another
// can be had, and leave to ask it.
func (b *httpBackend) pick(x *Exchange, now time.Time) (*target, health.Ticket, error) {
	p := b.pool.Load()
	if p.balancer == nil {
		return nil, health.Ticket{}, noTarget(0)
	}
	if x.stuck != 0 && x.tried.Len() == 0 {
		if t := p.byMember[p.balancer.Stick(x.stuck, now, &x.tried)]; t != nil {
			if ticket, ok := t.admit(now); ok {
				return t, ticket, nil
			}
		}
	}
	wait := time.Duration(0)
	for range len(p.targets) {
		t := p.byMember[p.balancer.Pick(x.key, now, &x.tried)]
		if t == nil {
			break
		}
		ticket, ok := t.admit(now)
		if ok {
			return t, ticket, nil
		}
		if in := t.circuit.RetryIn(now); wait == 0 || in < wait {
			wait = in
		}
		if x.tried.Has(t.member) {
			break // all were tried
		}
		x.tried.Add(t.member)
	}
	return nil, health.Ticket{}, noTarget(wait)
}

// admit asks the target's breaker.
func (t *target) admit(now time.Time) (health.Ticket, bool) {
	if t.circuit == nil {
		return health.Ticket{}, true
	}
	return t.circuit.Allow(now)
}
