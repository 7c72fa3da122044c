package proxy

import (
	"bytes"
	"io"
	"math/rand/v2"
	"time"
)

const (
	// maxMirrors bounds the copies under way; more are dropped.
	maxMirrors = 256
	// maxMirrorBody bounds the body of a copy in bytes; a longer request is not
	// mirrored.
	maxMirrorBody = 64 << 10
	// mirrorTimeout ends a copy that its backend does not answer.
	mirrorTimeout = 30 * time.Second
)

// mirrorCopy is a copy of a request that waits for its body to have gone by.
type mirrorCopy struct {
	p    *Proxy
	x    *Exchange
	body []byte
	done bool // sent or dropped
}

// mirror sends a copy of the request to the route's mirror, at once where there
// is no body, else as soon as the body has been read for the real backend.
// Nothing of it can be felt by the client: no token, too large a body, and the
// copy is dropped.
func (p *Proxy) mirror(x *Exchange) {
	m := x.route.mirror
	if m == nil || len(x.Request.Upgrade) > 0 || rand.Float64() >= x.route.mirrorShare {
		return
	}
	if x.Request.ContentLength > maxMirrorBody {
		p.stats.unmirrored.Inc()
		return
	}
	select {
	case p.mirrors <- struct{}{}:
	default:
		p.stats.unmirrored.Inc()
		return
	}
	c := &mirrorCopy{p: p, x: x.detached()}
	if x.Request.Body == nil {
		c.send()
		return
	}
	x.mirrorOf = c
	x.requestIn.copy = c
}

// add takes a piece of the body, and its end.
func (c *mirrorCopy) add(piece []byte, end bool) (more bool) {
	if len(c.body)+len(piece) > maxMirrorBody {
		c.drop()
		return false
	}
	c.body = append(c.body, piece...)
	// Who knows the length need not read on to the end.
	if end = end || int64(len(c.body)) == c.x.Request.ContentLength; end {
		c.send()
	}
	return !end
}

// drop gives up a copy that has not been sent.
func (c *mirrorCopy) drop() {
	if c.done {
		return
	}
	c.done = true
	<-c.p.mirrors
	c.p.stats.unmirrored.Inc()
}

func (c *mirrorCopy) send() {
	x := c.x
	c.done = true
	if len(c.body) > 0 {
		x.requestIn.from = bytes.NewReader(c.body)
		x.Request.Body, x.Request.BodyAtHand = &x.requestIn, true
	}
	go func() {
		defer func() { <-c.p.mirrors }()
		defer func() {
			x.discardResponse()
			x.hangUp()
			x.lease.end(time.Now())
		}()
		defer c.p.recover(x)
		c.p.stats.mirrored.Inc()
		if err := x.route.mirror.Serve(x); err == nil && x.Response.Body != nil {
			_, _ = io.CopyN(io.Discard, x.Response.Body, 1<<20) // nobody sees it; what is left over costs the connection
		}
	}()
}

// detached is a copy of x's request that shares no memory with it.
func (x *Exchange) detached() *Exchange {
	r := &x.Request
	c := &Exchange{gen: x.gen, route: x.route, host: x.host, start: time.Now(), deadline: time.Now().Add(mirrorTimeout)}
	c.id, c.forward = bytes.Clone(x.id), bytes.Clone(x.forward)
	c.Request = *r
	c.Request.Method, c.Request.Target, c.Request.Host = bytes.Clone(r.Method), bytes.Clone(r.Target), bytes.Clone(r.Host)
	c.Request.Path, c.Request.Query = bytes.Clone(r.Path), bytes.Clone(r.Query)
	c.Request.Body, c.Request.Trailer, c.Request.interrupt, c.Request.interim = nil, nil, nil, nil // the client's stay the client's
	c.Request.Fields = make([]Field, len(r.Fields))
	for i, f := range r.Fields {
		c.Request.Fields[i] = Field{Name: bytes.Clone(f.Name), Value: bytes.Clone(f.Value)}
	}
	c.probe = x.probe // what a backend hashes of it
	c.probe.Fields, c.probe.Host, c.probe.Method = &c.Request, view(c.Request.Host), view(c.Request.Method)
	c.probe.Path, c.probe.Query = view(c.Request.Path), view(c.Request.Query)
	return c
}
