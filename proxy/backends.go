package proxy

import (
	"fmt"
	"io"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/proxy/upstream"
)

// BackendInfo is a backend as the admin API shows it.
type BackendInfo struct {
	Name    string       `json:"name"`
	Kind    string       `json:"kind"`
	Policy  string       `json:"policy,omitempty"`
	Panic   bool         `json:"panic,omitempty"` // all targets are used, healthy or not
	Breaker string       `json:"breaker,omitempty"`
	Limit   int          `json:"limit,omitempty"` // requests in flight at most; 0: unbounded
	Waiting int          `json:"waiting,omitempty"`
	Targets []TargetInfo `json:"targets,omitempty"`
}

// TargetInfo is what is known of a target.
type TargetInfo struct {
	URL         string         `json:"url"`
	Weight      int            `json:"weight"`
	Priority    int            `json:"priority"`
	Available   bool           `json:"available"`
	Draining    bool           `json:"draining"`
	Health      *CheckInfo     `json:"health,omitempty"`
	Ejected     string         `json:"ejected,omitempty"` // for how long yet
	Ejections   int            `json:"ejections,omitempty"`
	Breaker     string         `json:"breaker,omitempty"`
	InFlight    int64          `json:"in_flight"`
	EWMA        string         `json:"ewma,omitempty"` // of the time to the head of the response
	Connections upstream.Stats `json:"connections"`
}

// CheckInfo is what active checks have found out.
type CheckInfo struct {
	Healthy bool      `json:"healthy"`
	Since   time.Time `json:"since"`
	Checked time.Time `json:"checked"`
	Error   string    `json:"error,omitempty"`
}

// Backends lists g's backends by name.
func (g *Generation) Backends() []BackendInfo {
	infos := make([]BackendInfo, 0, len(g.backends))
	for _, name := range sortedNames(g.backends) {
		b := g.backends[name]
		info := BackendInfo{Name: name, Kind: b.kind}
		if h, ok := b.Backend.(*httpBackend); ok {
			h.inform(&info, time.Now())
		}
		infos = append(infos, info)
	}
	return infos
}

func (b *httpBackend) inform(info *BackendInfo, now time.Time) {
	p := b.pool.Load()
	if p.balancer != nil {
		status := p.balancer.Status(now)
		info.Policy, info.Panic = status.Policy, status.Panic
	}
	info.Breaker = breakerName(b.circuit)
	if b.gate != nil {
		info.Limit, info.Waiting = b.gate.Limit(), b.gate.Waiting()
	}
	for _, t := range p.targets {
		info.Targets = append(info.Targets, t.inform(now))
	}
}

func (t *target) inform(now time.Time) TargetInfo {
	info := TargetInfo{
		URL: t.spec.URL, Weight: t.spec.Weight, Priority: t.spec.Priority,
		Available: t.member.Available(), Draining: t.member.Draining(),
		Breaker: breakerName(t.circuit), InFlight: t.member.InFlight(), Connections: t.pool.Stats(),
	}
	if d := t.member.Latency(now); d > 0 {
		info.EWMA = d.Round(time.Microsecond).String()
	}
	if t.checked != nil {
		s := t.checked.State()
		info.Health = &CheckInfo{s.Healthy, s.Since, s.Checked, s.LastError}
	}
	if t.outlier != nil {
		times, left := t.outlier.Ejected(now)
		info.Ejections = times
		if left > 0 {
			info.Ejected = left.Round(time.Millisecond).String()
		}
	}
	return info
}

func breakerName(c *health.Circuit) string {
	if c == nil {
		return ""
	}
	state, _ := c.State()
	return state.String()
}

// Drain has a target keep only the clients that stick to it, or take all again.
// It lasts over reloads, until the process ends.
func (g *Generation) Drain(backend, url string, on bool) error {
	b := g.backends[backend]
	if b == nil {
		return fmt.Errorf("no backend is named %q", backend)
	}
	h, ok := b.Backend.(*httpBackend)
	if !ok {
		return fmt.Errorf("%q has no targets: it is of kind %s", backend, b.kind)
	}
	for _, t := range h.pool.Load().targets {
		if t.spec.URL == url || t.authority == url {
			if t.member.SetDraining(on) {
				h.setup.Log.Info("target drains", "target", t.spec.URL, "draining", on)
			}
			return nil
		}
	}
	return fmt.Errorf("%q has no target %q", backend, url)
}

// writeTargets writes what is measured of targets rather than counted.
func (p *Proxy) writeTargets(w io.Writer) {
	g := p.gen.Load()
	if g == nil {
		return
	}
	for _, name := range sortedNames(g.backends) {
		h, ok := g.backends[name].Backend.(*httpBackend)
		if !ok {
			continue
		}
		writeBreaker(w, name, "", h.circuit)
		if h.gate != nil {
			metrics.WriteGaugeUint64(w, fmt.Sprintf("sluice_concurrency_limit{backend=%q}", name), uint64(h.gate.Limit()))
			metrics.WriteGaugeUint64(w, fmt.Sprintf("sluice_requests_admitted{backend=%q}", name), uint64(h.gate.InFlight()))
			metrics.WriteGaugeUint64(w, fmt.Sprintf("sluice_requests_queued{backend=%q}", name), uint64(h.gate.Waiting()))
		}
		for _, t := range h.pool.Load().targets {
			available := uint64(0)
			if t.member.Available() {
				available = 1
			}
			metrics.WriteGaugeUint64(w, fmt.Sprintf("sluice_target_healthy{backend=%q,target=%q}", name, t.spec.URL), available)
			metrics.WriteGaugeUint64(w, fmt.Sprintf("sluice_target_requests_in_flight{backend=%q,target=%q}", name, t.spec.URL), uint64(max(t.member.InFlight(), 0)))
			writeBreaker(w, name, t.spec.URL, t.circuit)
		}
	}
}

func writeBreaker(w io.Writer, backend, target string, c *health.Circuit) {
	if c == nil {
		return
	}
	state, _ := c.State()
	metrics.WriteGaugeUint64(w, fmt.Sprintf("sluice_breaker_state{backend=%q,target=%q}", backend, target), uint64(state))
}
