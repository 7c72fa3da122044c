package proxy

import (
	"crypto/tls"
	"io"
	"net/netip"
	"strconv"
	"time"
)

// A clientStream is a request of HTTP/2 and its response, as a listener's
// connection has them. Its request could be written as the head of an HTTP/1.1
// request; internal/listen sees to that.
type clientStream interface {
	clientConn
	Method() string
	Target() string
	Authority() string
	// Field is the i-th header field, in lower case and without Host; false behind
	// the last. Trailer is the same of the trailer section, behind the body.
	Field(i int) (name, value string, ok bool)
	Trailer(i int) (name, value string, ok bool)
	// Length is the body's in bytes: 0 without one, -1 for unknown.
	Length() int64
	// Interrupt has a Read of the body return.
	Interrupt()
	SetReadDeadline(t time.Time) error
	TLS() *tls.ConnectionState
	Peer() netip.AddrPort

	// Begin begins the response's head, Add adds a field, and Send sends it with
	// a body, which is all of it at the end.
	Begin(status int)
	Add(name, value []byte)
	Send(body []byte, end bool) error
	io.Writer
	// End ends the response, with trailer fields that were added behind the head.
	End() error
}

// HandleStream serves one exchange of HTTP/2: the same walk. A response that
// breaks off is not ended, and the stream is reset.
func (p *Proxy) HandleStream(s clientStream) {
	x := p.beginStream(s)
	x.Request.interim = x.interimStream(s)
	p.walk(x)
	p.sendStream(s, x)
}

// beginStream reads a request's head into an exchange.
func (p *Proxy) beginStream(s clientStream) *Exchange {
	x := p.open()
	r := &x.Request
	r.Method, r.Target, r.Host = raw(s.Method()), raw(s.Target()), raw(s.Authority())
	r.Scheme, r.Version, r.Peer = "http", "2", s.Peer()
	if r.TLS = s.TLS(); r.TLS != nil {
		r.Scheme = "https"
		r.cert = p.certs.of(r.TLS)
	}
	x.listStream(s)
	if r.ContentLength = s.Length(); r.ContentLength != 0 {
		x.requestIn.from = s.Body()
		r.Body = &x.requestIn
		r.BodyAtHand = s.BodyReceived()
		r.interrupt = s.Interrupt
		r.Trailer = func() (fields []Field) {
			for i := 0; ; i++ {
				name, value, ok := s.Trailer(i)
				if !ok {
					return fields
				}
				fields = append(fields, Field{Name: canonical(nil, name), Value: raw(value)})
			}
		}
	}
	x.conn = s
	s.Attach(x)
	return x
}

// listStream lists the fields of a request; Host is one of them, as in HTTP/1,
// and names are spelled as there, for the sake of backends that look at it.
func (x *Exchange) listStream(s clientStream) {
	r := &x.Request
	r.Fields = append(r.Fields[:0], Field{Name: raw("Host"), Value: r.Host})
	for i := 0; ; i++ {
		name, value, ok := s.Field(i)
		if !ok {
			break
		}
		n := len(x.arena)
		x.arena = canonical(x.arena, name)
		r.Fields = append(r.Fields, Field{Name: x.arena[n:len(x.arena):len(x.arena)], Value: raw(value)})
	}
	sortFields(r.Fields[1:])
}

// canonical appends a name in lower case as HTTP/1 spells it.
func canonical(b []byte, name string) []byte {
	word := true
	for i := range len(name) {
		c := name[i]
		if word && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		b = append(b, c)
		word = c == '-'
	}
	return b
}

// sendStream sends x's response to s and ends x.
func (p *Proxy) sendStream(s clientStream, x *Exchange) {
	defer p.finish(x)
	r := &x.Response
	if x.left || x.unasked() && !x.settle(s) {
		return
	}
	s.Begin(r.Status)
	x.headStream(s)
	if r.Body == nil || x.Request.IsHead() || r.Status == 304 || r.Status == 204 {
		// Of a 304 the length is of no use, and some clients wait for the body.
		if n, ok := announced(r); ok && r.Status != 304 {
			x.lengthStream(s, int64(n))
		}
		x.emptyStream(s)
		return
	}
	if r.ContentLength >= 0 {
		x.lengthStream(s, r.ContentLength)
	}
	x.bodyStream(s)
}

// headStream adds the response's fields.
func (x *Exchange) headStream(s clientStream) {
	for i := range x.Response.Header.Fields {
		f := &x.Response.Header.Fields[i]
		switch kindOf(f.Name) {
		case length, connection, hopByHop, transferCoding, upgradeField:
			continue
		}
		s.Add(f.Name, f.Value)
	}
}

func (x *Exchange) lengthStream(s clientStream, n int64) {
	from := len(x.arena)
	x.arena = strconv.AppendInt(x.arena, n, 10)
	s.Add(raw("content-length"), x.arena[from:])
}

// emptyStream sends a response without a body.
func (x *Exchange) emptyStream(s clientStream) {
	trailers := x.trailers()
	if s.Send(nil, len(trailers) == 0) != nil || len(trailers) == 0 {
		return // who has gone need not be told
	}
	endStream(s, trailers)
}

// bodyStream sends a response with a body. Where it breaks off it is not ended,
// but for a gRPC call.
func (x *Exchange) bodyStream(s clientStream) {
	body := x.Response.Body
	if at, ok := body.(interface{ Buffered() ([]byte, bool) }); ok {
		if all, whole := at.Buffered(); whole && len(all) <= copyUpTo {
			trailers := x.trailers()
			if s.Send(all, len(trailers) == 0) == nil {
				x.bytesOut = int64(len(all))
				endStream(s, trailers)
			}
			return
		}
	}
	err := s.Send(nil, false) // the head need not wait for the body
	if err == nil {
		x.bytesOut, err = copyBody(s, body)
	}
	if err == nil {
		if trailers := x.trailers(); len(trailers) > 0 {
			endStream(s, trailers)
		} else {
			_ = s.End() // as above
		}
		return
	}
	problem := x.problemOf(err)
	x.err, x.problem = err, problem.Type
	if problem.Status != statusClientGone && x.isGRPC() {
		endStream(s, problem.grpcStatus(nil))
	}
}

// trailers is the trailer section of a body that has ended.
func (x *Exchange) trailers() []Field {
	if t, ok := x.Response.Body.(interface{ Trailers() []Field }); ok {
		return t.Trailers()
	}
	return nil
}

// endStream ends a response with a trailer section, if there is one.
func endStream(s clientStream, trailers []Field) {
	if len(trailers) == 0 {
		return
	}
	for _, f := range trailers {
		s.Add(f.Name, f.Value)
	}
	_ = s.End() // who has gone need not be told
}
