package edgecache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Cache is made of.
type Config struct {
	Store  Store
	Second Second // nil: none
	Purger Purger // nil: nothing is ever purged
	// Underway bounds, in bytes, the contents that are being fetched to be
	// stored. What would be beyond is passed on and not stored.
	Underway int64
	// Revalidations bounds how many stale responses are validated in the
	// background at a time.
	Revalidations int
}

// A Cache answers requests from what is stored, and has the rest fetched once.
type Cache struct {
	store    Store
	second   Second
	purger   Purger
	underway atomic.Int64
	most     int64
	tokens   chan struct{}
	shards   [64]struct {
		mu    sync.Mutex
		fills map[Key]*Fill
	}
}

// New returns a Cache that starts nothing.
func New(cfg Config) (*Cache, error) {
	if cfg.Store == nil {
		return nil, errors.New("edgecache: Config needs a Store")
	}
	c := &Cache{store: cfg.Store, second: cfg.Second, purger: cfg.Purger, most: cfg.Underway, tokens: make(chan struct{}, max(cfg.Revalidations, 1))}
	for i := range c.shards {
		c.shards[i].fills = make(map[Key]*Fill)
	}
	return c, nil
}

const (
	// maxVariants are kept of one resource.
	maxVariants = 32
	// passFor is how long requests for a key are not collapsed after a response
	// that could not be stored, passFailed after one that was an error.
	passFor    = 60 * time.Second
	passFailed = time.Second
)

// A State says what a stored response is good for.
type State uint8

// States, from none to all.
const (
	Missing  State = iota
	Doubtful       // to be validated, and for nothing else (Doubted)
	Outdated       // to be validated, or for when the origin fails
	Aging          // to be served, and validated meanwhile
	Fresh
)

// Found is what is stored for a request.
type Found struct {
	State State
	Entry *Entry
	// Pass: this key is known for responses that are not stored, so that its
	// requests do not wait for each other.
	Pass bool
	// Varied: there are responses for other requests to this URL.
	Varied bool
	// Barred: what is stored is fresh, but not for this request.
	Barred bool
}

// Find looks up what is stored for r, which has its key. scratch is memory that
// may be used. It allocates nothing.
func (c *Cache) Find(r *Request, rules *Rules, now int64, scratch []byte) (f Found) {
	res := c.store.Get(r.Key)
	if res == nil {
		return f
	}
	f.Pass = res.PassUntil > now
	f.Varied = len(res.Variants) > 0
	e := res.Select(r.Fields, scratch)
	if e == nil {
		return f
	}
	return c.judge(f, res, e, r, rules, now)
}

// judge says what e, which r selects, is good for (RFC 9111, section 4).
func (c *Cache) judge(f Found, res *Resource, e *Entry, r *Request, rules *Rules, now int64) Found {
	verdict := Valid
	if c.purger != nil {
		if verdict = c.purger.Verdict(res, e); verdict == Purged {
			f.Varied = false
			return f
		}
	}
	if !e.mayServe(r, rules) {
		f.Pass, f.Barred = true, e.Fresh(now)
		return f
	}
	f.Entry = e
	switch {
	case verdict == Doubted:
		f.State = Doubtful
	case verdict == Stale:
		f.State = Outdated
	case rules.ClientDirectives && r.control.Present:
		f.State = e.wanted(&r.control, now)
		f.Barred = f.State < Aging && e.Fresh(now)
	case e.Fresh(now):
		f.State = Fresh
	case e.ServesWhileRevalidating(now):
		f.State = Aging
	default:
		f.State = Outdated
	}
	return f
}

// mayServe reports whether e may be used for r at all: with Authorization only
// what says so (RFC 9111, section 3.5), as the origin may have more for such.
func (e *Entry) mayServe(r *Request, rules *Rules) bool {
	return !r.authorized || e.Flags&Shareable != 0 || rules.Key.hasHeader("authorization")
}

// wanted is what e is good for to a client that says what it wants (RFC 9111,
// section 5.2.1).
func (e *Entry) wanted(d *Directives, now int64) State {
	age, fresh := e.Age(now), e.Fresh(now)
	switch {
	case d.NoCache, d.MaxAge != absent && age >= d.MaxAge && d.MaxStale == absent:
		return Outdated
	case d.MinFresh != absent && int64(e.Lifetime)-age < d.MinFresh:
		return Outdated
	case fresh:
		return Fresh
	case d.MaxStale != absent && e.Flags&(NoCache|MustRevalidate|Invalidated) == 0 && e.Staleness(now) <= d.MaxStale:
		return Fresh
	case e.ServesWhileRevalidating(now):
		return Aging
	}
	return Outdated
}

// Sequence is what Entry.Purges is for a request that is sent now.
func (c *Cache) Sequence() uint64 {
	if c.purger == nil {
		return 0
	}
	return c.purger.Sequence()
}

// Still is what has become of e, which was found for r before.
func (c *Cache) Still(r *Request, e *Entry) Verdict {
	if c.purger == nil {
		return Valid
	}
	return c.purger.Verdict(&Resource{Text: string(r.Text)}, e)
}

// Put stores e, which answers r, for requests that select it, in the place of
// what those had so far.
func (c *Cache) Put(r *Request, e *Entry) {
	if c.keep(r, e) && c.second != nil && e.Complete() {
		c.second.Put(r.Key, string(r.Text), e)
	}
}

// keep stores e in memory, unless what those requests have was asked for when more
// was known to be purged: a slow response does not take the place of a new one.
func (c *Cache) keep(r *Request, e *Entry) (kept bool) {
	text := string(r.Text)
	c.store.Update(r.Key, func(old *Resource) *Resource {
		next := &Resource{Text: text, Variants: []*Entry{e}}
		if kept = true; old == nil || old.Text != text {
			return next
		}
		for _, other := range old.Variants {
			if other.Purges > e.Purges && (other.Vary == e.Vary || other.selected(r.Fields, nil)) {
				kept = false
				return old
			}
		}
		next.Text = old.Text
		for _, other := range old.Variants {
			if other.Vary != e.Vary && !other.selected(r.Fields, nil) && len(next.Variants) < maxVariants {
				next.Variants = append(next.Variants, other)
			}
		}
		return next
	})
	return kept
}

// Pass remembers that requests like r are not worth waiting for.
func (c *Cache) Pass(r *Request, failed bool, now time.Time) {
	d := passFor
	if failed {
		d = passFailed
	}
	text, until := string(r.Text), now.Add(d).UnixNano()
	c.store.Update(r.Key, func(old *Resource) *Resource {
		if old == nil || old.Text != text {
			return &Resource{Text: text, PassUntil: until}
		}
		next := *old
		next.PassUntil = until
		return &next
	})
}

// Replace puts next in the place of e, where it still is stored for r; a nil next
// removes it.
func (c *Cache) Replace(r *Request, e, next *Entry) {
	c.store.Update(r.Key, func(old *Resource) *Resource {
		if old == nil {
			return nil
		}
		res := *old
		res.Variants = nil
		for _, one := range old.Variants {
			switch {
			case !one.same(e):
				res.Variants = append(res.Variants, one)
			case next != nil:
				res.Variants = append(res.Variants, next)
			}
		}
		if len(res.Variants) == 0 && res.PassUntil == 0 {
			return nil
		}
		return &res
	})
	if c.second == nil {
		return
	}
	if next == nil {
		c.second.Delete(r.Key)
	} else if next.Complete() {
		c.second.Put(r.Key, string(r.Text), next)
	}
}

// Revalidate takes the right to validate one response in the background; done
// gives it back. It is not ok where too many are at it.
func (c *Cache) Revalidate() (done func(), ok bool) {
	select {
	case c.tokens <- struct{}{}:
		return func() { <-c.tokens }, true
	default:
		return nil, false
	}
}

// HasSecond reports whether there is a second level.
func (c *Cache) HasSecond() bool { return c.second != nil }

// FromSecond looks a request up in the second level, and keeps what is there.
func (c *Cache) FromSecond(ctx context.Context, r *Request, rules *Rules, now time.Time) (f Found) {
	if c.second == nil {
		return f
	}
	res := c.second.Get(ctx, r.Key, string(r.Text))
	if res == nil {
		return f
	}
	e := res.Select(r.Fields, nil)
	if e == nil || e.Length > rules.MaxObject {
		return f
	}
	f = c.judge(f, res, e, r, rules, now.UnixNano())
	if f.Entry != nil {
		c.keep(r, e)
	}
	return f
}

// Purge has what p names be used no more; see Purger.
func (c *Cache) Purge(p Purge) error {
	if c.purger == nil {
		return errors.New("edgecache: nothing can be purged")
	}
	return c.purger.Purge(p)
}

// Stats is what the store holds.
func (c *Cache) Stats() StoreStats { return c.store.Stats() }

// Reserve takes n bytes for a content that is under way; Return gives them back.
func (c *Cache) Reserve(n int64) bool {
	if c.underway.Add(n) <= c.most {
		return true
	}
	c.underway.Add(-n)
	return false
}

// Return gives back what Reserve took.
func (c *Cache) Return(n int64) { c.underway.Add(-n) }
