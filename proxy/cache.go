package proxy

import (
	"bytes"
	"time"
	"unsafe"

	"github.com/sluice-edge/sluice/edgecache"
	"github.com/sluice-edge/sluice/routing"
)

// A cacheUse is what an exchange has to do with the cache. Its memory is used
// again.
type cacheUse struct {
	request edgecache.Request
	target  edgecache.Target
	text    []byte // memory of request.Text
	scratch []byte
	path    []byte
	host    []byte
	query   []byte
	result  cacheResult
	status  string // what Cache-Status says; empty: nothing
	fwd     string // why the request is forwarded, should it be
}

func (u *cacheUse) recycle() {
	*u = cacheUse{text: u.text[:0], scratch: u.scratch[:0], path: u.path[:0], host: u.host[:0], query: u.query[:0]}
}

// A cacheResult is what came of asking the cache, for metrics and logs.
type cacheResult uint8

const (
	cacheUnused cacheResult = iota
	cacheHit
	cacheStale
	cacheRevalidated
	cacheMiss
	cacheCollapsed
	cacheUncacheable
	cacheBypass
	cacheShared
	cacheResults // how many are counted

	cacheSpared // the backend failed, and what is stale answered in its place: a cacheStale that was forwarded
)

var cacheResultNames = [...]string{
	cacheUnused: "", cacheHit: "hit", cacheStale: "stale", cacheRevalidated: "revalidated", cacheMiss: "miss",
	cacheCollapsed: "collapsed", cacheUncacheable: "uncacheable", cacheBypass: "bypass", cacheShared: "shared",
}

// standing is what came of a fetch that brought no response.
var standing = map[edgecache.Outcome]cacheResult{
	edgecache.Validated: cacheRevalidated, edgecache.FromShared: cacheShared, edgecache.Spared: cacheSpared,
}

// A Field of the cache is one of the proxy: they differ in where they are
// declared.
var _ = edgecache.Field(Field{})

func cacheFields(fields []Field) []edgecache.Field {
	return *(*[]edgecache.Field)(unsafe.Pointer(&fields))
}

func proxyFields(fields []edgecache.Field) []Field {
	return *(*[]Field)(unsafe.Pointer(&fields))
}

// maxQueryContent bounds the content of a QUERY that is answered from the cache.
const maxQueryContent = 64 << 10

// obtain gets the response: from the cache where the route has one and the
// request may be answered by it, else from the backend.
func (p *Proxy) obtain(x *Exchange) error {
	rules := x.route.cache
	if x.gen.cache == nil {
		return p.fetch(x)
	}
	if rules == nil || !p.asks(x, rules) {
		if rules != nil {
			x.cached.result = cacheBypass
			if x.cached.status == "" {
				x.cached.status = "; fwd=method"
			}
		}
		return p.past(x)
	}
	return p.through(x, rules)
}

// asks reports whether x is a request for the cache, and makes its key.
func (p *Proxy) asks(x *Exchange, rules *edgecache.Rules) bool {
	u, r := &x.cached, &x.Request
	q := &u.request
	switch string(r.Method) {
	case "GET":
		q.Method = "GET"
	case "HEAD":
		q.Method = "HEAD"
	case "QUERY":
		q.Method = "QUERY"
	default:
		return false
	}
	if len(r.Upgrade) > 0 || len(r.Host) == 0 || len(r.Path) == 0 || r.Path[0] != '/' || x.Request.Body != nil && q.Method != "QUERY" {
		u.status = fwdRequest // what is in a body of a GET is not in the key
		return false
	}
	if q.Method == "QUERY" && !x.holdQuery() {
		u.status = fwdRequest
		return false
	}
	q.Fields = cacheFields(r.Fields)
	q.Identified = r.cert != nil || x.identified
	q.Read()
	if q.Bypass() != "" {
		u.status = fwdRequest
		return false
	}
	x.cacheKey(rules)
	return true
}

// holdQuery takes in the content of a QUERY, which is part of its key.
func (x *Exchange) holdQuery() bool {
	if x.Request.Body == nil {
		x.held = x.held[:0]
		return true
	}
	return x.hold(maxQueryContent) == nil && x.replay.Size() > 0
}

// cacheKey makes the key of a request of all that may reach the origin and
// decide about its answer. What is not in it is not sent, but for fields that
// Vary can name.
func (x *Exchange) cacheKey(rules *edgecache.Rules) {
	u := &x.cached
	x.aim(rules)
	t := &u.target
	if u.request.Method == "QUERY" {
		t.Method = "QUERY"
	}
	u.text = rules.Key.AppendText(u.text[:0], t, u.request.Fields)
	if x.Request.PeerTrusted {
		u.text = x.appendPeer(u.text)
	}
	if t.Method == "QUERY" {
		u.text = edgecache.AppendContent(u.text, u.request.Fields, x.held)
	}
	u.request.Text, u.request.Key = u.text, edgecache.KeyOf(u.text)
}

// aim finds out what x asks for, in the form that keys have.
func (x *Exchange) aim(rules *edgecache.Rules) {
	u, r := &x.cached, &x.Request
	t := &u.target
	t.Method, t.Scheme = "GET", r.Scheme
	if r.PeerTrusted {
		if proto, ok := r.Lookup("X-Forwarded-Proto"); ok && (proto == "http" || proto == "https") {
			t.Scheme = proto
		}
	}
	u.host = edgecache.AppendHost(u.host[:0], r.Host, t.Scheme)
	if x.dotted {
		u.path = appendEscaped(u.path[:0], view(r.Path))
	} else {
		u.path = edgecache.AppendPath(u.path[:0], pathOf(r.Target))
	}
	u.query = rules.Key.AppendQuery(u.query[:0], r.Query)
	t.Host, t.Path, t.Query = u.host, u.path, u.query
}

// appendPeer appends what a trusted peer says of the request and origins may go
// by, as far as it says more than the request itself.
func (x *Exchange) appendPeer(b []byte) []byte {
	for i := range x.Request.Fields {
		f := &x.Request.Fields[i]
		if k := kindOf(f.Name); k == forwardedHost && !bytes.Equal(f.Value, x.Request.Host) || k == peerOnly && hasFoldPrefix(f.Name, "X-Forwarded-") {
			b = append(append(append(append(b, 0, 'p'), f.Name...), ':'), f.Value...)
		}
	}
	return b
}

// through answers x from the cache, or has the response fetched once for all who
// ask for it meanwhile.
func (p *Proxy) through(x *Exchange, rules *edgecache.Rules) error {
	c, u := x.gen.cache, &x.cached
	q := &u.request
	if u.scratch == nil {
		u.scratch = make([]byte, 0, 1<<10)
	}
	for turn := 0; ; turn++ {
		now := time.Now()
		found := c.Find(q, rules, now.UnixNano(), u.scratch)
		u.fwd = forwarding(found)
		switch found.State {
		case edgecache.Fresh:
			if x.serveEntry(found.Entry, nil, cacheHit, now) {
				return nil
			}
		case edgecache.Aging:
			if x.serveEntry(found.Entry, nil, cacheStale, now) {
				p.revalidate(x, rules, found.Entry)
				return nil
			}
		}
		if found.State >= edgecache.Aging {
			u.fwd = "; fwd=partial"
		}
		if q.OnlyIfCached() {
			return &Problem{Status: 504, Detail: "nothing that is stored answers the request", Type: "http_request_denied"}
		}
		if q.Method == "HEAD" || found.Pass || turn > 1 || q.HasRange() && found.Entry == nil || q.HasRange() && found.State >= edgecache.Aging {
			return p.direct(x, rules, found)
		}
		fill, lead := c.Join(q)
		var own *fetching
		if lead {
			own = p.lead(x, rules, fill, found)
		}
		again, err := p.follow(x, rules, fill, own)
		if !again {
			return err
		}
	}
}

// follow waits for a fetch that is under way and serves what comes of it. again:
// it brought nothing for x.
func (p *Proxy) follow(x *Exchange, rules *edgecache.Rules, fill *edgecache.Fill, own *fetching) (again bool, err error) {
	defer fill.Leave()
	ctx := x.Context()
	if !x.await(fill, own, ctx.Done()) {
		if own != nil {
			fill.Abandon()
		}
		if x.gone() {
			return false, canceled()
		}
		return false, &Problem{Status: 504, Detail: "the backend did not answer in time", Type: "http_response_timeout"}
	}
	outcome, e, err := fill.Result()
	how := cacheCollapsed
	if own != nil {
		how = cacheMiss
		x.noteFetch(own.x)
	}
	switch outcome {
	case edgecache.Failed:
		return false, err
	case edgecache.Released:
		if own == nil {
			return true, nil
		}
		fill.Take()
		x.adopt(own.x)
		x.passed(cacheUncacheable)
		return false, nil
	}
	if !fill.Serves(&x.cached.request, rules) {
		return true, nil
	}
	now := time.Now()
	if outcome != edgecache.Streaming {
		if own != nil {
			how = standing[outcome]
		}
		return !x.serveEntry(e, nil, how, now), nil
	}
	return !x.serveEntry(e, fill, how, now), nil
}

// await waits for a fill, and passes on what interim responses x's own fetch
// brings meanwhile.
func (x *Exchange) await(fill *edgecache.Fill, own *fetching, done <-chan struct{}) bool {
	var interims chan interim
	if own != nil {
		interims = own.interims
	}
	for {
		select {
		case <-fill.Ready():
			for { // what came before the response comes before it
				select {
				case one := <-interims:
					x.Request.interim(one.status, one.fields)
					continue
				default:
				}
				return true
			}
		case one := <-interims:
			x.Request.interim(one.status, one.fields)
		case <-done:
			return false
		}
	}
}

// past has the backend answer x without the cache, which only learns what may
// have changed by it.
func (p *Proxy) past(x *Exchange) error {
	rules, url := x.changing()
	if rules == nil {
		return p.fetch(x)
	}
	post := x.postFor(rules)
	err := p.fetch(x)
	if err != nil {
		return err
	}
	fields := cacheFields(x.Response.Header.Fields)
	n := x.gen.cache.Invalidate(url, x.Response.Status, fields)
	// The response is as new as its own purges, but older than any other.
	if post != nil && post.purges+n == x.gen.cache.Sequence() {
		post.purges += n
		x.keepPost(post, url)
	}
	return nil
}

// changing is the URL that x may change, as its keys have it, where the route that
// a GET of it would take has a cache, and the rules of that; nil for none.
func (x *Exchange) changing() (*edgecache.Rules, string) {
	r := &x.Request
	if edgecache.Safe(view(r.Method)) || len(r.Host) == 0 || len(r.Path) == 0 || r.Path[0] != '/' {
		return nil, ""
	}
	probe := x.probe
	probe.Method = "GET"
	found := x.gen.table.Match(&probe)
	if found.Outcome != routing.Found || x.gen.routes[found.Route].cache == nil {
		return nil, ""
	}
	rules := x.gen.routes[found.Route].cache
	x.aim(rules)
	return rules, x.url()
}

// url is what x is aimed at, as keys have it.
func (x *Exchange) url() string {
	t := &x.cached.target
	b := append(append(append(x.cached.text[:0], t.Scheme...), "://"...), t.Host...)
	b = append(b, t.Path...)
	if len(t.Query) > 0 {
		b = append(append(b, '?'), t.Query...)
	}
	x.cached.text = b
	return string(b)
}
