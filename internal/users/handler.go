package users

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Paths of the service.
const (
	usersPath    = "/api/users"
	sessionsPath = "/api/sessions"
	openapiPath  = usersPath + "/openapi.json"
	healthPath   = "/health"
	readyPath    = "/ready"
)

// An Incoming is what carried a request.
type Incoming interface {
	// Nth returns the value of the header field of that name, in any case, which
	// n others precede; it is good until the request is over.
	Nth(name string, n int) (string, bool)
	// Context is done when nobody waits for the answer any more.
	Context() context.Context
}

// A Request is one HTTP request, whatever carried it. The service keeps nothing
// of it.
type Request struct {
	Incoming
	Method string
	Path   string // decoded
	Query  string // as it came, without the question mark
	ID     string // for error documents; empty: X-Request-Id, if any
	Secure bool   // whether the client came with TLS, for cookies
	Body   io.Reader
}

// Lookup returns the value of a header field, of several lines joined (RFC 9110,
// section 5.3).
func (r *Request) Lookup(name string) (string, bool) {
	value, ok := r.Nth(name, 0)
	between := ", "
	if name == "Cookie" {
		between = "; "
	}
	for n := 1; ok; n++ {
		line, more := r.Nth(name, n)
		if !more {
			break
		}
		value += between + line
	}
	return value, ok
}

// A Field is one header field of a response.
type Field struct{ Name, Value string }

// A Response is what the service answers. Its memory may be used again: Reset.
type Response struct {
	Status int
	Fields []Field
	Body   []byte
}

// Reset makes r empty and keeps its memory.
func (r *Response) Reset() { r.Status, r.Fields, r.Body = 0, r.Fields[:0], r.Body[:0] }

// Add appends a header field.
func (r *Response) Add(name, value string) { r.Fields = append(r.Fields, Field{name, value}) }

// Config is what a Handler works with.
type Config struct {
	Store    Store
	Sessions Sessions // nil: there are none
	Secret   []byte   // signs tokens and cursors; the same in every process of the service
	Avatars  *Avatars // nil: none are taken
	Log      *slog.Logger
}

// A Handler is the service's HTTP API. Its methods are safe for concurrent use.
type Handler struct {
	store    Store
	near     nearby // nil: the store has nothing at hand
	sessions Sessions
	avatars  *Avatars
	sign     signer
	hashing  chan struct{} // as many as may hash passwords at a time
	waiting  atomic.Int64  // for it, and hashing
	turns    turns
	log      *slog.Logger
	leaving  atomic.Bool
}

// New returns the API over a store. It starts nothing.
func New(c Config) (*Handler, error) {
	if c.Store == nil || len(c.Secret) < minSecret {
		return nil, errors.New("the user service needs a store, and a secret of 16 bytes at least")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	near, _ := c.Store.(nearby)
	return &Handler{
		store: c.Store, near: near, sessions: c.Sessions, avatars: c.Avatars, log: c.Log,
		sign:    newSigner(c.Secret),
		hashing: make(chan struct{}, maxHashing),
		turns:   newTurns(),
	}, nil
}

// A nearby store is one that has some users in memory.
type nearby interface {
	// AtHand returns the user of an ID, where a read after that token can be
	// answered without waiting for anything. Nobody changes what it returns.
	AtHand(id string, after Token) *User
}

// Leave makes /ready say that no more requests should come.
func (h *Handler) Leave() { h.leaving.Store(true) }

// Serve answers one request. Its error is that of the request's body, where it
// could not be read; there is no answer then.
func (h *Handler) Serve(req *Request, resp *Response) error {
	err := h.route(req, resp)
	var broken *brokenBody
	if errors.As(err, &broken) {
		return broken.err
	}
	if err != nil {
		h.problem(req, resp, err)
	}
	return nil
}

func (h *Handler) route(req *Request, resp *Response) error {
	switch path := req.Path; {
	case path == usersPath:
		return h.collection(req, resp)
	case path == openapiPath:
		return h.openapi(req, resp)
	case strings.HasPrefix(path, usersPath+"/"):
		rest := path[len(usersPath)+1:]
		if id, ok := strings.CutSuffix(rest, avatarPath); ok {
			return h.avatar(req, resp, id)
		}
		return h.item(req, resp, rest)
	case path == sessionsPath:
		return h.session(req, resp)
	case path == healthPath:
		return h.health(req, resp)
	case path == readyPath:
		return h.ready(req, resp)
	}
	return &problem{status: http.StatusNotFound, detail: "there is nothing at this path"}
}

func (h *Handler) collection(req *Request, resp *Response) error {
	switch req.Method {
	case "GET", "HEAD":
		return h.list(req, resp)
	case "POST":
		return h.create(req, resp)
	}
	return notAllowed("GET, HEAD, POST")
}

func (h *Handler) item(req *Request, resp *Response, id string) error {
	if !canonicalID(id) {
		if req.Method == "POST" {
			return notAllowed("GET, HEAD, PUT, PATCH, DELETE")
		}
		return ErrNotFound
	}
	switch req.Method {
	case "GET", "HEAD":
		return h.get(req, resp, id)
	case "PUT":
		return h.replace(req, resp, id)
	case "PATCH":
		return h.patch(req, resp, id)
	case "DELETE":
		return h.remove(req, resp, id)
	}
	return notAllowed("GET, HEAD, PUT, PATCH, DELETE")
}

// canonicalID reports whether id is a UUID in the form in which the service
// writes them.
func canonicalID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
				return false
			}
		}
	}
	return true
}

// get answers with one user.
func (h *Handler) get(req *Request, resp *Response, id string) error {
	if req.Query != "" {
		return &FieldError{firstName(req.Query), "is no parameter here"}
	}
	if u := h.nearby(req, id); u != nil {
		return answerGet(req, resp, u, Source{})
	}
	u, source, err := readAfter(h, req, func(after Token) (User, Source, error) {
		return h.store.Get(req.Context(), id, after)
	})
	if err != nil {
		return err
	}
	return answerGet(req, resp, &u, source)
}

// nearby finds a user whom the store has at hand: no context, no closure, which
// is most of what such a read would cost. nil: ask the store.
func (h *Handler) nearby(req *Request, id string) *User {
	if h.near == nil {
		return nil
	}
	after, _, err := h.token(req)
	if err != nil {
		return nil
	}
	return h.near.AtHand(id, after)
}

// answerGet answers with u, or says that the client has it.
func answerGet(req *Request, resp *Response, u *User, source Source) error {
	etag := etagOf(u.Version)
	if match, ok := req.Lookup("If-None-Match"); ok && noneMatch(match, etag) {
		resp.Status = http.StatusNotModified
		resp.Add("ETag", etag)
		resp.Add("Cache-Control", "no-cache")
		return nil
	}
	answerUser(resp, http.StatusOK, u, etag)
	staleField(resp, source)
	return nil
}

// answerUser fills the response with u.
func answerUser(resp *Response, status int, u *User, etag string) {
	resp.Status = status
	resp.Add("Content-Type", "application/json")
	resp.Add("ETag", etag)
	resp.Add("Cache-Control", "no-cache")
	resp.Body = append(u.AppendJSON(resp.Body), '\n')
}

// staleField says so where a replica answered for want of a primary.
func staleField(resp *Response, s Source) {
	if s.Stale {
		resp.Add("Sluice-Stale", "replica")
	}
}

// openapi answers with the description of the service.
func (h *Handler) openapi(req *Request, resp *Response) error {
	if req.Method != "GET" && req.Method != "HEAD" {
		return notAllowed("GET, HEAD")
	}
	resp.Status = http.StatusOK
	resp.Add("Content-Type", "application/vnd.oai.openapi+json;version=3.1")
	resp.Add("Cache-Control", "max-age=60")
	resp.Body = append(resp.Body, openapiJSON...)
	return nil
}

// checkTime bounds how long /health waits.
const checkTime = 2 * time.Second

// health asks everything and says what did not answer.
func (h *Handler) health(req *Request, resp *Response) error {
	return h.checked(req, resp, func(Check) bool { return true })
}

// ready asks what requests cannot be answered without.
func (h *Handler) ready(req *Request, resp *Response) error {
	if h.leaving.Load() {
		return &problem{status: http.StatusServiceUnavailable, detail: "the service is going", retry: time.Second}
	}
	return h.checked(req, resp, func(c Check) bool { return c.Vital })
}

func (h *Handler) checked(req *Request, resp *Response, counts func(Check) bool) error {
	if req.Method != "GET" && req.Method != "HEAD" {
		return notAllowed("GET, HEAD")
	}
	ctx, cancel := context.WithTimeout(req.Context(), checkTime)
	defer cancel()
	checks := h.store.Health(ctx)
	resp.Status = http.StatusOK
	for _, c := range checks {
		if c.Err != nil && !c.Spare && counts(c) {
			resp.Status = http.StatusServiceUnavailable
			h.log.Warn("a check failed", "what", c.Name, "error", c.Err)
		}
	}
	resp.Add("Content-Type", "application/json")
	resp.Add("Cache-Control", "no-store")
	resp.Body = appendChecks(resp.Body, resp.Status == http.StatusOK, checks)
	return nil
}
