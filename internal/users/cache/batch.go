package cache

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// maxBatch bounds how many calls go to Redis in one write.
const maxBatch = 256

// batches has the calls of those who come while Redis is asked go to it together,
// in one write and with one look at the generation. Whoever comes alone goes at
// once. At the busiest it is what a round trip and a wake-up cost that limits a
// cache, not the commands.
type batches struct {
	send func([]*call)

	mu     sync.Mutex
	queue  []*call
	asking bool
}

// A call is about one entry, and somebody waits for it.
type call struct {
	key   string
	entry *Entry // to be put; nil: to be found
	gen   string // under which it is put; "": the one that is now

	done chan struct{}
	text string // what was found; "": nothing
	err  error
}

// do has a call made. It waits no longer than ctx, and than the client's own
// time-outs for the batch before and its own.
func (b *batches) do(ctx context.Context, c *call) error {
	c.done = make(chan struct{})
	b.mu.Lock()
	b.queue = append(b.queue, c)
	first := !b.asking
	b.asking = true
	b.mu.Unlock()
	if first {
		go b.ask() // it ends when nobody waits
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
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
			close(c.done)
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
		close(c.done)
	}
}

// findAll finds entries, and the generation before them.
func (r *Redis) findAll(batch []*call) {
	ctx := context.Background()
	pipe := r.client.Pipeline()
	gen := pipe.Get(ctx, genKey)
	texts := make([]*redis.StringCmd, len(batch))
	for i, c := range batch {
		texts[i] = pipe.Get(ctx, c.key)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, c := range batch {
		c.gen, c.text = gen.Val(), texts[i].Val()
		c.err = errors.Join(failure(gen), failure(texts[i]))
	}
}

// putAll puts entries, each where it beats what is there.
func (r *Redis) putAll(batch []*call) {
	ctx := context.Background()
	now, err := r.generation(ctx, batch)
	pipe := r.client.Pipeline()
	puts := make([]*redis.Cmd, len(batch))
	for i, c := range batch {
		if c.gen == "" {
			c.gen, c.err = now, err
		}
		if c.err == nil {
			puts[i] = pipe.EvalSha(ctx, putScript.Hash(), []string{c.key}, c.arguments()...)
		}
	}
	_, _ = pipe.Exec(ctx)
	var again error // of those that Redis forgot the script for, as it has started since
	for i, c := range batch {
		if puts[i] == nil {
			continue
		}
		if c.err = failure(puts[i]); !redis.HasErrorPrefix(c.err, "NOSCRIPT") {
			continue
		}
		if again == nil {
			again = putScript.Eval(ctx, r.client, []string{c.key}, c.arguments()...).Err()
		}
		c.err = again
	}
}

// arguments are those of putScript.
func (c *call) arguments() []any {
	return []any{strconv.FormatInt(c.entry.Version, 10), c.entry.kind(), encode(c.entry, c.gen), c.entry.life()}
}

// failure is what went wrong with a command; that there is nothing is no failure.
func failure(c redis.Cmder) error {
	if err := c.Err(); !errors.Is(err, redis.Nil) {
		return err
	}
	return nil
}

// generation is the one that is now, where a call of the batch wants to know; the
// first to ask begins it.
func (r *Redis) generation(ctx context.Context, batch []*call) (string, error) {
	for _, c := range batch {
		if c.gen == "" {
			return r.current(ctx)
		}
	}
	return "", nil
}
