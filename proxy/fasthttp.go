package proxy

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// A clientConn is what a listener's connection can do beside being one; on any
// other connection an exchange does without.
type clientConn interface {
	// Attach has x canceled when the client leaves, until Detach.
	Attach(x interface{ Cancel(error) })
	Detach()
	// Body reads the request's body where its length is known; nil where
	// fasthttp has it.
	Body() io.Reader
	// BodyReceived reports whether reading the request's body will not block.
	BodyReceived() bool
	// BodyFault is what the client did wrong in the request's body, nil if
	// nothing.
	BodyFault() error
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
		x.unlimit()
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
	x := p.open()
	r := &x.Request
	header := &ctx.Request.Header
	r.Method = header.Method()
	r.Target = originForm(header.RequestURI())
	r.Scheme = "http"
	if ctx.IsTLS() {
		r.Scheme, r.TLS = "https", ctx.TLSConnectionState()
		r.cert = p.certs.of(r.TLS)
	}
	r.Version = "1.0"
	if header.IsHTTP11() {
		r.Version = "1.1"
	}
	if addr, ok := ctx.RemoteAddr().(*net.TCPAddr); ok {
		r.Peer = addr.AddrPort()
	}
	r.Fields = appendFields(r.Fields[:0], header.RawHeaders())
	conn, ok := ctx.Conn().(clientConn)
	if ok {
		x.conn = conn
	}
	x.frame(ctx)
	if ok {
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
	if len(r.Host) == 0 {
		x.hostOfTarget(ctx.Request.Header.RequestURI())
	}
	if !switching || r.ContentLength != 0 || r.Version == "1.0" || !tunnels(r.Upgrade) {
		r.Upgrade = nil
	}
	if r.ContentLength != 0 {
		x.requestIn.from = x.bodyOf(ctx)
		if x.requestIn.from != nil {
			r.Body = &x.requestIn
			conn := ctx.Conn()
			r.interrupt = func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) } // the connection ends with the exchange
		}
	}
	if r.ContentLength < 0 {
		header := &ctx.Request.Header
		// Asked by name, fasthttp would give a field of the head for a trailer
		// that is called the same, or was announced and did not come.
		r.Trailer = func() []Field {
			fields, nominated := appendFields(nil, header.TrailerHeader()), connectionOptions(r)
			return slices.DeleteFunc(fields, func(f Field) bool { return listed(nominated, f.Name) })
		}
	}
}

// bodyOf is where the request's body is read from.
func (x *Exchange) bodyOf(ctx *fasthttp.RequestCtx) io.Reader {
	if x.conn != nil {
		if body := x.conn.Body(); body != nil {
			return body
		}
	}
	return ctx.RequestBodyStream()
}

// hostOfTarget has the authority of a target in absolute form stand in for Host,
// which HTTP/1.0 may leave out: it names the host that is asked (RFC 9112,
// section 3.2.2), and routes are picked by it.
func (x *Exchange) hostOfTarget(target []byte) {
	i := bytes.Index(target, []byte("://"))
	if i < 0 || target[0] == '/' {
		return
	}
	host := target[i+3:]
	if j := bytes.IndexAny(host, "/?"); j >= 0 {
		host = host[:j]
	}
	x.Request.Host = host
	x.Request.Fields = append(x.Request.Fields, Field{Name: raw("Host"), Value: host})
}

// tunnels reports whether an upgrade to protocol may be asked for: one protocol
// (RFC 9110, section 7.8) that is not itself HTTP or a wrapping for it. Through
// a tunnel of those would go requests that no rule here sees.
func tunnels(protocol []byte) bool {
	name, version, versioned := bytes.Cut(protocol, []byte{'/'})
	if checkName(view(name)) != nil || versioned && checkName(view(version)) != nil {
		return false
	}
	for _, http := range []string{"h2", "h3", "http", "tls"} {
		if len(name) >= len(http) && equalFold(name[:len(http)], http) {
			return false
		}
	}
	return true
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
