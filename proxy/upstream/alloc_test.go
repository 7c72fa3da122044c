package upstream

import (
	"runtime"
	"testing"
)

// TestNoAllocations bounds what calls in the steady state allocate, over many
// so that a stray allocation of the runtime does not count.
func TestNoAllocations(t *testing.T) {
	p := benchPool(t, echoServer(t, 1, benchHead))
	var c Call
	benchRequest(&c)
	for range 10 {
		oneCall(t, &c, p)
	}
	const calls = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		oneCall(t, &c, p)
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > calls/20 {
		t.Errorf("%d allocations in %d calls", n, calls)
	}
}
