package health

import "sync/atomic"

// buckets of a window: it slides by a tenth of its length.
const buckets = 10

// A window counts requests and failures of the last ten ticks. Each bucket is
// one word, so that a bucket of long ago is emptied and counted into in one
// step: tick (28 bits), failures (18), requests (18).
//
// Two ticks that lie 2^28 apart look alike; that is ten months at the shortest
// window, without a request in that bucket all the while.
type window [buckets]atomic.Uint64

const (
	countBits = 18
	countMax  = 1<<countBits - 1
	tickBits  = 64 - 2*countBits
	tickMask  = 1<<tickBits - 1
)

func pack(tick, failures, requests uint64) uint64 {
	return tick<<(2*countBits) | failures<<countBits | requests
}

func unpack(word uint64) (tick, failures, requests uint64) {
	return word >> (2 * countBits), word >> countBits & countMax, word & countMax
}

// age is how many ticks word lies before tick; below zero if after.
func age(word, tick uint64) int64 {
	ahead := (tick - word>>(2*countBits)) & tickMask
	return int64(ahead<<(64-tickBits)) >> (64 - tickBits)
}

// add counts one request. A full bucket is halved, which keeps its ratio.
func (w *window) add(tick uint64, failed uint64) {
	slot := &w[tick%buckets]
	for {
		old := slot.Load()
		_, failures, requests := unpack(old)
		switch d := age(old, tick); {
		case d > 0 || requests == 0:
			failures, requests = 0, 0
		case d < 0:
			return // its bucket has gone
		}
		if requests == countMax {
			failures, requests = failures/2, requests/2
		}
		if slot.CompareAndSwap(old, pack(tick&tickMask, failures+failed, requests+1)) {
			return
		}
	}
}

// sum returns what was counted in the ten ticks up to tick.
func (w *window) sum(tick uint64) (failures, requests uint64) {
	for i := range w {
		word := w[i].Load()
		if age(word, tick) >= buckets {
			continue
		}
		_, f, r := unpack(word)
		failures += f
		requests += r
	}
	return failures, requests
}

// copyFrom takes over what another window has counted.
func (w *window) copyFrom(old *window) {
	for i := range w {
		w[i].Store(old[i].Load())
	}
}
