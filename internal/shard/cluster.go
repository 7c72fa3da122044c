package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5"
)

// Config is what a Cluster is made of. Durations of 0 are the defaults.
type Config struct {
	Shards        []Address // the first holds the map
	Assigner      Assigner
	MaxReplicaLag time.Duration // 5 s; a replica further behind serves nobody
	Probe         time.Duration // 250 ms; between two looks at a server
	Timeout       time.Duration // 1 s; for a probe, a connection, and a read of a replica
	WriteTimeout  time.Duration // 5 s; for one try of a write, or a read of a primary
	Patience      time.Duration // 2 s; how long a write or read waits for a bucket that moves
	MaxConns      int32         // 16; to one server, where its address has no pool_max_conns
	// Distributed says that there is one address, of a database that itself
	// spreads its rows: no guard, no moves, no replicas and no positions.
	Distributed bool
	Schemas     []Schema // what is kept in the buckets
	Tables      []Table  // of them, which moves copy
	// Within, where it is set, is run in the transaction of writes with what their
	// Events say, after their statements: to queue jobs, say. Its error rolls
	// everything back and is returned as it is.
	Within  func(context.Context, pgx.Tx, []any) error
	Log     *slog.Logger
	Metrics *metrics.Set // nil: none
}

// An Address is where a shard is. Which server is the primary is found out by
// asking; the config says where to look.
type Address struct {
	Name     string
	Primary  string   // postgres://user@host:port/database
	Replicas []string // in any order
}

// A Cluster reads and writes on shards.
type Cluster struct {
	cfg     Config
	names   []string
	shards  []*shardHosts
	router  Router
	metrics *meters

	refreshing sync.Mutex
	turns      atomic.Int64 // two for each look at the map: begun, ended
	refreshed  error        // of the last; under refreshing

	groups sync.WaitGroup // on their way
}

// New returns a cluster that nobody probes until Run. It connects to nothing,
// and Close ends what it holds.
func New(cfg Config) (*Cluster, error) {
	cfg.defaults()
	if len(cfg.Shards) == 0 || cfg.Assigner == nil {
		return nil, errors.New("shard: Config has no Shards or no Assigner")
	}
	if cfg.Distributed && (len(cfg.Shards) != 1 || len(cfg.Shards[0].Replicas) > 0) {
		return nil, errors.New("shard: a distributed database has one address")
	}
	c := &Cluster{cfg: cfg}
	for i, a := range cfg.Shards {
		if a.Name == "" || strings.ContainsAny(a.Name, "|;=, \"\n") || indexOf(c.names, a.Name) >= 0 {
			c.Close()
			return nil, fmt.Errorf("shard: the name %q is empty, taken, or has a mark that names cannot have", a.Name)
		}
		c.names = append(c.names, a.Name)
		s, err := newShardHosts(cfg, i, a)
		c.shards = append(c.shards, s)
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("shard %s: %w", a.Name, err)
		}
	}
	c.metrics = newMeters(cfg.Metrics, c.shards)
	return c, nil
}

func (cfg *Config) defaults() {
	for _, d := range []struct {
		at *time.Duration
		v  time.Duration
	}{
		{&cfg.MaxReplicaLag, 5 * time.Second}, {&cfg.Probe, 250 * time.Millisecond}, {&cfg.Timeout, time.Second},
		{&cfg.WriteTimeout, 5 * time.Second}, {&cfg.Patience, 2 * time.Second},
	} {
		if *d.at == 0 {
			*d.at = d.v
		}
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 16
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
}

// Run probes the servers and follows the map until ctx ends.
func (c *Cluster) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, s := range c.shards {
		for _, h := range s.hosts {
			wg.Go(func() { h.watch(ctx, c.cfg, func(state *hostState) { c.saw(s, h, state) }) })
		}
	}
	wg.Go(func() { c.followTimelines(ctx) })
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			err := c.Refresh(ctx)
			if err != nil && !failing && ctx.Err() == nil {
				c.cfg.Log.Warn("the shard map cannot be read; the last one is used", "error", err)
			}
			failing = err != nil
		}
	}
}

// Ready waits, beside Run, until every server has been asked once, and which of
// them were primaries of old.
func (c *Cluster) Ready(ctx context.Context) error {
	for _, s := range c.shards {
		for _, h := range s.hosts {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-h.ready:
			}
		}
	}
	c.exchangeTimelines(ctx)
	return nil
}

// Close ends all connections. Run has returned before.
func (c *Cluster) Close() {
	c.groups.Wait()
	for _, s := range c.shards {
		for _, h := range s.hosts {
			h.pool.Close()
		}
	}
}

// Names are those of the shards, in the order of the config.
func (c *Cluster) Names() []string { return c.names }

// Router looks up where buckets are.
func (c *Cluster) Router() *Router { return &c.router }

// Assigner says where new rows belong.
func (c *Cluster) Assigner() Assigner { return c.cfg.Assigner }

// saw takes over what a probe of h has found.
func (c *Cluster) saw(s *shardHosts, h *host, state *hostState) {
	s.measure(h, state)
	old := h.state.Swap(state)
	if old.up && (!state.up || old.primary != state.primary) {
		h.pool.Reset()
	}
	s.elect()
	c.metrics.probed(s, h, state)
	switch {
	case old.up && !state.up:
		c.cfg.Log.Warn("a database server does not answer", "shard", s.name, "server", h.address, "error", state.reported)
	case state.up && (!old.up || old.primary != state.primary):
		c.cfg.Log.Info("a database server answers", "shard", s.name, "server", h.address, "primary", state.primary)
	}
}

// onPrimary runs f on a connection to the primary of a shard.
func (c *Cluster) onPrimary(ctx context.Context, s *shardHosts, f func(*pgx.Conn) error) error {
	h := s.primary.Load()
	if h == nil {
		return s.noPrimary()
	}
	return c.on(ctx, s, h, f)
}

// onAny runs f on the primary, or on a replica where that fails.
func (c *Cluster) onAny(ctx context.Context, s *shardHosts, f func(*pgx.Conn) error) error {
	err := c.onPrimary(ctx, s, f)
	for _, h := range s.hosts {
		if err == nil || ctx.Err() != nil {
			return err
		}
		if state := h.state.Load(); state.up && !state.primary {
			err = c.on(ctx, s, h, f)
		}
	}
	return err
}

func (c *Cluster) on(ctx context.Context, s *shardHosts, h *host, f func(*pgx.Conn) error) error {
	conn, err := h.pool.Acquire(ctx)
	if err == nil {
		defer conn.Release()
		err = f(conn.Conn())
	}
	if err != nil && ctx.Err() == nil && hostFault(err) {
		s.failed(h, err)
	}
	return err
}
