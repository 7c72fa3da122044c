package service

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/cache"
	"github.com/sluice-edge/sluice/internal/users/postgres"
	"github.com/sluice-edge/sluice/internal/users/session"
	"github.com/sluice-edge/sluice/internal/users/sqlite"
)

// ErrTaken is what Open fails with where another process has the data of the
// embedded mode.
var ErrTaken = sqlite.ErrTaken

// openTime bounds how long opening a store may take.
const openTime = 30 * time.Second

// Services are the services that run in this process. What two of them have in
// common, they share, so that a reload with other settings neither empties the
// cache nor ends a session, nor opens a file twice.
type Services struct {
	metrics *metrics.Set
	log     *slog.Logger

	mu       sync.Mutex
	services map[string]*Service
	bases    map[string]*base
}

// NewServices returns a place for services. set and log may be nil.
func NewServices(set *metrics.Set, log *slog.Logger) *Services {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Services{metrics: set, log: log, services: map[string]*Service{}, bases: map[string]*base{}}
	if set != nil {
		set.RegisterMetricsWriter(a.writeJobs)
	}
	return a
}

// A Service is one that runs. Whoever has got it from Open, or from a Hold that
// gave true, gives it back with Release.
type Service struct {
	*users.Handler
	all  *Services
	key  string
	base *base
	refs atomic.Int64
}

// A base is a store with what is in memory beside it.
type base struct {
	key      string
	store    users.Store
	level    *cache.Memory
	sessions *session.Memory
	jobs     *jobsOf // nil where there are none
	made     []byte  // a secret for where none is configured
	refs     int     // under Services.mu
}

// Open returns the service that spec describes, over client where that is not
// nil: the one that runs already, or a new one.
func (a *Services) Open(ctx context.Context, spec Spec, client redis.UniversalClient) (*Service, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := keyOf(spec, client)
	if s := a.services[key]; s != nil && s.Hold() {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	b, err := a.base(ctx, spec)
	if err != nil {
		return nil, err
	}
	s, err := a.assemble(spec, client, b)
	if err != nil {
		return nil, errors.Join(err, a.drop(b))
	}
	s.key = key
	s.refs.Store(1)
	a.services[key] = s
	return s, nil
}

// keyOf tells services apart.
func keyOf(spec Spec, client redis.UniversalClient) string {
	text, _ := json.Marshal(spec) // of strings, numbers and lists
	return fmt.Sprintf("%s %p", text, client)
}

// base opens the store of spec, or finds that of another service. a.mu is held.
func (a *Services) base(ctx context.Context, spec Spec) (*base, error) {
	spec.Cache, spec.Sessions, spec.Listen, spec.SecretFile = Cache{}, Sessions{}, "", ""
	if spec.Mode == Embedded {
		dir, err := filepath.Abs(spec.DataDir)
		if err != nil {
			return nil, err
		}
		spec.DataDir, spec.MaxReplicaLag = dir, 0
	}
	named := spec
	if spec.Mode == Embedded {
		named.Jobs = nil // the files are open once, with the jobs that they were opened with
	}
	key := keyOf(named, nil)
	if b := a.bases[key]; b != nil {
		b.refs++
		return b, nil
	}
	own, err := a.openJobs(spec)
	if err != nil {
		return nil, err
	}
	store, err := a.store(ctx, spec, own)
	if err != nil {
		own.close()
		return nil, err
	}
	if err := own.start(ctx); err != nil {
		own.close()
		return nil, errors.Join(err, store.Close())
	}
	b := &base{key: key, store: store, jobs: own, level: cache.NewMemory(), sessions: session.NewMemory(0), refs: 1}
	if b.made, err = a.makeSecret(spec); err != nil {
		own.close()
		return nil, errors.Join(err, store.Close())
	}
	a.bases[key] = b
	return b, nil
}

// store opens where spec keeps users.
func (a *Services) store(ctx context.Context, spec Spec, own *jobsOf) (users.Store, error) {
	assign, err := spec.assigner()
	if err != nil {
		return nil, err
	}
	if spec.Mode != Embedded {
		return a.servers(ctx, spec, assign, own)
	}
	cfg := sqlite.Config{Dir: spec.DataDir, Layout: spec.Strategy, Assign: assign, Metrics: a.metrics, OnWrite: own.onWrite()}
	for _, sh := range spec.shards() {
		cfg.Shards = append(cfg.Shards, sh.Name)
		if spec.Strategy == "range" {
			cfg.Layout += " " + strings.Join(sh.Range, "-")
		}
	}
	store, err := sqlite.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// servers opens PostgreSQL.
func (a *Services) servers(ctx context.Context, spec Spec, assign shard.Assigner, own *jobsOf) (users.Store, error) {
	cfg := postgres.Config{
		Assigner: assign, MaxReplicaLag: spec.MaxReplicaLag, Distributed: spec.Mode == Distributed,
		Log: a.log, Metrics: a.metrics, Within: own.within(),
	}
	for _, sh := range spec.Shards {
		cfg.Shards = append(cfg.Shards, shard.Address{Name: sh.Name, Primary: sh.Primary, Replicas: sh.Replicas})
	}
	store, err := postgres.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// makeSecret is what signs where nothing is configured. Embedded keeps it.
func (a *Services) makeSecret(spec Spec) ([]byte, error) {
	made := make([]byte, 32)
	rand.Read(made)
	if spec.Mode != Embedded {
		return made, nil
	}
	path := filepath.Join(spec.DataDir, "secret")
	have, err := readSecret(path)
	if !errors.Is(err, os.ErrNotExist) {
		return have, err
	}
	made = []byte(hex.EncodeToString(made))
	return made, os.WriteFile(path, made, 0o600)
}

// secret is what signs.
func (a *Services) secret(spec Spec, b *base) ([]byte, error) {
	if spec.SecretFile != "" {
		return readSecret(spec.SecretFile)
	}
	if spec.Mode != Embedded {
		a.log.Warn("users.secret_file is not set: cursors and consistency tokens are good in this process only, and end with it")
	}
	return b.made, nil
}

// assemble puts cache, sessions and API before a store.
func (a *Services) assemble(spec Spec, client redis.UniversalClient, b *base) (*Service, error) {
	var level cache.Level = b.level
	var sessions users.Sessions = b.sessions
	local := time.Duration(0)
	var shared *cache.Redis
	if client != nil {
		shared = cache.NewRedis(client, a.metrics)
		level, sessions = shared, session.NewRedis(client, spec.Sessions.TTL, a.metrics)
		local = spec.Cache.LocalTTL
	} else {
		b.sessions.Configure(spec.Sessions.TTL)
	}
	store := b.store
	if spec.Cache.Mode != cache.ModeOff {
		store = cache.New(cache.Config{
			Store: store, Level: level, Mode: spec.Cache.Mode, TTL: spec.Cache.TTL, LocalTTL: local,
			MaxLag: spec.MaxReplicaLag, Lost: b.jobs.lost(), Metrics: a.metrics, Log: a.log,
		})
	} else if client != nil {
		store = checked{store, level}
	}
	secret, err := a.secret(spec, b)
	if err != nil {
		return nil, err
	}
	h, err := users.New(users.Config{Store: store, Sessions: sessions, Secret: secret, Avatars: b.jobs.avatars(), Log: a.log})
	if err != nil {
		return nil, err
	}
	s := &Service{Handler: h, all: a, base: b}
	if shared != nil && b.jobs != nil {
		b.jobs.levels.add(s, shared)
	}
	return s, nil
}

// checked is a store whose health is also that of Redis, for sessions.
type checked struct {
	users.Store
	level cache.Level
}

// Health asks both.
func (c checked) Health(ctx context.Context) []users.Check {
	return append(c.Store.Health(ctx), *c.level.Check(ctx))
}

// Hold keeps the service from ending until Release. It reports whether it has
// not ended already.
func (s *Service) Hold() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives the service back. Whoever is the last to do so ends it.
func (s *Service) Release() error {
	if s.refs.Add(-1) > 0 {
		return nil
	}
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	if s.all.services[s.key] == s {
		delete(s.all.services, s.key)
	}
	if s.base.jobs != nil {
		s.base.jobs.levels.remove(s)
	}
	return s.all.drop(s.base)
}

// drop gives a base back. a.mu is held.
func (a *Services) drop(b *base) error {
	if b.refs--; b.refs > 0 {
		return nil
	}
	delete(a.bases, b.key)
	b.jobs.close()
	return b.store.Close()
}

// Store is where the service keeps its users, without what is cached of them.
func (s *Service) Store() users.Store { return s.base.store }

// countTime bounds how long users are counted.
const countTime = 10 * time.Second

// Sizes says what each shard holds.
func (s *Service) Sizes(ctx context.Context) ([]shard.Size, error) {
	switch store := s.base.store.(type) {
	case *postgres.Store:
		return store.Cluster().Sizes(ctx, countTime), nil
	case *sqlite.Store:
		return store.Sizes(ctx)
	}
	return nil, errors.New("this store does not know its sizes")
}

// Cluster is what the service's shards run on; nil in embedded mode, the shards
// of which do not move.
func (s *Service) Cluster() *shard.Cluster {
	if store, ok := s.base.store.(*postgres.Store); ok {
		return store.Cluster()
	}
	return nil
}
