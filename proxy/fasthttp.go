package proxy

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-edge/sluice/routing"
)

// A clientConn is what a listener's connection can do beside being one; on any
// other connection an exchange does without.
type clientConn interface {
	// Attach has x canceled when the client leaves, until Detach.
	Attach(x interface{ Cancel(error) })
	Detach()
	// BodyReceived reports whether reading the request's body will not block.
	BodyReceived() bool
}

// Handle serves one HTTP/1 exchange. It is a fasthttp.RequestHandler for a
// server that streams request bodies and does no more to a request than parse
// it; internal/listen makes one.
func (p *Proxy) Handle(ctx *fasthttp.RequestCtx) {
	x := p.begin(ctx)
	p.walk(x)
	p.send(ctx, x)
}

// Expect decides on a request that waits for 100 (Continue) before it sends its
// body (RFC 9110, section 10.1.1): 100 where the body may come, else the status
// of the final response, which ctx then holds.
func (p *Proxy) Expect(ctx *fasthttp.RequestCtx) int {
	x := p.begin(ctx)
	if p.welcome(x) {
		p.stats.inFlight.Add(-1)
		p.release(x)
		return fasthttp.StatusContinue
	}
	status := x.Response.Status
	p.send(ctx, x)
	return status
}

// welcome reports whether x may send its body; x is answered where not.
func (p *Proxy) welcome(x *Exchange) (ok bool) {
	defer p.recover(x)
	if err := p.decide(x); err != nil {
		p.answer(x, err)
		return false
	}
	return true
}

// begin reads the request's head into an exchange.
func (p *Proxy) begin(ctx *fasthttp.RequestCtx) *Exchange {
	x := p.exchanges.Get().(*Exchange)
	x.start = time.Now()
	p.stats.inFlight.Add(1)
	r := &x.Request
	header := &ctx.Request.Header
	r.Method = header.Method()
	r.Target = originForm(header.RequestURI())
	r.Scheme = "http"
	if ctx.IsTLS() {
		r.Scheme = "https"
	}
	r.Version = "1.0"
	if header.IsHTTP11() {
		r.Version = "1.1"
	}
	if addr, ok := ctx.RemoteAddr().(*net.TCPAddr); ok {
		r.Peer = addr.AddrPort()
	}
	r.Fields = appendFields(r.Fields[:0], header.RawHeaders())
	x.frame(ctx)
	if conn, ok := ctx.Conn().(clientConn); ok {
		x.conn = conn
		r.BodyAtHand = r.Body != nil && conn.BodyReceived()
		conn.Attach(x)
	}
	return x
}

// frame finds out what body the request has, and what it wants to become.
func (x *Exchange) frame(ctx *fasthttp.RequestCtx) {
	r := &x.Request
	switching := false
	for i := range r.Fields {
		f := &r.Fields[i]
		switch kindOf(f.Name) {
		case host:
			r.Host = f.Value
		case length:
			r.ContentLength = contentLength(f.Value)
		case transferCoding:
			r.ContentLength = -1
		case upgradeField:
			r.Upgrade = f.Value
		case connection:
			tokens(view(f.Value), func(one string) bool {
				switching = switching || equalFold(raw(one), "upgrade")
				return true
			})
		}
	}
	if !switching || r.ContentLength != 0 || bytes.EqualFold(r.Upgrade, []byte("h2c")) {
		r.Upgrade = nil
	}
	if r.ContentLength != 0 {
		x.requestIn.from = ctx.RequestBodyStream()
		if x.requestIn.from != nil {
			r.Body = &x.requestIn
			conn := ctx.Conn()
			r.interrupt = func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) } // the connection ends with the exchange
		}
	}
	if r.ContentLength < 0 {
		header := &ctx.Request.Header
		r.Trailer = func() []Field {
			var fields []Field
			for _, key := range header.PeekTrailerKeys() {
				fields = append(fields, Field{Name: key, Value: header.PeekBytes(key)})
			}
			return fields
		}
	}
}

// originForm takes scheme and authority off a target in absolute form (RFC
// 9112, section 3.2.2). That they agree with Host has been checked.
func originForm(target []byte) []byte {
	if len(target) == 0 || target[0] == '/' || target[0] == '*' {
		return target
	}
	if i := bytes.Index(target, []byte("://")); i > 0 {
		rest := target[i+3:]
		j := bytes.IndexAny(rest, "/?")
		switch {
		case j < 0:
			return []byte("/")
		case rest[j] == '?':
			return append([]byte("/"), rest[j:]...)
		}
		return rest[j:]
	}
	return target
}

// appendFields splits a head that has been checked into its fields.
func appendFields(fields []Field, head []byte) []Field {
	for len(head) > 0 {
		line := head
		if i := bytes.IndexByte(head, '\n'); i >= 0 {
			line, head = head[:i], head[i+1:]
		} else {
			head = nil
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 {
			continue
		}
		fields = append(fields, Field{Name: line[:colon], Value: trimSpace(line[colon+1:])})
	}
	return fields
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
}

// copyUpTo is the size in bytes up to which a body that is at hand is copied
// and sent in one write with its head, so that its connection is free at once.
const copyUpTo = 16 << 10

// send puts x's response into ctx and sees to it that x ends: at once where all
// of the response is in ctx, else when its body has been written.
func (p *Proxy) send(ctx *fasthttp.RequestCtx, x *Exchange) {
	r := &x.Response
	switch {
	case r.Tunnel != nil:
		p.hijack(ctx, x, x.runTunnel)
		return
	case r.Status == statusClientGone:
		ctx.SetConnectionClose()
		ctx.SetStatusCode(fasthttp.StatusBadGateway) // nobody is there to read it
		p.finish(x)
		return
	case r.Body != nil && r.ContentLength < 0 && x.Request.Version == "1.0" && !x.Request.IsHead():
		p.hijack(ctx, x, x.sendUntilClose)
		return
	}
	ctx.Response.SetStatusCode(r.Status)
	x.putFields(&ctx.Response.Header)
	if x.closeAfter {
		ctx.SetConnectionClose()
	}
	p.sendBody(ctx, x)
}

// putFields gives h the response's fields in their order and spelling.
//
// On its own fasthttp would drop Date, move Server, Content-Type and Set-Cookie
// to places of their own and keep one of each. It does so by name: so each name
// goes in with its first bit set, which no name of its own has, and is put
// right where it then lies. Content-Length stays with fasthttp, which frames the
// message.
func (x *Exchange) putFields(h *fasthttp.ResponseHeader) {
	h.DisableNormalizing()
	for i := range x.Response.Header.Fields {
		f := &x.Response.Header.Fields[i]
		if len(f.Name) == 0 || kindOf(f.Name) == length || equalFold(f.Name, "Trailer") {
			continue // see announceTrailers
		}
		n := len(x.arena)
		x.arena = append(x.arena, f.Name...)
		name := x.arena[n:]
		name[0] |= 0x80
		h.AddBytesKV(name, f.Value)
	}
	for name := range h.All() {
		if name[0] >= 0x80 { // fasthttp's own names are everybody's
			name[0] &= 0x7f
		}
	}
}

func (p *Proxy) sendBody(ctx *fasthttp.RequestCtx, x *Exchange) {
	r := &x.Response
	if x.Request.IsHead() || r.Status == 304 || r.Status == 204 {
		if n, ok := announced(r); ok {
			ctx.Response.Header.SetContentLength(n)
		}
		p.finish(x)
		return
	}
	if r.Body == nil {
		p.finish(x)
		return
	}
	if at, ok := r.Body.(interface{ Buffered() ([]byte, bool) }); ok {
		if all, whole := at.Buffered(); whole {
			if m, inMemory := r.Body.(*memoryBody); inMemory && len(m.all) > copyUpTo {
				ctx.Response.SetBodyRaw(all)
			} else if len(all) <= copyUpTo {
				ctx.Response.SetBody(all)
			} else {
				p.stream(ctx, x)
				return
			}
			x.bytesOut = int64(len(all))
			p.finish(x)
			return
		}
	}
	p.stream(ctx, x)
}

// announced is the length that a response without a body speaks of.
func announced(r *Response) (int, bool) {
	if v, ok := r.Header.Lookup("Content-Length"); ok {
		n, err := strconv.Atoi(v)
		return n, err == nil
	}
	return int(r.ContentLength), r.ContentLength > 0
}

// stream has fasthttp pull the body while it writes.
func (p *Proxy) stream(ctx *fasthttp.RequestCtx, x *Exchange) {
	x.stream = responseStream{p: p, x: x}
	length := -1
	if x.Response.ContentLength >= 0 {
		length = int(x.Response.ContentLength)
		x.stream.direct = ctx.Conn()
	} else {
		x.stream.trailers = &ctx.Response.Header
		x.announceTrailers(&ctx.Response.Header)
	}
	ctx.Response.ImmediateHeaderFlush = true
	ctx.Response.SetBodyStream(&x.stream, length)
}

// responseStream is a response's body as fasthttp takes it.
type responseStream struct {
	p *Proxy
	x *Exchange
	// direct is where a body of known length goes past fasthttp's buffer, which
	// would hold back a slow one: the head has been flushed.
	direct   io.Writer
	trailers *fasthttp.ResponseHeader
}

func (s *responseStream) Read(b []byte) (int, error) {
	n, err := s.x.Response.Body.Read(b)
	s.x.bytesOut += int64(n)
	s.ended(err)
	return n, err
}

// SupportsBodyWriteTo lets fasthttp use WriteTo.
func (s *responseStream) SupportsBodyWriteTo() bool { return true }

// WriteTo writes the whole body to w.
func (s *responseStream) WriteTo(w io.Writer) (int64, error) {
	if s.direct != nil {
		w = s.direct
	}
	n, err := copyBody(w, s.x.Response.Body)
	s.x.bytesOut += n
	if err == nil {
		err = io.EOF
	}
	s.ended(err)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func (s *responseStream) ended(err error) {
	switch {
	case err == nil:
	case err == io.EOF:
		if s.trailers != nil {
			s.x.sendTrailers(s.trailers)
		}
	default:
		s.x.err = err
		s.x.problem = problemOf(err).Type
	}
}

// Close ends the exchange: fasthttp has written the body, or cannot.
func (s *responseStream) Close() error {
	x, p := s.x, s.p
	x.stream = responseStream{}
	p.finish(x)
	return nil
}

// announceTrailers names the trailer fields that are to come, to a client that
// takes any (RFC 9110, section 6.5.1).
func (x *Exchange) announceTrailers(h *fasthttp.ResponseHeader) {
	if te, ok := x.Request.Lookup("TE"); !ok || !listed(te, []byte("trailers")) {
		x.stream.trailers = nil
		return
	}
	if names, ok := x.Response.Header.Lookup("Trailer"); ok {
		_ = h.SetTrailer(names) // names that may not be trailers stay out
	}
}

func (x *Exchange) sendTrailers(h *fasthttp.ResponseHeader) {
	t, ok := x.Response.Body.(interface{ Trailers() []Field })
	if !ok {
		return
	}
	for _, f := range t.Trailers() {
		if h.AddTrailerBytes(f.Name) == nil {
			h.AddBytesKV(f.Name, f.Value)
		}
	}
}

// hijack takes the client's connection out of fasthttp's hands for what it
// cannot do; do writes the response's head itself.
func (p *Proxy) hijack(ctx *fasthttp.RequestCtx, x *Exchange, do func(net.Conn)) {
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(c net.Conn) {
		defer p.finish(x)
		defer p.recover(x)
		do(c)
	})
}

// sendUntilClose answers an HTTP/1.0 client with a body whose length nobody
// knows: its end is the connection's (RFC 9112, section 6.3).
func (x *Exchange) sendUntilClose(c net.Conn) {
	r := &x.Response
	r.Header.Del("Trailer")
	r.Header.Set("Connection", "close")
	if _, err := c.Write(appendHead(nil, r)); err != nil {
		return
	}
	n, err := copyBody(c, r.Body)
	x.bytesOut = n
	if err != nil {
		x.err = err
		reset(c)
	}
}

// appendHead appends a response's head as it goes to an HTTP/1 client.
func appendHead(b []byte, r *Response) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = append(b, fasthttp.StatusMessage(r.Status)...)
	b = append(b, "\r\n"...)
	for _, f := range r.Header.Fields {
		b = append(b, f.Name...)
		b = append(b, ": "...)
		b = append(b, f.Value...)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// reset makes a connection end so that the other side can tell that the
// response did not.
func reset(c net.Conn) {
	if l, ok := beneath(c).(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0) // it is closed either way
	}
}

// beneath is the connection under fasthttp's hijacked one.
func beneath(c net.Conn) net.Conn {
	if h, ok := c.(interface{ UnsafeConn() net.Conn }); ok {
		return h.UnsafeConn()
	}
	return c
}

// finish ends the exchange: lets go of its connections, counts it and logs it.
func (p *Proxy) finish(x *Exchange) {
	status, took := x.Response.Status, time.Since(x.start)
	x.discardResponse()
	_ = x.call.Close() // from here on nobody else reads the request's body
	stats := p.stats.none
	if x.route != nil {
		stats = x.route.stats
	}
	stats.observe(x.Request.Method, status, took)
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
	_ = x.call.Close()
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
	x.Request, x.Response = Request{Fields: fields}, Response{Header: Header{Fields: header}}
	x.gen, x.route, x.probe, x.conn, x.mirrorOf = nil, nil, routing.Request{}, nil, nil
	x.backend, x.target, x.host, x.problem, x.forward, x.id, x.err = "", "", "", "", nil, nil, nil
	x.deadline, x.start = time.Time{}, time.Time{}
	x.dotted, x.closeAfter, x.attempts, x.fallbacks, x.bytesOut = false, false, 0, 0, 0
	x.requestIn, x.memory, x.stream = requestBody{}, memoryBody{}, responseStream{}
	x.replay.Reset(nil)
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
