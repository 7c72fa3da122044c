package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

// A Field is one header or trailer field.
type Field = upstream.Field

// A Request is what the client asked, whatever protocol carried it. Its bytes
// live until the exchange ends.
type Request struct {
	Method []byte
	// Target is the request target in origin form, or "*", as it came.
	Target []byte
	// Host is the authority as the client sent it, with its port if any.
	Host []byte
	// Scheme is "http" or "https".
	Scheme string
	// TLS is the client's TLS connection; nil for none.
	TLS *tls.ConnectionState
	// cert describes the certificate that the client was verified by; nil for
	// none.
	cert *clientCert
	// Version is the received protocol's version, as Via shows it: 1.0, 1.1, 2.
	Version string
	// Fields is the whole head in order, hop-by-hop fields included.
	Fields []Field
	// Body is nil where there is none. It must not be read once the backend has
	// returned and the response's body is closed.
	Body io.Reader
	// ContentLength is the length of Body in bytes: 0 none, -1 unknown.
	ContentLength int64
	// BodyAtHand says that reading Body will not block.
	BodyAtHand bool
	// interrupt makes a Body.Read that blocks return; nil where nothing can.
	interrupt func()
	// interim passes an interim response on; nil where the client takes none. What
	// it is given is gone when it returns.
	interim func(status int, fields []Field)
	// Trailer gives the trailer fields after Body's end; nil where there are none.
	Trailer func() []Field
	// Upgrade is the protocol that the client asks to switch to; empty for none.
	Upgrade []byte

	// Peer is the other end of the connection, ClientIP the client's address
	// after X-Forwarded-For or Forwarded of trusted peers, and PeerTrusted
	// whether Peer is one of them.
	Peer        netip.AddrPort
	ClientIP    netip.Addr
	PeerTrusted bool

	// Path is the normal form of the target's path, the only one that anything
	// decides on; Query what follows the question mark, without it.
	Path  []byte
	Query []byte
}

// Lookup returns the value of the first field of that name, in any case.
func (r *Request) Lookup(name string) (string, bool) {
	for i := range r.Fields {
		if equalFold(r.Fields[i].Name, name) {
			return view(r.Fields[i].Value), true
		}
	}
	return "", false
}

// Nth returns the value of the field of that name which n others precede.
func (r *Request) Nth(name string, n int) (string, bool) {
	for i := range r.Fields {
		if equalFold(r.Fields[i].Name, name) {
			if n--; n < 0 {
				return view(r.Fields[i].Value), true
			}
		}
	}
	return "", false
}

// IsHead reports whether the response will have no body on the wire.
func (r *Request) IsHead() bool { return string(r.Method) == "HEAD" }

// A Body is a response body: read until io.EOF, then closed; closed early when
// the client has gone. It may also implement io.WriterTo,
// Buffered() ([]byte, bool) (the whole body, where it is in memory already), and
// Trailers() []Field (after io.EOF).
type Body interface {
	io.Reader
	io.Closer
}

// A Response is what a backend answers. The zero value is no answer yet.
type Response struct {
	Status int
	Header Header
	// Body is nil for an empty one.
	Body Body
	// ContentLength is the length of Body in bytes; -1 when only its end tells.
	ContentLength int64
	// Tunnel is set with Status 101 only: it is called with the client's side
	// of the connection once the head is out, and returns when both sides have
	// ended. It closes neither before.
	Tunnel func(client net.Conn) (in, out int64)
}

// A Header is a list of fields in order. It keeps what it is given and copies
// nothing: names and values must live until the exchange ends.
type Header struct{ Fields []Field }

// Lookup returns the value of the first field of that name, in any case.
func (h *Header) Lookup(name string) (string, bool) {
	for i := range h.Fields {
		if equalFold(h.Fields[i].Name, name) {
			return view(h.Fields[i].Value), true
		}
	}
	return "", false
}

// Add appends a field.
func (h *Header) Add(name, value string) {
	h.Fields = append(h.Fields, Field{Name: raw(name), Value: raw(value)})
}

// Set puts value in the place of the first field of that name and removes the
// others; it appends where there is none.
func (h *Header) Set(name, value string) {
	for i := range h.Fields {
		if equalFold(h.Fields[i].Name, name) {
			h.Fields[i].Value = raw(value)
			h.del(name, i+1)
			return
		}
	}
	h.Add(name, value)
}

// Del removes every field of that name and keeps the order of the others.
func (h *Header) Del(name string) { h.del(name, 0) }

func (h *Header) del(name string, from int) {
	kept := h.Fields[:from]
	for _, f := range h.Fields[from:] {
		if !equalFold(f.Name, name) {
			kept = append(kept, f)
		}
	}
	h.Fields = kept
}

// An Exchange is one client request and its response, from accept to log line.
// It is reused: nothing may keep it, or bytes of it, once it has ended.
type Exchange struct {
	Request  Request
	Response Response

	gen     *Generation
	route   *route
	probe   routing.Request
	backend string // the backend that answered
	call    upstream.Call
	won     *upstream.Call // what answered instead of call, in a race
	race    *race          // nil: none yet
	target  string         // the target that answered, if any

	start      time.Time
	deadline   time.Time // until the response has begun
	end        time.Time // of the whole exchange
	id         []byte    // X-Request-Id
	host       string    // what the backend sees as Host instead of the client's; empty: that
	forward    []byte    // the target as the backend gets it
	err        error     // what went wrong, for the log
	problem    string    // its Proxy-Status error type
	dotted     bool      // dot segments were taken out of the path
	left       bool      // the client has gone: nobody is to be answered
	closeAfter bool      // the client's connection ends after the response
	counted    int       // the status for logs and metrics, where it is not the response's
	attempts   int
	resent     int // of them those that went to a target again, on another connection
	fallbacks  int
	tried      routing.Tried
	key        uint64 // what the request hashes to, for balancers that go by it
	stuck      uint64 // the target that the client's cookie names; 0: none
	renew      bool   // the client needs another cookie
	lease      lease
	bytesOut   int64
	requestIn  requestBody
	replay     bytes.Reader // of held
	memory     memoryBody
	stream     responseStream
	conn       clientConn    // nil where the connection watches nothing
	watch      *contextWatch // of an exchange over net/http's face
	mirrorOf   *mirrorCopy
	rulings    []ruling // of the route's limits
	cached     cacheUse
	identified bool      // the backend is told who the client is, by fields that are not his
	inner      *Exchange // under mu: the fetch whose response this one's is
	forCache   bool      // this is such a fetch
	cookie     string    // of a fetch: what keeps the client at its target

	// Memory that the next exchange uses again.
	arena []byte
	out   []Field
	path  []byte
	held  []byte // a request body that can be sent again

	limitKey []byte

	mu       sync.Mutex
	canceled error
	cancel   context.CancelCauseFunc
	ctx      context.Context
}

// Context is done when the client has left or the route's timeout is over. It
// costs a few allocations, made when it is first asked for.
func (x *Exchange) Context() context.Context {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ctx == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		x.ctx, x.cancel = ctx, cancel
		if deadline := earlier(x.deadline, x.end); !deadline.IsZero() {
			timed, stop := context.WithDeadline(ctx, deadline)
			x.ctx, x.cancel = timed, func(err error) { cancel(err); stop() }
		}
		if x.canceled != nil {
			x.cancel(x.canceled)
		}
	}
	return x.ctx
}

// Target is the request target as a backend gets it: the client's, after the
// route's rewrite.
func (x *Exchange) Target() []byte { return x.forward }

// ID is the exchange's X-Request-Id.
func (x *Exchange) ID() string { return view(x.id) }

// Cancel ends whatever the exchange waits for; err is the reason. It may be
// called from any goroutine while the exchange lasts.
func (x *Exchange) Cancel(err error) {
	x.mu.Lock()
	if x.canceled == nil {
		x.canceled = err
	}
	if x.cancel != nil {
		x.cancel(err)
	}
	race, inner := x.race, x.inner
	x.mu.Unlock()
	if inner != nil {
		inner.Cancel(err)
	}
	x.call.Cancel(err)
	if race != nil {
		race.cancel(err)
	}
}

// earlier is the earlier of two times, of which the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// keep copies s into the exchange's own memory.
func (x *Exchange) keep(parts ...string) string {
	n := len(x.arena)
	for _, s := range parts {
		x.arena = append(x.arena, s...)
	}
	return view(x.arena[n:len(x.arena):len(x.arena)])
}

// view is b as a string, without copying: valid as long as b is unchanged.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// raw is s as bytes, without copying: they must not be written to.
func raw(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// equalFold compares a field name with one, ASCII letters in any case.
func equalFold(name []byte, other string) bool {
	return len(name) == len(other) && strings.EqualFold(view(name), other)
}
