package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/service"
)

const (
	seedWorkers = 32
	batchOf     = 500 // users, where the store takes many at once
	serverBatch = 1000
	serverTasks = 3 // batches at a time: with their locks they stay below what a server has
)

// A bulk is a store that takes many new users at once. Those whose address is
// taken it leaves out.
type bulk interface {
	CreateAll(ctx context.Context, all []users.User) error
}

// seed is `users seed`.
func (p *program) seed(ctx context.Context, args []string) error {
	l := newLine("seed")
	n := l.Int("n", 1_000_000, "")
	if err := none(l, args); err != nil {
		return err
	}
	if *n < 0 || *n > 1_000_000_000 {
		return usageError("seed: -n is a number of users up to 1000000000")
	}
	return p.with(ctx, *l.config, func(s *service.Service) error {
		store := s.Store()
		bar := p.bar(*n)
		defer bar.end()
		if b, ok := store.(bulk); ok {
			size, tasks := batchOf, 1 // a file has one writer
			if s.Cluster() != nil {
				size, tasks = serverBatch, serverTasks
			}
			return spread(ctx, (*n+size-1)/size, tasks, func(ctx context.Context, i int) error {
				var all []users.User
				for j := i * size; j < min(*n, (i+1)*size); j++ {
					all = append(all, madeUp(j))
				}
				err := b.CreateAll(ctx, all)
				bar.add(len(all))
				return err
			})
		}
		return spread(ctx, *n, seedWorkers, func(ctx context.Context, i int) error {
			_, _, _, err := store.Create(ctx, madeUp(i), users.Once{}, "")
			if errors.Is(err, users.ErrEmailTaken) { // from a run before
				err = nil
			}
			bar.add(1)
			return err
		})
	})
}

// spread does something n times, as many at a time as there are workers, until one
// fails.
func spread(ctx context.Context, n, workers int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

var (
	firstNames = strings.Fields("Ada Alan Barbara Claude Donald Edsger Frances Grace Hedy Ivan John Katherine Leslie Margaret Niklaus Radia Shafi Tim Vint Whitfield")
	lastNames  = strings.Fields("Abbott Baker Chen Diaz Eriksen Fischer Garcia Haddad Ito Jansen Kowalski Lopez Moreau Nguyen Okafor Patel Quinn Rossi Silva Tanaka Usman Vogel Weber Xu Yilmaz Zhang")
	regions    = strings.Fields("us-east us-west eu-west eu-north ap-south")
)

// madeUp is the user number i, the same in every run. The addresses begin with
// every letter, as ranges want it.
func madeUp(i int) users.User {
	first, last := firstNames[i%len(firstNames)], lastNames[i/len(firstNames)%len(lastNames)]
	return users.User{
		Name:       first + " " + last,
		Email:      fmt.Sprintf("%s.%s.%d@example.com", strings.ToLower(last), strings.ToLower(first), i),
		Region:     regions[i%len(regions)],
		Attributes: fmt.Appendf(nil, `{"plan":%q,"seed":%d}`, []string{"free", "team", "pro"}[i%3], i),
	}
}

// A bar shows how far something is: on a terminal in place, elsewhere a line now
// and then.
type bar struct {
	p       *program
	total   int
	done    atomic.Int64
	started time.Time
	stop    chan struct{}
	ended   sync.WaitGroup
}

func (p *program) bar(total int) *bar {
	b := &bar{p: p, total: total, started: time.Now(), stop: make(chan struct{})}
	every := 10 * time.Second
	if p.terminal {
		every = 200 * time.Millisecond
	}
	b.ended.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				b.show()
			case <-b.stop:
				return
			}
		}
	})
	return b
}

func (b *bar) add(n int) { b.done.Add(int64(n)) }

// end shows the last of it.
func (b *bar) end() {
	close(b.stop)
	b.ended.Wait()
	b.show()
	if b.p.terminal {
		fmt.Fprintln(b.p.err)
	}
}

const barWidth = 30

func (b *bar) show() {
	done, took := int(b.done.Load()), time.Since(b.started)
	share := 1.0
	if b.total > 0 {
		share = min(1, float64(done)/float64(b.total))
	}
	rate := float64(done) / max(took.Seconds(), 1e-3)
	left := "?"
	if rate > 0 {
		left = time.Duration(float64(b.total-done) / rate * float64(time.Second)).Round(time.Second).String()
	}
	full := int(share * barWidth)
	text := fmt.Sprintf("[%s%s] %3.0f%%  %d of %d users  %.0f/s  %s left", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), 100*share, done, b.total, rate, left)
	if b.p.terminal {
		fmt.Fprintf(b.p.err, "\r%s\x1b[K", text)
		return
	}
	fmt.Fprintln(b.p.err, text)
}
