package listen

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// A Stream is one request of HTTP/2 and its response, for a handler. What it
// gives out of the request stays as it is, also when the handler has returned.
//
// A handler may read the request's body and write the response at the same time,
// from a goroutine for each. A handler that returns before it has ended its
// response has the stream reset.
type Stream struct {
	h  *h2Conn
	id uint32

	// The request, as it has been decoded.
	method, scheme, target, authority string
	fields                            []h2Field
	length                            int64 // by Content-Length; -1 without
	expects                           bool  // it waits for 100 (Continue)
	large                             bool  // the header section is too large, and not here

	// Guarded by h.mu.
	cond   sync.Cond
	refs   int  // who has the stream beside h.streams
	remote bool // the client has ended its side
	local  bool // the handler has
	gone   bool // it is not open any more
	err    error
	incoming
	outgoing

	// Of the goroutine that responds.
	status int
	answer []h2Answer
	broken bool // to be reset behind the response, as malformed

	attached struct {
		mu sync.Mutex // orders Cancel before or behind Detach
		x  interface{ Cancel(error) }
		by error // why it is canceled; nil: it is not
	}
}

type h2Field struct{ Name, Value string }

// newStream is a stream to decode a request into.
func (s *Server) newStream(h *h2Conn) *Stream {
	st, ok := s.streams.Get().(*Stream)
	if !ok {
		st = new(Stream)
	}
	st.h, st.cond.L, st.length = h, &h.mu, -1
	return st
}

// freeStream takes a stream back that nobody has any more.
func (s *Server) freeStream(st *Stream) {
	fields, trailer, answer, body := st.fields, st.trailer, st.answer, st.body
	clear(fields)
	clear(trailer)
	clear(answer[:cap(answer)])
	if cap(body) > h2KeptBody {
		body = nil
	}
	if cap(fields) > 2*maxFields {
		fields = nil
	}
	if st.timer != nil {
		st.timer.Stop()
	}
	st.reset()
	st.fields, st.trailer, st.answer, st.body = fields[:0], trailer[:0], answer[:0], body[:0]
	s.streams.Put(st)
}

// reset makes the stream as new, but for its locks.
func (st *Stream) reset() {
	st.h, st.id = nil, 0
	st.method, st.scheme, st.target, st.authority = "", "", "", ""
	st.length, st.expects, st.large = -1, false, false
	st.refs, st.remote, st.local, st.gone, st.err = 0, false, false, false, nil
	st.incoming, st.outgoing = incoming{}, outgoing{}
	st.status, st.broken = 0, false
	st.attached.x, st.attached.by = nil, nil
}

// Method, Target and Authority are the request's pseudo-header fields; the scheme
// is the connection's. They have been found fit for the head of an HTTP/1.1
// request.
func (st *Stream) Method() string { return st.method }

// Target is :path.
func (st *Stream) Target() string { return st.target }

// Authority is :authority, or Host where there is none.
func (st *Stream) Authority() string { return st.authority }

// Field is the i-th header field, its name in lower case; false behind the last.
// Host is not among them, and cookies are one field.
func (st *Stream) Field(i int) (name, value string, ok bool) { return h2At(st.fields, i) }

// Trailer is the i-th trailer field; there are some at the earliest when the
// body has been read to its end.
func (st *Stream) Trailer(i int) (name, value string, ok bool) { return h2At(st.trailer, i) }

func h2At(fields []h2Field, i int) (name, value string, ok bool) {
	if i >= len(fields) {
		return "", "", false
	}
	return fields[i].Name, fields[i].Value, true
}

// TLS is the connection's TLS; nil for none.
func (st *Stream) TLS() *tls.ConnectionState { return st.h.tls }

// Peer is the client's end of the connection.
func (st *Stream) Peer() netip.AddrPort { return st.h.peer }

// Attach has x canceled with ErrClientGone when the client resets the stream or
// leaves, until Detach. Cancel may be called at once or from another goroutine,
// and must not call Detach.
func (st *Stream) Attach(x interface{ Cancel(error) }) {
	a := &st.attached
	a.mu.Lock()
	defer a.mu.Unlock()
	a.x = x
	if a.by != nil {
		x.Cancel(a.by)
	}
}

// Detach ends what Attach began. When it has returned Cancel will not be called.
func (st *Stream) Detach() {
	st.attached.mu.Lock()
	st.attached.x = nil
	st.attached.mu.Unlock()
}

// cancel tells whoever is attached. With mu held, which it lets go of meanwhile.
func (h *h2Conn) cancel(st *Stream, err error) {
	st.refs++
	h.mu.Unlock()
	a := &st.attached
	a.mu.Lock()
	if a.by == nil {
		a.by = err
		if a.x != nil {
			a.x.Cancel(err)
		}
	}
	a.mu.Unlock()
	h.mu.Lock()
	h.unref(st)
}

// unref lets go of a stream. With mu held.
func (h *h2Conn) unref(st *Stream) {
	if st.refs--; st.refs == 0 {
		h.s.freeStream(st)
	}
}

// serve judges the request and has the handler answer it.
func (st *Stream) serve() {
	h := st.h
	switch v := vet(st); {
	case v != nil:
		st.broken = v == errHop // as RFC 9113, section 8.2.2, has it
		st.refuse(v)
	case h.c.secure == nil && h.s.limits.Load().RedirectHTTPS:
		redirectHTTP2(st)
	default:
		h.s.handlers.HTTP2(st)
	}
}

// refuse answers with the response to v.
func (st *Stream) refuse(v *Violation) {
	v = &Violation{Status: v.Status, Reason: v.Reason, HTTP2: true}
	request := &http.Request{Method: st.method}
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(st.h.s.reject(st.h.c.RemoteAddr(), v))), request)
	if err != nil {
		st.Begin(v.Status)
		_ = st.Send(nil, true) // the client may be gone
		return
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body) // it is in memory
	st.Begin(response.StatusCode)
	for name, values := range response.Header {
		for _, value := range values {
			if name != "Connection" {
				st.Add([]byte(name), []byte(value))
			}
		}
	}
	_ = st.Send(body, true) // as above
}

// SetReadDeadline sets when a Read that waits fails with os.ErrDeadlineExceeded;
// the zero time is never.
func (st *Stream) SetReadDeadline(t time.Time) error {
	h := st.h
	h.mu.Lock()
	defer h.mu.Unlock()
	st.deadline = t
	st.cond.Broadcast()
	if st.timer != nil {
		st.timer.Stop()
	}
	if !t.IsZero() {
		st.timer = time.AfterFunc(time.Until(t), func() { // the stream may be another's by then, which only looks again
			h.mu.Lock()
			st.cond.Broadcast()
			h.mu.Unlock()
		})
	}
	return nil
}
