package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"
)

const (
	echoEvents   = 30                // events of /echo/sse
	echoMaxBody  = 64 << 10          // bytes of a body that are echoed
	echoMaxBytes = 1 << 30           // most that /echo/bytes/N sends
	echoMaxDelay = 30 * time.Second  // longest of /echo/delay/D
	echoTick     = time.Second       // between two events
	echoIdle     = 120 * time.Second // of a connection, longer than the gateway keeps it
)

// An echo is the service behind /echo/ of the embedded default: an ordinary
// HTTP server on a loopback port of its own, which shows what reached it.
type echo struct {
	ln     net.Listener
	server *fasthttp.Server
	done   chan error
}

// startEcho listens on a free loopback port and serves until close.
func startEcho() (*echo, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the echo service cannot listen: %w", err)
	}
	e := &echo{ln: ln, done: make(chan error, 1)}
	e.server = &fasthttp.Server{
		Handler:                      serveEcho,
		Name:                         "echo",
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		ReadBufferSize:               64 << 10,
		MaxRequestBodySize:           1, // of what is read before the handler starts
		IdleTimeout:                  echoIdle,
		CloseOnShutdown:              true,
	}
	go func() { e.done <- e.server.Serve(ln) }()
	return e, nil
}

// url is where the echo service listens.
func (e *echo) url() string { return "http://" + e.ln.Addr().String() }

// close ends the service, running exchanges included once ctx is done.
func (e *echo) close(ctx context.Context) error {
	err := e.server.ShutdownWithContext(ctx)
	_ = e.ln.Close() // where Serve had not begun, nobody else does
	<-e.done
	return err
}

// serveEcho answers one request, by the first segment after /echo/.
func serveEcho(ctx *fasthttp.RequestCtx) {
	path := strings.TrimPrefix(string(ctx.Path()), "/echo/")
	what, arg, _ := strings.Cut(path, "/")
	switch what {
	case "status":
		echoStatus(ctx, arg)
	case "delay":
		echoDelay(ctx, arg)
	case "bytes":
		echoBytes(ctx, arg)
	case "sse":
		echoSSE(ctx)
	case "ws":
		echoWebSocket(ctx)
	default:
		echoRequest(ctx)
	}
}

// echoRequest answers with the request as JSON, its fields in the order and the
// spelling in which they came.
func echoRequest(ctx *fasthttp.RequestCtx) {
	n, body, err := readBody(ctx)
	if err != nil {
		echoProblem(ctx, fasthttp.StatusBadRequest, "the body ended early")
		ctx.SetConnectionClose()
		return
	}
	var b bytes.Buffer
	b.WriteString("{\n")
	member := func(name string, value any) {
		v, _ := json.Marshal(value) // of strings and numbers: cannot fail
		fmt.Fprintf(&b, "  %q: %s,\n", name, v)
	}
	member("method", string(ctx.Method()))
	member("target", string(ctx.Request.Header.RequestURI()))
	member("host", string(ctx.Request.Header.Host()))
	member("remote", ctx.RemoteAddr().String())
	member("body_bytes", n)
	if n <= echoMaxBody && n > 0 && utf8.Valid(body) {
		member("body", string(body))
	}
	b.WriteString("  \"headers\": [")
	for i, f := range rawFields(ctx.Request.Header.RawHeaders()) {
		v, _ := json.Marshal(f)
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n    %s", v)
	}
	b.WriteString("\n  ]\n}\n")
	ctx.SetContentType("application/json")
	ctx.SetBody(b.Bytes())
}

// readBody reads the whole body and keeps its first echoMaxBody bytes.
func readBody(ctx *fasthttp.RequestCtx) (n int64, body []byte, err error) {
	r := ctx.RequestBodyStream()
	if r == nil {
		return int64(len(ctx.PostBody())), ctx.PostBody(), nil
	}
	var kept bytes.Buffer
	n, err = io.Copy(&kept, io.LimitReader(r, echoMaxBody))
	if err != nil {
		return n, nil, err
	}
	rest, err := io.Copy(io.Discard, r)
	return n + rest, kept.Bytes(), err
}

// rawFields splits a raw head into names and values.
func rawFields(head []byte) [][2]string {
	var fields [][2]string
	for line := range strings.Lines(string(head)) {
		name, value, found := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		if found {
			fields = append(fields, [2]string{name, strings.TrimSpace(value)})
		}
	}
	return fields
}

// echoStatus answers with the status that is asked for.
func echoStatus(ctx *fasthttp.RequestCtx, arg string) {
	status, err := strconv.Atoi(arg)
	if err != nil || status < 200 || status > 599 {
		echoProblem(ctx, fasthttp.StatusBadRequest, "/echo/status/N wants a number from 200 to 599")
		return
	}
	echoRequest(ctx)
	ctx.SetStatusCode(status)
}

// echoDelay answers after the time that is asked for.
func echoDelay(ctx *fasthttp.RequestCtx, arg string) {
	d, err := time.ParseDuration(arg)
	if err != nil || d < 0 || d > echoMaxDelay {
		echoProblem(ctx, fasthttp.StatusBadRequest, "/echo/delay/D wants a duration up to 30s, such as 500ms")
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done(): // the service ends
	}
	echoRequest(ctx)
}

// echoBytes answers with as many bytes as are asked for, lines of digits.
func echoBytes(ctx *fasthttp.RequestCtx, arg string) {
	n, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || n < 0 || n > echoMaxBytes {
		echoProblem(ctx, fasthttp.StatusBadRequest, "/echo/bytes/N wants a number up to 1073741824")
		return
	}
	ctx.SetContentType("application/octet-stream")
	ctx.SetBodyStream(io.LimitReader(digits{}, n), int(n))
}

// digits reads as lines of 63 digits without end.
type digits struct{}

const digitLine = "012345678901234567890123456789012345678901234567890123456789012\n"

func (digits) Read(p []byte) (int, error) {
	n := 0
	for n+len(digitLine) <= len(p) {
		n += copy(p[n:], digitLine)
	}
	if n == 0 {
		n = copy(p, digitLine)
	}
	return n, nil
}

// echoSSE sends an event a second.
func echoSSE(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/event-stream")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.Response.ImmediateHeaderFlush = true
	done := ctx.Done()
	ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		tick := time.NewTicker(echoTick)
		defer tick.Stop()
		for i := range echoEvents {
			now := time.Now().UTC().Format(time.RFC3339Nano)
			fmt.Fprintf(w, "id: %d\nevent: tick\ndata: {\"n\": %d, \"time\": %q}\n\n", i+1, i+1, now)
			if w.Flush() != nil {
				return
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
}

func echoProblem(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString(text + "\n")
}
