package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Config is a load.
type Config struct {
	Address     string // host:port
	Connections int
	Threads     int // of this process; 0: one
	Population  Population
	Mix         Mix
	Timeout     time.Duration // of one request; 0: 5 s
}

// A Result is what a load saw.
type Result struct {
	Requests int           // answered while it lasted, errors among them
	Writes   int           // of these
	Took     time.Duration // of the load
	Latency  *hdrhistogram.Histogram
	Reads    *hdrhistogram.Histogram // of Latency
	Errors   map[string]int          // what went wrong, and how often
}

// PerSecond is the throughput.
func (r *Result) PerSecond() float64 { return float64(r.Requests) / r.Took.Seconds() }

// Failed is how many requests went wrong.
func (r *Result) Failed() int {
	n := 0
	for _, count := range r.Errors {
		n += count
	}
	return n
}

// Failures are the errors as one line, the most frequent first.
func (r *Result) Failures() string {
	var kinds []string
	for kind := range r.Errors {
		kinds = append(kinds, kind)
	}
	slices.SortFunc(kinds, func(a, b string) int { return r.Errors[b] - r.Errors[a] })
	line := ""
	for i, kind := range kinds {
		if i > 0 {
			line += "; "
		}
		line += fmt.Sprintf("%d × %s", r.Errors[kind], kind)
	}
	return line
}

// A Client keeps connections to one server. Its methods are for one goroutine.
type Client struct {
	cfg     Config
	workers []*worker
	sent    atomic.Int64
}

// Dial opens the connections.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Connections < 1 || cfg.Population == nil || cfg.Population.Len() < 1 {
		return nil, errors.New("a load takes a connection and a user at least")
	}
	if cfg.Threads == 0 {
		cfg.Threads = 1
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	cfg.Threads = min(cfg.Threads, cfg.Connections)
	c := &Client{cfg: cfg}
	for range cfg.Threads {
		w, err := newWorker(c)
		if err != nil {
			c.Close()
			return nil, err
		}
		c.workers = append(c.workers, w)
	}
	for i := range cfg.Connections {
		nc, err := (&net.Dialer{Timeout: cfg.Timeout}).DialContext(ctx, "tcp", cfg.Address)
		if err == nil {
			err = c.workers[i%cfg.Threads].adopt(nc.(*net.TCPConn), uint64(i))
		}
		if err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// Close closes the connections.
func (c *Client) Close() {
	for _, w := range c.workers {
		w.close()
	}
}

// Sent is how many requests have been answered in the present Run, for whoever
// watches; from any goroutine.
func (c *Client) Sent() int64 { return c.sent.Load() }

// Run loads the server for so long and returns when everything that was asked
// has been answered or has timed out. Connections go on where they stood, and
// those that broke are gone: one error ends a connection.
func (c *Client) Run(ctx context.Context, d time.Duration) *Result {
	return c.run(ctx, d)
}

// Walk reads every user once, the most popular ones last, and returns when all
// have been answered or d is over.
func (c *Client) Walk(ctx context.Context, d time.Duration) *Result {
	for i, number := 0, 0; number < c.cfg.Connections; i++ {
		for _, w := range c.workers {
			if i < len(w.conns) {
				w.conns[i].seq.walk(number, c.cfg.Connections)
				w.walks = true
				number++
			}
		}
	}
	defer func() {
		for _, w := range c.workers {
			w.walks = false
		}
	}()
	return c.run(ctx, d)
}

func (c *Client) run(ctx context.Context, d time.Duration) *Result {
	c.sent.Store(0)
	began := time.Now()
	var wg sync.WaitGroup
	for _, w := range c.workers {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			w.run(ctx, began, d)
		})
	}
	wg.Wait()
	total := &Result{Took: min(time.Since(began), d), Latency: newHistogram(), Reads: newHistogram(), Errors: map[string]int{}}
	if total.Took <= 0 {
		total.Took = 1
	}
	for _, w := range c.workers {
		total.Requests += w.requests
		total.Writes += w.writes
		total.Latency.Merge(w.latency)
		total.Reads.Merge(w.reads)
		for kind, n := range w.errors {
			total.Errors[kind] += n
		}
	}
	return total
}

// newHistogram holds 1 µs to 1 min in three digits; its values are in µs.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Minute.Microseconds(), 3)
}
