package proxy

import (
	"crypto/rand"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/edgecache"
)

// serveEntry answers x with e, whose content is still coming where there is a
// fill. It reports false where e has not what x wants.
func (x *Exchange) serveEntry(e *edgecache.Entry, fill *edgecache.Fill, how cacheResult, now time.Time) bool {
	q, r := &x.cached.request, &x.Response
	r.Header.Fields = proxyFields(e.AppendFields(cacheFields(r.Header.Fields[:0])))
	switch {
	case q.Conditional() && e.NotModified(q):
		x.notModified()
	case q.HasRange() && (e.Status == 200 || e.Status == 206) && e.Length >= 0 && e.RangeApplies(q):
		if !x.serveRanges(e, fill) {
			return false
		}
	case !e.Complete():
		return false
	case fill != nil:
		body := x.bodyOfFill(fill, 0, -1)
		if body == nil {
			return false
		}
		r.Status, r.Body, r.ContentLength = int(e.Status), body, e.Length
	default:
		r.Status, r.ContentLength = int(e.Status), int64(len(e.Body))
		if q.Method != "HEAD" && len(e.Body) > 0 {
			x.memory = memoryBody{all: e.Body}
			r.Body = &x.memory
		}
	}
	x.serveAge(e, how, now)
	return true
}

// serveAge adds what is known of a stored response beside what it says itself.
func (x *Exchange) serveAge(e *edgecache.Entry, how cacheResult, now time.Time) {
	age := e.Age(now.UnixNano())
	if age > 0 || how != cacheMiss && how != cacheCollapsed {
		n := len(x.arena)
		x.arena = strconv.AppendInt(x.arena, age, 10)
		x.Response.Header.Add("Age", view(x.arena[n:len(x.arena):len(x.arena)]))
	}
	u := &x.cached
	u.result = how
	n := len(x.arena)
	x.arena = append(x.arena, pseudonym...)
	switch how {
	case cacheHit, cacheStale:
		x.arena = append(x.arena, "; hit"...)
	case cacheShared:
		x.arena = append(x.arena, "; hit; detail=shared"...)
	case cacheRevalidated:
		if u.fwd != fwdRequest { // else the second level may have had what is stale
			u.fwd = "; fwd=stale"
		}
		x.arena = append(append(x.arena, u.fwd...), "; fwd-status=304"...)
	case cacheSpared:
		u.result = cacheStale // as which it counts
		x.arena = append(x.arena, u.fwd...)
	case cacheMiss:
		x.arena = append(append(x.arena, u.fwd...), "; stored"...)
	case cacheCollapsed:
		x.arena = append(append(x.arena, u.fwd...), "; collapsed"...)
	}
	x.arena = append(x.arena, "; ttl="...)
	x.arena = strconv.AppendInt(x.arena, int64(e.Lifetime)-age, 10)
	x.Response.Header.Add("Cache-Status", view(x.arena[n:len(x.arena):len(x.arena)]))
}

const fwdRequest = "; fwd=request"

// forwarding says why a request is forwarded for which that was found (RFC 9211,
// section 2.2).
func forwarding(found edgecache.Found) string {
	switch {
	case found.Barred:
		return fwdRequest
	case found.State > edgecache.Missing:
		return "; fwd=stale"
	case found.Varied:
		return "; fwd=vary-miss"
	}
	return "; fwd=uri-miss"
}

// passed notes that x got a response that is not the cache's.
func (x *Exchange) passed(how cacheResult) {
	x.cached.result = how
	x.Response.Header.Add("Cache-Status", x.keep(pseudonym, x.cached.fwd))
}

// notModified makes the response a 304, which has of a representation what says
// which one it is, and how long it is good (RFC 9110, section 15.4.5).
func (x *Exchange) notModified() {
	r := &x.Response
	r.Status, r.Body, r.ContentLength = 304, nil, 0
	kept := r.Header.Fields[:0]
	for _, f := range r.Header.Fields {
		if hasFoldPrefix(f.Name, "Content-") && !equalFold(f.Name, "Content-Location") && !equalFold(f.Name, "Content-Security-Policy") {
			continue
		}
		kept = append(kept, f)
	}
	r.Header.Fields = kept
}

// serveRanges answers x with parts of e, or all of it where what is asked for is
// to be ignored.
func (x *Exchange) serveRanges(e *edgecache.Entry, fill *edgecache.Fill) bool {
	field, _ := x.Request.Lookup("Range")
	ranges, satisfiable := parseRange(field, e.Length)
	if !satisfiable {
		(&Problem{Status: 416, Detail: "the response has none of the ranges asked for"}).write(x)
		x.Response.Header.Add("Content-Range", "bytes */"+strconv.FormatInt(e.Length, 10))
		return true
	}
	if ranges = coalesceRanges(ranges, e.Length); len(ranges) == 0 || fill != nil && len(ranges) > 1 {
		ranges = append(ranges[:0], byteRange{0, e.Length})
		if !e.Complete() && fill == nil {
			return false
		}
		return x.serveSpan(e, fill, ranges[0], 200)
	}
	if len(ranges) == 1 {
		x.Response.Header.Add("Content-Range", ranges[0].contentRange(e.Length))
		return x.serveSpan(e, fill, ranges[0], 206)
	}
	media, _ := x.Response.Header.Lookup("Content-Type")
	plan := planRanges(ranges, e.Length, media, rand.Text)
	body := make([]byte, 0, plan.length)
	for _, piece := range plan.pieces {
		data, ok := e.Slice(piece.start, piece.length)
		if !ok {
			return false
		}
		body = append(append(body, piece.head...), data...)
	}
	x.Response.Header.Set("Content-Type", plan.media)
	x.memory = memoryBody{all: body}
	x.Response.Status, x.Response.Body, x.Response.ContentLength = plan.status, &x.memory, plan.length
	return true
}

// serveSpan answers x with one stretch of e.
func (x *Exchange) serveSpan(e *edgecache.Entry, fill *edgecache.Fill, span byteRange, status int) bool {
	r := &x.Response
	r.Status, r.ContentLength = status, span.length
	if fill != nil {
		body := x.bodyOfFill(fill, span.start, span.length)
		if body == nil {
			return false
		}
		r.Body = body
		return true
	}
	data, ok := e.Slice(span.start, span.length)
	if !ok {
		return false
	}
	x.memory = memoryBody{all: data}
	r.Body = &x.memory
	return true
}

// bodyOfFill reads a content that is still coming; nil where its start is gone.
func (x *Exchange) bodyOfFill(fill *edgecache.Fill, start, length int64) Body {
	reader := fill.Reader(start, length, x.Context().Done())
	if reader == nil {
		return nil
	}
	return &fillBody{reader}
}

// fillBody is a response's body that others receive as well.
type fillBody struct{ *edgecache.Reader }

// Read implements io.Reader.
func (b *fillBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	return n, b.explained(err)
}

// WriteTo implements io.WriterTo.
func (b *fillBody) WriteTo(w io.Writer) (int64, error) {
	n, err := b.Reader.WriteTo(w)
	return n, b.explained(err)
}

func (b *fillBody) explained(err error) error {
	if errors.Is(err, edgecache.ErrLeft) {
		return canceled()
	}
	return err
}

// cacheStatus adds what the cache has to say to a response that it had no part
// in.
func (x *Exchange) cacheStatus() {
	if s := x.cached.status; s != "" {
		x.Response.Header.Add("Cache-Status", x.keep(pseudonym, s))
	}
}

// hasOverrides reports whether a request has fields that could make it be about
// something else than its key says.
func (r *Request) hasOverrides() bool {
	for i := range r.Fields {
		if edgecache.Overrides(r.Fields[i].Name) {
			return true
		}
	}
	return false
}
