package proxy

import (
	"strconv"

	"github.com/valyala/fasthttp"
)

// A wholeSender is a clientConn that takes a whole response past fasthttp.
type wholeSender interface {
	// Answers reports whether Answer may be called.
	Answers() bool
	// Answer writes a response in one piece and has what fasthttp writes for it
	// dropped.
	Answer(head, body []byte) error
}

// whole is who takes x's response in one piece: one of known length in memory,
// after which the connection goes on. nil: fasthttp does.
func (x *Exchange) whole(ctx *fasthttp.RequestCtx) wholeSender {
	r := &x.Response
	if x.closeAfter || r.Tunnel != nil || x.Request.Version != "1.1" || ctx.Request.Header.ConnectionClose() {
		return nil
	}
	conn, ok := x.conn.(wholeSender)
	if !ok || !conn.Answers() {
		return nil
	}
	return conn
}

// sendAtOnce sends x's response in one piece and ends x, if it can be.
func (p *Proxy) sendAtOnce(ctx *fasthttp.RequestCtx, x *Exchange) bool {
	r := &x.Response
	conn := x.whole(ctx)
	if conn == nil {
		return false
	}
	if x.Request.IsHead() || r.Status == 304 || r.Status == 204 {
		length, ok := announced(r)
		if !ok || !x.Request.IsHead() {
			length = -1
		}
		p.sendWhole(ctx, conn, x, nil, true, length)
		return true
	}
	if r.Body == nil {
		p.sendWhole(ctx, conn, x, nil, true, 0)
		return true
	}
	if m, ok := r.Body.(*memoryBody); ok {
		p.sendWhole(ctx, conn, x, m.all[m.read:], true, len(m.all)-m.read)
		return true
	}
	if at, ok := r.Body.(interface{ Buffered() ([]byte, bool) }); ok {
		if all, is := at.Buffered(); is && len(all) <= copyUpTo {
			p.sendWhole(ctx, conn, x, all, false, len(all))
			return true
		}
	}
	return false
}

// sendWhole sends x's response with all as its content, and ends x. Content that
// is stable stays where it is until it is sent; other is copied, as it ends with
// x. length is what the head says of it, -1 for nothing.
func (p *Proxy) sendWhole(ctx *fasthttp.RequestCtx, conn wholeSender, x *Exchange, all []byte, stable bool, length int) {
	x.bytesOut = int64(len(all))
	memory := buffers.Get().(*[]byte)
	b := x.appendHead1((*memory)[:0], length)
	if len(all) <= copyUpTo || !stable {
		b, all = append(b, all...), nil
	}
	p.finish(x)
	if conn.Answer(b, all) != nil {
		ctx.SetConnectionClose() // fasthttp finds it broken as well
	}
	if cap(b) <= cap(*memory) {
		buffers.Put(memory)
	}
}

// appendHead1 appends the head of x's response as an HTTP/1.1 client gets it.
func (x *Exchange) appendHead1(b []byte, length int) []byte {
	r := &x.Response
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(append(b, ' '), fasthttp.StatusMessage(r.Status)...)
	if length >= 0 {
		b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(length), 10)
	}
	for i := range r.Header.Fields {
		f := &r.Header.Fields[i]
		if len(f.Name) == 0 || len(f.Name) == len("Content-Length") && equalFold(f.Name, "Content-Length") || len(f.Name) == 7 && equalFold(f.Name, "Trailer") {
			continue
		}
		b = append(append(append(append(b, "\r\n"...), f.Name...), ": "...), f.Value...)
	}
	return append(b, "\r\n\r\n"...)
}
