package edgecache

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A Pacer keeps the garbage collector to the pace that the process would have
// without the cache. Go starts a collection when the heap has grown by a share
// of what is alive: beside a cache of a gigabyte that would be a gigabyte of
// garbage. What the cache holds has next to no pointers and costs a collection
// nothing, so there is no reason to wait that long.
//
// It sets the process's GC percentage (what GOGC is for), so there is one in a
// process, and none where somebody has set GOGC himself.
type Pacer struct {
	memory *Memory
	sample []metrics.Sample
}

// NewPacer is a pacer for a process with that cache.
func NewPacer(m *Memory) *Pacer {
	return &Pacer{memory: m, sample: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
}

const (
	paceInterval = 250 * time.Millisecond
	leastGarbage = 32 << 20 // bytes between two collections
)

// Run adjusts the percentage until ctx is done, and puts it back then.
func (p *Pacer) Run(ctx context.Context) error {
	before := debug.SetGCPercent(100)
	debug.SetGCPercent(before)
	defer debug.SetGCPercent(before)
	if before <= 0 {
		<-ctx.Done() // it is off
		return nil
	}
	tick := time.NewTicker(paceInterval)
	defer tick.Stop()
	for now := before; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		metrics.Read(p.sample)
		if want := p.percent(before, int64(p.sample[0].Value.Uint64())); want != now {
			debug.SetGCPercent(want)
			now = want
		}
	}
}

// percent is what lets as much garbage be as there would be with the heap alone,
// of which live bytes were alive after the last collection.
func (p *Pacer) percent(gogc int, live int64) int {
	held := p.memory.Stats().Bytes
	others := max(0, live-held)
	garbage := max(leastGarbage, others*int64(gogc)/100)
	return int(max(2, min(int64(gogc), garbage*100/max(1, others+held))))
}
