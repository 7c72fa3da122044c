package listen

import (
	"sync"
	"sync/atomic"
	"time"
)

// watchAfter is the age of an exchange at which its client begins to be
// watched; few get that old.
const watchAfter = 75 * time.Millisecond

const watchedNow = -1 // for attachment.since

// attachment is the exchange that wants to know when the client leaves.
type attachment struct {
	xmu     sync.Mutex // orders Cancel before or behind Detach
	x       interface{ Cancel(error) }
	watched bool
	begun   atomic.Int64 // when it was attached; 0 without, watchedNow once watched
}

// Attach has x canceled with ErrClientGone when the client closes or resets the
// connection, or with ErrClosed when the server does, until Detach. A client
// that shuts down only its sending side looks the same and counts as gone, like
// with nginx, if the exchange takes longer than about 0.1 s.
//
// Cancel is called from another goroutine and must not call Detach.
func (c *Conn) Attach(x interface{ Cancel(error) }) {
	c.xmu.Lock()
	c.x = x
	if !c.watched {
		c.begun.Store(max(c.s.clock.Load(), 1))
	}
	c.xmu.Unlock()
}

// Detach ends what Attach began. When it has returned Cancel will not be called.
func (c *Conn) Detach() {
	c.xmu.Lock()
	c.x = nil
	c.begun.Store(0)
	if c.watched {
		c.watched = false
		c.s.watcher.Load().remove(c)
	}
	c.xmu.Unlock()
}

// cancel tells the exchange, if there is one.
func (c *Conn) cancel(err error) {
	c.xmu.Lock()
	if c.x != nil {
		c.x.Cancel(err)
	}
	c.xmu.Unlock()
}

// watch begins to watch for the client's leaving when that is due.
func (c *Conn) watch(now int64) {
	since := c.begun.Load()
	if since <= 0 || now-since < int64(watchAfter) {
		return
	}
	c.xmu.Lock()
	defer c.xmu.Unlock()
	if w := c.s.watcher.Load(); c.x != nil && !c.watched && w != nil && w.add(c) {
		c.watched = true
		c.begun.Store(watchedNow)
	}
}
