package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/internal/listen"
)

// A renewal is what is known of the certificate files of the setup that is
// served.
type renewal struct {
	seen   map[string][sha256.Size]byte // by listener, of what was tried last
	follow func(files []string)
	ok     *metrics.Counter
	failed *metrics.Counter
}

// followFiles has the certificates of s watched, which have just been read.
func (g *gateway) followFiles(s *setup) {
	var all []string
	g.renewal.seen = map[string][sha256.Size]byte{}
	for i, l := range s.file.Listeners {
		if l.TLS != nil {
			g.renewal.seen[l.Address] = s.credentials[i].sum
			all = append(all, l.TLS.files()...)
		}
	}
	if g.renewal.follow == nil {
		return
	}
	for i := range all {
		if full, err := filepath.Abs(all[i]); err == nil {
			all[i] = full
		}
	}
	g.renewal.follow(all)
}

// renew takes over certificates whose files have changed, for new handshakes;
// those that cannot be used leave the old ones in place.
func (g *gateway) renew() {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.current.Load()
	if s == nil || g.draining.Load() {
		return
	}
	for i := range s.file.Listeners {
		l := &s.file.Listeners[i]
		if l.TLS == nil || checksum(l.TLS.files()) == g.renewal.seen[l.Address] {
			continue
		}
		fresh, faults := l.TLS.credentials(time.Now())
		g.renewal.seen[l.Address] = fresh.sum
		if len(faults) > 0 {
			g.renewal.failed.Inc()
			for _, f := range faults {
				g.log.Error("the new certificate cannot be used; the old one stays", "listener", l.Address, "error", f.err)
			}
			continue
		}
		g.renewal.ok.Inc()
		s.credentials[i] = fresh
		g.warn(fresh.warnings)
		if running := g.listeners[l.Address]; running != nil {
			running.use(s, i)
		}
		g.log.Info("new certificates", "listener", l.Address)
	}
}

func (g *gateway) warn(warnings []string) {
	for _, w := range warnings {
		g.log.Warn(w)
	}
}

// use has l serve by listener i of s.
func (l *listener) use(s *setup, i int) {
	l.server.SetLimits(limits(s, i))
	l.credentials.Store(s.credentials[i])
}

// writeTLS writes what there is to say about TLS on l.
func (l *listener) writeTLS(w io.Writer, now time.Time) {
	c := l.credentials.Load()
	h := l.server.Handshakes()
	if c == nil && h == (listen.Handshakes{}) {
		return
	}
	for version, n := range map[string]int64{"1.2": h.TLS12, "1.3": h.TLS13} {
		metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_tls_handshakes_total{listener=%q,version=%q}", l.address, version), uint64(n))
	}
	metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_tls_sessions_resumed_total{listener=%q}", l.address), uint64(h.Resumed))
	for i, reason := range listen.HandshakeFailures {
		metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_tls_handshake_failures_total{listener=%q,reason=%q}", l.address, reason), uint64(h.Failed[i]))
	}
	if c == nil {
		return
	}
	left := map[string]float64{} // of several certificates for a name the one that ends first counts
	for i := range c.tls.Certificates {
		cert := &c.tls.Certificates[i]
		name := "-"
		if all := listen.Names(cert); len(all) > 0 {
			name = all[0]
		}
		seconds := cert.Leaf.NotAfter.Sub(now).Seconds()
		if old, ok := left[name]; !ok || seconds < old {
			left[name] = seconds
		}
	}
	for name, seconds := range left {
		metrics.WriteGaugeFloat64(w, fmt.Sprintf("sluice_tls_certificate_expiry_seconds{listener=%q,name=%q}", l.address, name), seconds)
	}
}
