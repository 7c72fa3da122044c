package proxy

import (
	"time"

	"github.com/sluice-edge/sluice/routing"
)

// open begins an exchange, which finish or release ends.
func (p *Proxy) open() *Exchange {
	x := p.exchanges.Get().(*Exchange)
	x.start = time.Now()
	p.stats.inFlight.Add(1)
	return x
}

// finish ends the exchange: lets go of its connections, counts it and logs it.
func (p *Proxy) finish(x *Exchange) {
	now := time.Now()
	status, took := x.Response.Status, now.Sub(x.start)
	if x.counted != 0 {
		status = x.counted
	}
	x.discardResponse()
	x.hangUp() // from here on nobody else reads the request's body
	x.lease.end(now)
	x.leave()
	stats := p.stats.none
	if x.route != nil {
		stats = x.route.stats
	}
	stats.observe(x.Request.Method, status, took)
	if u := x.cached.result; u != cacheUnused {
		stats.cached(u)
	}
	p.stats.bytesIn.AddInt64(x.requestIn.read)
	p.stats.bytesOut.AddInt64(x.bytesOut)
	p.access.add(x, status, took)
	p.stats.inFlight.Add(-1)
	p.release(x)
}

// release makes x ready for the next exchange.
func (p *Proxy) release(x *Exchange) {
	if x.conn != nil {
		x.conn.Detach()
	}
	if x.watch != nil {
		x.watch.release()
	}
	x.hangUp()
	if x.mirrorOf != nil {
		x.mirrorOf.drop() // the body did not come to its end
	}
	if x.cancel != nil {
		x.cancel(nil)
	}
	x.recycle()
	p.exchanges.Put(x)
}

func (x *Exchange) recycle() {
	fields, header, arena, out, path := x.Request.Fields[:0], x.Response.Header.Fields[:0], x.arena[:0], x.out[:0], x.path[:0]
	x.call.Reset()
	x.won = nil
	if x.race != nil {
		x.race.recycle()
	}
	x.Request, x.Response = Request{Fields: fields}, Response{Header: Header{Fields: header}}
	x.gen, x.route, x.probe, x.conn, x.watch, x.mirrorOf = nil, nil, routing.Request{}, nil, nil, nil
	x.backend, x.target, x.host, x.problem, x.forward, x.id, x.err = "", "", "", "", nil, nil, nil
	x.deadline, x.end, x.start = time.Time{}, time.Time{}, time.Time{}
	x.left, x.identified = false, false
	x.dotted, x.closeAfter, x.counted, x.attempts, x.resent, x.fallbacks, x.bytesOut = false, false, 0, 0, 0, 0, 0
	x.requestIn, x.memory, x.stream = requestBody{}, memoryBody{}, responseStream{}
	x.replay.Reset(nil)
	x.tried.Reset()
	x.key, x.stuck, x.renew, x.lease = 0, 0, false, lease{}
	x.cached.recycle()
	x.arena, x.out, x.path = arena, out, path
	x.canceled, x.cancel, x.ctx = nil, nil, nil
}

// discardResponse drops the response that x has.
func (x *Exchange) discardResponse() {
	r := &x.Response
	if r.Body != nil {
		_ = r.Body.Close() // what was read is what counts
	}
	*r = Response{Header: Header{Fields: r.Header.Fields[:0]}}
}
