package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

// backends is a Spec's Backends from kinds' own structs.
func backends(specs map[string]any) map[string]BackendSpec {
	kinds := map[reflect.Type]string{
		reflect.TypeFor[HTTP](): "http", reflect.TypeFor[Files](): "files", reflect.TypeFor[Respond](): "respond",
		reflect.TypeFor[Redirect](): "redirect", reflect.TypeFor[panicky](): "panicky",
	}
	all := make(map[string]BackendSpec)
	for name, spec := range specs {
		all[name] = BackendSpec{Kind: kinds[reflect.TypeOf(spec)], Decode: func(into any) error {
			// What the test leaves zero keeps its default.
			from, to := reflect.ValueOf(spec), reflect.ValueOf(into).Elem()
			for i := range from.NumField() {
				if !from.Field(i).IsZero() {
					to.Field(i).Set(from.Field(i))
				}
			}
			return nil
		}}
	}
	return all
}

type panicky struct{}

func (panicky) Serve(*Exchange) error { panic("on purpose") }

// build is a proxy that serves by spec.
func build(t testing.TB, spec Spec) *Proxy {
	t.Helper()
	transport := upstream.NewTransport()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- transport.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	kinds := Kinds()
	kinds["panicky"] = func(Setup) (Backend, error) { return panicky{}, nil }
	p, err := New(Config{Kinds: kinds, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	g, err := p.Build(spec)
	if err != nil {
		t.Fatal(err)
	}
	p.Swap(g)
	t.Cleanup(g.Close)
	return p
}

// serve runs a proxy of spec on a socket and returns its address.
func serve(t *testing.T, spec Spec) string {
	t.Helper()
	addr, _ := serveProxy(t, spec)
	return addr
}

func serveProxy(t *testing.T, spec Spec) (string, *Proxy) {
	t.Helper()
	p := build(t, spec)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &fasthttp.Server{
		Handler: p.Handle, ExpectHandler: p.Expect, StreamRequestBody: true, MaxRequestBodySize: 1, DisablePreParseMultipartForm: true,
		NoDefaultServerHeader: true, NoDefaultDate: true, NoDefaultContentType: true, CloseOnShutdown: true,
	}
	go server.Serve(ln)
	t.Cleanup(func() { server.Shutdown() })
	return ln.Addr().String(), p
}

// ask sends raw and returns everything that comes back until the end.
func ask(t *testing.T, addr, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

func origin(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// once answers the first request of each connection with raw bytes and closes.
func once(t *testing.T, raw string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					io.WriteString(c, raw)
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

// nowhere is the URL of a port that nobody listens on.
func nowhere(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String()
}

func to(urls ...string) HTTP {
	h := HTTP{}
	for _, u := range urls {
		h.Targets = append(h.Targets, Target{URL: u, Weight: 1})
	}
	return h
}

func TestWalk(t *testing.T) {
	echo := origin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen-Path", r.RequestURI)
		w.Header().Set("X-Seen-Host", r.Host)
		fmt.Fprintf(w, "%s %s", r.Method, body)
	})
	stream := origin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		for i := range 3 {
			fmt.Fprintf(w, "part%d;", i)
			w.(http.Flusher).Flush()
		}
		w.Header().Set("X-Sum", "42")
	})
	addr := serve(t, Spec{
		MaxBodyBytes: 10,
		Backends: backends(map[string]any{
			"echo": to(echo), "stream": to(stream), "gone": to(nowhere(t)), "half": to(nowhere(t), echo),
			"garbage": to(once(t, "HTTP/1.1 999 What\r\n\r\n")), "cut": to(once(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")),
			"backed": HTTP{Targets: to(nowhere(t)).Targets, Fallback: Fallback{Backend: "sorry"}},
			"worded": HTTP{Targets: to(nowhere(t)).Targets, Fallback: Fallback{Status: 200, Body: "later\n"}},
			"sorry":  Respond{Status: 503, Body: "sorry\n"}, "move": Redirect{To: "https://{host}{uri}"},
			"panicky": panicky{},
			"slow": HTTP{Targets: to(origin(t, func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-r.Context().Done():
				case <-time.After(20 * time.Second):
				}
			})).Targets},
		}),
		Routes: []Route{
			{Name: "echo", Match: routing.Match{Path: "/echo/*", Methods: []string{"GET", "POST", "QUERY"}}, Backend: "echo", ResponseHeaders: HeaderEdit{Set: map[string]string{"X-Route": "echo"}}},
			{Name: "strip", Match: routing.Match{Path: "/api/*"}, Backend: "echo", Rewrite: Rewrite{StripPrefix: "/api", Host: "inner"}},
			{Name: "stream", Match: routing.Match{Path: "/stream"}, Backend: "stream"},
			{Name: "gone", Match: routing.Match{Path: "/gone"}, Backend: "gone"},
			{Name: "half", Match: routing.Match{Path: "/half"}, Backend: "half"},
			{Name: "garbage", Match: routing.Match{Path: "/garbage"}, Backend: "garbage"},
			{Name: "cut", Match: routing.Match{Path: "/cut"}, Backend: "cut"},
			{Name: "backed", Match: routing.Match{Path: "/backed"}, Backend: "backed"},
			{Name: "worded", Match: routing.Match{Path: "/worded"}, Backend: "worded"},
			{Name: "move", Match: routing.Match{Path: "/move/*"}, Backend: "move"},
			{Name: "panic", Match: routing.Match{Path: "/panic"}, Backend: "panicky"},
			{Name: "slow", Match: routing.Match{Path: "/slow"}, Backend: "slow", Timeout: 50 * time.Millisecond},
		},
	})
	const end = "Host: a:8080\r\nConnection: close\r\n\r\n"
	for _, c := range []struct {
		name, raw string
		want      []string
		not       []string
	}{
		{"forwards", "GET /echo/x?y=1 HTTP/1.1\r\n" + end, []string{"HTTP/1.1 200 OK", "X-Seen-Path: /echo/x?y=1", "X-Seen-Host: a:8080", "X-Route: echo", "Via: 1.1 sluice", "X-Request-Id: ", "Content-Length: 4\r\n", "\r\n\r\nGET "}, nil},
		{"forwards bodies", "POST /echo/ HTTP/1.1\r\nContent-Length: 3\r\n" + end + "abc", []string{"200 OK", "POST abc"}, nil},
		{"forwards chunks", "QUERY /echo/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + end + "3\r\nabc\r\n0\r\n\r\n", []string{"200 OK", "QUERY abc"}, nil},
		{"HEAD follows GET", "HEAD /echo/x HTTP/1.1\r\n" + end, []string{"200 OK", "Content-Length: "}, []string{"HEAD \r\n", "\r\n\r\nH"}},
		{"no route", "GET /none HTTP/1.1\r\n" + end, []string{"404 Not Found", "application/problem+json", `"status":404`, `"request_id":"`, "Proxy-Status: sluice; error=destination_not_found"}, nil},
		{"no method", "DELETE /echo/x HTTP/1.1\r\n" + end, []string{"405 Method Not Allowed", "Allow: GET, HEAD, POST, QUERY"}, nil},
		{"dots do not go on", "GET /echo/../echo/./%2e/a%20b?x=../y HTTP/1.1\r\n" + end, []string{"X-Seen-Path: /echo/a%20b?x=../y"}, nil},
		{"nothing else is touched", "GET /echo/%7euser/.x?q HTTP/1.1\r\n" + end, []string{"X-Seen-Path: /echo/%7euser/.x?q"}, nil},
		{"strips and renames", "GET /api/users HTTP/1.1\r\n" + end, []string{"X-Seen-Path: /users", "X-Seen-Host: inner"}, nil},
		{"too long a body", "POST /echo/ HTTP/1.1\r\nContent-Length: 11\r\n" + end + "01234567890", []string{"413 "}, nil},
		{"too long in chunks", "POST /echo/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + end + "b\r\n01234567890\r\n0\r\n\r\n", []string{"413 "}, nil},
		{"streams with trailers", "GET /stream HTTP/1.1\r\nTE: trailers\r\n" + end, []string{"Transfer-Encoding: chunked", "part0;", "Date: ", "0\r\nX-Sum: 42\r\n\r\n"}, nil},
		{"streams without", "GET /stream HTTP/1.1\r\n" + end, []string{"0\r\n\r\n"}, []string{"X-Sum: 42"}},
		{"HTTP/1.0 has no chunks", "GET /stream HTTP/1.0\r\nHost: a\r\n\r\n", []string{"HTTP/1.1 200 OK", "\r\n\r\npart0;part1;part2;"}, []string{"chunked"}},
		{"nobody there", "GET /gone HTTP/1.1\r\n" + end, []string{"502 Bad Gateway", "Proxy-Status: sluice; error=connection_refused"}, []string{"127.0.0.1"}},
		{"the next target", "GET /half HTTP/1.1\r\n" + end, []string{"200 OK"}, nil},
		{"garbage from upstream", "GET /garbage HTTP/1.1\r\n" + end, []string{"502 Bad Gateway", "error=http_protocol_error"}, []string{"999 What"}},
		{"fallback backend", "GET /backed HTTP/1.1\r\n" + end, []string{"503 Service Unavailable", "\r\n\r\nsorry\n"}, nil},
		{"fallback words", "GET /worded HTTP/1.1\r\n" + end, []string{"200 OK", "\r\n\r\nlater\n", "Proxy-Status: sluice; error=connection_refused"}, nil},
		{"redirects", "GET /move/a%20b?c=d HTTP/1.1\r\n" + end, []string{"308 Permanent Redirect", "Location: https://a/move/a%20b?c=d\r\n"}, nil},
		{"panics are 500", "GET /panic HTTP/1.1\r\n" + end, []string{"500 Internal Server Error", `"status":500`}, []string{"on purpose"}},
		{"times out", "GET /slow HTTP/1.1\r\n" + end, []string{"504 Gateway Timeout", "error=http_response_timeout"}, nil},
		{"continues", "POST /echo/ HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n" + end + "abc", []string{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", "POST abc"}, nil},
		{"refuses before 100", "POST /echo/ HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 11\r\n" + end, []string{"413 ", "application/problem+json"}, []string{"100 Continue"}},
		{"bad path", "GET /echo/%00 HTTP/1.1\r\n" + end, []string{"400 Bad Request", "error=http_request_error"}, nil},
		{"last hop", "OPTIONS /api/ HTTP/1.1\r\nMax-Forwards: 0\r\n" + end, []string{"204 No Content"}, []string{"X-Seen-Path"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ask(t, addr, c.raw)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is missing in\n%s", want, got)
				}
			}
			for _, not := range c.not {
				if strings.Contains(got, not) {
					t.Errorf("%q is in\n%s", not, got)
				}
			}
		})
	}
	t.Run("a cut body stays cut", func(t *testing.T) {
		got := ask(t, addr, "GET /cut HTTP/1.1\r\nHost: a\r\n\r\n") // no Connection: close: the cut closes it
		if !strings.HasSuffix(got, "\r\n\r\nhalf") || !strings.Contains(got, "Content-Length: 10") {
			t.Errorf("got\n%s", got)
		}
	})
}

func TestResponseHeadIsKept(t *testing.T) {
	const head = "X-First: 1\r\nset-cookie: a=1; Path=/\r\nSet-Cookie: a=2; Path=/x\r\nDate: Tue, 01 Jan 2030 00:00:00 GMT\r\nServer: old/1\r\ncontent-type: text/x\r\nx-empty: \r\nContent-Encoding: y\r\nX-First: 2\r\n"
	addr := serve(t, Spec{
		Backends: backends(map[string]any{"up": to(once(t, "HTTP/1.1 200 OK\r\n"+head+"Content-Length: 2\r\n\r\nok"))}),
		Routes:   []Route{{Match: routing.Match{Path: "/*"}, Backend: "up"}},
	})
	got := ask(t, addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"+head+"Via: 1.1 sluice\r\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestSplitAndMirror(t *testing.T) {
	mirrored := make(chan string, 100)
	shadow := origin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mirrored <- r.Method + " " + r.RequestURI + " " + string(body)
	})
	addr := serve(t, Spec{
		Backends: backends(map[string]any{"a": Respond{Body: "a"}, "b": Respond{Body: "b"}, "shadow": to(shadow), "dead": to(nowhere(t)), "real": to(origin(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))}),
		Routes: []Route{
			{Name: "split", Match: routing.Match{Path: "/split"}, Split: []Share{{"a", 1}, {"b", 1}}},
			{Name: "mirror", Match: routing.Match{Path: "/mirror"}, Backend: "real", Mirror: &Mirror{Backend: "shadow", Percent: 1}},
			{Name: "dead", Match: routing.Match{Path: "/dead"}, Backend: "real", Mirror: &Mirror{Backend: "dead", Percent: 1}},
		},
	})
	seen := map[string]int{}
	for range 60 {
		got := ask(t, addr, "GET /split HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		seen[got[len(got)-1:]]++
	}
	if seen["a"] < 10 || seen["b"] < 10 {
		t.Errorf("shares of a split by halves: %v", seen)
	}
	for _, raw := range []string{
		"GET /mirror HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
		"POST /mirror HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
		"POST /mirror HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	} {
		if got := ask(t, addr, raw); !strings.Contains(got, "200 OK") {
			t.Errorf("mirroring changed the answer: %s", got)
		}
		want := "GET /mirror "
		if strings.HasPrefix(raw, "POST") {
			want = "POST /mirror abc"
		}
		select {
		case got := <-mirrored:
			if got != want {
				t.Errorf("the mirror got %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("no copy of %q", raw)
		}
	}
	if got := ask(t, addr, "GET /dead HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "200 OK") {
		t.Errorf("a dead mirror was felt: %s", got)
	}
}

func TestTunnel(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				req, err := http.ReadRequest(r)
				if err != nil || req.Header.Get("Upgrade") != "echo" {
					return
				}
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
				io.Copy(c, r) // to the client's half-close
				io.WriteString(c, " bye")
			}()
		}
	}()
	addr := serve(t, Spec{Backends: backends(map[string]any{"up": to("http://" + ln.Addr().String())}), Routes: []Route{{Match: routing.Match{Path: "/*"}, Backend: "up"}}})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "echo" {
		t.Fatalf("got %v, %v", res, err)
	}
	io.WriteString(c, "hello")
	c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(r)
	if string(got) != "early hello bye" || err != nil {
		t.Errorf("through the tunnel came %q, %v", got, err)
	}
}

func TestBuildFaults(t *testing.T) {
	p, err := New(Config{Kinds: Kinds(), Transport: upstream.NewTransport()})
	if err != nil {
		t.Fatal(err)
	}
	web := []Target{{URL: "http://127.0.0.1:1", Weight: 1}}
	_, err = p.Build(Spec{
		Backends: backends(map[string]any{"web": HTTP{Targets: []Target{{URL: "ftp://x"}}}, "none": HTTP{}, "last": HTTP{Targets: web, Fallback: Fallback{Status: 99}}, "mute": HTTP{Targets: web, Fallback: Fallback{Status: 204, Body: "x"}}, "to": Redirect{To: "{what}"}, "words": Respond{Headers: map[string]string{"A b": "1"}}}),
		Routes: []Route{
			{Name: "a", Match: routing.Match{Path: "nope"}, Backend: "webs"},
			{Name: "a", Match: routing.Match{Path: "/a"}, Backend: "web", Split: []Share{{"web", 1}}},
			{Name: "b", Match: routing.Match{Path: "/b"}, Rewrite: Rewrite{StripPrefix: "x"}, Mirror: &Mirror{Backend: "nobody"}},
		},
	})
	var got []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var fault *SpecError
		if !errors.As(e, &fault) {
			t.Errorf("%v is no SpecError", e)
			continue
		}
		got = append(got, fault.Path)
	}
	want := []string{"backends.last.fallback.status", "backends.mute.fallback.body", "backends.none.targets", "backends.to.to", "backends.web.targets[0].url", `backends.words.headers["A b"]`, "routes[0].backend", "routes[1].name", "routes[1]", "routes[2]", "routes[2].mirror.backend", "routes[2].rewrite.strip_prefix", "routes[0].match.path"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("faults at\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
