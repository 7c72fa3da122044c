package limiter

import (
	"fmt"
	"sync/atomic"
	"time"
)

const (
	budgetSlot  = time.Second
	budgetSlots = 10     // whole slots that requests count, beside the present one
	budgetFloor = 10     // retries that budgetSlots may have, however few the requests
	budgetUnit  = 10_000 // what one retry costs
)

// A Budget keeps retries a share of the requests, over a sliding window of 10 to
// 11 seconds. The model is Finagle's RetryBudget
// (github.com/twitter/finagle, service/RetryBudget.scala): each request
// deposits, each retry withdraws, deposits expire. Where Finagle's reserve comes
// on top of the share, this floor comes instead of it: 10 retries in a window,
// only while the share of the window is smaller than that, and owed to later
// requests.
//
// So, with share s, at whatever concurrency: of n requests since the start, at
// most max(s·n, 10) are retries as long as no window has had fewer than 10÷s
// requests (5 a second at 20 %); and between any two moments there are at most s
// times the requests from 11 s before the first to the second, and 10.
//
// It takes no lock and no memory. The moments that it is told should not go
// back; one that does counts as the present slot.
type Budget struct {
	start time.Time
	price int64 // what one request deposits: share · budgetUnit
	slot  atomic.Int64
	marks [budgetSlots + 1]mark // at the beginning of the slot that is i modulo their number

	_        [64]byte
	requests atomic.Int64
	_        [64]byte
	spent    atomic.Int64 // of price · requests, whether withdrawn or expired; at most budgetFloor retries ahead of it
	retries  atomic.Int64
}

type mark struct{ requests, retries atomic.Int64 }

// NewBudget returns a budget that allows share retries for each request, 0.2
// for 20 %. A share of 0 allows none.
func NewBudget(share float64, now time.Time) (*Budget, error) {
	if !(share >= 0 && share <= 100) {
		return nil, fmt.Errorf("retry budget %v is not a share from 0 to 100", share)
	}
	return &Budget{start: now, price: int64(share*budgetUnit + 0.5)}, nil
}

// Deposit counts a request, not its retries.
func (b *Budget) Deposit(now time.Time) {
	b.turn(now)
	b.requests.Add(1)
}

// Withdraw reports whether one retry may be sent, and counts it.
func (b *Budget) Withdraw(now time.Time) bool {
	b.turn(now)
	for {
		spent := b.spent.Load()
		if b.price*b.requests.Load()-spent < budgetUnit {
			return b.borrow()
		}
		if b.spent.CompareAndSwap(spent, spent+budgetUnit) {
			b.retries.Add(1)
			return true
		}
	}
}

// Retries is how many have been allowed since the start.
func (b *Budget) Retries() int64 { return b.retries.Load() }

// borrow takes from the floor.
func (b *Budget) borrow() bool {
	var first counts
	if slot := b.slot.Load(); slot >= budgetSlots {
		first = b.mark(slot - budgetSlots)
	}
	requests := b.requests.Load()
	if b.price == 0 || b.price*(requests-first.requests) >= budgetFloor*budgetUnit {
		return false
	}
	for {
		retries := b.retries.Load()
		if retries-first.retries >= budgetFloor {
			return false
		}
		if b.retries.CompareAndSwap(retries, retries+1) {
			break
		}
	}
	for {
		spent := b.spent.Load()
		if spent+budgetUnit > b.price*requests+budgetFloor*budgetUnit {
			return true // as deep in debt as it goes: years of few requests do not weigh on later ones
		}
		if b.spent.CompareAndSwap(spent, spent+budgetUnit) {
			return true
		}
	}
}

type counts struct{ requests, retries int64 }

func (b *Budget) mark(slot int64) counts {
	m := &b.marks[slot%int64(len(b.marks))]
	return counts{m.requests.Load(), m.retries.Load()}
}

// turn begins a new slot when it is time: what was deposited before the window
// and is still there counts as spent. One caller does it; the others go on
// meanwhile with what has not expired yet.
func (b *Budget) turn(now time.Time) {
	slot := int64(now.Sub(b.start) / budgetSlot)
	last := b.slot.Load()
	if slot <= last || !b.slot.CompareAndSwap(last, slot) {
		return
	}
	requests, retries := b.requests.Load(), b.retries.Load()
	for s := max(last+1, slot-budgetSlots); s <= slot; s++ {
		m := &b.marks[s%int64(len(b.marks))]
		m.requests.Store(requests)
		m.retries.Store(retries)
	}
	if slot < budgetSlots {
		return
	}
	expired := b.price * b.mark(slot-budgetSlots).requests
	for {
		spent := b.spent.Load()
		if spent >= expired || b.spent.CompareAndSwap(spent, expired) {
			return
		}
	}
}
