package shard

// Waiting is how many writes wait for those before them on a shard.
func (c *Cluster) Waiting(shard int) int {
	l := &c.shards[shard].line
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}
