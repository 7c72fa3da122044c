// Package cache keeps users at hand before a store: cache-aside, in Redis for all
// processes or in this process, with a short-lived level of its own before Redis.
//
// A cached user is never put over a newer one: every put compares versions where
// the entry is (Lua in Redis), and a write leaves a tombstone of its version
// behind rather than nothing, so that a reader who read before the write and
// stores after it is refused. A Token names the versions that its client has
// written, so that the client's reads take no entry that is older.
package cache

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/internal/users"
)

// How writes reach the cache.
const (
	ModeOff          = "off"
	ModeTTL          = "ttl"           // they do not: entries live out their time
	ModeEvent        = "event"         // they leave a tombstone
	ModeWriteThrough = "write_through" // they leave what was written
)

const (
	negativeTTL = 10 * time.Second // of "there is no such user"
	minGrave    = time.Minute      // of a tombstone: longer than any replica may lag, and a read last
	fillTime    = 5 * time.Second  // of a read that several wait for
	earlyBeta   = 1                // of XFetch
)

// An Entry is what is known of one ID.
type Entry struct {
	// Version is the user's; of a tombstone, that of the write that left it;
	// 0 where there is no such user.
	Version int64
	User    *users.User // nil: a tombstone, or no such user
	Expires time.Time
	Cost    time.Duration // of the read that found it
}

// absent says that there is no such user, as opposed to a tombstone.
func (e *Entry) absent() bool { return e.User == nil && e.Version == 0 }

// beats reports whether e may be put where other is.
func (e *Entry) beats(other *Entry) bool {
	if other == nil || e.Version != other.Version {
		return other == nil || e.Version > other.Version
	}
	return e.User != nil || other.User == nil
}

// A Mark says when somebody looked into a level: what was read from the store
// after it is no older than the level's generation of then.
type Mark struct {
	gen   string
	lease string // by which the caller is the one who reads what is not there; "": none
	busy  bool   // another process has it
}

// A Level keeps entries. Its errors say that it cannot be trusted for now.
type Level interface {
	// Find returns the entry of an ID; nil: none.
	Find(ctx context.Context, id string) (*Entry, Mark, error)
	// Put keeps what was read after the mark, where it beats what is there.
	Put(ctx context.Context, id string, e *Entry, at Mark) error
	// Tell keeps what a write has left, where it beats what is there. Where that
	// is lost, the level finds nothing until all that it had is void.
	Tell(ctx context.Context, id string, e *Entry) error
	// Distrust is for who could not find out what to tell: the level finds nothing
	// until all that it had is void.
	Distrust()
	// Check asks whether the level answers; nil, nil where there is nothing to
	// ask.
	Check(ctx context.Context) *users.Check
}

// Config is how users are cached.
type Config struct {
	Store    users.Store
	Level    Level // shared by whoever has the same users
	Mode     string
	TTL      time.Duration
	LocalTTL time.Duration // of the level in the process, before Level; 0: none
	MaxLag   time.Duration // of the store's replicas
	Reads    int           // at the store at a time while Level is out of order
	Patience time.Duration // for what another process reads already; 0: 200 ms
	// Lost, where it is set, has a write made good later of which Level could not
	// be told: until then nothing that is older than the version may be served
	// that was there, which expires at that time by itself.
	Lost    func(ctx context.Context, id string, version int64, until time.Time)
	Metrics *metrics.Set // nil: none
	Log     *slog.Logger
}

// A Store is a users.Store with a cache before it.
type Store struct {
	users.Store
	cfg     Config
	local   *Memory // nil: none
	memory  *Memory // the level, where it is in this process
	flights flights
	leases  lessor        // nil: no other process has the level
	gate    chan struct{} // reads at the store while the level is out of order
	waiting atomic.Int64
	horizon time.Duration // after which no entry is older than a write
	grave   time.Duration // of a tombstone
	results results
	untold  untold
}

const maxWaiting = 4096

// Grave is how long a tombstone stays, over replicas of that lag at most.
func Grave(maxLag time.Duration) time.Duration { return max(minGrave, 2*maxLag+2*fillTime) }

// New returns a cache before c.Store. It starts nothing.
func New(c Config) *Store {
	if c.Reads == 0 {
		c.Reads = 64
	}
	s := &Store{Store: c.Store, cfg: c, gate: make(chan struct{}, c.Reads)}
	if c.LocalTTL > 0 {
		s.local = NewMemory()
	}
	if c.Patience == 0 {
		s.cfg.Patience = leasePatience
	}
	s.memory, _ = c.Level.(*Memory)
	s.leases, _ = c.Level.(lessor)
	s.flights.spare = s.giveBack
	s.horizon = c.TTL + c.LocalTTL + fillTime
	s.grave = Grave(c.MaxLag)
	s.results = newResults(c.Metrics)
	return s
}

// Get returns the user of an ID.
func (s *Store) Get(ctx context.Context, id string, after users.Token) (users.User, users.Source, error) {
	if after == "" { // most of all
		return s.find(ctx, id, history{}, 0)
	}
	if after == users.Newest {
		return s.Store.Get(ctx, id, after)
	}
	h, err := parseToken(after)
	if err != nil {
		return users.User{}, users.Source{}, err
	}
	need, bypass := h.need(id, time.Now(), s.horizon)
	if bypass {
		s.results.bypass.Inc()
		return s.Store.Get(ctx, id, h.store)
	}
	return s.find(ctx, id, h, need)
}

// AtHand returns a user who is in this process's memory and new enough; nil where
// there is more to do.
func (s *Store) AtHand(id string, after users.Token) *users.User {
	m := s.local
	if m == nil {
		m = s.memory
	}
	if m == nil || after == users.Newest {
		return nil
	}
	now, need := time.Now(), int64(0)
	if after != "" {
		h, err := parseToken(after)
		if err != nil {
			return nil
		}
		var bypass bool
		if need, bypass = h.need(id, now, s.horizon); bypass {
			return nil
		}
	}
	e := m.find(id, now)
	if e == nil || e.User == nil || e.Version < need || m == s.memory && early(e, now) {
		return nil
	}
	if m == s.local {
		s.results.local.Inc()
	} else {
		s.results.hit.Inc()
	}
	return e.User
}

// find looks for the user in one level after the other. need is the version that
// it must have at least.
func (s *Store) find(ctx context.Context, id string, h history, need int64) (users.User, users.Source, error) {
	now := time.Now()
	if s.local != nil {
		if e := s.local.find(id, now); e.serves(need) {
			s.results.local.Inc()
			return e.answer()
		}
	}
	e, at, err := s.look(ctx, id, h.store == "" && need == 0)
	switch {
	case err != nil:
		s.results.failed.Inc()
		return s.guarded(ctx, id, h.store, need)
	case !e.serves(need):
		s.results.miss.Inc()
		return s.fill(ctx, id, h.store, need, at)
	case e.User != nil && early(e, now):
		s.results.early.Inc()
		if s.alone(ctx, id, &at) {
			if u, source, err := s.fill(ctx, id, h.store, need, at); err == nil || errors.Is(err, users.ErrNotFound) {
				return u, source, err
			}
		}
		return e.answer() // it is good for a while yet
	}
	s.keepLocal(ctx, id, e, now)
	if e.absent() {
		s.results.negative.Inc()
	} else {
		s.results.hit.Inc()
	}
	return e.answer()
}

// serves reports whether e answers a read that needs that version.
func (e *Entry) serves(need int64) bool {
	return e != nil && e.Version >= need && (e.User != nil || e.absent())
}

func (e *Entry) answer() (users.User, users.Source, error) {
	if e.User == nil {
		return users.User{}, users.Source{}, users.ErrNotFound
	}
	return *e.User, users.Source{}, nil
}

// early decides whether to read again before the entry expires (XFetch: Vattani,
// Chierichetti and Lowenstein, Optimal Probabilistic Cache Stampede Prevention).
func early(e *Entry, now time.Time) bool {
	ahead := time.Duration(float64(e.Cost) * earlyBeta * -math.Log(1-rand.Float64()))
	return !now.Add(ahead).Before(e.Expires)
}

// fill reads from the store, once for all who ask at the same time and have
// written nothing, and keeps what it finds.
func (s *Store) fill(ctx context.Context, id string, after users.Token, need int64, at Mark) (users.User, users.Source, error) {
	if after != "" || need > 0 {
		return s.read(ctx, id, after, at)
	}
	return s.flights.do(ctx, id, at, func(f *flight) (users.User, users.Source, error) {
		// It goes on without whoever asked first: others wait as well.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fillTime)
		defer cancel()
		return s.lead(ctx, id, at, f)
	})
}

// guarded is fill while the level is out of order: the store has more to do than
// it is made for, so that only so many ask at a time.
func (s *Store) guarded(ctx context.Context, id string, after users.Token, need int64) (users.User, users.Source, error) {
	if s.waiting.Add(1) > maxWaiting {
		s.waiting.Add(-1)
		return users.User{}, users.Source{}, &users.Unavailable{What: "too many are waiting for the database"}
	}
	defer s.waiting.Add(-1)
	select {
	case s.gate <- struct{}{}:
	case <-ctx.Done():
		return users.User{}, users.Source{}, &users.Unavailable{What: "the database has no time", Err: ctx.Err()}
	}
	defer func() { <-s.gate }()
	return s.fill(ctx, id, after, need, noMark)
}

// noMark is of who could not look: nothing is kept.
var noMark = Mark{gen: "-"}

// read asks the store and keeps what it says.
func (s *Store) read(ctx context.Context, id string, after users.Token, at Mark) (users.User, users.Source, error) {
	start := time.Now()
	u, source, err := s.Store.Get(ctx, id, after)
	if at == noMark || source.Stale || err != nil && !errors.Is(err, users.ErrNotFound) {
		s.giveBack(id, at)
		return u, source, err
	}
	e := &Entry{Cost: time.Since(start)}
	now := time.Now()
	if err != nil {
		e.Expires = now.Add(min(negativeTTL, s.cfg.TTL))
	} else {
		kept := u
		e.Version, e.User, e.Expires = u.Version, &kept, now.Add(s.cfg.TTL)
	}
	// That it could not be kept loses nothing.
	if s.cfg.Level.Put(ctx, id, e, at) == nil {
		s.keepLocal(ctx, id, e, now)
	}
	return u, source, err
}

func (s *Store) keepLocal(ctx context.Context, id string, e *Entry, now time.Time) {
	if s.local == nil {
		return
	}
	short := *e
	if until := now.Add(s.cfg.LocalTTL); until.Before(short.Expires) {
		short.Expires = until
	}
	_ = s.local.Tell(ctx, id, &short) // memory takes everything
}

// Create stores a new user.
func (s *Store) Create(ctx context.Context, u users.User, once users.Once, after users.Token) (users.User, bool, users.Token, error) {
	h, err := parseToken(after)
	if err != nil {
		return u, false, "", err
	}
	u, replayed, seen, err := s.Store.Create(ctx, u, once, h.store)
	if err != nil {
		return u, replayed, "", err
	}
	if !replayed { // it tells of what was, and that may have changed since
		s.wrote(ctx, u.ID, u.Version, &u)
	}
	return u, replayed, s.next(h, seen, u.ID, u.Version), nil
}

// Replace stores u in the place of the user who has its ID.
func (s *Store) Replace(ctx context.Context, u users.User, expect int64, after users.Token) (users.User, users.Token, error) {
	h, err := parseToken(after)
	if err != nil {
		return u, "", err
	}
	got, seen, err := s.Store.Replace(ctx, u, expect, h.store)
	if err != nil {
		s.doubt(ctx, u.ID, expect, err)
		return got, "", err
	}
	s.wrote(ctx, got.ID, got.Version, &got)
	return got, s.next(h, seen, got.ID, got.Version), nil
}

// Delete removes a user.
func (s *Store) Delete(ctx context.Context, id string, expect int64, after users.Token) (int64, users.Token, error) {
	h, err := parseToken(after)
	if err != nil {
		return 0, "", err
	}
	version, seen, err := s.Store.Delete(ctx, id, expect, h.store)
	if err != nil {
		s.doubt(ctx, id, expect, err)
		return 0, "", err
	}
	s.wrote(ctx, id, version, nil)
	return version, s.next(h, seen, id, version), nil
}

// Saw counts as a write of that version: nothing older is served after it.
func (s *Store) Saw(ctx context.Context, id string, version int64, after users.Token) (users.Token, error) {
	h, err := parseToken(after)
	if err != nil {
		return "", err
	}
	seen, err := s.Store.Saw(ctx, id, version, h.store)
	if err != nil {
		return "", err
	}
	return s.next(h, seen, id, version), nil
}

func (s *Store) next(h history, seen users.Token, id string, version int64) users.Token {
	h.store = seen
	return h.with(id, version, time.Now(), s.horizon).token()
}

// wrote tells the cache of a write that is committed; u is nil where the user is
// gone.
func (s *Store) wrote(ctx context.Context, id string, version int64, u *users.User) {
	// The client may have gone; the write has not.
	ctx = context.WithoutCancel(ctx)
	now := time.Now()
	e := &Entry{Version: version, Expires: now.Add(s.grave)}
	if s.cfg.Mode == ModeWriteThrough && u != nil {
		kept := *u
		kept.PasswordHash = ""
		e.User, e.Expires, e.Cost = &kept, now.Add(s.cfg.TTL), time.Millisecond
	}
	if s.local != nil && s.cfg.Mode != ModeTTL {
		s.keepLocal(ctx, id, e, now)
	}
	if s.cfg.Mode == ModeTTL {
		return
	}
	if err := s.cfg.Level.Tell(ctx, id, e); err != nil {
		s.untold.say(s.cfg.Log, now, err)
		// This process makes it new, unless it ends before it can.
		if s.cfg.Lost != nil {
			s.cfg.Lost(ctx, id, version, now.Add(s.horizon+s.grave))
		}
	}
}

// An untold counts writes that the level could not be told of: of an outage there
// is a line now and then, not one a write.
type untold struct {
	mu     sync.Mutex
	said   time.Time
	writes int // since then
}

const sayEvery = 10 * time.Second

func (u *untold) say(log *slog.Logger, now time.Time, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.writes++
	if now.Sub(u.said) < sayEvery {
		return
	}
	log.Warn("invalidations were lost; the cache is not read until it is made new", "writes", u.writes, "error", err)
	u.said, u.writes = now, 0
}

// doubt is for writes of which nobody knows whether they were done: whatever is
// cached of the user is forgotten for a while. expect is the version that the
// write was for, if it was for one.
func (s *Store) doubt(ctx context.Context, id string, expect int64, err error) {
	var down *users.Unavailable
	if !errors.As(err, &down) || !down.Unknown || s.cfg.Mode == ModeTTL {
		return
	}
	e, _, err := s.cfg.Level.Find(context.WithoutCancel(ctx), id)
	if err != nil {
		s.cfg.Level.Distrust()
	}
	version := int64(0)
	if expect > 0 {
		version = expect + 1
	}
	if e != nil && e.User != nil {
		version = max(version, e.Version+1)
	}
	if version > 0 {
		s.wrote(ctx, id, version, nil)
	}
}

// ByEmail asks the store: who logs in, or looks somebody up, wants to know it
// for sure.
func (s *Store) ByEmail(ctx context.Context, email string, after users.Token) (users.User, users.Source, error) {
	h, err := parseToken(after)
	if err != nil {
		return users.User{}, users.Source{}, err
	}
	return s.Store.ByEmail(ctx, email, h.store)
}

// List asks the store: a list is as new as its token.
func (s *Store) List(ctx context.Context, q users.Query, after users.Token) (users.Page, error) {
	h, err := parseToken(after)
	if err != nil {
		return users.Page{}, err
	}
	return s.Store.List(ctx, q, h.store)
}

// Health asks the store and the level.
func (s *Store) Health(ctx context.Context) []users.Check {
	checks := s.Store.Health(ctx)
	if c := s.cfg.Level.Check(ctx); c != nil {
		checks = append(checks, *c)
	}
	return checks
}

// results count what came of looking into the cache.
type results struct {
	local, hit, negative, early, miss, bypass, failed *metrics.Counter
}

func newResults(set *metrics.Set) results {
	if set == nil {
		set = metrics.NewSet()
	}
	of := func(result string) *metrics.Counter {
		return set.GetOrCreateCounter(`users_cache_requests_total{result="` + result + `"}`)
	}
	return results{of("local_hit"), of("hit"), of("negative_hit"), of("early_refresh"), of("miss"), of("bypass"), of("error")}
}
