package shard

// MaxTransactions is how many may be on their way to a shard.
const MaxTransactions = maxTransactions

// Waiting is how many writes wait for those before them on a shard.
func (c *Cluster) Waiting(shard int) int {
	l := &c.shards[shard].line
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// Stuck reports whether nobody waits any longer for what is on its way to a shard.
func (c *Cluster) Stuck(shard int) bool {
	l := &c.shards[shard].line
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stuck()
}
