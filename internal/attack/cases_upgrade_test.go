package attack_test

import (
	"errors"
	"fmt"
	"strings"
)

// leftovers are attacks by what an upstream sends behind the end of its
// response. No next client may get it, whenever it comes.
func leftovers() (attacks []attack) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	ends := []struct {
		name, raw, method string
		status            int
		body              string
	}{
		{"a length", ok, "GET", 200, "hello"}, {"chunks", chunked, "GET", 200, "hello"}, {"a 204", "HTTP/1.1 204 No Content\r\n\r\n", "GET", 204, ""}, {"a 304", "HTTP/1.1 304 Not Modified\r\n\r\n", "GET", 304, ""},
		{"a HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", 200, ""}, {"an empty body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "POST", 200, ""},
	}
	for _, end := range ends {
		for _, s := range []sample{
			{"a response", answer}, {"half a response", answer[:20]}, {"a byte", "H"}, {"CRLF", "\r\n"}, {"NUL", "\x00"}, {"an interim response", "HTTP/1.1 100 Continue\r\n\r\n"}, {"a 408", "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 6\r\n\r\nhidden"},
			{"a 101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"}, {"100 responses", strings.Repeat(answer, 100)},
		} {
			raw := end.method + " /public/x HTTP/1.1\r\nHost: edge.test\r\n\r\n"
			want := func(r *response, err error) error {
				if err == nil && (r.status != end.status || r.body != end.body) {
					return fmt.Errorf("SMUGGLED: %d %q", r.status, r.body)
				}
				return err
			}
			attacks = append(attacks,
				judged(s.name+" behind "+end.name, raw, script{raw: end.raw + s.text}, want),
				later(s.name+" late behind "+end.name, raw, script{raw: end.raw, late: s.text}, want))
		}
	}
	return append(attacks,
		judged("Connection: close, and yet a response", get+"\r\n", script{raw: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello" + answer}, whole("hello")),
		judged("HTTP/1.0, and yet a response", get+"\r\n", script{raw: "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello" + answer}, whole("hello")),
		later("the end, late", get+"\r\n", script{raw: ok, late: " ", close: true}, whole("hello")),
		later("a reset, late", get+"\r\n", script{raw: ok, late: " ", reset: true}, whole("hello")),
	)
}

// later has the late piece come while the upstream's connection is unused; the
// same client and another ask then.
func later(name, raw string, s script, ok func(*response, error) error) attack {
	return attack{name: name, scripts: map[string]script{"/public/x": s}, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(raw)
		r, err := c.response(strings.HasPrefix(raw, "HEAD "))
		if err := errors.Join(ok(r, err), e.origin.release()); err != nil {
			return err
		}
		return c.sentinel()
	}}
}

// upgrades are attacks by the change of protocols (RFC 9110, section 7.8).
func upgrades() []attack {
	const ask = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
	attacks := []attack{
		tunnelled("asked for", get+ask+"\r\n", script{raw: switching + "\r\n", echo: true}, "\x81\x05hello"),
		tunnelled("a request through it is none", get+ask+"\r\n", script{raw: switching + "\r\n", echo: true}, evil),
		tunnelled("malformed bytes through it", get+ask+"\r\n", script{raw: switching + "\r\n", echo: true}, "GET / HTTP/9.9\n\n\x00\xff"),
		tunnelled("in other cases", get+"cOnNeCtIoN: keep-alive, uPgRaDe\r\nuPgRaDe: WebSocket\r\n\r\n", script{raw: switching + "\r\n", echo: true}, "hello"),
		tunnelled("bytes sent before the answer", get+ask+"\r\n"+evil, script{raw: switching + "\r\n", echo: true}, ""),
		tunnelled("with close beside", get+"Connection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n", script{raw: switching + "\r\n", echo: true}, "hello"),
		tunnelled("with fields beside", get+ask+"X: 1\r\nSec-WebSocket-Key: eA==\r\n\r\n", script{raw: switching + "X: 2\r\n\r\n", echo: true}, "hello"),
	}
	for _, s := range []sample{
		{"answered with another protocol", "Connection: Upgrade\r\nUpgrade: h2c\r\n"}, {"answered without a protocol", "Connection: Upgrade\r\n"}, {"answered with two protocols", "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n"},
		{"answered with a list", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"}, {"answered with a longer name", "Connection: Upgrade\r\nUpgrade: websocketx\r\n"}, {"answered malformed", "Connection: Upgrade\r\nUpgrade : websocket\r\n"},
		{"answered with both framings", "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"},
	} {
		attacks = append(attacks, judged(s.name, get+ask+"\r\n", script{raw: "HTTP/1.1 101 Switching Protocols\r\n" + s.text + "\r\n", echo: true}, status(502)))
	}
	attacks = append(attacks,
		judged("answered in HTTP/1.0", get+ask+"\r\n", script{raw: strings.Replace(switching, "1.1", "1.0", 1) + "\r\n", echo: true}, status(502)),
		judged("refused with 200", get+ask+"\r\n", script{raw: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"}, whole("hello")),
		judged("refused with 426", get+ask+"\r\n", script{raw: "HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n"}, status(426)),
		judged("refused, with a response behind", get+ask+"\r\n", script{raw: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + answer}, whole("hello")),
		seq("refused, then frames", get+ask+"\r\n\x81\x05hello", []int{200, 400}, []string{"/public/x"}, true),
		seq("refused, then a request", get+ask+"\r\n"+to("/public/b"), []int{200, 200}, []string{"/public/x", "/public/b"}, false),
		seq("denied, then frames", "GET /admin/x HTTP/1.1\r\nHost: edge.test\r\n"+ask+"\r\n\x81\x05hello", []int{403, 400}, nil, true),
	)
	plain := func(name, raw string) attack {
		return forward(name, raw, lacks("\r\nupgrade:", "\r\nconnection:", "http2-settings"))
	}
	return append(attacks,
		plain("h2c", get+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"),
		plain("h2c in capitals", get+"Connection: upgrade\r\nUpgrade: H2C\r\n\r\n"),
		plain("h2c without settings", get+"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
		plain("h2c first in a list", get+"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n"),
		plain("h2c last in a list", get+"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n"),
		plain("h2c in a list without space", get+"Connection: Upgrade\r\nUpgrade: websocket,h2c\r\n\r\n"),
		plain("h2c-14", get+"Connection: Upgrade\r\nUpgrade: h2c-14\r\n\r\n"),
		plain("h2", get+"Connection: Upgrade\r\nUpgrade: h2\r\n\r\n"),
		plain("HTTP/2.0", get+"Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n\r\n"),
		plain("TLS/1.0", get+"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n"),
		plain("empty", get+"Connection: Upgrade\r\nUpgrade:\r\n\r\n"),
		plain("malformed protocol", get+"Connection: Upgrade\r\nUpgrade: web socket\r\n\r\n"),
		plain("of HTTP/1.0", "GET /public/x HTTP/1.0\r\nHost: edge.test\r\n"+ask+"\r\n"),
		plain("not nominated", get+"Upgrade: websocket\r\n\r\n"),
		plain("nominated by another name", get+"Connection: X-Upgrade\r\nUpgrade: websocket\r\n\r\n"),
		plain("with a length", post+ask+counted("hello")),
		plain("with chunks", post+ask+"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
		plain("h2c by POST", post+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n"+counted(evil)),
		either("twice", get+"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n", lacks("h2c")),
		either("twice, h2c first", get+"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n\r\n", lacks("h2c")),
		reject("space before colon", get+"Connection: Upgrade\r\nUpgrade : websocket\r\n\r\n"+evil),
		reject("folded", get+"Connection: Upgrade\r\nUpgrade:\r\n websocket\r\n\r\n"+evil),
	)
}

// tunnelled wants 101 and then, back from the upstream, all that was sent
// behind the head, as it is, and no request but the first.
func tunnelled(name, raw string, s script, bytes string) attack {
	return attack{name: name, scripts: map[string]script{"/public/x": s}, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(raw)
		r, err := c.response(false)
		if err != nil {
			return err
		}
		if r.status != 101 || !strings.EqualFold(r.get("Upgrade"), "websocket") || !strings.EqualFold(r.get("Connection"), "upgrade") {
			return fmt.Errorf("WRONG: %d %q", r.status, r.fields)
		}
		c.send(bytes)
		want := raw[strings.Index(raw, "\r\n\r\n")+4:] + bytes
		for len(c.buf) < len(want) {
			if err := c.more(); err != nil {
				return fmt.Errorf("through the tunnel: %w", err)
			}
		}
		if string(c.buf) != want {
			return fmt.Errorf("SMUGGLED: through the tunnel came %q, want %q", c.buf, want)
		}
		if got := e.origin.requests(); len(got) != 1 {
			return fmt.Errorf("SMUGGLED: the upstream got %q", linesOf(got))
		}
		return nil
	}}
}
