package attack_test

import (
	"fmt"
	"net"
	"strings"
)

func to(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: edge.test\r\n\r\n" }

// pipelines are attacks by what comes behind a request, and by how bytes are
// cut into segments.
func pipelines() []attack {
	two := []string{"/public/a", "/public/b"}
	bad := func(name, text string, status int) attack {
		return seq(name, to("/public/a")+text+to("/public/b"), []int{200, status}, two[:1], true)
	}
	attacks := []attack{
		seq("two requests", to("/public/a")+to("/public/b"), []int{200, 200}, two, false),
		seq("an empty line between", to("/public/a")+"\r\n"+to("/public/b"), []int{200, 200}, two, false),
		seq("50 requests", strings.Repeat(to("/public/a"), 50), make50(200), make50("/public/a"), false),
		seq("close ends the line", "GET /public/a HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n"+to("/public/b"), []int{200}, two[:1], true),
		seq("close in a list ends the line", "GET /public/a HTTP/1.1\r\nHost: edge.test\r\nConnection: X-A, close\r\n\r\n"+to("/public/b"), []int{200}, two[:1], true),
		seq("Close in capitals ends the line", "GET /public/a HTTP/1.1\r\nHost: edge.test\r\nConnection: CLOSE\r\n\r\n"+to("/public/b"), []int{200}, two[:1], true),
		seq("HTTP/1.0 ends the line", "GET /public/a HTTP/1.0\r\nHost: edge.test\r\n\r\n"+to("/public/b"), []int{200}, two[:1], true),
		seq("a denied one between", to("/public/a")+to("/admin/x")+to("/public/b"), []int{200, 403, 200}, two, false),
		seq("an unknown one between", to("/public/a")+to("/nowhere")+to("/public/b"), []int{200, 404, 200}, two, false),
		seq("a denied one's body is no request", "POST /admin/x HTTP/1.1\r\nHost: edge.test\r\n"+counted(to("/public/a"))+to("/public/b"), []int{403, 200}, two[1:], false),
		seq("a denied one's chunks are no request", "POST /admin/x HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"+to("/public/b"), []int{403, 200}, two[1:], false),
		seq("a denied one's bad chunks end the line", "POST /admin/x HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"+to("/public/b"), []int{403}, nil, true),
		seq("a body over the limit ends the line", "POST /small/x HTTP/1.1\r\nHost: edge.test\r\n"+counted(strings.Repeat(to("/public/a"), 100))+to("/public/b"), []int{413}, nil, true),
		bad("LF between", "\n", 400),
		bad("two empty lines between", "\r\n\r\n", 400),
		bad("a space between", " ", 400),
		bad("NUL between", "\x00", 400),
		bad("garbage between", "\x16\x03\x01\r\n\r\n", 400),
		bad("bad version between", "GET /public/c HTTP/9.9\r\nHost: edge.test\r\n\r\n", 505),
		bad("TRACE between", "TRACE /public/c HTTP/1.1\r\nHost: edge.test\r\n\r\n", 405),
		bad("CONNECT between", "CONNECT edge.test:80 HTTP/1.1\r\nHost: edge.test\r\n\r\n", 501),
		bad("no Host between", "GET /public/c HTTP/1.1\r\n\r\n", 400),
		bad("both framings between", "POST /public/c HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
		bad("an unknown coding between", "POST /public/c HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
		bad("an unknown expectation between", "GET /public/c HTTP/1.1\r\nHost: edge.test\r\nExpect: x\r\n\r\n", 417),
		bad("too many fields between", "GET /public/c HTTP/1.1\r\nHost: edge.test\r\n"+strings.Repeat("X: 1\r\n", 100)+"\r\n", 431),
		bad("a long target between", "GET /"+strings.Repeat("a", 17<<10)+" HTTP/1.1\r\nHost: edge.test\r\n\r\n", 414),
	}
	for _, s := range []sample{
		{"behind a head", get + "\r\n"}, {"in a length", post + "Content-Length: 500\r\n\r\nhello"}, {"in a large length", post + "Content-Length: 5000000\r\n\r\n" + strings.Repeat("a", 100000)},
		{"in chunks", chunkedPost + "5\r\nhello\r\n5\r\n"}, {"behind chunks", chunkedPost + "5\r\nhello\r\n0\r\n\r\n"}, {"waiting for 100", post + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"}, {"with a request behind", get + "\r\n" + evil},
	} {
		attacks = append(attacks, leaves("client resets "+s.name, s.text, true), leaves("client closes "+s.name, s.text, false))
	}
	for _, s := range []sample{
		{"a head", get + "X: 1\r\n\r\n"}, {"a length", post + "Content-Length: 5\r\n\r\nhello"},
		{"chunks", chunkedPost + "5;a=b\r\nhello\r\n0\r\n\r\n"}, {"trailers", chunkedPost + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"},
	} {
		attacks = append(attacks, dribbled(s.name+", byte by byte", forwarded, s.text, 1), dribbled(s.name+", three bytes at a time", forwarded, s.text, 3))
	}
	for _, s := range []sample{
		{"bare LF", get + "X: 1\n\r\n"}, {"space before colon", get + "X : 1\r\n\r\n"}, {"both framings", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"fold", get + "X: 1\r\n y\r\n\r\n"}, {"version", "GET /public/x HTTP/9.9\r\n\r\n"}, {"chunk size", chunkedPost + "5x\r\n"}, {"chunk end", chunkedPost + "5\r\nhelloX\r\n"},
		{"trailer", chunkedPost + "0\r\nContent-Length: 0\r\n\r\n"}, {"last LF", chunkedPost + "0\r\n\n"},
	} {
		attacks = append(attacks, dribbled(s.name+" refused, byte by byte", false, s.text, 1))
	}
	return attacks
}

func make50[T any](v T) (all []T) {
	for range 50 {
		all = append(all, v)
	}
	return all
}

const forwarded = true

// dribbled sends raw in segments of size bytes, and wants it forwarded or else
// refused as in one piece.
func dribbled(name string, good bool, raw string, size int) attack {
	return attack{name: name, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		for rest := raw; rest != ""; rest = rest[min(size, len(rest)):] {
			c.send(rest[:min(size, len(rest))])
		}
		r, err := c.response(false)
		if err != nil {
			return err
		}
		if good {
			if r.status != 200 {
				return fmt.Errorf("status %d, want 200", r.status)
			}
			if err := e.one(r, false, nil); err != nil {
				return err
			}
			return c.over(r)
		}
		if r.status != 400 && r.status != 505 {
			return fmt.Errorf("status %d, want 400", r.status)
		}
		if err := c.closed(); err != nil {
			return err
		}
		return e.targets(nil)
	}}
}

// leaves has the client go while its upstream is silent: what it asked is given
// up, and not left half to the next.
func leaves(name, raw string, reset bool) attack {
	return attack{name: name, raw: raw, gone: true, scripts: map[string]script{"/public/x": {mute: true}}, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		c.send(raw)
		if tcp, ok := c.Conn.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0) // it is closed either way
		}
		return c.Close()
	}}
}

// expects are attacks by Expect (RFC 9110, section 10.1.1).
func expects() []attack {
	const expect = "Expect: 100-continue\r\n"
	attacks := rejects(get+"Expect:", "\r\n\r\n"+evil, []int{400, 417},
		sample{"empty", ""}, sample{"100", " 100"}, sample{"continue", " continue"}, sample{"200-ok", " 200-ok"}, sample{"100-continued", " 100-continued"}, sample{"list", " 100-continue, x"},
		sample{"list of the same", " 100-continue, 100-continue"}, sample{"parameter", " 100-continue;q=1"}, sample{"quoted", " \"100-continue\""}, sample{"space inside", " 100- continue"}, sample{"folded", "\r\n 100-continue"},
		sample{"known, then unknown", " 100-continue\r\nExpect: x"}, sample{"unknown, then known", " x\r\nExpect: 100-continue"}, sample{"NUL", " 100-continue\x00"})
	return append(attacks,
		reject("space before colon", get+"Expect : 100-continue\r\n\r\n"),
		reject("nominated away", post+"Connection: Expect\r\n"+expect+counted("hello")),
		continued("asked for, then the body", post+expect+"Content-Length: 5\r\n\r\n", "hello", []int{100}),
		continued("asked for, then chunks", post+expect+"Transfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", []int{100}),
		continued("in another case", post+"eXpEcT: 100-Continue\r\nContent-Length: 5\r\n\r\n", "hello", []int{100}),
		forward("the body comes unasked", post+expect+counted("hello"), body("hello"), has("Expect", "")),
		forward("a request for a body", post+expect+counted(evil), body(evil), has("Expect", "")),
		forward("twice", post+expect+expect+counted("hello"), body("hello"), has("Expect", "")),
		forward("without a body", get+expect+"\r\n", has("Expect", "")),
		quiet("of HTTP/1.0", "POST /public/x HTTP/1.0\r\nHost: edge.test\r\n"+expect+counted("hello")),
		seq("denied: the body is no request", "POST /admin/x HTTP/1.1\r\nHost: edge.test\r\n"+expect+counted(to("/public/a")), []int{403}, nil, false),
		seq("denied: chunks are no request", "POST /admin/x HTTP/1.1\r\nHost: edge.test\r\n"+expect+"Transfer-Encoding: chunked\r\n\r\n"+to("/public/a"), []int{403}, nil, true),
		seq("unknown: the body is no request", "POST /nowhere HTTP/1.1\r\nHost: edge.test\r\n"+expect+counted(to("/public/a")), []int{404}, nil, true),
		seq("too large: the body is no request", "POST /small/x HTTP/1.1\r\nHost: edge.test\r\n"+expect+counted(strings.Repeat(to("/public/a"), 50)), []int{413}, nil, true),
		cut("then bad chunks", post+expect+"Transfer-Encoding: chunked\r\n\r\n5x\r\nhello\r\n0\r\n\r\n"+evil),
		broke("then nothing", post+expect+"Content-Length: 5\r\n"),
		early("a final answer before the body", post+expect+"Content-Length: 500\r\n\r\n"),
	)
}

// continued sends the body only after 100 (Continue).
func continued(name, head, rest string, interim []int) attack {
	return attack{name: name, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(head)
		for _, status := range interim {
			r, err := c.head()
			if err != nil {
				return err
			}
			if r.status != status {
				return fmt.Errorf("status %d, want %d", r.status, status)
			}
		}
		c.send(rest)
		r, err := c.response(false)
		if err != nil {
			return err
		}
		if len(r.interim) > 0 {
			return fmt.Errorf("another interim response: %d", r.interim)
		}
		if err := e.one(r, false, []check{body("hello"), has("Expect", "")}); err != nil {
			return err
		}
		return c.over(r)
	}}
}

// quiet wants no interim response.
func quiet(name, raw string) attack {
	return attack{name: name, run: func(e *env) error {
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
		if r.status != 200 || len(r.interim) > 0 {
			return fmt.Errorf("WRONG: %d and %d", r.interim, r.status)
		}
		if err := e.one(r, false, []check{has("Expect", "")}); err != nil {
			return err
		}
		return c.over(r)
	}}
}

// early has the upstream answer before the body; what the client sends then is
// no request.
func early(name, head string) attack {
	s := script{raw: "HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno", early: true, close: true}
	return attack{name: name, scripts: map[string]script{"/public/x": s}, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(head + evil)
		r, err := c.response(false)
		if err != nil {
			return err
		}
		if r.status != 401 || r.body != "no" || !r.close {
			return fmt.Errorf("WRONG: %d %q, close %t", r.status, r.body, r.close)
		}
		return c.closed()
	}}
}
