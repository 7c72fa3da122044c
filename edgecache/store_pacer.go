package edgecache

import (
	"context"
	"os"
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
// process, and it does nothing where somebody has set GOGC himself.
type Pacer struct {
	held   func() int64
	sample []metrics.Sample
}

// NewPacer is a pacer for a process whose caches hold that many bytes.
func NewPacer(held func() int64) *Pacer {
	return &Pacer{held: held, sample: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
}

const (
	paceInterval = 250 * time.Millisecond
	leastGarbage = 32 << 20 // bytes between two collections
	usualPercent = 100
)

// Run adjusts the percentage until ctx is done, and puts it back then.
func (p *Pacer) Run(ctx context.Context) error {
	if _, set := os.LookupEnv("GOGC"); set {
		<-ctx.Done()
		return nil
	}
	defer debug.SetGCPercent(usualPercent)
	tick := time.NewTicker(paceInterval)
	defer tick.Stop()
	for now := usualPercent; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		metrics.Read(p.sample)
		if want := percent(int64(p.sample[0].Value.Uint64()), p.held()); want != now {
			debug.SetGCPercent(want)
			now = want
		}
	}
}

// percent is what allows for as much garbage as there would be without caches, if
// live bytes were alive after the last collection and they hold that many.
func percent(live, held int64) int {
	others := max(0, live-held)
	garbage := max(leastGarbage, others*usualPercent/100)
	return int(max(2, min(usualPercent, garbage*100/max(1, others+held))))
}
