package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sluice-edge/sluice/routing"
)

// over2 serves spec over HTTP/2 and TLS and returns its URL and a client.
func over2(t *testing.T, spec Spec) (string, *http.Client) {
	t.Helper()
	s := httptest.NewUnstartedServer(build(t, spec))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	client := s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s.URL, client
}

// call makes a request over HTTP/2, which must be answered.
func call(t *testing.T, client *http.Client, r *http.Request) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	t.Cleanup(cancel)
	res, err := client.Do(r.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.ProtoMajor != 2 {
		t.Fatalf("the answer came over %s", res.Proto)
	}
	return res
}

func request(t *testing.T, method, url string, body io.Reader, fields ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

func everything(to string) []Route {
	return []Route{{Name: "all", Match: routing.Match{Path: "/*"}, Backend: to}}
}

func TestHTTP2Request(t *testing.T) {
	up := origin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header()["X-Got"] = []string{r.Method + " " + r.RequestURI, r.Proto, r.Host, strings.Join(r.TransferEncoding, ","), r.Header.Get("Content-Length"), string(body), r.Trailer.Get("X-Sum")}
		for _, name := range []string{"X-Forwarded-Proto", "X-Forwarded-Host", "Via", "X-Twice", "Te", "Cookie"} {
			w.Header()["X-Got"] = append(w.Header()["X-Got"], name+"="+strings.Join(r.Header[name], "|"))
		}
	})
	url, client := over2(t, Spec{Backends: backends(map[string]any{"up": to(up)}), Routes: everything("up")})
	host := strings.TrimPrefix(url, "https://")
	forwarded := []string{"X-Forwarded-Proto=https", "X-Forwarded-Host=" + host, "Via=2 sluice"}

	for _, c := range []struct {
		name string
		r    *http.Request
		want []string
	}{
		{
			"plain", request(t, "GET", url+"/a%41?b=c", nil, "X-Twice", "1", "X-Twice", "2", "TE", "trailers", "Cookie", "a=1; b=2"),
			append([]string{"GET /a%41?b=c", "HTTP/1.1", host, "", "", "", ""}, append(forwarded, "X-Twice=1|2", "Te=", "Cookie=a=1; b=2")...),
		},
		{
			"a body with a length", request(t, "POST", url+"/", strings.NewReader("hello")),
			append([]string{"POST /", "HTTP/1.1", host, "", "5", "hello", ""}, append(forwarded, "X-Twice=", "Te=", "Cookie=")...),
		},
		{
			"a body without one", request(t, "PUT", url+"/", iotest.OneByteReader(strings.NewReader("hello"))),
			append([]string{"PUT /", "HTTP/1.1", host, "chunked", "", "hello", ""}, append(forwarded, "X-Twice=", "Te=", "Cookie=")...),
		},
	} {
		res := call(t, client, c.r)
		if got, want := strings.Join(res.Header["X-Got"], "\n"), strings.Join(c.want, "\n"); got != want {
			t.Errorf("%s: the backend got\n%s\nwant\n%s", c.name, got, want)
		}
	}

	r := request(t, "POST", url+"/", iotest.OneByteReader(strings.NewReader("hello")))
	r.Trailer = http.Header{"X-Sum": {"42"}}
	if got := call(t, client, r).Header["X-Got"]; len(got) < 7 || got[5] != "hello" || got[6] != "42" {
		t.Errorf("with a trailer the backend got %q", got)
	}
}

func TestHTTP2Response(t *testing.T) {
	up := origin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/trailers":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "body")
			w.Header().Set("X-Sum", "42")
		case "/large":
			w.Header().Set("Content-Length", "1000000")
			w.Write(bytes.Repeat([]byte("x"), 1000000))
		case "/untyped":
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "<html>")
		case "/304":
			w.Header().Set("Etag", `"a"`)
			w.WriteHeader(304)
		case "/204":
			w.WriteHeader(204)
		default:
			w.Header().Set("Set-Cookie", "a=1")
			w.Header().Add("Set-Cookie", "b=2")
			io.WriteString(w, "hello")
		}
	})
	url, client := over2(t, Spec{Backends: backends(map[string]any{"up": to(up)}), Routes: everything("up")})
	get := func(method, path string) *http.Response { return call(t, client, request(t, method, url+path, nil)) }

	res := get("GET", "/")
	if got := text(t, res); got != "hello" || res.ContentLength != 5 || len(res.Header["Set-Cookie"]) != 2 || res.Header.Get("Via") != "1.1 sluice" || len(res.Header["Date"]) != 1 || res.Header.Get("X-Request-Id") == "" {
		t.Errorf("GET: %q, %v", got, res.Header)
	}
	if res := get("HEAD", "/"); text(t, res) != "" || res.ContentLength != 5 {
		t.Errorf("HEAD: length %d, %v", res.ContentLength, res.Header)
	}
	if res := get("GET", "/trailers"); text(t, res) != "body" || res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("trailers: %v", res.Trailer)
	}
	if res := get("GET", "/large"); len(text(t, res)) != 1000000 || res.ContentLength != 1000000 {
		t.Errorf("large: length %d", res.ContentLength)
	}
	if res := get("GET", "/untyped"); text(t, res) != "<html>" || res.Header["Content-Type"] != nil {
		t.Errorf("a type was made up: %v", res.Header)
	}
	if res := get("GET", "/304"); res.StatusCode != 304 || text(t, res) != "" || res.Header.Get("Etag") != `"a"` {
		t.Errorf("304: %d %v", res.StatusCode, res.Header)
	}
	if res := get("GET", "/204"); res.StatusCode != 204 || text(t, res) != "" {
		t.Errorf("204: %d %v", res.StatusCode, res.Header)
	}
}

// What goes wrong is answered like over HTTP/1, and a response that breaks off
// never looks whole.
func TestHTTP2Faults(t *testing.T) {
	broken := once(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
	chunky := once(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	url, client := over2(t, Spec{
		Backends: backends(map[string]any{"broken": to(broken), "chunky": to(chunky), "gone": to(nowhere(t)), "panicky": panicky{}}),
		Routes: []Route{
			{Name: "b", Match: routing.Match{Path: "/broken"}, Backend: "broken"},
			{Name: "c", Match: routing.Match{Path: "/chunky"}, Backend: "chunky"},
			{Name: "g", Match: routing.Match{Path: "/gone"}, Backend: "gone"},
			{Name: "p", Match: routing.Match{Path: "/panic"}, Backend: "panicky"},
			{Name: "m", Match: routing.Match{Path: "/get", Methods: []string{"GET"}}, Backend: "gone"},
			{Name: "s", Match: routing.Match{Path: "/small"}, Backend: "gone", MaxBodyBytes: 3},
		},
	})
	for path, want := range map[string]int{"/nowhere": 404, "/gone": 502, "/panic": 500, "/get": 405, "/small": 413} {
		res := call(t, client, request(t, "POST", url+path, strings.NewReader("hello")))
		if got := text(t, res); res.StatusCode != want || res.Header.Get("Content-Type") != "application/problem+json" || res.Header.Get("Proxy-Status") == "" || !strings.Contains(got, `"status"`) {
			t.Errorf("%s: %d %s %v", path, res.StatusCode, got, res.Header)
		}
	}
	for _, path := range []string{"/broken", "/chunky"} {
		res := call(t, client, request(t, "GET", url+path, nil))
		if b, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%s: a broken body ended as if it were whole: %q", path, b)
		}
	}
}

// Both directions flow at once, each piece as it comes.
func TestHTTP2BothWays(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			io.WriteString(w, "got "+lines.Text()+"\n")
			rc.Flush()
		}
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	up := to(server.URL)
	up.Transport = defaultHTTP().Transport
	up.Transport.Protocol = "h2c"
	url, client := over2(t, Spec{Backends: backends(map[string]any{"up": up}), Routes: everything("up")})
	reading, writing := io.Pipe()
	res := call(t, client, request(t, "POST", url+"/", reading))
	answers := bufio.NewReader(res.Body)
	for _, line := range []string{"one", "two", "three"} {
		io.WriteString(writing, line+"\n")
		if got, err := answers.ReadString('\n'); err != nil || got != "got "+line+"\n" {
			t.Fatalf("after %q: %q, %v", line, got, err)
		}
	}
	writing.Close()
	if rest, err := io.ReadAll(answers); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
}

// A client that resets its stream cancels what runs upstream.
func TestHTTP2ClientLeaves(t *testing.T) {
	begun, gone := make(chan struct{}), make(chan struct{})
	up := origin(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(gone)
	})
	url, client := over2(t, Spec{Backends: backends(map[string]any{"up": to(up)}), Routes: everything("up")})
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := client.Do(request(t, "GET", url+"/", nil).WithContext(ctx))
		failed <- err
	}()
	<-begun
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the exchange with the backend goes on")
	}
}

func TestGRPCTimeout(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond,
		"6n": 6, "0S": 0, "99999999n": 99999999, "99999999H": 365 * 24 * time.Hour,
		"": -1, "S": -1, "1": -1, "1s": -1, "-1S": -1, "+1S": -1, "1.5S": -1, "123456789S": -1, " 1S": -1,
	} {
		got, ok := grpcTimeout(value)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

// What the gateway itself says to a gRPC client is a gRPC status.
func TestGRPCStatus(t *testing.T) {
	slow := origin(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else net/http would not see the end
		<-r.Context().Done()
	})
	cut := once(t, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	url, client := over2(t, Spec{
		Backends: backends(map[string]any{"gone": to(nowhere(t)), "slow": to(slow), "cut": to(cut)}),
		Routes: []Route{
			{Name: "g", Match: routing.Match{Path: "/gone"}, Backend: "gone"},
			{Name: "s", Match: routing.Match{Path: "/slow"}, Backend: "slow"},
			{Name: "c", Match: routing.Match{Path: "/cut"}, Backend: "cut"},
			{Name: "m", Match: routing.Match{Path: "/get", Methods: []string{"GET"}}, Backend: "gone"},
		},
	})
	for path, want := range map[string]string{"/nowhere": "12", "/get": "12", "/gone": "14", "/slow": "4"} {
		res := call(t, client, request(t, "POST", url+path, strings.NewReader("hello"), "Content-Type", "application/grpc+proto", "Grpc-Timeout", "200m"))
		if got := text(t, res); res.StatusCode != 200 || got != "" || res.Header.Get("Grpc-Status") != want || res.Header.Get("Grpc-Message") == "" || res.Header.Get("Content-Type") != "application/grpc" {
			t.Errorf("%s: %d %q %v", path, res.StatusCode, got, res.Header)
		}
	}
	res := call(t, client, request(t, "POST", url+"/cut", nil, "Content-Type", "application/grpc"))
	if got := text(t, res); got != "hello" || res.Trailer.Get("Grpc-Status") != "14" {
		t.Errorf("a stream that is cut off: %q, %v", got, res.Trailer)
	}
	res = call(t, client, request(t, "POST", url+"/gone", nil, "Content-Type", "application/grpc-web"))
	if res.StatusCode != 502 {
		t.Errorf("gRPC-Web is not gRPC: %d %v", res.StatusCode, res.Header)
	}
}

// A body that nobody asks for is read nevertheless, so that the stream ends in
// order; one that does not come is not waited for long.
func TestHTTP2BodyUnasked(t *testing.T) {
	url, client := over2(t, Spec{Backends: backends(map[string]any{"ok": Respond{Body: "fine"}}), Routes: everything("ok")})
	for range 3 {
		in, out := io.Pipe()
		go func() {
			for _, piece := range []string{"one", "two"} {
				io.WriteString(out, piece) // fails where the stream was reset before
			}
			out.Close()
		}()
		r := request(t, "POST", url+"/", in)
		ended := make(chan bool, 1)
		r.Body = &watchedBody{ReadCloser: in, ended: ended}
		if got := text(t, call(t, client, r)); got != "fine" {
			t.Errorf("the answer is %q", got)
		}
		if !<-ended {
			t.Error("the body was cut off")
		}
	}
	never, out := io.Pipe()
	defer out.Close()
	if got := text(t, call(t, client, request(t, "POST", url+"/", never))); got != "fine" {
		t.Errorf("with a body that does not come the answer is %q", got)
	}
}

// A watchedBody says once whether it was read to its end.
type watchedBody struct {
	io.ReadCloser
	ended chan bool
	once  sync.Once
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.once.Do(func() { b.ended <- err == io.EOF })
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.once.Do(func() { b.ended <- false })
	return b.ReadCloser.Close()
}
