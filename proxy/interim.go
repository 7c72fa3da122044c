package proxy

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/valyala/fasthttp"
)

// maxInterims is how many interim responses of one exchange wait for its client.
const maxInterims = 16

// An interim is an interim response (RFC 9110, section 15.2), which a proxy has
// to pass on.
type interim struct {
	status int
	fields []Field
}

// passes reports whether an interim response may be passed on: one that frames
// nothing, as none may. Those that are unknown are as well (RFC 9110, section
// 15.2).
func (i interim) passes() bool {
	for _, f := range i.fields {
		switch kindOf(f.Name) {
		case length, transferCoding, connection, upgradeField, hopByHop:
			return false
		}
	}
	return true
}

// cloneFields copies fields, in memory of their own.
func cloneFields(fields []Field) []Field {
	out := make([]Field, len(fields))
	for i, f := range fields {
		out[i] = Field{Name: bytes.Clone(f.Name), Value: bytes.Clone(f.Value)}
	}
	return out
}

// takeInterims has interim responses go to an HTTP/1.1 client. They go past
// fasthttp, which knows of none, and so only in front of a connection's first
// response: earlier ones could still be in its buffer.
func (x *Exchange) takeInterims(ctx *fasthttp.RequestCtx) {
	if x.Request.Version != "1.1" || ctx.ConnRequestNum() != 1 {
		return
	}
	conn := ctx.Conn()
	x.Request.interim = func(status int, fields []Field) {
		if !(interim{status, fields}).passes() {
			return
		}
		b := append([]byte("HTTP/1.1 "), strconv.Itoa(status)...)
		b = append(append(b, ' '), http.StatusText(status)...)
		b = append(b, "\r\n"...)
		for _, f := range fields {
			b = append(append(append(append(b, f.Name...), ": "...), f.Value...), "\r\n"...)
		}
		_, _ = conn.Write(append(b, "\r\n"...)) // who is gone is found out with the response
	}
}

// interimHTTP is how interim responses go to a client over net/http's face.
func (x *Exchange) interimHTTP(w http.ResponseWriter) func(status int, fields []Field) {
	return func(status int, fields []Field) {
		if !(interim{status, fields}).passes() {
			return
		}
		h := w.Header()
		for _, f := range fields {
			h.Add(string(f.Name), string(f.Value))
		}
		w.WriteHeader(status)
		clear(h)
	}
}

// interimStream is how interim responses go to a client of HTTP/2.
func (x *Exchange) interimStream(s clientStream) func(status int, fields []Field) {
	return func(status int, fields []Field) {
		if !(interim{status, fields}).passes() {
			return
		}
		s.Begin(status)
		for _, f := range fields {
			s.Add(f.Name, f.Value)
		}
		_ = s.Send(nil, false) // who is gone is found out with the response
	}
}
