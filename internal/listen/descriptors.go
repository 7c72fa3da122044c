package listen

import (
	"errors"
	"math"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	evictLook  = 256         // connections that are looked at for the longest idle
	evictMost  = 8           // and closed of these
	evictAfter = time.Second // how long they have been idle at the least
	evictEvery = 100 * time.Millisecond
)

// longAgo is since when a connection is idle that has to go.
const longAgo = math.MinInt64 / 2

// descriptors is the bound of clients' share in the process's descriptors.
//
// The kernel gives out the lowest number that is free. So clients that get none
// of the upper tenth of the numbers leave that tenth to connections to targets,
// files and the admin API, whatever else is open: nothing has to be counted.
type descriptors struct {
	bound atomic.Int64  // from this number on they are not for clients
	few   chan struct{} // bounds those that are told why, as each holds one

	// Of the accept loop.
	told    time.Time // when the log was
	evicted int64     // when idle connections were last closed, on the server's clock
}

// divide shares out what the process may have open. Go's runtime has raised the
// soft limit to the hard one by now.
func (d *descriptors) divide() {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil || lim.Cur > math.MaxInt32 {
		lim.Cur = math.MaxInt32
	}
	kept := int(lim.Cur / 10)
	d.bound.Store(int64(lim.Cur) - int64(kept))
	d.few = make(chan struct{}, max(1, min(kept/4, maxRefusing)))
}

// scarce reports whether tc has a descriptor that is not for clients.
func (d *descriptors) scarce(tc *net.TCPConn) bool {
	raw, err := tc.SyscallConn()
	if err != nil {
		return false // it is closed
	}
	number := int64(-1)
	_ = raw.Control(func(fd uintptr) { number = int64(fd) }) // fails for a closed one
	return number >= d.bound.Load()
}

// shed turns c away and makes room for who comes next.
func (s *Server) shed(c *Conn) {
	if now := time.Now(); now.Sub(s.share.told) >= complainEvery {
		s.share.told = now
		s.log.Error("descriptors run short: connections are turned away", "address", s.address, "for_clients", s.share.bound.Load())
	}
	s.evict()
	s.turnAway(c, s.share.few)
}

// usedUp reports whether err says that there are no descriptors.
func usedUp(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// evict closes a few of the connections that wait for a request the longest, so
// that others may come: not more than these few at a time, however many come. One
// on which a request arrives just now stays.
func (s *Server) evict() {
	type waiting struct {
		c     *Conn
		since int64
	}
	now := s.now()
	if s.share.evicted > 0 && now-s.share.evicted < int64(evictEvery) {
		return
	}
	s.share.evicted = now
	latest := now - int64(evictAfter)
	var idle []waiting
	for _, c := range s.conns.some(evictLook) {
		since := c.since.Load()
		if st := c.in(); (st == stateNew || st == stateIdle) && since < latest {
			idle = append(idle, waiting{c, since})
		}
	}
	slices.SortFunc(idle, func(a, b waiting) int { return int(min(max(a.since-b.since, -1), 1)) })
	for _, w := range idle[:min(len(idle), evictMost)] {
		if w.c.since.CompareAndSwap(w.since, longAgo) {
			w.c.nudge()
		}
	}
}
