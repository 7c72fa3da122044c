package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Config is what the admin API shows and does. A function that is nil leaves its
// path out.
type Config struct {
	// Token, unless empty, must come with every request but those for /healthz
	// and /readyz, as a bearer token (RFC 6750, section 2.1).
	Token string
	// Metrics writes in Prometheus' text format.
	Metrics func(w io.Writer)
	// Ready returns nil, or why traffic should go elsewhere.
	Ready func() error
	// Routes, Backends, Limits, Generation and Config return what becomes JSON.
	Routes, Backends, Limits, Generation, Config func() any
	// Cache returns what becomes JSON: of the cache, or where the query has a url,
	// of what is stored for that. Purge has an order, as JSON, carried out.
	Cache func(query url.Values) (any, error)
	Purge func(order []byte) (any, error)
	// Drain has a backend's target keep only the clients that stick to it, or
	// take all again; the error says which of the two names is unknown.
	Drain func(backend, target string, on bool) error
	// Reload returns nil, or what is wrong, a line a fault.
	Reload func() error
	Log    *slog.Logger
}

type api struct {
	cfg   Config
	token [sha256.Size]byte
	pages []page
}

// A page is a path, what it is good for, and who answers.
type page struct {
	path, about string
	methods     []string
	open        bool // for probes: anyone may ask
	serve       http.HandlerFunc
}

var (
	reads  = []string{"GET", "HEAD"}
	writes = []string{"POST"}
)

// New returns the admin API as a handler. Responses are never cached, and
// errors are problem documents (RFC 9457).
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &api{cfg: cfg, token: sha256.Sum256([]byte(cfg.Token))}
	a.pages = a.paths()
	mux := http.NewServeMux()
	for _, p := range a.pages {
		mux.Handle(p.pattern(), a.guard(p))
	}
	mux.Handle("/", a.guard(page{serve: func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "there is no such path; / lists them")
	}}))
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.refuse(w, r, http.StatusForbidden, "the request comes from a page of another site")
	}))
	return cross.Handler(listed(mux))
}

// listed has a target be named by its URL as /api/backends lists it: ServeMux
// would take the // in it for one slash, and redirect there.
func listed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		before, target, found := strings.Cut(path, "/targets/")
		if i := strings.LastIndexByte(target, '/'); found && i > 0 && strings.Contains(target[:i], "/") {
			if u, err := url.Parse(before + "/targets/" + strings.ReplaceAll(target[:i], "/", "%2F") + target[i:]); err == nil {
				r = r.Clone(r.Context())
				r.URL.Path, r.URL.RawPath = u.Path, u.RawPath
			}
		}
		next.ServeHTTP(w, r)
	})
}

// pattern is the page's path as ServeMux reads it.
func (p page) pattern() string {
	if p.path == "/" {
		return "/{$}"
	}
	return p.path
}

func (a *api) paths() []page {
	pages := []page{
		{path: "/", about: "this list", methods: reads, serve: a.index},
		{path: "/healthz", about: "200 while the process lives", methods: reads, open: true, serve: a.alive},
	}
	add := func(there bool, p page) {
		if there {
			pages = append(pages, p)
		}
	}
	c := &a.cfg
	add(c.Ready != nil, page{path: "/readyz", about: "200 while traffic is welcome, 503 and the reason otherwise", methods: reads, open: true, serve: a.ready})
	add(c.Metrics != nil, page{path: "/metrics", about: "metrics for Prometheus", methods: reads, serve: a.metrics})
	add(c.Routes != nil, page{path: "/api/routes", about: "routes, in the order of the file", methods: reads, serve: show(c.Routes)})
	add(c.Backends != nil, page{path: "/api/backends", about: "backends and their targets", methods: reads, serve: show(c.Backends)})
	add(c.Limits != nil, page{path: "/api/limits", about: "rate limits, and whether what gateways share can be reached", methods: reads, serve: show(c.Limits)})
	add(c.Cache != nil, page{path: "/api/cache", about: "what is stored, and what is used most; ?url= tells all of what is stored for one URL", methods: reads, serve: a.cache})
	add(c.Purge != nil, page{path: "/api/cache/purge", about: `POST {"url"|"prefix"|"host"|"tag": "…"} or {"all": true} has that be used no more; with "soft": true it is only to be validated`, methods: writes, serve: a.purge})
	add(c.Drain != nil, page{path: "/api/backends/{backend}/targets/{target}/{action}", about: "POST …/drain has a target (its URL, escaped, or host:port) take no new clients, …/enable takes it back", methods: writes, serve: a.drain})
	add(c.Config != nil, page{path: "/api/config", about: "the configuration, without its secrets", methods: reads, serve: show(c.Config)})
	add(c.Generation != nil, page{path: "/api/generation", about: "which configuration is served, and how reloads went", methods: reads, serve: show(c.Generation)})
	add(c.Reload != nil, page{path: "/api/reload", about: "POST reads the configuration again; 422 and the faults where it is refused", methods: writes, serve: a.reload})
	return append(pages,
		page{path: "/debug/pprof/", about: "profiles", methods: reads, serve: pprof.Index},
		page{path: "/debug/pprof/cmdline", methods: reads, serve: pprof.Cmdline},
		page{path: "/debug/pprof/profile", methods: reads, serve: pprof.Profile},
		page{path: "/debug/pprof/symbol", methods: slices.Concat(reads, writes), serve: pprof.Symbol},
		page{path: "/debug/pprof/trace", methods: reads, serve: pprof.Trace},
	)
}

// guard lets a request through to p if its sender may ask and its method is one
// of p's. A page without methods takes all.
func (a *api) guard(p page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		switch {
		case p.open:
		case a.cfg.Token == "" && !local(r.Host):
			// A page of another site can have its own name resolve to this
			// address; then it is of the same origin. It cannot choose an
			// address for a name.
			a.refuse(w, r, http.StatusForbidden, "without a token the Host must be an IP address or localhost")
			return
		case a.cfg.Token != "" && !a.knows(r):
			h.Set("WWW-Authenticate", `Bearer realm="sluice admin"`)
			a.refuse(w, r, http.StatusUnauthorized, "the bearer token is missing or wrong")
			return
		}
		if p.methods != nil && !slices.Contains(p.methods, r.Method) {
			h.Set("Allow", strings.Join(p.methods, ", "))
			problem(w, http.StatusMethodNotAllowed, "this path takes "+strings.Join(p.methods, ", "))
			return
		}
		p.serve(w, r)
	})
}

// knows reports whether r carries the token, in a time that tells nothing of it.
func (a *api) knows(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(sum[:], a.token[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// local reports whether an authority is localhost or an IP address.
func local(authority string) bool {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(authority, "["), "]")
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	_, err = netip.ParseAddr(host)
	return err == nil
}

func (a *api) refuse(w http.ResponseWriter, r *http.Request, status int, detail string) {
	a.cfg.Log.Warn("admin request refused", "remote", r.RemoteAddr, "method", r.Method,
		"path", r.URL.Path, "host", r.Host, "reason", detail)
	problem(w, status, detail)
}

func (a *api) alive(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") }

func (a *api) ready(w http.ResponseWriter, _ *http.Request) {
	if err := a.cfg.Ready(); err != nil {
		text(w, http.StatusServiceUnavailable, err.Error()+"\n")
		return
	}
	text(w, http.StatusOK, "ready\n")
}

func (a *api) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	a.cfg.Metrics(w)
}

func (a *api) drain(w http.ResponseWriter, r *http.Request) {
	action := r.PathValue("action")
	if action != "drain" && action != "enable" {
		problem(w, http.StatusNotFound, "a target can be told to drain or enable")
		return
	}
	if err := a.cfg.Drain(r.PathValue("backend"), r.PathValue("target"), action == "drain"); err != nil {
		problem(w, http.StatusNotFound, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *api) cache(w http.ResponseWriter, r *http.Request) {
	report, err := a.cfg.Cache(r.URL.Query())
	if err != nil {
		problem(w, http.StatusNotFound, err.Error())
		return
	}
	send(w, http.StatusOK, "application/json", report)
}

// maxOrder bounds the body of an order to purge, in bytes.
const maxOrder = 64 << 10

func (a *api) purge(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	if err != nil {
		problem(w, http.StatusRequestEntityTooLarge, "the order is too large, or broke off")
		return
	}
	if !json.Valid(body) {
		problem(w, http.StatusBadRequest, `the body is not JSON, such as {"url": "https://example.com/x"}`)
		return
	}
	done, err := a.cfg.Purge(body)
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	send(w, http.StatusOK, "application/json", done)
}

func (a *api) reload(w http.ResponseWriter, _ *http.Request) {
	if err := a.cfg.Reload(); err != nil {
		send(w, http.StatusUnprocessableEntity, "application/problem+json", problemDocument{
			Type: "about:blank", Title: http.StatusText(http.StatusUnprocessableEntity), Status: http.StatusUnprocessableEntity,
			Detail: "the configuration was refused; the one before it stays", Errors: strings.Split(err.Error(), "\n"),
		})
		return
	}
	var now any = struct{}{}
	if a.cfg.Generation != nil {
		now = a.cfg.Generation()
	}
	send(w, http.StatusOK, "application/json", now)
}

// show answers with what value returns.
func show(value func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { send(w, http.StatusOK, "application/json", value()) }
}

// A problemDocument is RFC 9457, section 3, with the faults of a configuration.
type problemDocument struct {
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail"`
	Errors []string `json:"errors,omitempty"`
}

func problem(w http.ResponseWriter, status int, detail string) {
	send(w, status, "application/problem+json", problemDocument{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail,
	})
}

// send answers with v as JSON.
func send(w http.ResponseWriter, status int, kind string, v any) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic("admin: what is shown is no JSON: " + err.Error()) // net/http logs it
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, b.String()) // who asked has gone
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // who asked has gone
}
