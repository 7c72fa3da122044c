package proxy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/routing"
)

// A Probe is a request that is asked about and not sent.
type Probe struct {
	Method   string // GET where empty
	URL      string // http://host/path?query, or a path
	Header   [][2]string
	ClientIP netip.Addr // the connection's other end; 127.0.0.1 where not valid
}

// An Explanation says what would become of a Probe.
type Explanation struct {
	// Status is what the client would get: of the gateway's own refusals and of
	// backends that ask nobody; 0 where a target would decide.
	Status  int
	Reason  string            // why the gateway would refuse; empty where it would not
	Header  map[string]string // of the response, where Status is known
	Path    string            // the normal form
	Client  string            // the client's address, after trusted proxies
	Route   string
	Backend string
	Kind    string
	Target  string // the first in turn
	Why     string // how the target is picked
	// Upstream is what the target would get.
	Upstream struct {
		Method, Target, Host string
		Header               [][2]string
	}
	Mirror   string
	Timeout  time.Duration
	MaxBody  int64 // bytes; 0: unbounded
	Limits   []LimitProbe
	Timeouts *Timeouts
	Rules    []routing.Why // every route and why it did not take the request, in order of precedence
}

// Explain follows a probe through g as far as no target is asked.
func (p *Proxy) Explain(g *Generation, probe Probe) (e Explanation) {
	x := probe.exchange(g)
	x.start = time.Now()
	defer func() {
		e.fill(x)
		x.discardResponse()
	}()
	x.identify()
	err := x.match()
	e.Path = string(x.Request.Path)
	e.Rules = g.table.Explain(&x.probe)
	if err == nil {
		err = x.admit()
	}
	if err != nil {
		e.refused(p, x, err)
		return e
	}
	x.rewrite()
	b := x.route.pick()
	x.backend, e.Kind = b.name, b.kind
	if h, ok := b.Backend.(*httpBackend); ok {
		e.forwarded(x, h)
		return e
	}
	if err := b.Serve(x); err != nil {
		e.refused(p, x, err)
		return e
	}
	p.respond(x)
	e.Status = x.Response.Status
	return e
}

func (e *Explanation) refused(p *Proxy, x *Exchange, err error) {
	problem := problemOf(err)
	p.answer(x, err)
	e.Status, e.Reason = problem.Status, problem.Detail
}

func (e *Explanation) forwarded(x *Exchange, h *httpBackend) {
	timeouts := h.spec.Timeouts
	e.Timeouts = &timeouts
	p := h.pool.Load()
	if p.balancer == nil {
		e.Why = "no target has been discovered yet"
		return
	}
	now := time.Now()
	key, _ := p.balancer.Hash(&x.probe)
	t := p.byMember[p.balancer.Pick(key, now, nil)]
	e.Why = h.why(p.balancer.Status(now), &x.probe)
	if t == nil {
		return
	}
	h.prepare(x, t)
	e.Target = t.spec.URL
	up := &e.Upstream
	up.Method, up.Target = string(x.call.Method), string(x.call.Request.Target)
	for _, f := range x.call.Request.Fields {
		if equalFold(f.Name, "Host") {
			up.Host = string(f.Value)
		}
		up.Header = append(up.Header, [2]string{string(f.Name), string(f.Value)})
	}
}

// why says by what a target is picked, and from how many.
func (b *httpBackend) why(s routing.Status, r *routing.Request) string {
	why := fmt.Sprintf("%s, %d of %d targets", s.Policy, len(s.Candidates), s.Members)
	if s.Panic {
		why += " (too few are healthy, so that all are used)"
	}
	hash := b.spec.Balance.Hash
	if s.Policy != "ring_hash" && s.Policy != "maglev" {
		return why
	}
	why += ", by " + hash.String()
	for _, part := range hash.Missing(r) {
		why += fmt.Sprintf("; the request has no %s: the client's address stands in", part)
	}
	return why
}

func (e *Explanation) fill(x *Exchange) {
	e.Client, e.Backend = x.Request.ClientIP.String(), x.backend
	if r := x.route; r != nil {
		e.Route, e.Timeout, e.MaxBody = r.name, r.timeout, r.maxBody
		e.Limits = x.probeLimits()
		if r.mirror != nil {
			e.Mirror = r.mirror.name
		}
	}
	if e.Status != 0 {
		e.Header = make(map[string]string, len(x.Response.Header.Fields))
		for _, f := range x.Response.Header.Fields {
			e.Header[string(f.Name)] = string(f.Value)
		}
	}
}

// exchange is the probe as an adapter would have read it.
func (probe *Probe) exchange(g *Generation) *Exchange {
	x := &Exchange{gen: g}
	r := &x.Request
	r.Method, r.Scheme, r.Version = []byte(first(probe.Method, "GET")), "http", "1.1"
	target := probe.URL
	if scheme, rest, ok := strings.Cut(probe.URL, "://"); ok {
		r.Scheme = strings.ToLower(scheme)
		authority := rest
		target = "/"
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			authority, target = rest[:i], rest[i:]
			if target[0] == '?' {
				target = "/" + target
			}
		}
		r.Host = []byte(authority)
	}
	r.Target = []byte(target)
	if len(r.Host) > 0 {
		r.Fields = append(r.Fields, Field{Name: []byte("Host"), Value: r.Host})
	}
	for _, f := range probe.Header {
		if strings.EqualFold(f[0], "Host") {
			r.Host = []byte(f[1])
			if len(r.Fields) > 0 {
				r.Fields[0].Value = r.Host
				continue
			}
		}
		r.Fields = append(r.Fields, Field{Name: []byte(f[0]), Value: []byte(f[1])})
		if strings.EqualFold(f[0], "Content-Length") {
			r.ContentLength = contentLength([]byte(f[1]))
		}
	}
	ip := probe.ClientIP
	if !ip.IsValid() {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	r.Peer = netip.AddrPortFrom(ip, 0)
	return x
}

// RouteInfo is a route as the admin API shows it.
type RouteInfo struct {
	Name     string        `json:"name"`
	Match    routing.Match `json:"match"`
	Priority int           `json:"priority,omitempty"`
	Backend  string        `json:"backend,omitempty"`
	Split    []Share       `json:"split,omitempty"`
	Mirror   string        `json:"mirror,omitempty"`
	Timeout  string        `json:"timeout,omitempty"`
}

// Routes lists g's routes in the file's order.
func (g *Generation) Routes() []RouteInfo {
	infos := make([]RouteInfo, 0, len(g.routes))
	for _, r := range g.routes {
		info := RouteInfo{Name: r.name, Match: r.spec.Match, Priority: r.spec.Priority, Backend: r.spec.Backend, Split: r.spec.Split}
		if r.mirror != nil {
			info.Mirror = r.mirror.name
		}
		if r.timeout > 0 {
			info.Timeout = r.timeout.String()
		}
		infos = append(infos, info)
	}
	return infos
}
