package upstream

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// echoTarget answers with what it was asked for.
var echoTarget = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	io.WriteString(w, r.RequestURI)
})

// TestStreamCancelRace cancels calls at any moment from other goroutines, on
// links that all share, and wants no other call to notice.
func TestStreamCancelRace(t *testing.T) {
	p := startTarget(t, "h2c", Config{Header: patience, Idle: patience}, echoTarget)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var c Call
			for j := range 200 {
				want := "/" + strconv.Itoa(i*1000+j)
				c.Request = get(want).Request
				hit := i%2 == 0
				if i%4 == 0 {
					c.Request.Method = []byte("POST")
					c.Body, c.Request.ContentLength = strings.NewReader("body"), -1
				}
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan bool)
				if hit {
					go func() { defer close(done); <-ctx.Done(); c.Cancel(nil) }()
				}
				if j%3 == 0 {
					cancel()
				}
				err := c.Do(p)
				if err != nil && !(hit && err.(*Error).Canceled) {
					t.Errorf("%+v", err)
				}
				if j%3 == 1 {
					cancel()
				}
				if err == nil {
					b, err := io.ReadAll(struct{ io.Reader }{&c})
					if err != nil && !(hit && err.(*Error).Canceled) {
						t.Errorf("%+v", err)
					}
					if err == nil && string(b) != want {
						t.Errorf("%q is answered by %q", want, b)
					}
				}
				c.Close()
				cancel()
				if hit {
					<-done
				}
				c.Reset()
			}
		})
	}
	wg.Wait()
	if s := p.Stats(); s.InUse != 0 || s.Open != s.Idle || p.busy.Load() != 0 || len(p.mux.streams) != 0 {
		t.Errorf("%+v", s)
	}
	c := get("/after")
	must(t, c, p)
	wantBody(t, c, "/after")
	c.Close()
}

// TestStreamDeadlineRace sweeps without pause over calls whose time is about as
// long as they take: whatever ends in time must be the answer to its own
// request.
func TestStreamDeadlineRace(t *testing.T) {
	var tr *Transport
	p := startTarget(t, "h2c", Config{Header: 400 * time.Microsecond, Idle: 200 * time.Microsecond}, echoTarget)
	tr = p.t
	ctx, cancel := context.WithCancel(context.Background())
	var sweeper, callers sync.WaitGroup
	sweeper.Go(func() {
		for ctx.Err() == nil {
			tr.sweep(tr.now(), false)
		}
	})
	for i := range 6 {
		callers.Go(func() {
			c := get("/")
			for j := range 300 {
				want := "/" + strconv.Itoa(i*1000+j)
				c.Request.Target = []byte(want)
				if i%2 == 1 {
					c.Method = []byte("POST")
					c.Body, c.Request.ContentLength = strings.NewReader("x"), -1
				}
				err := c.Do(p)
				var got []byte
				if err == nil {
					got, err = io.ReadAll(struct{ io.Reader }{c})
				}
				if err == nil && string(got) != want {
					t.Errorf("%q is answered by %q", want, got)
				}
				if err != nil && !err.(*Error).Timeout() {
					t.Errorf("%+v", err)
				}
				c.Close()
			}
		})
	}
	callers.Wait()
	cancel()
	sweeper.Wait()
	if s := p.Stats(); s.InUse != 0 || s.Open != s.Idle {
		t.Errorf("%+v", s)
	}
}

// TestReloadRace has calls begin while owners come and go.
func TestReloadRace(t *testing.T) {
	p := startTarget(t, "h2c", Config{}, echoTarget)
	cfg := p.cfg
	cfg.Header = time.Minute // a pool of its own
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := get("/")
			for range 50 {
				q, err := p.t.Pool(cfg)
				if err != nil {
					t.Error(err)
					return
				}
				if err := c.Do(q); err != nil {
					t.Error(err)
				}
				q.Release()
				if b, err := io.ReadAll(struct{ io.Reader }{c}); err != nil || string(b) != "/" {
					t.Errorf("%q, %v", b, err)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
}
