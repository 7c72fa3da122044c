package listen

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

const patience = 10 * time.Second // until a test gives up

// start runs a server until the test ends.
func start(t testing.TB, cfg Config, h Handlers) *Server {
	t.Helper()
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	if h.Handle == nil {
		h.Handle = echo
	}
	s, err := New(cfg, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("Run did not return")
		}
	})
	return s
}

// bodyOf is where a handler reads a request's body; nil where there is none.
func bodyOf(ctx *fasthttp.RequestCtx) io.Reader {
	if body := own(ctx.Conn()).Body(); body != nil {
		return body
	}
	return ctx.RequestBodyStream()
}

// echo answers with method, target and body.
func echo(ctx *fasthttp.RequestCtx) {
	var body []byte
	if r := bodyOf(ctx); r != nil {
		var err error
		if body, err = io.ReadAll(r); err != nil {
			status := http.StatusBadGateway
			if v := own(ctx.Conn()).Violation(); v != nil {
				status = v.Status
			}
			ctx.Error("body: "+err.Error(), status)
			ctx.SetConnectionClose()
			return
		}
	}
	fmt.Fprintf(ctx, "%s %s %s", ctx.Method(), ctx.Request.Header.RequestURI(), body)
}

// client is a raw connection, with TLS or without.
type client struct {
	net.Conn
	tcp *net.TCPConn
	t   testing.TB
	r   *bufio.Reader
}

// CloseWrite ends the client's side.
func (c *client) CloseWrite() {
	if s, ok := c.Conn.(*tls.Conn); ok {
		_ = s.CloseWrite() // what follows tells
	}
	_ = c.tcp.CloseWrite() // as well
}

// ways runs f without TLS and with it.
func ways(t *testing.T, f func(t *testing.T, way Config)) {
	t.Run("plain", func(t *testing.T) { f(t, Config{}) })
	t.Run("TLS", func(t *testing.T) { f(t, Config{TLS: standardTLS(t)}) })
}

// with is cfg on this way.
func (way Config) with(cfg Config) Config {
	cfg.TLS = way.TLS
	return cfg
}

// own is the connection that fasthttp was given.
func own(c net.Conn) *Conn {
	return c.(interface{ conn() *Conn }).conn()
}

func dial(t testing.TB, s *Server) *client {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience)) // what follows fails
	tcp := c.(*net.TCPConn)
	if s.limits.Load().tls != nil {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	return &client{c, tcp, t, bufio.NewReader(c)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatal(err)
	}
}

// want reads one response and checks it.
func (c *client) want(status int, body string) *http.Response {
	c.t.Helper()
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("no response: %v; wanted %d", err, status)
	}
	got, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status || !strings.Contains(string(got), body) {
		c.t.Fatalf("got %d %q, %v; want %d %q", res.StatusCode, got, err, status, body)
	}
	return res
}

// wantEnd checks that the connection ends, in order and without a word.
func (c *client) wantEnd() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if err != nil || len(rest) > 0 {
		c.t.Fatalf("got %q, %v; want the end", rest, err)
	}
}

// until waits for a condition that another goroutine brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) { // lint:sleep polls
		if time.Now().After(end) {
			t.Fatal("never came: " + what)
		}
	}
}

func TestRequestsOneAfterAnother(t *testing.T) { ways(t, testRequestsOneAfterAnother) }

func testRequestsOneAfterAnother(t *testing.T, way Config) {
	c := dial(t, start(t, way.with(Config{}), Handlers{}))
	for i := range 5 {
		c.send(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i))
		c.want(200, fmt.Sprintf("GET /%d ", i))
	}
}

func TestPipelined(t *testing.T) { ways(t, testPipelined) }

func testPipelined(t *testing.T, way Config) {
	c := dial(t, start(t, way.with(Config{}), Handlers{}))
	c.send("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" +
		"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nX: 1\r\n\r\n" +
		"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\nGET /5 HT")
	c.want(200, "POST /1 abc")
	c.want(200, "POST /2 abcde")
	c.want(200, "GET /3")
	c.want(200, "GET /4")
	c.send("TP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	c.want(200, "GET /5")
	c.wantEnd()
}

func TestByteByByte(t *testing.T) { ways(t, testByteByByte) }

func testByteByByte(t *testing.T, way Config) {
	c := dial(t, start(t, way.with(Config{}), Handlers{}))
	for range 2 {
		for _, b := range []byte("POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n") {
			c.send(string(b))
		}
		c.want(200, "POST /2 abc")
	}
}

func TestLargeBodyAndHead(t *testing.T) { ways(t, testLargeBodyAndHead) }

func testLargeBodyAndHead(t *testing.T, way Config) {
	c := dial(t, start(t, way.with(Config{}), Handlers{}))
	body := strings.Repeat("0123456789abcdef", 1<<16)
	for range 2 {
		go io.WriteString(c.Conn, "POST / HTTP/1.1\r\nHost: a\r\nX-Large: "+strings.Repeat("v", 15<<10)+"\r\nX-Too: "+strings.Repeat("w", 15<<10)+
			fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n", len(body))+body)
		c.want(200, "POST / "+body)
		c.send("GET /small HTTP/1.1\r\nHost: a\r\n\r\n")
		c.want(200, "GET /small")
	}
}

// otherScheme turns what fits a listener without TLS into what fits one with it.
var otherScheme = strings.NewReplacer("http://", "https://", "https://", "http://", "HTTPS://", "HTTP://")

// What the guard refuses is answered with that status, in order, and the
// connection ends without a reset, whatever else the client has sent.
func TestCorpusOverTheWire(t *testing.T) { ways(t, testCorpusOverTheWire) }

func testCorpusOverTheWire(t *testing.T, way Config) {
	s := start(t, way.with(Config{}), Handlers{})
	for _, v := range corpus() {
		if v.status == 0 || strings.HasPrefix(v.name, "chunks") || strings.HasPrefix(v.name, "trailer") {
			continue
		}
		c := dial(t, s)
		if way.TLS != nil {
			v.raw = otherScheme.Replace(v.raw)
		}
		c.send(v.raw)
		for range v.complete {
			c.want(200, "")
		}
		res := c.want(v.status, `"status":`)
		if got := res.Header.Get("Content-Type"); got != "application/problem+json" || !res.Close || res.Header.Get("Proxy-Status") == "" {
			t.Fatalf("%s: %v", v.name, res.Header)
		}
		c.wantEnd()
		c.Close()
	}
}

func TestViolationInBody(t *testing.T) { ways(t, testViolationInBody) }

func testViolationInBody(t *testing.T, way Config) {
	s := start(t, way.with(Config{}), Handlers{})
	for _, v := range append(chunkCases(), trailerCases()...) {
		if v.status == 0 {
			continue
		}
		c := dial(t, s)
		c.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n" + v.raw)
		c.want(200, "GET /first")
		c.want(v.status, "body")
		c.wantEnd()
		c.Close()
	}
}

func TestTruncated(t *testing.T) { ways(t, testTruncated) }

func testTruncated(t *testing.T, way Config) {
	got := make(chan error, 1)
	s := start(t, way.with(Config{}), Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
		_, err := io.ReadAll(bodyOf(ctx))
		got <- err
	}})
	for _, raw := range []string{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", chunked("5\r\nab"), chunked("5\r\nabcde\r\n"), chunked("1\r\na\r\n0\r\n")} {
		c := dial(t, s)
		c.send(raw)
		c.CloseWrite()
		select {
		case err := <-got:
			if err == nil {
				t.Errorf("%q was taken for complete", raw)
			}
		case <-time.After(patience):
			t.Fatal("nothing was read")
		}
	}
	c := dial(t, s)
	c.send("GET / HTTP/1.1\r\nHos")
	c.CloseWrite()
	c.want(400, "ended")
	c.wantEnd()
}

func TestExpect(t *testing.T) { ways(t, testExpect) }

func testExpect(t *testing.T, way Config) {
	s := start(t, way.with(Config{}), Handlers{Expect: func(ctx *fasthttp.RequestCtx) int {
		if string(ctx.Path()) == "/no" {
			ctx.SetBodyString("no")
			return 403
		}
		return 100
	}})
	c := dial(t, s)
	head := " HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
	c.send("POST /yes" + head)
	c.want(100, "")
	c.send("abc")
	c.want(200, "POST /yes abc")
	c.send("POST /no" + head)
	c.want(403, "no")
	c.send("abc")
	c.wantEnd()
}

// A large body that nobody reads does not cost the client the response.
func TestLingeringClose(t *testing.T) { ways(t, testLingeringClose) }

func testLingeringClose(t *testing.T, way Config) {
	s := start(t, way.with(Config{}), Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(413)
		ctx.SetBodyString("too much")
	}})
	for range 20 {
		c := dial(t, s)
		body := bytes.Repeat([]byte("x"), 300<<10)
		c.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", len(body)))
		_, _ = c.Write(body) // it may be cut off, after the response
		c.want(413, "too much")
		c.Close()
	}
}

func TestUpgradeHoldsBack(t *testing.T) { ways(t, testUpgradeHoldsBack) }

func testUpgradeHoldsBack(t *testing.T, way Config) {
	s := start(t, way.with(Config{}), Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/declined" {
			ctx.SetBodyString("declined")
			return
		}
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(func(nc net.Conn) {
			c := nc.(interface{ UnsafeConn() net.Conn }).UnsafeConn()
			own(c).Raw()
			io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			_, _ = io.Copy(c, c) // until the client ends
		})
	}})
	upgrade := " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	c := dial(t, s)
	c.send("GET /declined" + upgrade + "GET /up" + upgrade + "\x00\x01early")
	c.want(200, "declined")
	c.send(" late")
	want := "HTTP/1.1 101 Switching Protocols\r\n\r\n\x00\x01early late"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v", got, err)
	}
	until(t, "the gauge", func() bool { return s.Stats().Raw == 1 })
	c.CloseWrite()
	c.wantEnd()
	until(t, "no connection", func() bool { return s.Stats() == Stats{} })

	c = dial(t, s)
	c.send("GET /declined" + upgrade + "\x81\x05hello")
	c.want(200, "declined")
	c.want(400, "method")
	c.wantEnd()
}
