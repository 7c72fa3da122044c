package proxy

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/edgecache"
)

// A fetching is a fetch for the cache: an exchange of its own, so that it may go
// on when the client who caused it has left.
type fetching struct {
	x       *Exchange
	request edgecache.Request // what the origin is asked, in the fetch's own memory
	rules   *edgecache.Rules
	stale   *edgecache.Entry // to be validated; nil: none
	doubted bool             // and for nothing else
	asked   []Field          // the fields of the request without conditions
	path    []byte           // before the route rewrites it
	// interims are those of the response, for the one who leads; nil: nobody wants
	// them.
	interims chan interim
	purges   uint64 // as the purge log was when the request was sent
}

// fetchFor makes a fetch of what x asks for. Of x's request it has what is in the
// key, and the fields that Vary can name. Conditions are the cache's own, and a
// range only where it is to be passed on.
func (p *Proxy) fetchFor(x *Exchange, rules *edgecache.Rules, ranged bool) *fetching {
	f := x.detached()
	r, u := &f.Request, &x.cached
	f.deadline, f.dotted, f.forCache = time.Time{}, x.dotted, true
	if d := x.route.timeout; d > 0 {
		f.deadline = f.start.Add(d)
	}
	r.Target = bytes.Clone(u.target.Path)
	if len(u.target.Query) > 0 {
		r.Target = append(append(r.Target, '?'), u.target.Query...)
	}
	r.Query, r.Host = bytes.Clone(u.target.Query), bytes.Clone(u.target.Host)
	f.host = string(r.Host)
	r.Fields = slices.DeleteFunc(r.Fields, func(one Field) bool {
		return edgecache.Overrides(one.Name) || edgecache.IsCondition(one.Name) && !(ranged && equalFold(one.Name, "If-Range")) ||
			equalFold(one.Name, "Range") && !ranged
	})
	f.probe.Host, f.probe.Query = view(r.Host), view(r.Query)
	f.probe.Fields = r
	if u.request.Method == "QUERY" && len(x.held) > 0 {
		f.requestIn.from = bytes.NewReader(bytes.Clone(x.held))
		r.Body, r.BodyAtHand, r.ContentLength = &f.requestIn, true, int64(len(x.held))
	}
	t := &fetching{x: f, rules: rules, asked: r.Fields[:len(r.Fields):len(r.Fields)], path: r.Path}
	t.request = edgecache.Request{
		Method: u.request.Method, Fields: cacheFields(t.asked), Text: bytes.Clone(u.text), Key: u.request.Key, Identified: u.request.Identified,
	}
	t.request.Read()
	return t
}

// sendFor has the backend answer, asked whether stale, if it is not nil, still holds.
func (p *Proxy) sendFor(t *fetching, stale *edgecache.Entry) (edgecache.Response, error) {
	f := t.x
	f.Request.Fields, f.Request.Path = t.asked, t.path
	if stale != nil {
		f.Request.Fields = proxyFields(stale.Conditions(cacheFields(t.asked)))
	}
	res := edgecache.Response{RequestedAt: time.Now(), Own: ownField}
	err := p.fetch(f)
	res.ReceivedAt = time.Now()
	if err != nil {
		return res, err
	}
	r := &f.Response
	if r.Body == nil && r.ContentLength < 0 {
		r.ContentLength = 0
	}
	res.Status, res.Fields, res.Length = r.Status, cacheFields(r.Header.Fields), r.ContentLength
	return res, nil
}

// ownField reports whether the gateway puts a field of that name into requests by
// what no key holds.
func ownField(name string) bool {
	switch kindOf(raw(name)) {
	case forwardedFor, forwarded, via, requestID, certField, connection, hopByHop:
		return true
	case peerOnly:
		return !hasFoldPrefix(raw(name), "X-Forwarded-")
	}
	return false
}

// drop lets go of all that a fetch holds.
func (x *Exchange) drop() {
	x.discardResponse()
	x.hangUp()
	x.lease.end(time.Now())
}

// lead begins the fetch of a fill, for x and all who follow it.
func (p *Proxy) lead(x *Exchange, rules *edgecache.Rules, fill *edgecache.Fill, found edgecache.Found) *fetching {
	t := p.fetchFor(x, rules, false)
	if e := found.Entry; e != nil && (e.Complete() || x.cached.request.HasRange()) { // else it would not do, still valid
		t.stale, t.doubted = e, found.State == edgecache.Doubtful
	}
	if x.Request.interim != nil {
		t.interims = make(chan interim, maxInterims)
		t.x.Request.interim = func(status int, fields []Field) {
			select {
			case t.interims <- interim{status, cloneFields(fields)}:
			default:
			}
		}
	}
	p.fetches.run(t.x, func() { p.fill(fill, t) })
	return t
}

// revalidate validates e in the background, unless somebody is at it, or too many
// others are.
func (p *Proxy) revalidate(x *Exchange, rules *edgecache.Rules, e *edgecache.Entry) {
	c := x.gen.cache
	done, ok := c.Revalidate()
	if !ok {
		return
	}
	fill, lead := c.Join(&x.cached.request)
	fill.Leave()
	if !lead {
		done()
		return
	}
	fill.Abandon() // nobody reads what cannot be stored
	t := p.fetchFor(x, rules, false)
	t.stale = e
	p.fetches.run(t.x, func() {
		defer done()
		p.fill(fill, t)
	})
}

// fill runs a fetch to its end.
func (p *Proxy) fill(fill *edgecache.Fill, t *fetching) {
	defer func() {
		if v := recover(); v != nil {
			p.log.Error("panic in a fetch for the cache", "request_id", string(t.x.id), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			p.stats.panics.Inc()
			fill.Fail(&Problem{Status: 500, Detail: "the gateway failed"})
			t.x.drop()
		}
	}()
	answer, how := p.fromSecond(t), edgecache.FromShared
	var res edgecache.Response
	var err error
	if answer == nil {
		answer, how, res, err = p.settle(t)
	}
	switch {
	case answer != nil:
		t.x.drop()
		fill.Stands(answer, how)
	case err != nil:
		t.x.drop()
		fill.Fail(err)
	default:
		p.pump(fill, t, &res)
	}
}

// fromSecond is what other gateways have stored; nil for none that is fresh.
func (p *Proxy) fromSecond(t *fetching) *edgecache.Entry {
	c := t.x.gen.cache
	if !c.HasSecond() {
		return nil
	}
	found := c.FromSecond(t.x.Context(), &t.request, t.rules, time.Now())
	switch {
	case found.State == edgecache.Fresh:
		return found.Entry
	case found.Entry != nil && t.stale == nil:
		t.stale, t.doubted = found.Entry, found.State == edgecache.Doubtful
	}
	return nil
}

// settle asks the origin, first whether what is stored still holds. It returns
// either the entry that stands, or a response, or an error.
func (p *Proxy) settle(t *fetching) (*edgecache.Entry, edgecache.Outcome, edgecache.Response, error) {
	c := t.x.gen.cache
	t.purges = c.Sequence()
	t.look(c)
	stale := t.stale
	if stale != nil && !stale.Validatable() {
		stale = nil
	}
	res, err := p.sendFor(t, stale)
	if failing(res.Status, err) && t.stale != nil && t.stale.ServesOnError(res.ReceivedAt.UnixNano()) {
		if t.look(c); t.stale != nil && !t.doubted {
			return t.stale, edgecache.Spared, res, nil // RFC 5861, section 4
		}
	}
	if err != nil || stale == nil || res.Status != 304 {
		return nil, 0, res, err
	}
	if stale.Describes(&res) {
		if next := t.rules.Freshened(stale, &t.request, &res); next != nil {
			next.Purges = t.purges
			c.Replace(&t.request, stale, next)
			return next, edgecache.Validated, res, nil
		}
	}
	// It may not be stored any more, or is not what the 304 is about.
	c.Replace(&t.request, stale, nil)
	t.x.drop()
	t.purges = c.Sequence()
	res, err = p.sendFor(t, nil)
	return nil, 0, res, err
}

// look sees whether what is to be validated has been purged since it was found:
// whoever waits by now may have come after that, and a validation would make it
// new.
func (t *fetching) look(c *edgecache.Cache) {
	if t.stale == nil {
		return
	}
	switch c.Still(&t.request, t.stale) {
	case edgecache.Purged:
		t.stale = nil
	case edgecache.Doubted:
		t.doubted = true
	}
}

// failing reports whether an origin could not answer (RFC 5861, section 4).
func failing(status int, err error) bool {
	if err != nil {
		return fallsBack(err)
	}
	return status == 500 || status == 502 || status == 503 || status == 504
}

// pump has the response go to all who wait for it, and into the cache, or to the
// leader alone.
func (p *Proxy) pump(fill *edgecache.Fill, t *fetching, res *edgecache.Response) {
	f, c := t.x, t.x.gen.cache
	e, _ := t.rules.Judge(&t.request, res)
	if e != nil {
		e.Purges = t.purges
		e.SetHead(res)
	}
	if e == nil || !fill.Keep(e, t.rules.MaxObject, func(e *edgecache.Entry) { c.Put(&t.request, e) }) {
		c.Pass(&t.request, res.Status >= 500, res.ReceivedAt)
		fill.Release(borrowed{f})
		return
	}
	var err error
	if f.Response.Body != nil {
		_, err = copyBody(fill, f.Response.Body)
	}
	stored := fill.Finish(err)
	if !stored && err == nil { // it was too large
		c.Pass(&t.request, false, time.Now())
	}
	f.drop()
}

// A borrowed is a fetch whose response goes to the one who caused it.
type borrowed struct{ x *Exchange }

// Close lets go of the fetch.
func (b borrowed) Close() error {
	b.x.drop()
	return nil
}

// adopt makes the response of f, a fetch for x, x's own.
func (x *Exchange) adopt(f *Exchange) {
	x.mu.Lock()
	x.inner = f
	canceled := x.canceled
	x.mu.Unlock()
	if canceled != nil {
		f.Cancel(canceled)
	}
	r, from := &x.Response, &f.Response
	r.Status, r.Body, r.ContentLength = from.Status, from.Body, from.ContentLength
	r.Header.Fields = append(r.Header.Fields[:0], from.Header.Fields...)
	if f.cookie != "" {
		r.Header.Add("Set-Cookie", f.cookie)
	}
	x.noteFetch(f)
}

// noteFetch has x's log line tell of a fetch for it.
func (x *Exchange) noteFetch(f *Exchange) {
	x.backend, x.target, x.attempts, x.fallbacks = f.backend, f.target, f.attempts, f.fallbacks
}

// fetches are those under way for the cache.
type fetches struct {
	mu      sync.Mutex
	wg      sync.WaitGroup
	running map[*Exchange]struct{}
	over    bool
}

// run runs do, which fetches by x, beside everything else.
func (f *fetches) run(x *Exchange, do func()) {
	f.mu.Lock()
	if f.running == nil {
		f.running = make(map[*Exchange]struct{})
	}
	f.running[x] = struct{}{}
	if over := f.over; over {
		defer x.Cancel(context.Canceled)
	} else {
		f.wg.Add(1)
		inner := do
		do = func() { defer f.wg.Done(); inner() }
	}
	f.mu.Unlock()
	go func() {
		defer func() {
			f.mu.Lock()
			delete(f.running, x)
			f.mu.Unlock()
		}()
		do()
	}()
}

// end cancels all fetches and waits for them.
func (f *fetches) end() {
	f.mu.Lock()
	f.over = true
	for x := range f.running {
		x.Cancel(context.Canceled)
	}
	f.mu.Unlock()
	f.wg.Wait()
}
