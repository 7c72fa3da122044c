package routing

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Balance says how a backend chooses among its targets.
type Balance struct {
	Policy      string        `yaml:"policy" enum:"round_robin|least_request|ewma|random|ring_hash|maglev" doc:"round_robin, least_request, ewma, random, ring_hash or maglev" default:"round_robin"`
	Hash        Key           `yaml:"hash" doc:"for ring_hash and maglev: the parts of a request that keep it on its target; where one is missing the client address stands in"`
	BoundedLoad float64       `yaml:"bounded_load" min:"0" doc:"for ring_hash and maglev: a target never gets more than this many times the mean of requests in flight; 0: unbounded" default:"1.25"`
	SlowStart   time.Duration `yaml:"slow_start" doc:"a target that has become available gets its whole share only after this time; not for ring_hash and maglev" default:"0s"`
	// PanicThreshold is the share of available targets, from 0 to 1, below
	// which all are used; 0: never. It is in the file with the health checks.
	PanicThreshold float64 `yaml:"-"`
}

// SetDefaults is round robin, with bounded load for who chooses another.
func (b *Balance) SetDefaults() { *b = Balance{Policy: "round_robin", BoundedLoad: 1.25} }

// Validate returns what is wrong, each with its Field.
func (b *Balance) Validate() error {
	var all []error
	bad := func(field, format string, args ...any) {
		all = append(all, &keyError{field, fmt.Errorf(format, args...)})
	}
	p, ok := policyOf(b.Policy)
	switch {
	case !ok:
		bad("policy", "%q is no policy: it is one of %s", b.Policy, strings.Join(policies[:], ", "))
	case p >= ringHash && len(b.Hash) == 0:
		bad("hash", "%s needs to know which part of a request to hash, such as ip or header:X-User-ID", b.Policy)
	}
	if b.BoundedLoad != 0 && !(b.BoundedLoad >= 1) {
		bad("bounded_load", "must be 0 or at least 1, since somebody has to carry the mean, got %v", b.BoundedLoad)
	}
	if b.SlowStart < 0 {
		bad("slow_start", "must be at least 0, got %v", b.SlowStart)
	}
	if !(b.PanicThreshold >= 0 && b.PanicThreshold <= 1) {
		bad("panic_threshold", "must be between 0%% and 100%%, got %v", b.PanicThreshold)
	}
	return errors.Join(all...)
}

// A keyError is a fault of a configuration at one of its keys.
type keyError struct {
	field string
	err   error
}

func (e *keyError) Error() string { return e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }
func (e *keyError) Field() string { return e.field }

// A policy is a Balance.Policy, read.
type policy uint8

const (
	roundRobin policy = iota
	leastRequest
	ewma
	random
	ringHash // from here on: those that go by a key
	maglev
)

var policies = [...]string{"round_robin", "least_request", "ewma", "random", "ring_hash", "maglev"}

func policyOf(name string) (policy, bool) {
	if name == "" {
		return roundRobin, true
	}
	i := slices.Index(policies[:], name)
	return policy(max(i, 0)), i >= 0
}

// A Seat is a member's place in a balancer: what the configuration says of it.
type Seat struct {
	Member   *Member
	Weight   int // 1 to 1000: share of the requests
	Priority int // from 0; a member serves when none of a lower number can
}

// A SeatError is a fault of one seat.
type SeatError struct {
	Seat  int    // index of the seat
	Field string // weight, priority, or empty
	Err   error
}

// Error names the seat by its number, from 0.
func (e *SeatError) Error() string { return fmt.Sprintf("target %d: %v", e.Seat, e.Err) }

// Unwrap returns the fault without its place.
func (e *SeatError) Unwrap() error { return e.Err }

// A Balancer picks a member for each attempt. It is safe for concurrent use and
// takes a lock only when a member has become available or unavailable, or began
// or ended draining.
type Balancer struct {
	policy policy
	spec   Balance
	group  *Members
	seats  []Seat // by name, so that the order in the file changes nothing that is hashed
	levels []*level
	byID   map[uint64]*Member
	random func() uint64

	view    atomic.Pointer[view]
	rebuild sync.Mutex
	_       [64]byte
	turn    atomic.Uint64 // of round robin
	_       [64]byte
}

// NewBalancer returns a balancer over at least one seat, whose members all are
// of one Members. The error joins a *SeatError for every fault of a seat.
func NewBalancer(spec Balance, seats []Seat) (*Balancer, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if len(seats) == 0 {
		return nil, errors.New("at least one target is needed")
	}
	b := &Balancer{spec: spec, group: seats[0].Member.group, seats: slices.Clone(seats), byID: map[uint64]*Member{}, random: rand.Uint64}
	b.policy, _ = policyOf(spec.Policy) // valid, as Validate says
	if err := b.check(); err != nil {
		return nil, err
	}
	if b.policy >= ringHash {
		if len(seats) > maxHashed {
			return nil, fmt.Errorf("%s takes at most %d targets, got %d", spec.Policy, maxHashed, len(seats))
		}
		slices.SortFunc(b.seats, func(x, y Seat) int { return cmp.Compare(x.Member.name, y.Member.name) })
		b.levels = levelsOf(b.seats, b.policy)
	}
	b.view.Store(b.look(b.group.epoch.Load(), 0))
	return b, nil
}

// check looks for faults of seats, in the caller's order.
func (b *Balancer) check() error {
	var all []error
	bad := func(i int, field, format string, args ...any) {
		all = append(all, &SeatError{Seat: i, Field: field, Err: fmt.Errorf(format, args...)})
	}
	for i, s := range b.seats {
		if s.Weight < 1 || s.Weight > 1000 {
			bad(i, "weight", "must be between 1 and 1000, got %d", s.Weight)
		}
		if s.Priority < 0 {
			bad(i, "priority", "must be at least 0, got %d", s.Priority)
		}
		if s.Member.group != b.group {
			bad(i, "", "%s is not of the same backend as the first", s.Member.name)
		}
		if b.byID[s.Member.id] != nil {
			bad(i, "", "%s is listed twice", s.Member.name)
		}
		b.byID[s.Member.id] = s.Member
	}
	return errors.Join(all...)
}

// Pick returns the member that is to be sent the next attempt, none that was
// tried unless all were; nil if there is none to be had. Policies that do not
// hash ignore key. It does not allocate, but when members have changed.
//
// Candidates are the available members of the lowest priority number that has
// any; the next numbers follow where all of those were tried. If the share of
// available members is below the panic threshold, all are candidates, whatever
// their priority. Draining members never are: see Stick.
func (b *Balancer) Pick(key uint64, now time.Time, tried *Tried) *Member {
	t := b.group.at(now)
	v := b.current(t)
	if tried.Len() > 0 {
		if m := b.pick(v, key, t, tried); m != nil {
			return m
		}
	}
	return b.pick(v, key, t, nil)
}

func (b *Balancer) pick(v *view, key uint64, t int64, tried *Tried) *Member {
	if b.policy >= ringHash {
		return b.pickByKey(v, key, tried)
	}
	for _, c := range v.tiers {
		var m *Member
		switch b.policy {
		case leastRequest, ewma:
			m = b.pickOfTwo(c, t, tried)
		case random:
			m = c.members[c.draw.at(uint32(b.random()))]
		default:
			m = c.inTurn(b.turn.Add(1)-1, tried)
		}
		if tried.Has(m) {
			m = c.other(b.random(), tried)
		}
		if m != nil {
			return m
		}
	}
	return nil
}

// Stick returns the member whose ID is id, for a client that was there before:
// also if it drains, but not if it is unavailable or was tried; then nil, and
// the policy picks anew.
func (b *Balancer) Stick(id uint64, now time.Time, tried *Tried) *Member {
	m := b.byID[id]
	if m == nil || tried.Has(m) || !m.Available() && !(b.current(b.group.at(now)).panic && !m.Draining()) {
		return nil
	}
	return m
}

// Hash returns what Pick is to be given for r, and whether r has all the parts
// that Balance.Hash names: where it has not, the client address stood in. It is
// 0 and true for policies that do not hash.
func (b *Balancer) Hash(r *Request) (key uint64, complete bool) {
	if b.policy < ringHash {
		return 0, true
	}
	return b.spec.Hash.Hash(r)
}

// A Status is what a balancer chooses from.
type Status struct {
	Policy     string
	Panic      bool     // all members are used, available or not
	Priority   int      // of the candidates; of the first of them in panic
	Candidates []string // names, sorted
	Members    int
}

// Status returns what Pick would choose from now.
func (b *Balancer) Status(now time.Time) Status {
	v := b.current(b.group.at(now))
	s := Status{Policy: policies[b.policy], Panic: v.panic, Members: len(b.seats)}
	for i, c := range v.tiers {
		if i > 0 && !v.panic {
			break
		}
		if i == 0 {
			s.Priority = c.priority
		}
		for _, m := range c.members {
			s.Candidates = append(s.Candidates, m.name)
		}
	}
	slices.Sort(s.Candidates)
	return s
}
