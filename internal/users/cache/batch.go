package cache

import (
	"context"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"
)

// maxBatch bounds how many look-ups go to Redis in one write.
const maxBatch = 256

// batches has the look-ups of those who come while Redis is asked go to it
// together, in one write and with one look at the generation. Whoever comes alone
// goes at once. At the busiest it is what a round trip and a wake-up cost that
// limits a cache, not the commands.
type batches struct {
	client redis.UniversalClient
	mu     sync.Mutex
	queue  []*lookup
	asking bool
}

// A lookup is an entry that somebody waits for.
type lookup struct {
	key  string
	done chan struct{}
	gen  string // "": none has begun
	text string // "": nothing is there
	err  error
}

// find returns the generation and what is under it for an ID. It waits no longer
// than ctx, and than the client's own time-outs for the batch before and its own.
func (b *batches) find(ctx context.Context, id string) (gen, text string, err error) {
	l := &lookup{key: entryKey + id, done: make(chan struct{})}
	b.mu.Lock()
	b.queue = append(b.queue, l)
	first := !b.asking
	b.asking = true
	b.mu.Unlock()
	if first {
		// It may go on with what others ask for; all that it does is waited for.
		go b.ask()
	}
	select {
	case <-l.done:
		return l.gen, l.text, l.err
	case <-ctx.Done():
		return "", "", ctx.Err()
	}
}

// ask sends batches until nobody waits.
func (b *batches) ask() {
	for {
		b.mu.Lock()
		n := min(len(b.queue), maxBatch)
		if n == 0 {
			b.asking = false
			b.mu.Unlock()
			return
		}
		batch := b.queue[:n:n]
		b.queue = b.queue[n:]
		b.mu.Unlock()
		b.send(batch)
	}
}

func (b *batches) send(batch []*lookup) {
	ctx := context.Background()
	pipe := b.client.Pipeline()
	gen := pipe.Get(ctx, genKey)
	texts := make([]*redis.StringCmd, len(batch))
	for i, l := range batch {
		texts[i] = pipe.Get(ctx, l.key)
	}
	_, _ = pipe.Exec(ctx) // each has its own error
	for i, l := range batch {
		l.gen, l.text = gen.Val(), texts[i].Val()
		for _, err := range []error{gen.Err(), texts[i].Err()} {
			if err != nil && !errors.Is(err, redis.Nil) {
				l.err = err
			}
		}
		close(l.done)
	}
}
