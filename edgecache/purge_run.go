package edgecache

import (
	"context"
	"strings"
	"sync/atomic"
	"time"
)

// reading follows the log.
func (p *Purges) reading(ctx context.Context) {
	pause := p.cfg.Timeout / 2
	for ctx.Err() == nil {
		err := p.catchUp(ctx)
		if err == nil {
			err = p.await(ctx)
		}
		if err != nil && ctx.Err() == nil {
			p.logErrors.Add(1)
			sleep(ctx, pause)
		}
	}
}

// await waits for news, for so long that the log is read often enough to be
// trusted in between.
func (p *Purges) await(ctx context.Context) error {
	d := p.cfg.Blindness / 8
	bounded, cancel := context.WithTimeout(ctx, d+p.cfg.Timeout)
	defer cancel()
	return p.log.wait(bounded, d)
}

// catchUp reads the log to its end; after that this gateway knows of every purge
// that was carried before catchUp began.
func (p *Purges) catchUp(ctx context.Context) error {
	began := time.Now()
	for {
		n, err := p.readSome(ctx)
		if err != nil {
			return err
		}
		if n < logBatch {
			p.out.missed(began)
			p.log.seen.Store(int64(began.Sub(p.log.started)))
			if p.blind.Swap(0) > 0 {
				p.cfg.Log.Info("the log of purges can be read again")
			}
			return nil
		}
	}
}

// readSome reads a batch, and returns how many elements it had.
func (p *Purges) readSome(ctx context.Context) (int, error) {
	bounded, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	l := p.log
	from := l.last
	if from == "" {
		from = "-"
	}
	name, elements, err := l.read(bounded, from)
	if err != nil {
		return 0, err
	}
	switch {
	case from == "-":
		p.begin(name, elements)
	case name != l.name || len(elements) == 0 || elements[0].at != l.last || elements[0].mark != l.lastMark:
		return logBatch, p.lost(bounded, name) // and there is more to read
	default:
		elements = elements[1:]
	}
	for _, e := range elements {
		p.learn(e)
	}
	if n := len(elements); n > 0 {
		l.last, l.lastMark = elements[n-1].at, elements[n-1].mark
	}
	l.note(p.number(), l.last)
	return len(elements), nil
}

// begin starts with a log that this gateway knows nothing of: whatever it has
// may have been purged.
func (p *Purges) begin(name string, elements []element) {
	p.log.name = name
	floor := uint64(0)
	if len(elements) > 0 {
		floor = logPosition(elements[0].at)
	}
	p.log.anew(name, floor)
	p.distrust(&p.doubt)
}

// lost gives up on a log of which something is missing: it is read from its
// start next. One that goes back behind what was read has lost purges that
// others have not read either, perhaps, and so is replaced for all.
func (p *Purges) lost(ctx context.Context, name string) error {
	l := p.log
	p.cfg.Log.Warn("the log of purges has lost some: all that is stored will be validated before it is used")
	if name == l.name {
		_, oldest, err := l.read(ctx, "-")
		if err != nil {
			return err
		}
		if len(oldest) > 0 && logPosition(oldest[0].at) <= logPosition(l.last) {
			if err := replaceScript.Run(ctx, l.client, l.keys, l.self+l.last, name).Err(); err != nil {
				return err
			}
		}
	}
	p.distrust(&p.doubt)
	l.last, l.lastMark, l.name = "", "", ""
	return nil
}

// learn has a purge of the log hold here. This gateway's own hold already.
func (p *Purges) learn(e element) {
	switch at := logPosition(e.at); {
	case e.begin:
	case p.log.own(e):
		p.rules.add(e.purge, 0, at)
		p.out.arrived(strings.TrimPrefix(e.mark, p.log.self))
	default:
		p.apply(e.purge, at)
	}
}

// carrying takes purges to the log.
func (p *Purges) carrying(ctx context.Context) {
	defer p.carryRest(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.out.kick:
		}
		for ctx.Err() == nil && p.out.waiting() > 0 {
			if err := p.carry(ctx); err != nil && ctx.Err() == nil {
				p.logErrors.Add(1)
				sleep(ctx, p.cfg.Timeout/2)
			}
		}
	}
}

// lastWords is how long, at least, who ends tries to tell the others what it has
// purged.
const lastWords = time.Second

// carryRest takes along what is left when ctx is done and nobody else will.
func (p *Purges) carryRest(ctx context.Context) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(lastWords, 4*p.cfg.Timeout))
	defer cancel()
	for p.out.waiting() > 0 && !p.succeeded() {
		err := p.carry(bounded)
		if err == nil {
			continue
		}
		if sleep(bounded, p.cfg.Timeout/2); bounded.Err() != nil {
			p.cfg.Log.Warn("other gateways have not been told of what was purged last", "purges", p.out.waiting(), "error", err)
			return
		}
	}
}

func (p *Purges) succeeded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next != nil
}

const parcelsAtOnce = 128

func (p *Purges) carry(ctx context.Context) error {
	list := p.out.next(parcelsAtOnce)
	bounded, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	at, err := p.log.add(bounded, list)
	if err != nil {
		return err
	}
	for i, one := range list {
		p.rules.add(one.purge, 0, at[i])
	}
	p.out.done(list)
	return nil
}

// watching doubts everything, as often as it takes, while the log is out of sight.
func (p *Purges) watching(ctx context.Context) {
	tick := time.NewTicker(p.cfg.Blindness / 8)
	defer tick.Stop()
	var doubted time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		seen := p.log.started.Add(time.Duration(p.log.seen.Load()))
		if now.Sub(seen) < p.cfg.Blindness/2 || now.Sub(doubted) < p.cfg.Blindness/2 {
			continue
		}
		p.goBlind()
		doubted = now
	}
}

func (p *Purges) goBlind() {
	if p.blind.Load() == 0 {
		p.cfg.Log.Warn("the log of purges cannot be read: entries are validated before they are used", "again", (p.cfg.Blindness / 2).String())
	}
	p.distrust(&p.blind)
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// maxRules is how many rules are kept before the entries in memory are held to
// them, once, and they can go.
const maxRules = 32768

// sweeping frees the memory of what was purged, in at most a twentieth of the
// time: entries are held to the rules anyway when they are used.
func (p *Purges) sweeping(ctx context.Context) {
	swept := uint64(0)
	for pause := time.Second; ; {
		sleep(ctx, pause)
		if ctx.Err() != nil {
			return
		}
		seq := p.seq.Load()
		if seq == swept || p.cfg.Memory == nil {
			continue
		}
		began := time.Now()
		p.sweep(seq, p.rules.count() > maxRules && p.blind.Load() == 0)
		swept = seq
		pause = max(time.Second, 20*time.Since(began))
	}
}

// sweep frees what was purged. To forget the rules up to number seq, it stamps
// all that is left with that number: it has withstood them.
func (p *Purges) sweep(seq uint64, forget bool) {
	stamp := uint64(0)
	if forget {
		stamp = seq
	}
	p.cfg.Memory.sweep(p.Verdict, stamp)
	if !forget {
		return
	}
	raise(&p.floor, seq)
	p.rules.forget(seq, func(log uint64) {
		if p.log != nil {
			p.log.raise(log + 1)
		}
	})
}

func raise(a *atomic.Uint64, to uint64) {
	for {
		old := a.Load()
		if old >= to || a.CompareAndSwap(old, to) {
			return
		}
	}
}
