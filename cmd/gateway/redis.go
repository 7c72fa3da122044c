package main

import (
	"context"

	"github.com/sluice-edge/sluice/internal/redislink"
)

// Redis is where gateways keep what they share.
type Redis = redislink.Settings

// A redisLink is the client of Redis that is in use.
type redisLink = redislink.Link

// linkRedis returns the link for the file's settings: running, where it is
// that, or a new one. It connects to nothing yet. nil: the file has no redis.
func (s *setup) linkRedis(running *redisLink) *redisLink {
	r := s.file.Redis
	if r == nil || r.Validate() != nil {
		return nil
	}
	link, err := r.Open(running)
	if err != nil {
		s.doc.Fault("redis", err)
		return nil
	}
	return link
}

// release closes the link that s alone has; kept is the one that goes on.
func (s *setup) release(kept *redisLink) {
	if s.redis != nil && s.redis != kept {
		_ = s.redis.Close() // nobody waits for it
	}
}

// leaveRedis closes the link of the setup before, after a reload that changed
// it, once nobody can be waiting for its answers.
func (g *gateway) leaveRedis(old *setup) {
	if old == nil || old.redis == nil || old.redis == g.current.Load().redis {
		return
	}
	g.wg.Go(func() {
		wait, cancel := context.WithTimeout(g.life, 2*old.file.Redis.Timeout)
		defer cancel()
		<-wait.Done()
		old.release(nil)
	})
}
