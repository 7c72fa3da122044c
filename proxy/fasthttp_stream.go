package proxy

import (
	"io"
	"net"
	"strconv"

	"github.com/valyala/fasthttp"
)

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
	names, _ := x.Response.Header.Lookup("Trailer")
	tokens(names, func(name string) bool {
		// fasthttp would take a field that is there already out of the head.
		if _, ok := x.Response.Header.Lookup(name); !ok {
			_ = h.AddTrailer(name) // names that may not be trailers stay out
		}
		return true
	})
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
