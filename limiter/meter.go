package limiter

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	windowLeast   = 100 * time.Millisecond
	windowMost    = 5 * time.Second
	windowSamples = 10      // fewer do not make a window
	windowFull    = 1 << 18 // more do not fit the sum
	sampleMost    = time.Minute
	sampleBits    = 20
)

// A meter gathers latencies into windows for a gradient. A sample costs one
// atomic addition.
type meter struct {
	_     [64]byte
	sums  atomic.Uint64 // µs<<sampleBits | samples
	most  atomic.Int64  // in flight in this window; a smaller one may win a race
	until atomic.Int64  // when the window ends, in ns since the gate's start
	_     [64]byte

	mu       sync.Mutex
	gradient gradient
}

func newMeter(most int) *meter { return &meter{gradient: newGradient(most)} }

// sample adds the latency of what ended at end. When that closes a window it
// returns the limit that follows from it, and true.
func (m *meter) sample(end, latency time.Duration, inFlight int) (limit int, ok bool) {
	us := uint64(min(max(latency, 0), sampleMost) / time.Microsecond)
	n := m.sums.Add(max(us, 1)<<sampleBits|1) & (1<<sampleBits - 1)
	if int64(inFlight) > m.most.Load() {
		m.most.Store(int64(inFlight))
	}
	if n < windowSamples || int64(end) < m.until.Load() && n < windowFull || !m.mu.TryLock() {
		return 0, false
	}
	defer m.mu.Unlock()
	if int64(end) < m.until.Load() && n < windowFull { // another has just closed it
		return 0, false
	}
	sums := m.sums.Swap(0)
	n = sums & (1<<sampleBits - 1)
	if n == 0 {
		return 0, false
	}
	mean := time.Duration(sums>>sampleBits/n) * time.Microsecond
	limit = m.gradient.window(mean, int(m.most.Swap(0)))
	m.until.Store(int64(end + min(max(2*mean, windowLeast), windowMost)))
	return limit, true
}
