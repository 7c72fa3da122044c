package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

// httpBackend forwards requests to targets.
type httpBackend struct {
	spec    HTTP
	name    string
	setup   Setup
	http2   bool // what targets speak
	retry   retryOn
	lasting *lasting
	pool    atomic.Pointer[pool]
	group   *health.Group   // nil: nobody checks
	ejector *health.Ejector // nil: nobody watches
	circuit *health.Circuit // of the backend as a whole; nil: no breaker
	budget  *limiter.Budget
	gate    *limiter.Gate // nil: no bound
	regate  func()        // puts the gate's bounds in force
	sheds   *gateStats    // nil as gate is
	sticky  *routing.Sticky
	known   []upstream.Found // by discovery, when the backend was made

	change sync.Mutex // of pool, once the generation is served
	closed bool       // nothing may be opened any more
}

// defaultHTTP is what an HTTP backend is where its keys say nothing.
func defaultHTTP() HTTP {
	h := HTTP{
		Timeouts:  Timeouts{Connect: time.Second, ResponseHeader: 15 * time.Second, Idle: 60 * time.Second},
		Transport: Transport{Protocol: "http1", UnknownCoding: "reject", MaxConnections: 1024, IdleConnections: 256, IdleTimeout: 55 * time.Second},
		Health:    Health{PanicThreshold: .5},
		Retry: Retry{
			Attempts: 2, On: []string{"connect", "reset", "502", "503", "504"}, Budget: .2,
			Backoff: 25 * time.Millisecond, MaxBody: 64 << 10,
		},
	}
	h.Hedge.Max = 1
	h.Balance.SetDefaults()
	h.Health.Passive.SetDefaults()
	h.Discovery.SetDefaults()
	return h
}

func newHTTP(s Setup) (Backend, error) {
	spec := defaultHTTP()
	unread := s.Decode(&spec) // what could be read is looked at all the same
	b := &httpBackend{spec: spec, name: s.Name, setup: s, http2: spec.Transport.Protocol != "http1", lasting: s.lasting}
	faults := append(b.checkFallback(), b.parts(time.Now())...)
	if spec.Discovery.Enabled() {
		b.known = s.lasting.lastFound()
	}
	places := b.places(b.known)
	if len(places) == 0 && !spec.Discovery.Enabled() {
		faults = append(faults, &SpecError{"targets", errors.New("at least one target is needed, or discovery")})
	}
	first, err := b.newPool(places, nil)
	if err == nil {
		b.pool.Store(first)
	}
	if err := errors.Join(append(faults, err, unread)...); err != nil {
		_ = b.Close() // nothing has been opened but what it knows
		return nil, err
	}
	b.adopt(s.previous, time.Now())
	return b, nil
}

func (b *httpBackend) checkFallback() (faults []error) {
	f := b.spec.Fallback
	if f.Backend != "" {
		b.setup.Refer("fallback.backend", f.Backend)
	}
	if f.Backend != "" && (f.Status != 0 || f.Body != "") {
		faults = append(faults, &SpecError{"fallback", errors.New("a backend and a status or body exclude each other")})
	}
	switch {
	case f.Status != 0 && f.Status < 200:
		faults = append(faults, &SpecError{"fallback.status", errors.New("must be from 200 to 599")})
	case f.Body != "" && (f.Status == 204 || f.Status == 304):
		faults = append(faults, &SpecError{"fallback.body", fmt.Errorf("status %d has no body", f.Status)})
	}
	return faults
}

// places are the targets that the file names and those that were found; of one
// that both name, the file has the word.
func (b *httpBackend) places(found []upstream.Found) (places []place) {
	for _, t := range b.spec.Targets {
		places = append(places, place{Target: t})
	}
	for _, f := range found {
		if !slices.ContainsFunc(b.spec.Targets, func(t Target) bool { return t.URL == f.URL }) {
			places = append(places, place{Target{f.URL, f.Weight, f.Priority}, f.Host})
		}
	}
	return places
}

// Close gives the pools back; connections in use end with their exchanges.
func (b *httpBackend) Close() error {
	b.change.Lock()
	defer b.change.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if p := b.pool.Load(); p != nil {
		for _, t := range p.targets {
			t.close()
		}
	}
	return nil
}

// Serve forwards the exchange to a target.
func (b *httpBackend) Serve(x *Exchange) error {
	err := b.serve(x)
	if err == nil {
		b.answer(x)
		return nil
	}
	b.setup.stats.crowded(b.name, err)
	if !fallsBack(err) {
		return err
	}
	x.lease.end(time.Now())
	return b.fallBack(x, err)
}

func (b *httpBackend) serve(x *Exchange) error {
	if b.circuit == nil && b.gate == nil {
		return b.forward(x)
	}
	now := time.Now()
	ticket := health.Ticket{}
	if b.circuit != nil {
		var ok bool
		if ticket, ok = b.circuit.Allow(now); !ok {
			return noTarget(b.circuit.RetryIn(now))
		}
	}
	outcome := health.Canceled // where there is a panic
	defer func() { ticket.Done(outcome, time.Now()) }()
	err := b.enter(x, now)
	if err == nil {
		err = b.forward(x)
	}
	outcome = verdict(x, err)
	return err
}

// verdict is what an exchange says of its backend as a whole.
func verdict(x *Exchange, err error) health.Outcome {
	var u *upstream.Error
	switch {
	case err == nil:
		return outcomeFor(x.answered().Status)
	case errors.As(err, &u) && !u.Canceled && !u.RequestBody && u.Type != "connection_limit_reached":
		return health.Failed
	}
	return health.Canceled
}

// hold takes in a body of up to most bytes, so that it can be sent more than
// once: one that is at hand, or that may have to be.
func (x *Exchange) hold(most int64) error {
	r := &x.Request
	if r.Body == nil || r.ContentLength <= 0 || r.ContentLength > most || x.replay.Size() > 0 {
		return nil
	}
	if !r.BodyAtHand && !idempotent(r.Method) {
		return nil
	}
	n := int(r.ContentLength)
	if cap(x.held) < n {
		x.held = make([]byte, n)
	}
	x.held = x.held[:n]
	_, err := io.ReadFull(r.Body, x.held)
	if err == nil {
		err = atEnd(r.Body)
	}
	if err != nil {
		return &upstream.Error{Type: "http_request_error", RequestBody: true, Unsent: true, Err: err}
	}
	x.replay.Reset(x.held)
	r.Body, r.BodyAtHand = &x.replay, true
	return nil
}

// atEnd reads the end behind a body's last byte: a mirror waits for it, and
// trailer fields are there only then.
func atEnd(body io.Reader) error {
	var more [1]byte
	switch n, err := io.ReadFull(body, more[:]); {
	case n > 0:
		return errors.New("the body is longer than its length")
	case err != io.EOF:
		return err
	}
	return nil
}

// rewind makes a body that is held come from its start again.
func (x *Exchange) rewind() {
	if x.replay.Size() > 0 {
		_, _ = x.replay.Seek(0, io.SeekStart) // the start is always there
	}
}

// replayable reports whether another attempt could send the whole request.
func (x *Exchange) replayable() bool {
	return x.Request.Body == nil || x.replay.Size() > 0 || x.requestIn.read == 0
}

// idempotent reports whether a request of this method may be sent twice (RFC
// 9110, section 9.2.2; QUERY: RFC 10008, section 2).
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "QUERY":
		return true
	}
	return false
}

func outcomeOf(u *upstream.Error) int {
	switch {
	case u.Canceled:
		return 9
	case u.RequestBody:
		return 10
	case u.Type == "connection_timeout" || u.Unsent:
		return 5
	case u.Timeout():
		return 6
	case strings.HasPrefix(u.Type, "http_"):
		return 8
	}
	return 7
}

// prepare fills in the call for an attempt at t.
func (b *httpBackend) prepare(x *Exchange, t *target) {
	c := &x.call
	r := &x.Request
	c.Reset()
	c.Method, c.Target = r.Method, x.forward
	c.Request.Fields = x.upstreamFields(t.authority)
	c.Request.ContentLength, c.Body, c.BodyAtHand = 0, nil, false
	if r.Body != nil {
		c.Request.ContentLength, c.BodyAtHand = r.ContentLength, r.BodyAtHand
		x.rewind()
		c.Body = r.Body
		c.Request.Trailer, c.Interrupt = r.Trailer, r.interrupt
	}
	c.Upgrade = r.Upgrade
	c.Request.Interim = r.interim
	if b.http2 {
		c.TrailersWanted = x.wantsTrailers()
	}
	c.Deadline = b.attemptEnd(x)
}

// attemptEnd is when an attempt that begins now must have its head.
func (b *httpBackend) attemptEnd(x *Exchange) time.Time {
	end := earlier(x.deadline, b.end(x))
	if d := b.spec.Retry.PerAttemptTimeout; d > 0 {
		end = earlier(end, time.Now().Add(d))
	}
	return end
}

// end is when the whole exchange must be over; zero for no such time.
func (b *httpBackend) end(x *Exchange) time.Time {
	if d := b.spec.Timeouts.Request; d > 0 {
		return earlier(x.end, x.start.Add(d))
	}
	return x.end
}

// answer makes the call's response the exchange's.
func (b *httpBackend) answer(x *Exchange) {
	c, r := x.answered(), &x.Response
	x.err = nil
	c.Extend(b.end(x)) // the route's time-out is over with the head
	if !b.http2 && !c.RequestSent() {
		x.closeAfter = true // the answer came first: nobody reads the rest of the body
	}
	r.Status = c.Status
	r.Header.Fields = append(r.Header.Fields[:0], c.Response.Fields...)
	r.Header.Add("Via", viaOf(b.version()))
	r.ContentLength = c.Response.ContentLength
	b.keep(x)
	if r.Status == 101 {
		r.Tunnel = x.tunnel(b.spec.Timeouts.Idle)
		return
	}
	r.Body = c
}

// version is that of the targets' protocol, as Via has it.
func (b *httpBackend) version() string {
	if b.http2 {
		return "2"
	}
	return "1.1"
}

// fallsBack reports whether a failed attempt lets the fallback answer: no
// target could take the request, or none did in time.
func fallsBack(err error) bool {
	var u *upstream.Error
	return errors.Is(err, errNoTarget) || errors.Is(err, limiter.ErrSaturated) || errors.As(err, &u) && !u.Canceled && !u.RequestBody
}

func (b *httpBackend) fallBack(x *Exchange, err error) error {
	f := &b.spec.Fallback
	if f.Backend != "" {
		if other := b.setup.Lookup(f.Backend); other != nil && x.replayable() {
			x.backend, x.fallbacks = f.Backend, x.fallbacks+1
			x.rewind()
			return other.Serve(x)
		}
	}
	if f.Status == 0 && f.Body == "" {
		return err
	}
	status := f.Status
	if status == 0 {
		status = 503
	}
	x.discardResponse()
	x.memory = memoryBody{all: raw(f.Body)}
	x.Response.Status, x.Response.Body, x.Response.ContentLength = status, &x.memory, int64(len(f.Body))
	x.Response.Header.Add("Content-Type", "text/plain; charset=utf-8")
	x.Response.Header.Add("Proxy-Status", x.keep(pseudonym, "; error=", problemOf(err).Type))
	return nil
}

// gone reports whether the exchange was canceled.
func (x *Exchange) gone() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.canceled != nil && !errors.Is(x.canceled, context.DeadlineExceeded)
}
