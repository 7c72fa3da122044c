package shard

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// An era is a timeline of one database cluster.
type era struct {
	system   int64
	timeline uint32
}

// outlives reports whether a server of other belongs to what was before e.
func (e era) outlives(other era) bool {
	return e.system == other.system && e.timeline > other.timeline
}

// followTimelines keeps shards and this process telling each other which timeline
// is the newest, until ctx ends.
func (c *Cluster) followTimelines(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.exchangeTimelines(ctx)
		}
	}
}

// exchangeTimelines asks every shard which timelines it knows of all, and tells it
// of newer ones. What fails is asked again in a second.
func (c *Cluster) exchangeTimelines(ctx context.Context) {
	if c.cfg.Distributed || len(c.shards) < 2 { // a shard alone has nobody else to remember it
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range c.shards {
		wg.Go(func() {
			known, err := c.timelinesOn(ctx, s)
			if err != nil {
				return
			}
			for _, other := range c.shards {
				c.recall(other, known[other.name])
				if now, ok := other.era(); ok && now != known[other.name] && !known[other.name].outlives(now) {
					_ = c.remember(ctx, s, other.name, now)
				}
			}
		})
	}
	wg.Wait()
}

func (c *Cluster) timelinesOn(ctx context.Context, s *shardHosts) (map[string]era, error) {
	known := map[string]era{}
	err := c.onAny(ctx, s, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT shard, system, timeline FROM shard_timeline")
		if err != nil {
			return err
		}
		var name string
		var system, timeline int64
		_, err = pgx.ForEachRow(rows, []any{&name, &system, &timeline}, func() error {
			known[name] = era{system, uint32(timeline)}
			return nil
		})
		return err
	})
	return known, err
}

func (c *Cluster) remember(ctx context.Context, on *shardHosts, name string, e era) error {
	return c.onPrimary(ctx, on, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `INSERT INTO shard_timeline AS t VALUES ($1, $2, $3) ON CONFLICT (shard) DO UPDATE SET system = $2, timeline = $3
			WHERE t.system <> $2 OR t.timeline < $3`, name, e.system, int64(e.timeline))
		return err
	})
}

// recall takes over what a shard remembers of s.
func (c *Cluster) recall(s *shardHosts, e era) {
	s.mu.Lock()
	newer := e.timeline > 0 && (e.system != s.remembered.system || e.timeline > s.remembered.timeline)
	if newer {
		s.remembered = e
	}
	s.mu.Unlock()
	if !newer {
		return
	}
	before := s.primary.Load()
	s.elect()
	if before != nil && s.primary.Load() == nil {
		c.cfg.Log.Warn("a database server takes writes on a timeline that is over; it is not used", "shard", s.name, "server", before.address)
	}
}

// era is that of the primary.
func (s *shardHosts) era() (era, bool) {
	h := s.primary.Load()
	if h == nil {
		return era{}, false
	}
	state := h.state.Load()
	return state.era(), state.up && state.primary && state.at.Timeline > 0
}

func (state *hostState) era() era { return era{state.system, state.at.Timeline} }
