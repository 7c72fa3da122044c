package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/service"
)

// patience bounds every wait; none is expected to last.
const patience = 20 * time.Second

// embedded is the service with nothing else installed.
func embedded(t *testing.T) service.Spec {
	spec := service.Default()
	spec.DataDir = t.TempDir()
	return spec
}

// An api is a service at work behind a socket. Every answer is held to the
// description that the service itself gives.
type api struct {
	*testing.T
	url       string
	described validator.Validator
	mu        *sync.Mutex // of described
	client    *http.Client
}

// serve runs a service until the test is over.
func serve(t *testing.T, spec service.Spec, client redis.UniversalClient) *api {
	t.Helper()
	s, err := service.NewServices(nil, nil).Open(context.Background(), spec, client)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &fasthttp.Server{Handler: s.Handle, StreamRequestBody: true, ReadBufferSize: 32 << 10}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	a := &api{T: t, url: "http://" + ln.Addr().String(), mu: new(sync.Mutex),
		client: &http.Client{Timeout: patience, Transport: &http.Transport{}}}
	t.Cleanup(func() {
		a.client.CloseIdleConnections()
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Release(); err != nil {
			t.Error(err)
		}
	})
	a.describe()
	return a
}

// describe reads the service's description, and holds it to OpenAPI's own.
func (a *api) describe() {
	a.Helper()
	resp, err := a.client.Get(a.url + "/api/users/openapi.json")
	if err != nil {
		a.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		a.Fatal(err)
	}
	doc, err := libopenapi.NewDocument(text)
	if err != nil {
		a.Fatal(err)
	}
	v, errs := validator.NewValidator(doc, config.WithFormatAssertions())
	if len(errs) > 0 {
		a.Fatal(errs)
	}
	if ok, faults := v.ValidateDocument(); !ok {
		a.Fatal(faults)
	}
	a.described = v
}

// A reply is what came back.
type reply struct {
	status int
	header http.Header
	text   string
}

// do sends a request; fields are names and values in turn, a line for each.
func (a *api) do(method, path, body string, fields ...string) reply {
	a.Helper()
	req, err := http.NewRequest(method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.Fatal(err)
	}
	if body == "" {
		req.Body = nil
	}
	if body != "" && method != "PATCH" {
		req.Header.Set("Content-Type", "application/json")
	} else if body != "" {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Del(fields[i])
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	resp, err := a.client.Do(req)
	if err != nil {
		a.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		a.Fatal(err)
	}
	a.hold(req, resp, text)
	return reply{resp.StatusCode, resp.Header, string(text)}
}

// hold compares an answer with the description.
func (a *api) hold(req *http.Request, resp *http.Response, text []byte) {
	a.Helper()
	known := []string{"/api/sessions", "/health", "/ready"}
	ours := strings.HasPrefix(req.URL.Path, "/api/users")
	for _, path := range known {
		ours = ours || req.URL.Path == path
	}
	if !ours || resp.StatusCode == http.StatusMethodNotAllowed || req.Method == "HEAD" {
		return // it describes what there is
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	resp.Body = io.NopCloser(bytes.NewReader(text))
	if ok, faults := a.described.ValidateHttpResponse(req, resp); !ok {
		for _, f := range faults {
			a.Errorf("%s %s: %s is not as described: %s %s", req.Method, req.URL, text, f.Message, f.Reason)
		}
	}
}

// want is do for an answer of that status.
func (a *api) want(status int, method, path, body string, fields ...string) reply {
	a.Helper()
	r := a.do(method, path, body, fields...)
	if r.status != status {
		a.Fatalf("%s %s: status %d, want %d: %s", method, path, r.status, status, r.text)
	}
	return r
}

// user is the user in an answer.
func (a *api) user(r reply) users.User {
	a.Helper()
	var u users.User
	if err := json.Unmarshal([]byte(r.text), &u); err != nil {
		a.Fatalf("%q: %v", r.text, err)
	}
	return u
}

// create makes a user of that address.
func (a *api) create(email string) (users.User, string) {
	a.Helper()
	r := a.want(201, "POST", "/api/users", `{"name":"Somebody","email":"`+email+`"}`)
	return a.user(r), r.header.Get("Sluice-Consistency")
}

// A list is the list in an answer.
type list struct {
	Users    []users.User `json:"users"`
	Next     string       `json:"next_cursor"`
	Complete *bool        `json:"complete"`
}

func (a *api) list(query string) list {
	a.Helper()
	r := a.want(200, "GET", "/api/users"+query, "")
	var l list
	if err := json.Unmarshal([]byte(r.text), &l); err != nil {
		a.Fatal(err)
	}
	return l
}

// fields are those that a problem names.
func (a *api) fields(r reply) []string {
	a.Helper()
	var p struct {
		Errors []struct{ Field string }
	}
	if err := json.Unmarshal([]byte(r.text), &p); err != nil {
		a.Fatalf("%q: %v", r.text, err)
	}
	var out []string
	for _, e := range p.Errors {
		out = append(out, e.Field)
	}
	return out
}
