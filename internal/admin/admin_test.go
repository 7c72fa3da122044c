package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func example() Config {
	return Config{
		Metrics:    func(w io.Writer) { io.WriteString(w, "http_requests_in_flight 0\n") },
		Ready:      func() error { return nil },
		Routes:     func() any { return []string{"<orders>"} },
		Backends:   func() any { return map[string]int{"orders": 2} },
		Generation: func() any { return map[string]int{"number": 7} },
		Config:     func() any { return map[string]string{"secret": "redacted"} },
		Reload:     func() error { return nil },
	}
}

// ask sends a request with fields (name, value, name, value, …) and returns the
// answer.
func ask(t *testing.T, cfg Config, method, url string, fields ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, url, nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	New(cfg).ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPaths(t *testing.T) {
	for _, c := range []struct {
		request  string
		status   int
		kind     string
		contains string
	}{
		{"GET /", 200, "text/html; charset=utf-8", `<a href="/api/routes">`},
		{"HEAD /", 200, "text/html; charset=utf-8", ""},
		{"GET /healthz", 200, "text/plain; charset=utf-8", "ok\n"},
		{"GET /readyz", 200, "text/plain; charset=utf-8", "ready\n"},
		{"GET /metrics", 200, "text/plain; version=0.0.4; charset=utf-8", "http_requests_in_flight 0\n"},
		{"GET /api/routes", 200, "application/json", `"<orders>"`},
		{"GET /api/backends", 200, "application/json", `"orders": 2`},
		{"GET /api/generation", 200, "application/json", `"number": 7`},
		{"GET /api/config", 200, "application/json", `"secret": "redacted"`},
		{"POST /api/reload", 200, "application/json", `"number": 7`},
		{"GET /debug/pprof/", 200, "text/html; charset=utf-8", "goroutine"},
		{"GET /debug/pprof/goroutine?debug=1", 200, "text/plain; charset=utf-8", "goroutine profile"},
		{"GET /debug/pprof/cmdline", 200, "text/plain; charset=utf-8", ""},
		{"GET /nowhere", 404, "application/problem+json", `"status": 404`},
		{"GET /api", 404, "application/problem+json", ""},
		{"GET /metrics/", 404, "application/problem+json", ""},
		{"POST /metrics", 405, "application/problem+json", "GET, HEAD"},
		{"DELETE /api/routes", 405, "application/problem+json", ""},
		{"GET /api/reload", 405, "application/problem+json", "POST"},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		r := ask(t, example(), method, "http://127.0.0.1:9901"+path)
		got := body(t, r)
		if r.StatusCode != c.status || r.Header.Get("Content-Type") != c.kind || !strings.Contains(got, c.contains) {
			t.Errorf("%s: %d, %s, %q", c.request, r.StatusCode, r.Header.Get("Content-Type"), got)
		}
		if r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be cached", c.request)
		}
	}
}

func TestAllow(t *testing.T) {
	for request, want := range map[string]string{
		"PUT http://localhost/metrics":         "GET, HEAD",
		"DELETE http://localhost/api/reload":   "POST",
		"PUT http://localhost/debug/pprof/":    "GET, HEAD",
		"PATCH http://localhost/api/backends":  "GET, HEAD",
		"OPTIONS http://localhost/healthz":     "GET, HEAD",
		"OPTIONS http://localhost/debug/pprof": "",
	} {
		method, url, _ := strings.Cut(request, " ")
		if r := ask(t, example(), method, url); r.Header.Get("Allow") != want {
			t.Errorf("%s: %d, Allow: %q, want %q", request, r.StatusCode, r.Header.Get("Allow"), want)
		}
	}
}

func TestReady(t *testing.T) {
	cfg := example()
	cfg.Ready = func() error { return errors.New("draining") }
	r := ask(t, cfg, "GET", "http://localhost/readyz")
	if got := body(t, r); r.StatusCode != 503 || got != "draining\n" {
		t.Errorf("%d %q", r.StatusCode, got)
	}
	if r := ask(t, cfg, "GET", "http://localhost/healthz"); r.StatusCode != 200 {
		t.Errorf("a draining process is alive, got %d", r.StatusCode)
	}
}

func TestRefusedReload(t *testing.T) {
	cfg := example()
	cfg.Reload = func() error { return errors.New("gw.yaml:1:1: a: wrong\ngw.yaml:2:1: b: wrong too") }
	r := ask(t, cfg, "POST", "http://localhost/api/reload")
	var got struct {
		Status int
		Errors []string
	}
	if err := json.Unmarshal([]byte(body(t, r)), &got); err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != 422 || got.Status != 422 || len(got.Errors) != 2 || got.Errors[1] != "gw.yaml:2:1: b: wrong too" {
		t.Errorf("%d %+v", r.StatusCode, got)
	}
}

func TestToken(t *testing.T) {
	cfg := example()
	cfg.Token = "correct horse battery staple"
	for _, c := range []struct {
		path, authorization string
		status              int
	}{
		{"/metrics", "", 401},
		{"/metrics", "Bearer wrong", 401},
		{"/metrics", "Bearer ", 401},
		{"/metrics", "Basic correct horse battery staple", 401},
		{"/metrics", "correct horse battery staple", 401},
		{"/metrics", "Bearer correct horse battery stapl", 401},
		{"/metrics", "Bearer correct horse battery staple", 200},
		{"/metrics", "bearer correct horse battery staple", 200},
		{"/", "", 401},
		{"/nowhere", "", 401},
		{"/debug/pprof/", "", 401},
		{"/debug/pprof/heap", "", 401},
		{"/healthz", "", 200},
		{"/readyz", "", 200},
	} {
		r := ask(t, cfg, "GET", "http://admin.example.com"+c.path, "Authorization", c.authorization)
		if r.StatusCode != c.status {
			t.Errorf("%s with %q: %d, want %d", c.path, c.authorization, r.StatusCode, c.status)
		}
		if (r.Header.Get("WWW-Authenticate") != "") != (c.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q", c.path, r.Header.Get("WWW-Authenticate"))
		}
	}
}

func TestHostWithoutToken(t *testing.T) {
	for host, status := range map[string]int{
		"127.0.0.1:9901": 200, "localhost:9901": 200, "LOCALHOST": 200, "localhost.:9901": 200, "[::1]:9901": 200, "[::1]": 200, "10.0.0.7": 200,
		"evil.example:9901": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example:9901": 403, "": 403,
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Host = host
		w := httptest.NewRecorder()
		New(example()).ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("Host %q: %d, want %d", host, w.Code, status)
		}
	}
	if r := ask(t, example(), "GET", "http://pod.example:9901/healthz"); r.StatusCode != 200 {
		t.Errorf("a probe by name: %d", r.StatusCode)
	}
}

func TestCrossOrigin(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields []string
		status int
	}{
		{"curl", nil, 200},
		{"a page of its own", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"another site", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another port", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"an old browser", []string{"Origin", "http://evil.example"}, 403},
		{"an old browser at home", []string{"Origin", "http://127.0.0.1:9901"}, 200},
	} {
		called := false
		cfg := example()
		cfg.Reload = func() error { called = true; return nil }
		r := ask(t, cfg, "POST", "http://127.0.0.1:9901/api/reload", c.fields...)
		if r.StatusCode != c.status || called != (c.status == 200) {
			t.Errorf("%s: %d, reloaded: %v", c.name, r.StatusCode, called)
		}
	}
}

func TestMissingFunctions(t *testing.T) {
	for _, path := range []string{"/metrics", "/readyz", "/api/routes", "/api/reload", "/api/config"} {
		if r := ask(t, Config{}, "GET", "http://localhost"+path); r.StatusCode != 404 {
			t.Errorf("%s: %d, want 404", path, r.StatusCode)
		}
	}
	if got := body(t, ask(t, Config{}, "GET", "http://localhost/")); strings.Contains(got, "/metrics") {
		t.Error("the list names what is not there")
	}
}

func TestDrain(t *testing.T) {
	var told []string
	cfg := example()
	cfg.Drain = func(backend, target string, on bool) error {
		if backend != "orders" {
			return errors.New("no backend is named " + backend)
		}
		told = append(told, fmt.Sprint(target, " ", on))
		return nil
	}
	const at = "http://127.0.0.1:9901/api/backends/"
	for _, c := range []struct {
		method, path string
		status       int
		told         string
	}{
		{"POST", "orders/targets/127.0.0.1:9001/drain", 204, "127.0.0.1:9001 true"},
		{"POST", "orders/targets/http:%2F%2F127.0.0.1:9001/drain", 204, "http://127.0.0.1:9001 true"},
		{"POST", "orders/targets/http://127.0.0.1:9001/drain", 204, "http://127.0.0.1:9001 true"},
		{"POST", "orders/targets/unix:/run/a.sock/drain", 204, "unix:/run/a.sock true"},
		{"POST", "orders/targets/127.0.0.1:9001/enable", 204, "127.0.0.1:9001 false"},
		{"POST", "others/targets/127.0.0.1:9001/drain", 404, ""},
		{"POST", "orders/targets/127.0.0.1:9001/stop", 404, ""},
		{"GET", "orders/targets/127.0.0.1:9001/drain", 405, ""},
	} {
		told = nil
		r := ask(t, cfg, c.method, at+c.path)
		if got := strings.Join(told, ","); r.StatusCode != c.status || got != c.told {
			t.Errorf("%s %s: %d, told %q", c.method, c.path, r.StatusCode, got)
		}
	}
	// A page of another origin may not do it in its reader's name.
	told = nil
	if r := ask(t, cfg, "POST", at+"orders/targets/127.0.0.1:9001/drain", "Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"); r.StatusCode != 403 || told != nil {
		t.Errorf("across origins: %d, told %q", r.StatusCode, told)
	}
}

// What is no JSON, or goes on behind it, is no order.
func TestPurgeBodies(t *testing.T) {
	for text, status := range map[string]int{
		`{"all": true}`: 200, ` {"all": true}` + "\n": 200, ``: 400, `all`: 400, `{"all": true} x`: 400, `{"all": true}{}`: 400, `{"all": false}`: 422,
	} {
		cfg := example()
		cfg.Purge = func(order []byte) (any, error) {
			if strings.Contains(string(order), "false") {
				return nil, errors.New("nothing is named")
			}
			return true, nil
		}
		w := httptest.NewRecorder()
		New(cfg).ServeHTTP(w, httptest.NewRequest("POST", "http://localhost/api/cache/purge", strings.NewReader(text)))
		if w.Code != status {
			t.Errorf("%q: %d %s", text, w.Code, w.Body)
		}
	}
}
