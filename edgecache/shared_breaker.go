package edgecache

import (
	"sync/atomic"
	"time"
)

// A sharedBreaker keeps who would only wait from asking Redis: after some
// failures in a row nobody asks for a while, then one at a time, until one
// succeeds.
type sharedBreaker struct {
	failures atomic.Int32
	until    atomic.Int64 // Unix ns; 0: closed
	probing  atomic.Bool
}

const (
	breakerFailures = 3
	breakerPause    = 500 * time.Millisecond
)

// allow reports whether Redis may be asked; then done or leave is to be called.
func (b *sharedBreaker) allow(now time.Time) bool {
	until := b.until.Load()
	if until == 0 {
		return true
	}
	// A clock that was put back does not keep it open for longer.
	if left := until - now.UnixNano(); left > 0 && left <= int64(breakerPause) {
		return false
	}
	return b.probing.CompareAndSwap(false, true)
}

// done tells how it went.
func (b *sharedBreaker) done(ok bool, now time.Time) {
	if ok {
		b.failures.Store(0)
		b.until.Store(0)
		b.probing.Store(false)
		return
	}
	if b.failures.Add(1) >= breakerFailures {
		b.failures.Store(breakerFailures)
		b.until.Store(now.Add(breakerPause).UnixNano())
	}
	b.probing.Store(false)
}

// leave is for who does not know how it went.
func (b *sharedBreaker) leave() { b.probing.Store(false) }

func (b *sharedBreaker) open(now time.Time) bool {
	return b.until.Load() > now.UnixNano()
}
