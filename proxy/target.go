package proxy

import (
	"net/url"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

// A target is one address of a backend of kind http, with what one generation
// knows of it. Its member outlives generations.
type target struct {
	spec      Target
	authority string
	pool      *upstream.Pool
	stats     *attemptStats
	member    *routing.Member
	checked   *health.Target  // nil: nobody checks
	outlier   *health.Member  // nil: nobody watches
	circuit   *health.Circuit // nil: no breaker
	acts      atomic.Bool     // the member is this generation's to say whether it is available
}

// usable reports whether the target can be sent requests.
func (t *target) usable(now time.Time) bool {
	if t.checked != nil && !t.checked.Healthy() || t.outlier != nil && !t.outlier.Usable(now) {
		return false
	}
	if t.circuit == nil {
		return true
	}
	state, _ := t.circuit.State()
	return state != health.Open || t.circuit.Ready(now)
}

// refresh tells the balancers whether the target is usable. It is called where
// that may have changed.
func (t *target) refresh(now time.Time) {
	if t.acts.Load() {
		t.member.SetAvailable(t.usable(now), now)
	}
}

// observe is told how an attempt ended, as far as the target is to blame.
func (t *target) observe(ticket health.Ticket, o health.Outcome, now time.Time) {
	ticket.Done(o, now)
	if t.outlier != nil && o != health.Canceled {
		t.outlier.Observe(o == health.Succeeded, now)
	}
}

// newTarget connects the backend's parts to a target; what it opens close gives
// back.
func (b *httpBackend) newTarget(spec Target, host string) (*target, error) {
	timeouts, tr := b.spec.Timeouts, b.spec.Transport
	tls := b.tlsOf(host)
	pool, err := b.setup.Transport.Pool(upstream.Config{
		URL: spec.URL, Connect: timeouts.Connect, Header: timeouts.ResponseHeader, Idle: timeouts.Idle,
		PoolIdle: tr.IdleTimeout, MaxConnections: tr.MaxConnections, IdleConnections: tr.IdleConnections,
		Protocol: tr.Protocol, TLS: tls, UnknownCoding: tr.UnknownCoding == "drop",
	})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &target{
		spec: spec, authority: authorityOf(spec.URL, host), pool: pool,
		stats: b.setup.stats.attempts(b.name, spec.URL), member: b.lasting.members.Of(spec.URL, now),
	}
	t.spec.Weight = max(t.spec.Weight, 1)
	if err := b.examine(t, tls, now); err != nil {
		pool.Release()
		return nil, err
	}
	return t, nil
}

// examine has the target checked, watched and broken off as the file says.
func (b *httpBackend) examine(t *target, tls upstream.TLS, now time.Time) (err error) {
	if b.group != nil {
		if t.checked, err = b.group.Add(t.spec.URL); err != nil {
			return err
		}
	}
	if b.ejector != nil {
		t.outlier = b.ejector.Add(t.spec.URL)
	}
	if b.spec.Breaker != nil {
		t.circuit, err = health.NewCircuit(*b.spec.Breaker, now, func(c health.CircuitChange) { b.broke(t, c) })
	}
	return err
}

// close lets go of what newTarget opened; exchanges in flight go on.
func (t *target) close() {
	t.acts.Store(false)
	t.pool.Release()
}

// tlsOf is how targets of that host are verified.
func (b *httpBackend) tlsOf(host string) upstream.TLS {
	s := b.spec.Transport.TLS
	if s.ServerName == "" {
		s.ServerName = host
	}
	return upstream.TLS{ServerName: s.ServerName, CAFile: s.CAFile, Insecure: s.InsecureSkipVerify, CertFile: s.CertFile, KeyFile: s.KeyFile}
}

// authorityOf is the Host for a client that names none.
func authorityOf(target, host string) string {
	if host != "" {
		return host
	}
	if u, err := url.Parse(target); err == nil && u.Host != "" {
		return u.Host
	}
	return "localhost"
}
