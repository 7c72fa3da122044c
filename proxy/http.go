package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/proxy/upstream"
)

// httpBackend is a pool of targets that requests are forwarded to.
type httpBackend struct {
	spec     HTTP
	name     string
	targets  []*target
	schedule []*target // in the order they are picked, weights interleaved
	next     atomic.Uint64
	lookup   func(string) Backend
	http2    bool // what targets speak
}

type target struct {
	url       string
	authority string
	weight    int
	pool      *upstream.Pool
	stats     *attemptStats
}

// defaultHTTP is what an HTTP backend is where its keys say nothing.
func defaultHTTP() HTTP {
	return HTTP{
		Timeouts:  Timeouts{Connect: time.Second, ResponseHeader: 15 * time.Second, Idle: 60 * time.Second},
		Transport: Transport{Protocol: "http1", MaxConnections: 1024, IdleConnections: 256, IdleTimeout: 55 * time.Second},
	}
}

func newHTTP(s Setup) (Backend, error) {
	spec := defaultHTTP()
	if err := s.Decode(&spec); err != nil {
		return nil, err
	}
	b := &httpBackend{spec: spec, name: s.Name, lookup: s.Lookup, http2: spec.Transport.Protocol != "http1"}
	if name := spec.Fallback.Backend; name != "" {
		s.Refer("fallback.backend", name)
		if name == s.Name {
			return nil, &SpecError{"fallback.backend", errors.New("a backend cannot be its own fallback")}
		}
	}
	if f := spec.Fallback; f.Backend != "" && (f.Status != 0 || f.Body != "") {
		return nil, &SpecError{"fallback", errors.New("a backend and a status or body exclude each other")}
	}
	if len(spec.Targets) == 0 {
		return nil, &SpecError{"targets", errors.New("at least one target is needed")}
	}
	var faults []error
	for i, t := range spec.Targets {
		one, err := b.newTarget(s, t)
		if err != nil {
			if fault := targetFault(i, err); !slices.ContainsFunc(faults, fault.same) {
				faults = append(faults, fault)
			}
			continue
		}
		b.targets = append(b.targets, one)
	}
	if len(faults) > 0 {
		_ = b.Close()
		return nil, errors.Join(faults...)
	}
	b.schedule = interleave(b.targets)
	return b, nil
}

// targetFault says where in the backend's keys the fault of target i lies.
func targetFault(i int, err error) *SpecError {
	place := fmt.Sprintf("targets[%d].url", i)
	var fault *upstream.ConfigError
	if errors.As(err, &fault) && strings.HasPrefix(fault.Key, "tls.") {
		place = "transport." + fault.Key
	}
	return &SpecError{place, err}
}

func (b *httpBackend) newTarget(s Setup, t Target) (*target, error) {
	timeouts, tr := b.spec.Timeouts, b.spec.Transport
	pool, err := s.Transport.Pool(upstream.Config{
		URL: t.URL, Connect: timeouts.Connect, Header: timeouts.ResponseHeader, Idle: timeouts.Idle,
		PoolIdle: tr.IdleTimeout, MaxConnections: tr.MaxConnections, IdleConnections: tr.IdleConnections,
		Protocol: tr.Protocol,
		TLS: upstream.TLS{
			ServerName: tr.TLS.ServerName, CAFile: tr.TLS.CAFile, Insecure: tr.TLS.InsecureSkipVerify,
			CertFile: tr.TLS.CertFile, KeyFile: tr.TLS.KeyFile,
		},
	})
	if err != nil {
		return nil, err
	}
	authority := "localhost"
	if u, err := url.Parse(t.URL); err == nil && u.Host != "" {
		authority = u.Host
	}
	return &target{url: t.URL, authority: authority, weight: max(t.Weight, 1), pool: pool, stats: s.stats.attempts(s.Name, t.URL)}, nil
}

// interleave spreads every target over one round by smooth weighted round robin
// (nginx's): of weights 5, 1, 1 the order is a a b a c a a.
func interleave(targets []*target) []*target {
	total, current := 0, make([]int, len(targets))
	for _, t := range targets {
		total += t.weight
	}
	round := make([]*target, 0, total)
	for range total {
		best := 0
		for i, t := range targets {
			current[i] += t.weight
			if current[i] > current[best] {
				best = i
			}
		}
		current[best] -= total
		round = append(round, targets[best])
	}
	return round
}

// Close gives the pools back; connections in use end with their exchanges.
func (b *httpBackend) Close() error {
	for _, t := range b.targets {
		t.pool.Release()
	}
	return nil
}

// pick is the next target in turn, none that was tried for this exchange.
func (b *httpBackend) pick(tried *target) *target {
	for range len(b.schedule) {
		n := b.next.Add(1) - 1
		if t := b.schedule[n%uint64(len(b.schedule))]; t != tried || len(b.targets) == 1 {
			return t
		}
	}
	return tried
}

// Serve forwards the exchange to a target.
func (b *httpBackend) Serve(x *Exchange) error {
	err := b.attempt(x)
	if err == nil {
		b.answer(x)
		return nil
	}
	if !fallsBack(err) {
		return err
	}
	return b.fallBack(x, err)
}

// maxConnects is how many targets are tried while none can be connected to.
const maxConnects = 3

// attempt sends the request until a target has answered. It is sent again only
// where no target can have seen it: no byte was written, or a reused
// connection of a target that had closed it, for a request that may come twice.
func (b *httpBackend) attempt(x *Exchange) error {
	if err := x.hold(); err != nil {
		return err
	}
	tried := (*target)(nil)
	for n := 1; ; n++ {
		t := b.pick(tried)
		b.prepare(x, t)
		if x.gone() {
			return &upstream.Error{Type: "connection_terminated", Canceled: true, Unsent: true, Err: context.Canceled}
		}
		x.attempts++
		x.target = t.url
		began := time.Now()
		err := x.call.Do(t.pool)
		if err == nil {
			t.stats.observe(x.call.Status/100-1, time.Since(began))
			return nil
		}
		var u *upstream.Error
		if !errors.As(err, &u) {
			return err
		}
		t.stats.observe(outcomeOf(u), time.Since(began))
		x.err = err
		if x.requestIn.over {
			return errBodyTooLarge
		}
		if u.Canceled || u.RequestBody || !x.replayable() || !mayRepeat(x, u, n, len(b.targets)) {
			return err
		}
		if !u.Stale {
			tried = t
		}
	}
}

func mayRepeat(x *Exchange, u *upstream.Error, n, targets int) bool {
	switch {
	case u.Stale:
		return n < 2 && idempotent(x.Request.Method)
	case u.Type == "connection_limit_reached":
		return n < targets
	}
	return u.Unsent && n < min(maxConnects, targets)
}

// maxHeld bounds in bytes a body that is kept to be sent again.
const maxHeld = 64 << 10

// hold takes in a body that is at hand, so that it can be sent more than once.
func (x *Exchange) hold() error {
	r := &x.Request
	if r.Body == nil || !r.BodyAtHand || r.ContentLength <= 0 || r.ContentLength > maxHeld || x.replay.Size() > 0 {
		return nil
	}
	n := int(r.ContentLength)
	if cap(x.held) < n {
		x.held = make([]byte, n)
	}
	x.held = x.held[:n]
	if _, err := io.ReadFull(r.Body, x.held); err != nil {
		return &upstream.Error{Type: "http_request_error", RequestBody: true, Unsent: true, Err: err}
	}
	x.replay.Reset(x.held)
	r.Body = &x.replay
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
	if b.http2 {
		c.TrailersWanted = x.wantsTrailers()
	}
	c.Deadline = earlier(x.deadline, b.end(x))
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
	c, r := &x.call, &x.Response
	x.err = nil
	c.Extend(b.end(x)) // the route's time-out is over with the head
	r.Status = c.Status
	r.Header.Fields = append(r.Header.Fields[:0], c.Response.Fields...)
	r.Header.Add("Via", viaOf(b.version()))
	r.ContentLength = c.Response.ContentLength
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
	return errors.As(err, &u) && !u.Canceled && !u.RequestBody
}

func (b *httpBackend) fallBack(x *Exchange, err error) error {
	f := &b.spec.Fallback
	if f.Backend != "" {
		if other := b.lookup(f.Backend); other != nil && x.replayable() {
			x.backend, x.fallbacks = f.Backend, x.fallbacks+1
			if x.fallbacks > 4 {
				return err // a ring of fallbacks
			}
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
