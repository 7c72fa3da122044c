package shard

import (
	"context"
	"sync"
)

// A HostHealth is what one server has said to a question just now.
type HostHealth struct {
	Shard   string
	Listed  string // primary | replica, as in the config
	Address string // host:port
	Err     error
	Alone   bool // none of its shard has answered
	Spare   bool // others of its shard do all that it would
}

// Health asks every server. It waits for half as long as a read does: whoever wants
// to know has mostly a second himself (a gateway's checks, Kubernetes' probes), and
// one server that hangs must not look to him as if the whole service did.
func (c *Cluster) Health(ctx context.Context) []HostHealth {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout/2)
	defer cancel()
	var all []HostHealth
	var wg sync.WaitGroup
	for _, s := range c.shards {
		for _, h := range s.hosts {
			all = append(all, HostHealth{Shard: s.name, Listed: h.listed, Address: h.address})
		}
	}
	at := 0
	for _, s := range c.shards {
		for _, h := range s.hosts {
			answer := &all[at]
			at++
			wg.Go(func() { _, answer.Err = h.pool.Exec(ctx, "SELECT 1") })
		}
	}
	wg.Wait()
	at = 0
	for _, s := range c.shards {
		mine := all[at : at+len(s.hosts)]
		at += len(mine)
		alone := true
		for _, a := range mine {
			alone = alone && a.Err != nil
		}
		primary := s.primary.Load()
		for i := range mine {
			mine[i].Alone = alone
			mine[i].Spare = primary != nil && primary != s.hosts[i]
		}
	}
	return all
}
