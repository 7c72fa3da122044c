package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/sluice-edge/sluice/edgecache"
	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/routing"
)

// A Generation is everything built from one version of the configuration. An
// exchange sees exactly one.
type Generation struct {
	number   uint64
	spec     Spec
	table    *routing.Table
	routes   []*route
	backends map[string]*namedBackend
	trusted  []netip.Prefix
	paths    routing.Paths
	sampling AccessLog
	tunnels  *atomic.Int64   // open now, of all generations
	checker  *health.Checker // nil: no backend has active checks
	limits   map[string]*limit
	shared   *limiter.RateRedis
	cache    *edgecache.Cache // nil: nothing is stored
}

type namedBackend struct {
	Backend
	name, kind string
}

// A route is a Route ready to be followed.
type route struct {
	name         string
	spec         Route
	backend      *namedBackend // where there is no split
	split        []weighted
	total        int
	mirror       *namedBackend
	mirrorShare  float64
	rewrite      *rewriter // nil: nothing to do
	requestEdit  edit
	responseEdit edit
	timeout      time.Duration
	maxBody      int64
	limits       []*limit
	cache        *edgecache.Rules // nil: nothing is stored
	stats        *routeStats
}

type weighted struct {
	backend *namedBackend
	upTo    int // the sum of the weights so far
}

// A SpecError is a fault in a Spec, with the YAML path of its place.
type SpecError struct {
	Path string
	Err  error
}

func (e *SpecError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *SpecError) Unwrap() error { return e.Err }

// same reports whether other is this fault, found again.
func (e *SpecError) same(other error) bool { return other.Error() == e.Error() }

// below extends a YAML path by a key, quoted where it could be taken for more
// than one.
func below(path, key string) string {
	if key == "" || strings.ContainsAny(key, `.[]"\ `) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	return path + "." + key
}

// ErrReported is what Setup.Decode returns when it has told the operator
// already.
var ErrReported = errors.New("reported already")

// Build makes a generation and starts nothing. All faults of the spec come
// back at once, joined, each a *SpecError.
func (p *Proxy) Build(spec Spec) (*Generation, error) {
	g := &Generation{
		number: spec.Number, spec: spec, trusted: spec.TrustedProxies, paths: spec.Paths,
		backends: make(map[string]*namedBackend, len(spec.Backends)), sampling: spec.AccessLog,
		tunnels: &p.stats.tunnels, shared: p.limits.shared, cache: spec.Cache,
	}
	b := builder{p: p, g: g}
	b.backends(spec.Backends)
	b.routes(spec.Routes)
	if err := errors.Join(b.faults...); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Number is the generation's number, as the Spec gave it.
func (g *Generation) Number() uint64 { return g.number }

// Start has the backends that have to open something do so, in the order of
// their names, until ctx is done. It is called once, before g is swapped in; a
// generation that failed to start is closed.
func (g *Generation) Start(ctx context.Context) error {
	for _, name := range sortedNames(g.backends) {
		s, ok := g.backends[name].Backend.(interface{ Start(context.Context) error })
		if !ok {
			continue
		}
		if err := s.Start(ctx); err != nil {
			return &SpecError{Path: below("backends", name), Err: err}
		}
	}
	return nil
}

// Close lets go of what the backends hold. Exchanges that began with g go on.
func (g *Generation) Close() {
	for _, b := range g.backends {
		if c, ok := b.Backend.(io.Closer); ok {
			_ = c.Close() // a generation that is gone has nobody to tell
		}
	}
}

// checked hands on what the checker has found out.
func (g *Generation) checked(c health.Transition) {
	if b := g.backends[c.Backend]; b != nil {
		b.Backend.(*httpBackend).checked(c) // only those have targets
	}
}

// begin makes g's view of the targets the one that is acted on.
func (g *Generation) begin(now time.Time) {
	for _, b := range g.backends {
		if h, ok := b.Backend.(*httpBackend); ok {
			h.begin(now)
		}
	}
}

// retire forgets the series of the backends and targets of g that next no longer
// has.
func (g *Generation) retire(next *Generation, s *stats) {
	for name, b := range g.backends {
		h, ok := b.Backend.(*httpBackend)
		if !ok {
			continue
		}
		var kept *pool
		if n := next.backends[name]; n != nil {
			if other, ok := n.Backend.(*httpBackend); ok {
				kept = other.pool.Load()
			}
		}
		if kept == nil {
			s.retireBackend(h)
		}
		for _, t := range h.pool.Load().targets {
			if !kept.knows(t.spec.URL) {
				t.stats.retire()
			}
		}
	}
}

// run looks after the targets of g until ctx ends.
func (g *Generation) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if g.checker != nil {
		wg.Go(func() { _ = g.checker.Run(ctx) }) // it ends with ctx
	}
	for _, b := range g.backends {
		if h, ok := b.Backend.(*httpBackend); ok {
			wg.Go(func() { _ = h.run(ctx) }) // likewise
		}
	}
}

func (g *Generation) trusts(addr netip.Addr) bool {
	for _, prefix := range g.trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

type builder struct {
	p      *Proxy
	g      *Generation
	faults []error
}

func (b *builder) fault(path string, err error) {
	var inner *SpecError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			b.fault(path, one)
		}
		return
	}
	if errors.As(err, &inner) {
		path, err = path+"."+inner.Path, inner.Err
	}
	b.faults = append(b.faults, &SpecError{Path: path, Err: err})
}

// A reference is a use of the backend to by the backend from; path says where.
type reference struct{ path, from, to string }

func (b *builder) backends(specs map[string]BackendSpec) {
	var refs []reference
	for _, name := range sortedNames(specs) {
		spec, path := specs[name], below("backends", name)
		if name == "" {
			b.fault(path, errors.New("a backend needs a name"))
			continue
		}
		if err := checkLabel(name); err != nil {
			b.fault(path, err)
		}
		if spec.Kind == "" {
			spec.Kind = "http"
		}
		construct, ok := b.p.cfg.Kinds[spec.Kind]
		if !ok {
			b.fault(path+".kind", fmt.Errorf("no backend kind %q, only %s", spec.Kind, strings.Join(sortedNames(b.p.cfg.Kinds), ", ")))
			continue
		}
		backend, err := construct(Setup{
			Name: name, Decode: spec.Decode, Transport: b.p.cfg.Transport,
			Log:     b.p.log.With("backend", name),
			Redis:   b.g.spec.Redis,
			Lookup:  func(name string) Backend { return b.g.backends[name] },
			Refer:   func(field, to string) { refs = append(refs, reference{path + "." + field, name, to}) },
			stats:   b.p.stats,
			lasting: b.p.lastings.of(name), previous: b.previous(name), checker: b.checker,
		})
		if err != nil {
			b.fault(path, err)
			continue
		}
		b.g.backends[name] = &namedBackend{Backend: backend, name: name, kind: spec.Kind}
	}
	b.adopt()
	for _, r := range refs {
		if _, ok := specs[r.to]; !ok {
			b.fault(r.path, fmt.Errorf("no backend is named %q", r.to))
		}
	}
	b.rings(refs)
}

// rings finds backends that end up using themselves, each ring once.
func (b *builder) rings(refs []reference) {
	done := make(map[string]bool)
	var follow func(name string, way []string)
	follow = func(name string, way []string) {
		way = append(way, name)
		for _, r := range refs {
			if r.from != name || done[r.to] {
				continue
			}
			if i := slices.Index(way, r.to); i >= 0 {
				b.fault(r.path, fmt.Errorf("leads back to where it began: %s", strings.Join(append(way[i:], r.to), " -> ")))
				continue
			}
			follow(r.to, way)
		}
		done[name] = true
	}
	for _, r := range refs {
		if !done[r.from] {
			follow(r.from, nil)
		}
	}
}

// previous is the backend of that name that is served now.
func (b *builder) previous(name string) *httpBackend {
	g := b.p.gen.Load()
	if g == nil || g.backends[name] == nil {
		return nil
	}
	h, _ := g.backends[name].Backend.(*httpBackend)
	return h
}

// checker is the one that checks all targets of the generation.
func (b *builder) checker() *health.Checker {
	if b.g.checker == nil {
		g := b.g
		g.checker, _ = health.NewChecker(health.Config{Report: g.checked}) // nothing in it can be wrong
	}
	return b.g.checker
}

// adopt has the checks go on where those of the generation before are.
func (b *builder) adopt() {
	if old := b.p.gen.Load(); old != nil && old.checker != nil && b.g.checker != nil {
		b.g.checker.Adopt(old.checker)
	}
}

func (b *builder) routes(routes []Route) {
	rules := make([]routing.Rule, len(routes))
	seen := make(map[string]int, len(routes))
	for i := range routes {
		r := &routes[i]
		path := fmt.Sprintf("routes[%d]", i)
		if r.Name == "" {
			r.Name = fmt.Sprintf("route-%d", i+1)
		}
		if other, ok := seen[r.Name]; ok {
			b.fault(path+".name", fmt.Errorf("routes[%d] has the name %q already", other, r.Name))
		}
		seen[r.Name] = i
		if err := checkLabel(r.Name); err != nil {
			b.fault(path+".name", err)
		}
		rules[i] = routing.Rule{Name: r.Name, Match: r.Match, Priority: r.Priority}
		b.g.routes = append(b.g.routes, b.route(path, r))
	}
	if err := b.g.paths.Validate(); err != nil {
		b.fault("paths", err)
	}
	table, err := routing.NewTable(rules)
	if err != nil {
		b.tableFaults(err)
		return
	}
	b.g.table = table
}

func (b *builder) tableFaults(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			b.tableFaults(one)
		}
		return
	}
	var fault *routing.RuleError
	if errors.As(err, &fault) {
		b.fault(fmt.Sprintf("routes[%d].%s", fault.Rule, fault.Field), fault.Err)
		return
	}
	b.fault("routes", err)
}

func (b *builder) route(path string, spec *Route) *route {
	r := &route{name: spec.Name, spec: *spec, timeout: spec.Timeout, maxBody: spec.MaxBodyBytes}
	if r.maxBody == 0 {
		r.maxBody = b.g.spec.MaxBodyBytes
	}
	switch {
	case spec.Backend != "" && len(spec.Split) > 0:
		b.fault(path, errors.New("backend and split exclude each other"))
	case spec.Backend != "":
		r.backend = b.named(path+".backend", spec.Backend)
	case len(spec.Split) > 0:
		b.split(path+".split", r, spec.Split)
	default:
		b.fault(path, errors.New("a backend is missing"))
	}
	if m := spec.Mirror; m != nil {
		r.mirror, r.mirrorShare = b.named(path+".mirror.backend", m.Backend), m.Percent
	}
	var err error
	if r.rewrite, err = newRewriter(spec.Rewrite); err != nil {
		b.fault(path+".rewrite", err)
	}
	if r.requestEdit, err = newRequestEdit(spec.RequestHeaders); err != nil {
		b.fault(path+".request_headers", err)
	}
	if r.responseEdit, err = newEdit(spec.ResponseHeaders); err != nil {
		b.fault(path+".response_headers", err)
	}
	b.limits(path+".limits", r, spec.Limits)
	if c := spec.Cache; c != nil && !c.off {
		if r.cache, err = c.rules(r.name); err != nil {
			b.fault(path+".cache", err)
		}
	}
	r.stats = b.p.stats.route(r.name)
	return r
}

func (b *builder) split(path string, r *route, shares []Share) {
	for i, s := range shares {
		backend := b.named(fmt.Sprintf("%s[%d].backend", path, i), s.Backend)
		if s.Weight <= 0 {
			continue // listed, and for now without a share
		}
		r.total += s.Weight
		r.split = append(r.split, weighted{backend, r.total})
	}
	if r.total == 0 {
		b.fault(path, errors.New("no backend has a weight above 0"))
	}
}

func (b *builder) named(path, name string) *namedBackend {
	nb, ok := b.g.backends[name]
	if !ok {
		if _, named := b.g.spec.Backends[name]; !named {
			b.fault(path, fmt.Errorf("no backend is named %q%s", name, b.suggest(name)))
		}
	}
	return nb
}

func (b *builder) suggest(name string) string {
	for known := range b.g.spec.Backends {
		if len(known) > 2 && (slices.Contains([]string{known + "s", known[:len(known)-1]}, name)) {
			return fmt.Sprintf("; did you mean %q?", known)
		}
	}
	return ""
}

// checkLabel refuses what could not stand in the labels of metrics, where only
// quotes, backslashes and line ends may be escaped.
func checkLabel(name string) error {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(c rune) bool { return !strconv.IsPrint(c) }) {
		return fmt.Errorf("the name %q holds a character that cannot be printed", name)
	}
	return nil
}

func sortedNames[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

// pick is the backend for one exchange.
func (r *route) pick() *namedBackend {
	if r.backend != nil {
		return r.backend
	}
	n := rand.IntN(r.total)
	for i := range r.split {
		if n < r.split[i].upTo {
			return r.split[i].backend
		}
	}
	return r.split[len(r.split)-1].backend
}
