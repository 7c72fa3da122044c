package proxy

import (
	"bytes"
	"io"
	"time"

	"github.com/sluice-edge/sluice/edgecache"
)

// direct has the backend answer x alone, beside all others who ask for the same:
// for a part, for a head, and where what comes is likely not to be stored. What
// can be is stored all the same, once the client has all of it.
func (p *Proxy) direct(x *Exchange, rules *edgecache.Rules, found edgecache.Found) error {
	c := x.gen.cache
	t := p.fetchFor(x, rules, true)
	t.x.Request.interim = x.Request.interim
	if found.Pass {
		t.passConditions(x)
	}
	x.mu.Lock()
	x.inner = t.x // whom to cancel with x
	gone := x.canceled != nil
	x.mu.Unlock()
	if gone {
		return canceled()
	}
	t.purges = c.Sequence()
	res, err := p.sendFor(t, nil)
	x.noteFetch(t.x)
	now := time.Now()
	if found.Entry != nil && found.State != edgecache.Doubtful && failing(res.Status, err) && found.Entry.ServesOnError(now.UnixNano()) && x.serveEntry(found.Entry, nil, cacheSpared, now) {
		return nil
	}
	if err != nil {
		return err
	}
	x.adopt(t.x)
	switch stored := x.tee(t, &res, found.Entry); {
	case stored:
		x.cached.result = cacheMiss
		x.Response.Header.Add("Cache-Status", x.keep(pseudonym, x.cached.fwd, "; stored"))
	case found.Pass:
		x.passed(cacheUncacheable)
	default:
		x.passed(cacheMiss)
	}
	return nil
}

// passConditions has the origin judge the client's own conditions.
func (t *fetching) passConditions(x *Exchange) {
	for _, f := range x.Request.Fields {
		if edgecache.IsCondition(f.Name) && !equalFold(f.Name, "If-Range") {
			t.asked = append(t.asked, Field{Name: bytes.Clone(f.Name), Value: bytes.Clone(f.Value)})
		}
	}
}

// tee stores the response that x passes on, if that may be, when all of it has
// gone by. old is what was stored so far.
func (x *Exchange) tee(t *fetching, res *edgecache.Response, old *edgecache.Entry) bool {
	c := x.gen.cache
	if t.request.Method == "HEAD" {
		t.update(c, res, old)
		return false
	}
	e, why := t.rules.Judge(&t.request, res)
	if why != "" {
		return false
	}
	e.Purges = t.purges
	e.SetHead(res)
	if old != nil && c.Still(&t.request, old) != edgecache.Valid {
		old = nil // e counts as new, and so would what is added to it
	}
	if x.Response.Body == nil {
		if res.Status != 206 {
			e.Length = 0
			c.Put(&t.request, e)
		}
		return res.Status != 206
	}
	span := edgecache.Span{Whole: -1}
	if res.Status == 206 {
		var ok bool
		if span, ok = t.request.Place(res); !ok {
			return false
		}
		if span.Alone {
			old = nil
		}
	}
	room := max(res.Length, 0)
	if !c.Reserve(room) {
		return false
	}
	x.Response.Body = &teeBody{Body: x.Response.Body, cache: c, room: room, limit: t.rules.MaxObject, length: res.Length, data: make([]byte, 0, room), whole: func(data []byte) {
		if res.Status == 206 {
			e.Partial(span, data)
			e = e.Combined(old)
		} else {
			e.Body, e.Length = data, int64(len(data))
		}
		c.Put(&t.request, e)
	}}
	return true
}

// update applies what a HEAD brought to what is stored (RFC 9111, section 4.3.5).
func (t *fetching) update(c *edgecache.Cache, res *edgecache.Response, old *edgecache.Entry) {
	if old == nil || res.Status != int(old.Status) {
		return
	}
	if !old.Agrees(res) {
		c.Replace(&t.request, old, nil)
		return
	}
	if c.Still(&t.request, old) != edgecache.Valid {
		return // to say that is for a validation
	}
	if next := t.rules.Freshened(old, &t.request, res); next != nil {
		next.Purges = t.purges
		c.Replace(&t.request, old, next)
	}
}

// A teeBody is a body that is kept while it passes.
type teeBody struct {
	Body
	cache  *edgecache.Cache
	room   int64 // reserved
	limit  int64
	length int64 // -1: unknown
	data   []byte
	over   bool // it is not kept
	whole  func([]byte)
}

// Read implements io.Reader.
func (b *teeBody) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if !b.over {
		b.keep(p[:n])
	}
	// Of a known length the last byte is the end: who has it may ask again.
	end := err == io.EOF && b.length < 0 || b.length >= 0 && int64(len(b.data)) == b.length
	if end && !b.over {
		b.whole(b.data)
	}
	b.over = b.over || end || err != nil
	return n, err
}

func (b *teeBody) keep(p []byte) {
	if more := int64(len(b.data)+len(p)) - b.room; more > 0 {
		if b.room+more > b.limit || !b.cache.Reserve(more) {
			b.over, b.data = true, nil
			return
		}
		b.room += more
	}
	b.data = append(b.data, p...)
}

// Trailers are those of the body beneath.
func (b *teeBody) Trailers() []Field {
	if t, ok := b.Body.(interface{ Trailers() []Field }); ok {
		return t.Trailers()
	}
	return nil
}

// Close ends it; what is not whole is not kept.
func (b *teeBody) Close() error {
	b.over = true
	b.cache.Return(b.room)
	b.room = 0
	return b.Body.Close()
}

// postFor prepares to store the response to a POST (RFC 9110, section 9.3.3); nil
// where that may not be: the request has something in it that is in no key.
func (x *Exchange) postFor(rules *edgecache.Rules) *fetching {
	r, u := &x.Request, &x.cached
	if string(r.Method) != "POST" || len(u.target.Query) != len(r.Query) || r.hasOverrides() {
		return nil
	}
	t := &fetching{rules: rules, purges: x.gen.cache.Sequence()}
	q := &u.request
	*q = edgecache.Request{Method: "GET", Fields: cacheFields(r.Fields), Identified: r.cert != nil || x.identified}
	q.Read()
	if q.HasRange() {
		return nil
	}
	u.text = rules.Key.AppendText(u.text[:0], &u.target, q.Fields)
	if r.PeerTrusted {
		u.text = x.appendPeer(u.text)
	}
	q.Text, q.Key = u.text, edgecache.KeyOf(u.text)
	return t
}

// keepPost stores the response to a POST that says that it is what a GET of url
// would bring, and for how long.
func (x *Exchange) keepPost(t *fetching, url string) {
	r, q := &x.Response, &x.cached.request
	if r.Status != 200 || !edgecache.Names(url, cacheFields(r.Header.Fields)) {
		return
	}
	t.request = *q
	res := edgecache.Response{
		Status: r.Status, Fields: cacheFields(r.Header.Fields), Length: r.ContentLength, RequestedAt: x.start, ReceivedAt: time.Now(), Own: ownField,
	}
	if e, _ := t.rules.Judge(q, &res); e == nil || !e.Explicit() {
		return
	}
	x.tee(t, &res, nil)
}
