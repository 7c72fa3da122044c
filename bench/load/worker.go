package load

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// A worker is one thread's connections and what it saw in the present run.
type worker struct {
	client *Client
	epoll  int
	conns  []*conn
	events []unix.EpollEvent
	walks  bool // over all users, once

	began    time.Time
	end      time.Duration // of the load, since began
	asked    int           // requests that wait for their answer
	requests int
	writes   int
	latency  *hdrhistogram.Histogram
	reads    *hdrhistogram.Histogram
	errors   map[string]int
}

// A conn is one connection.
type conn struct {
	tcp   *net.TCPConn // owns the descriptor
	fd    int
	seq   *Sequence
	in    []byte // what has arrived of the answer
	out   []byte
	user  int
	write bool
	waits bool
	sent  time.Duration // since began
	value uint64
	dead  bool
}

func newWorker(c *Client) (*worker, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &worker{client: c, epoll: fd, events: make([]unix.EpollEvent, 256)}, nil
}

// adopt takes a connection over from Go's poller, whose goroutines it would
// otherwise wake up.
func (w *worker) adopt(tcp *net.TCPConn, number uint64) error {
	c := &conn{tcp: tcp, in: make([]byte, 0, 16<<10), value: number << 32,
		seq: NewSequence(w.client.cfg.Mix, w.client.cfg.Population.Len(), number)}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		// A descriptor of our own: the one of net is in the poller's epoll.
		c.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		tcp.Close()
		return err
	}
	tcp.Close()
	w.conns = append(w.conns, c)
	return unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(len(w.conns) - 1)})
}

func (w *worker) close() {
	for _, c := range w.conns {
		w.drop(c)
	}
	_ = unix.Close(w.epoll)
}

func (w *worker) drop(c *conn) {
	if !c.dead {
		c.dead = true
		_ = unix.Close(c.fd)
	}
}

// run loads the server until d after began, and takes what is answered later
// as latency alone.
func (w *worker) run(ctx context.Context, began time.Time, d time.Duration) {
	w.began, w.end, w.asked, w.requests, w.writes = began, d, 0, 0, 0
	w.latency, w.reads, w.errors = newHistogram(), newHistogram(), map[string]int{}
	for _, c := range w.conns {
		if !c.dead {
			w.ask(c, time.Since(began))
		}
	}
	limit := w.client.cfg.Timeout
	for looked := time.Duration(0); w.asked > 0; {
		n, err := unix.EpollWait(w.epoll, w.events, 100)
		if err != nil && err != unix.EINTR {
			w.errors["epoll_wait: "+err.Error()]++
			return
		}
		for _, e := range w.events[:max(n, 0)] {
			w.ready(w.conns[e.Fd])
		}
		if now := time.Since(began); now-looked > 100*time.Millisecond {
			looked = now
			if ctx.Err() != nil {
				w.end = min(w.end, now)
			}
			w.expire(now - limit)
		}
	}
}

// expire gives up what was asked before a time.
func (w *worker) expire(before time.Duration) {
	for _, c := range w.conns {
		if c.waits && c.sent < before {
			w.fail(c, fmt.Sprintf("no answer within %v", w.client.cfg.Timeout))
		}
	}
}

// ask sends the next request of a connection.
func (w *worker) ask(c *conn, now time.Duration) {
	p := w.client.cfg.Population
	if c.user, c.write = 0, false; w.walks {
		var more bool
		if c.user, more = c.seq.stepOn(); !more {
			return
		}
	} else {
		c.user, c.write = c.seq.Next()
	}
	if c.write {
		c.value++
		c.out = p.AppendWrite(c.out[:0], c.user, c.value)
	} else {
		c.out = p.AppendRead(c.out[:0], c.user)
	}
	c.sent, c.waits, c.in = now, true, c.in[:0]
	w.asked++
	n, err := send(c.fd, c.out)
	switch {
	case err != nil:
		w.fail(c, "writing: "+err.Error())
	case n != len(c.out):
		w.fail(c, "writing: the socket takes no whole request")
	}
}

// fail counts an error and closes the connection. An answer that is only wrong
// keeps it: answered.
func (w *worker) fail(c *conn, kind string) {
	w.errors[kind]++
	if c.waits {
		c.waits = false
		w.asked--
	}
	w.drop(c)
}

// ready reads what has arrived.
func (w *worker) ready(c *conn) {
	if c.dead {
		return
	}
	if len(c.in) == cap(c.in) {
		c.in = append(c.in, make([]byte, cap(c.in))...)[:len(c.in)]
	}
	n, err := receive(c.fd, c.in[len(c.in):cap(c.in)])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		w.fail(c, "reading: "+err.Error())
		return
	case n == 0:
		w.fail(c, "the server closed a connection")
		return
	case !c.waits:
		w.fail(c, "bytes that nobody asked for")
		return
	}
	c.in = c.in[:len(c.in)+n]
	r, whole, err := parse(c.in)
	if err != nil {
		w.fail(c, fmt.Sprintf("%v (status %d)", err, r.status))
		return
	}
	if whole {
		w.answered(c, r)
	}
}

func (w *worker) answered(c *conn, r response) {
	now := time.Since(w.began)
	if len(c.in) > r.total {
		w.fail(c, "more bytes than Content-Length says")
		return
	}
	c.waits = false
	w.asked--
	if why := w.client.cfg.Population.Check(c.user, c.write, r.status, c.in[:r.head], c.in[r.head:r.total]); why != "" {
		w.errors[why]++
	}
	took := max((now - c.sent).Microseconds(), 1)
	_ = w.latency.RecordValue(took) // below a minute: the timeout is
	if !c.write {
		_ = w.reads.RecordValue(took)
	}
	if now > w.end {
		return
	}
	w.requests++
	if c.write {
		w.writes++
	}
	if w.requests%64 == 0 {
		w.client.sent.Add(64)
	}
	w.ask(c, now)
}
