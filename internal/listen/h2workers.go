package listen

import (
	"sync"
	"time"
)

// workerRest is how long a worker waits for work before it ends.
const workerRest = 10 * time.Second

// workers run handlers. Each is a goroutine that is used again, as its stack has
// grown to what handlers need.
type workers struct {
	mu     sync.Mutex
	idle   []*worker // the longest first
	closed bool
	wg     sync.WaitGroup
}

type worker struct {
	work  chan h2Work
	since int64 // on the server's clock
}

// h2Work is a stream to be served, or without one a connection that has
// something to write.
type h2Work struct {
	h  *h2Conn
	st *Stream
}

// run has a worker do w, without waiting.
func (ws *workers) run(w h2Work) {
	ws.mu.Lock()
	n := len(ws.idle) - 1
	if n < 0 {
		ws.mu.Unlock()
		one := &worker{work: make(chan h2Work, 1)}
		one.work <- w
		ws.wg.Go(func() { ws.loop(one) })
		return
	}
	one := ws.idle[n]
	ws.idle[n] = nil
	ws.idle = ws.idle[:n]
	ws.mu.Unlock()
	one.work <- w
}

func (ws *workers) loop(one *worker) {
	for w := range one.work {
		if w.st != nil {
			w.st.serve()
			w.h.served(w.st)
		}
		w.h.flushAll()
		ws.mu.Lock()
		if ws.closed {
			ws.mu.Unlock()
			return
		}
		one.since = w.h.s.clock.Load()
		ws.idle = append(ws.idle, one)
		ws.mu.Unlock()
	}
}

// trim ends the workers that have waited since before then.
func (ws *workers) trim(then int64) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	n := 0
	for n < len(ws.idle) && ws.idle[n].since < then {
		close(ws.idle[n].work)
		n++
	}
	if n > 0 {
		left := copy(ws.idle, ws.idle[n:])
		clear(ws.idle[left:])
		ws.idle = ws.idle[:left]
	}
}

// close ends all workers and waits for them. There is no more work.
func (ws *workers) close() {
	ws.mu.Lock()
	ws.closed = true
	for _, one := range ws.idle {
		close(one.work)
	}
	ws.idle = nil
	ws.mu.Unlock()
	ws.wg.Wait()
}
