package cache

import (
	"context"
	"sync"
	"sync/atomic"
)

// maxBatch bounds how many calls go to Redis in one write.
const maxBatch = 256

// batches has the calls of those who come while Redis is asked go to it together,
// in one write and with one look at the generation. Whoever comes alone goes at
// once. At the busiest it is what a round trip and a wake-up cost that limits a
// cache, not the commands.
type batches struct {
	send func([]*call)
	left func(*call) // nil, or is told of calls that were made after who made them had gone

	mu     sync.Mutex
	queue  []*call
	asking bool
}

// A call is about one entry, and somebody waits for it.
type call struct {
	key   string
	want  bool   // a look-up: the lease of what is not there
	entry *Entry // to be put; nil: none
	gen   string // that is now; of a put, the one that it is of, "": any
	lease string // that was taken; of a put, the one to give back
	busy  bool   // another has the lease

	settled atomic.Bool // either it was made, or who made it has gone
	done    chan struct{}
	text    string // what was found; "": nothing
	err     error
}

// do has a call made. It waits no longer than ctx, and than the client's own
// time-outs for the batch before and its own.
func (b *batches) do(ctx context.Context, c *call) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.post(c)
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	if c.settled.CompareAndSwap(false, true) {
		return ctx.Err()
	}
	<-c.done // at this moment
	return c.err
}

// post has a call made that nobody need wait for.
func (b *batches) post(c *call) {
	c.done = make(chan struct{})
	b.mu.Lock()
	b.queue = append(b.queue, c)
	first := !b.asking
	b.asking = true
	b.mu.Unlock()
	if first {
		go b.ask() // it ends when nobody waits
	}
}

// tell ends a call.
func (b *batches) tell(c *call) {
	if !c.settled.CompareAndSwap(false, true) && b.left != nil {
		b.left(c)
	}
	close(c.done)
}

// ask sends batches until nobody waits.
func (b *batches) ask() {
	for {
		b.mu.Lock()
		n := min(len(b.queue), maxBatch)
		if n == 0 {
			b.asking = false
			b.queue = nil
			b.mu.Unlock()
			return
		}
		batch := b.queue[:n:n]
		b.queue = b.queue[n:]
		b.mu.Unlock()
		b.send(batch)
		err := whole(batch)
		for _, c := range batch {
			b.tell(c)
		}
		if err != nil {
			b.fail(err)
		}
	}
}

// whole is why nothing of a batch was done; nil where something was.
func whole(batch []*call) error {
	for _, c := range batch {
		if c.err == nil {
			return nil
		}
	}
	return batch[0].err
}

// fail gives up all who have waited while a batch came to nothing: where Redis
// hangs, they would otherwise wait for one time-out after the other.
func (b *batches) fail(err error) {
	b.mu.Lock()
	waiting := b.queue
	b.queue = nil
	b.mu.Unlock()
	for _, c := range waiting {
		c.err = err
		b.tell(c)
	}
}
