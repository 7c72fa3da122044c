package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// errClientLeft is why an exchange over net/http's face is canceled.
var errClientLeft = errors.New("proxy: the client has gone")

// ServeHTTP serves one exchange that did not come as HTTP/1: the same walk, over
// net/http's view of a request, for servers of others; see HandleStream for
// internal/listen's. It is given only requests that could be written
// as HTTP/1.1 heads; internal/listen sees to that. Names of fields lose their
// spelling there, as HTTP/2 has none, and their order, in which only those of
// one name count.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := p.beginHTTP(r, peerOf(w, r))
	x.Request.interim = x.interimHTTP(w)
	p.walk(x)
	p.sendHTTP(w, x)
}

// beginHTTP reads a request's head into an exchange.
func (p *Proxy) beginHTTP(from *http.Request, peer netip.AddrPort) *Exchange {
	x := p.open()
	r := &x.Request
	r.Method, r.Target, r.Host = raw(from.Method), raw(from.RequestURI), raw(from.Host)
	r.Scheme, r.Version, r.Peer = "http", "2", peer
	if from.TLS != nil {
		r.Scheme, r.TLS = "https", from.TLS
		r.cert = p.certs.of(r.TLS)
	}
	if from.ProtoMajor != 2 {
		r.Version = strconv.Itoa(from.ProtoMajor)
	}
	x.listHTTP(from)
	if from.ContentLength != 0 && from.Body != nil {
		r.ContentLength = from.ContentLength
		x.requestIn.from = from.Body
		r.Body = &x.requestIn
		r.interrupt = func() { _ = from.Body.Close() } // has a Read return
		r.Trailer = func() []Field { return fieldsOf(nil, from.Trailer) }
	}
	x.watch = watchContext(from.Context(), x)
	return x
}

// peerOf is the other end of the connection. Who serves may say it without its
// being parsed for each request.
func peerOf(w http.ResponseWriter, r *http.Request) netip.AddrPort {
	if on, ok := w.(interface{ Peer() netip.AddrPort }); ok {
		return on.Peer()
	}
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return addr
}

// listHTTP lists the fields of a request; Host is one of them, as in HTTP/1.
func (x *Exchange) listHTTP(from *http.Request) {
	r := &x.Request
	r.Fields = append(r.Fields[:0], Field{Name: raw("Host"), Value: r.Host})
	r.Fields = fieldsOf(r.Fields, from.Header)
	if len(from.Trailer) > 0 {
		names := ""
		for name := range from.Trailer {
			names += name + ", "
		}
		r.Fields = append(r.Fields, Field{Name: raw("Trailer"), Value: raw(names[:len(names)-2])})
	}
}

// fieldsOf appends h in the order of the names, so that one request always
// makes one head.
func fieldsOf(fields []Field, h http.Header) []Field {
	first := len(fields)
	for name, values := range h {
		for _, value := range values {
			fields = append(fields, Field{Name: raw(name), Value: raw(value)})
		}
	}
	sortFields(fields[first:])
	return fields
}

// sortFields sorts by name. Clients over HTTP/2 send fields in whatever order.
func sortFields(fields []Field) {
	slices.SortStableFunc(fields, func(a, b Field) int { return bytes.Compare(a.Name, b.Name) })
}

// sendHTTP sends x's response to w and ends x. A response that breaks off ends
// the stream with an error, never as if it were whole.
func (p *Proxy) sendHTTP(w http.ResponseWriter, x *Exchange) {
	done := false
	defer func() {
		p.finish(x)
		if !done {
			panic(http.ErrAbortHandler) // how net/http is told to reset
		}
	}()
	r := &x.Response
	if x.left || x.unasked() && !x.settle(http.NewResponseController(w)) {
		return
	}
	x.headHTTP(w.Header())
	if r.Body == nil || x.Request.IsHead() || r.Status == 304 || r.Status == 204 {
		// Of a 304 the length is of no use, and some clients wait for the body.
		if n, ok := announced(r); ok && r.Status != 304 {
			w.Header().Set("Content-Length", strconv.Itoa(n))
		}
		w.WriteHeader(r.Status)
		x.trailersHTTP(w.Header())
		done = true
		return
	}
	if r.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	w.WriteHeader(r.Status)
	done = x.bodyHTTP(w)
}

const (
	settleBytes = 64 << 10 // of a body that nobody asked for are waited for
	settleTime  = 250 * time.Millisecond
)

// unasked reports whether the request has a body that the answer did not depend
// on, and that is likely to be under way already. Of one that waits for 100
// (Continue) net/http tells nothing; it is asked for then, for nothing.
func (x *Exchange) unasked() bool {
	r := &x.Request
	if x.attempts > 0 { // a target may still be sent the body, by another goroutine
		return false
	}
	if x.requestIn.from == nil || x.requestIn.read > 0 || x.closeAfter || r.ContentLength > settleBytes {
		return false
	}
	return !x.isGRPC()
}

// settle reads such a body before the answer goes out, so that the stream ends
// in order and not by a reset; a body that is not whole after settleTime is
// left. It reports whether there is somebody to answer: not where the body broke
// the protocol.
func (x *Exchange) settle(s interface{ SetReadDeadline(time.Time) error }) bool {
	if s.SetReadDeadline(time.Now().Add(settleTime)) != nil {
		return true // as good as before
	}
	_, err := io.CopyN(io.Discard, x.Request.Body, settleBytes)
	if err == nil || err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, new(clientFault)) || x.requestIn.over {
		return true
	}
	x.err, x.problem, x.counted = err, "http_request_error", statusClientGone
	return false
}

// headHTTP puts the response's fields into h, in one piece of memory: it is
// theirs, as the response may be written when the exchange is over. A field
// without values keeps net/http from making it up.
func (x *Exchange) headHTTP(h http.Header) {
	fields, size := x.Response.Header.Fields, 0
	for i := range fields {
		size += len(fields[i].Name) + len(fields[i].Value)
	}
	text, values := make([]byte, 0, size), make([]string, len(fields))
	own := func(b []byte) string {
		from := len(text)
		text = append(text, b...)
		return view(text[from:])
	}
	h["Content-Type"] = nil
	for i := range fields {
		f := &fields[i]
		switch kindOf(f.Name) {
		case length, connection, hopByHop, transferCoding, upgradeField:
			continue
		}
		name := http.CanonicalHeaderKey(own(f.Name))
		values[i] = own(f.Value)
		if have := h[name]; have != nil {
			h[name] = append(have, values[i])
		} else {
			h[name] = values[i : i+1 : i+1]
		}
	}
}

// bodyHTTP reports whether the whole body went out.
func (x *Exchange) bodyHTTP(w http.ResponseWriter) (whole bool) {
	body := x.Response.Body
	if at, ok := body.(interface{ Buffered() ([]byte, bool) }); ok {
		if all, whole := at.Buffered(); whole && len(all) <= copyUpTo {
			n, err := w.Write(all)
			x.bytesOut = int64(n)
			return err == nil
		}
	}
	f := flushWriter{w, http.NewResponseController(w)}
	err := f.rc.Flush() // the head need not wait for the body
	if err == nil {
		x.bytesOut, err = copyBody(f, body)
	}
	if err == nil {
		x.trailersHTTP(w.Header())
		return true
	}
	problem := x.problemOf(err)
	x.err, x.problem = err, problem.Type
	if problem.Status == statusClientGone || !x.isGRPC() {
		return false
	}
	addTrailers(w.Header(), problem.grpcStatus(nil))
	return true
}

// trailersHTTP sends the trailer section of a body that has ended.
func (x *Exchange) trailersHTTP(h http.Header) {
	if t, ok := x.Response.Body.(interface{ Trailers() []Field }); ok {
		addTrailers(h, t.Trailers())
	}
}

func addTrailers(h http.Header, fields []Field) {
	for _, f := range fields {
		h.Add(http.TrailerPrefix+string(f.Name), string(f.Value))
	}
}

// A flushWriter sends each piece when it is written.
type flushWriter struct {
	io.Writer
	rc *http.ResponseController
}

func (f flushWriter) Write(b []byte) (int, error) {
	n, err := f.Writer.Write(b)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}

// A contextWatch cancels an exchange when a context ends, until it is released:
// exchanges are used again.
type contextWatch struct {
	mu   sync.Mutex
	x    *Exchange
	stop func() bool
}

func watchContext(ctx context.Context, x *Exchange) *contextWatch {
	w := &contextWatch{x: x}
	w.stop = context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.x != nil {
			w.x.Cancel(errClientLeft)
		}
	})
	return w
}

// release returns when Cancel is not running and will not be called.
func (w *contextWatch) release() {
	w.stop()
	w.mu.Lock()
	w.x = nil
	w.mu.Unlock()
}
