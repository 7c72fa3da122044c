package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

// Config is what a Proxy is made of. Everything in it outlives the Proxy.
type Config struct {
	Kinds     map[string]Constructor
	Transport *upstream.Transport
	Metrics   *metrics.Set
	AccessLog io.Writer // one line an exchange; nil: none
	Log       *slog.Logger
}

// A Proxy serves exchanges by its current generation.
type Proxy struct {
	cfg       Config
	log       *slog.Logger
	gen       atomic.Pointer[Generation]
	stats     *stats
	access    *accessLog
	exchanges sync.Pool
	lastDate  atomic.Pointer[httpDate]
	lastings  lastings
	limits    *limits
	swapped   chan struct{} // there is a generation that Run has not seen
	certs     clientCerts
	mirrors   chan struct{} // one token for each mirrored exchange under way
	fetches   fetches
}

// New returns a Proxy that answers 503 until a generation is swapped in. It
// starts nothing.
func New(cfg Config) (*Proxy, error) {
	if len(cfg.Kinds) == 0 || cfg.Transport == nil {
		return nil, errors.New("proxy: Config needs Kinds and a Transport")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.NewSet()
	}
	p := &Proxy{
		cfg:     cfg,
		log:     cfg.Log,
		stats:   newStats(cfg.Metrics),
		limits:  newLimits(cfg.Metrics),
		access:  newAccessLog(cfg.AccessLog, cfg.Metrics),
		mirrors: make(chan struct{}, maxMirrors),
		swapped: make(chan struct{}, 1),
	}
	cfg.Metrics.RegisterMetricsWriter(p.writeTargets)
	p.exchanges.New = func() any { return new(Exchange) }
	return p, nil
}

// Run looks after the targets of the generation that is served and after what
// gateways share, and writes out the access log, until ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { p.attend(ctx) })
	wg.Go(func() { _ = p.limits.shared.Run(ctx) }) // it ends with ctx
	err := p.access.run(ctx)
	p.fetches.end()
	wg.Wait()
	return err
}

// attend runs one generation after the other. The next begins before the one
// before it ends, so that nothing goes unwatched.
func (p *Proxy) attend(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	var running *Generation
	stop := func() {}
	defer func() { stop() }()
	for {
		if g := p.gen.Load(); g != nil && g != running {
			life, end := context.WithCancel(ctx)
			wg.Go(func() { g.run(life) })
			stop()
			running, stop = g, end
		}
		select {
		case <-ctx.Done():
			return
		case <-p.swapped:
		}
	}
}

// Swap makes g the generation of all exchanges that begin from now on. Those
// under way finish on the one they began with.
func (p *Proxy) Swap(g *Generation) {
	p.limits.adopt(g)
	old := p.gen.Swap(g)
	if old != nil {
		old.Close()
		p.stats.retire(old, g)
		old.retire(g, p.stats)
	}
	g.begin(time.Now())
	p.lastings.retain(g)
	select {
	case p.swapped <- struct{}{}:
	default: // Run has yet to look at an earlier one
	}
}

// walk takes x from its request to its response: the life of an exchange.
func (p *Proxy) walk(x *Exchange) {
	defer p.recover(x)
	if err := p.decide(x); err != nil {
		p.answer(x, err)
		return
	}
	if x.Response.Status != 0 { // it was for the gateway itself
		p.respond(x)
		return
	}
	if err := p.obtain(x); err != nil {
		p.answer(x, err)
		return
	}
	p.respond(x)
}

// decide finds the route and lets the request in, or says why not.
func (p *Proxy) decide(x *Exchange) error {
	x.gen = p.gen.Load()
	if x.gen == nil {
		return &Problem{Status: 503, Detail: "the gateway is starting", RetryAfter: time.Second}
	}
	x.identify()
	err := x.match()
	if x.asksPurge() {
		return p.purge(x)
	}
	if err != nil {
		return err
	}
	if err := x.admit(); err != nil {
		return err
	}
	return x.limit()
}

// match picks x's route by the normal form of its path.
func (x *Exchange) match() error {
	r := &x.Request
	path, query := r.Target, []byte(nil)
	for i, c := range r.Target {
		if c == '?' {
			path, query = r.Target[:i], r.Target[i+1:]
			break
		}
	}
	r.Query = query
	ambiguous := false
	if string(path) == "*" {
		r.Path = path
	} else {
		normal, amb, err := x.gen.paths.Normalize(x.path[:0], path)
		if err != nil {
			return &Problem{Status: 400, Detail: err.Error(), Type: "http_request_error", Close: true}
		}
		r.Path, ambiguous = normal, amb
		x.dotted = hasDots(path)
	}
	x.probe = routing.Request{
		Host: view(r.Host), Path: view(r.Path), Query: view(query), Method: view(r.Method),
		Fields: r, ClientIP: r.ClientIP, Ambiguous: ambiguous,
	}
	return x.take(x.gen.table.Match(&x.probe))
}

// hasDots reports whether a path has dot segments (RFC 3986, section 3.3),
// spelled in whatever way.
func hasDots(path []byte) bool {
	for rest := path; len(rest) > 0; {
		segment := rest[1:] // behind the slash
		if i := bytes.IndexByte(segment, '/'); i >= 0 {
			segment = segment[:i]
		}
		rest = rest[1+len(segment):]
		if len(segment) == 0 || len(segment) > len("%2e%2e") || segment[0] != '.' && segment[0] != '%' {
			continue
		}
		if dots := strings.ReplaceAll(strings.ToLower(view(segment)), "%2e", "."); dots == "." || dots == ".." {
			return true
		}
	}
	return false
}

func (x *Exchange) take(found routing.Result) error {
	switch found.Outcome {
	case routing.Found:
		x.route = x.gen.routes[found.Route]
		x.probe.Route = x.route.name
		if cert := x.Request.cert; cert != nil {
			x.probe.TLSSubject = cert.subject
			x.probe.TLSName, _, _ = strings.Cut(cert.names, ", ")
		}
		return nil
	case routing.MethodNotAllowed:
		return &Problem{Status: 405, Detail: "no route of this path takes the method", Allow: found.Allow}
	case routing.Ambiguous:
		return &Problem{Status: 400, Detail: "the path can be read in more than one way", Type: "http_request_error", Close: true}
	}
	return &Problem{Status: 404, Detail: "no route matches the request", Type: "destination_not_found"}
}

// admit holds the request to its bounds and sets the exchange's deadline.
func (x *Exchange) admit() error {
	if limit := x.route.maxBody; limit > 0 {
		if x.Request.ContentLength > limit {
			return errBodyTooLarge
		}
		x.requestIn.limit = limit
	}
	if d := x.route.timeout; d > 0 {
		x.deadline = x.start.Add(d)
	}
	if x.isGRPC() {
		value, _ := x.Request.Lookup("Grpc-Timeout")
		if d, ok := grpcTimeout(value); ok {
			x.end = x.start.Add(d)
		}
	}
	return x.checkHops()
}

// fetch has the route's backend answer.
func (p *Proxy) fetch(x *Exchange) error {
	if x.lastHop() {
		x.Response.Status = 204
		return nil
	}
	x.rewrite()
	p.mirror(x)
	b := x.route.pick()
	x.backend = b.name
	return b.Serve(x)
}

// respond does to the response what the route and the gateway say.
func (p *Proxy) respond(x *Exchange) {
	if x.route != nil {
		x.route.responseEdit.apply(&x.Response.Header)
	}
	if len(x.rulings) > 0 {
		x.tellLimits()
	}
	x.cacheStatus()
	h := &x.Response.Header
	h.Set("X-Request-Id", view(x.id))
	if _, ok := h.Lookup("Date"); !ok {
		h.Add("Date", p.date(x.start))
	}
}

// date is now as Date has it (RFC 9110, section 5.6.7), made once a second.
func (p *Proxy) date(now time.Time) string {
	d := p.lastDate.Load()
	if second := now.Unix(); d == nil || d.second != second {
		d = &httpDate{second, now.UTC().Format(http.TimeFormat)}
		p.lastDate.Store(d)
	}
	return d.text
}

type httpDate struct {
	second int64
	text   string
}

// answer turns err into x's response.
func (p *Proxy) answer(x *Exchange, err error) {
	if x.conn != nil && x.requestIn.from != nil {
		if fault := x.conn.BodyFault(); fault != nil {
			err = fault
		}
	}
	problem := x.problemOf(err)
	x.err, x.problem = err, problem.Type
	if problem.Status >= 500 && problem.Err != nil && !ordinary(problem.Err) {
		p.log.Error("exchange failed", "request_id", string(x.id), "route", x.routeName(), "backend", x.backend, "error", problem.Err)
	}
	x.discardResponse()
	problem.write(x)
	x.left = x.Response.Status == statusClientGone // which a target may send as well
	p.respond(x)
}

// ordinary reports whether err is what becomes of any number of requests while
// something behind fails or is full. Metrics and the access log tell of these: a
// line for each in the other log would have exchanges wait for who reads it.
func ordinary(err error) bool {
	return errors.As(err, new(*upstream.Error)) || errors.Is(err, errNoTarget) || errors.Is(err, limiter.ErrSaturated)
}

// recover answers 500 for a panic anywhere in the walk.
func (p *Proxy) recover(x *Exchange) {
	if v := recover(); v != nil {
		p.log.Error("panic in an exchange", "request_id", string(x.id), "route", x.routeName(), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		p.stats.panics.Inc()
		p.answer(x, &Problem{Status: 500, Detail: "the gateway failed"})
	}
}

func (x *Exchange) routeName() string {
	if x.route == nil {
		return ""
	}
	return x.route.name
}
