package attack_test

import (
	"errors"
	"fmt"
	"strings"
)

// judged is one good request for what s says, whose response ok judges; then the
// connection must be closed or fit for another.
func judged(name, raw string, s script, ok func(*response, error) error) attack {
	return attack{name: name, scripts: map[string]script{"/public/x": s, "/hasty/x": s}, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(raw)
		r, err := c.response(strings.HasPrefix(raw, "HEAD "))
		if err := ok(r, err); err != nil {
			return err
		}
		if cutOff(err) {
			return c.closed()
		}
		if n := len(e.origin.requests()); n != 1 {
			return fmt.Errorf("WRONG: the upstream got %d requests", n)
		}
		return c.over(r)
	}}
}

// status wants a whole response of that status, without a trace of what is
// hidden in the upstream's.
func status(want int) func(*response, error) error {
	return func(r *response, err error) error {
		switch {
		case err != nil:
			return err
		case r.status != want:
			return fmt.Errorf("status %d, want %d; %.200q", r.status, want, r.body)
		case want >= 500 && (strings.Contains(fmt.Sprint(r.fields), "hidden") || strings.Contains(r.body, "hidden")):
			return fmt.Errorf("RISKY: of a refused response %q and %q were passed on", r.fields, r.body)
		}
		return nil
	}
}

// whole wants 200 with that body.
func whole(want string) func(*response, error) error {
	return func(r *response, err error) error {
		if err := status(200)(r, err); err != nil {
			return err
		}
		if r.body != want {
			return fmt.Errorf("SMUGGLED: the client got the body %q, want %q", r.body, want)
		}
		return nil
	}
}

// severed wants the client to see that the response is incomplete.
func severed(r *response, err error) error {
	if cutOff(err) {
		if !strings.HasPrefix("hello!", r.body) {
			return fmt.Errorf("WRONG: a broken response was given the body %q", r.body)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if r.status == 502 || r.status == 504 {
		return nil
	}
	return fmt.Errorf("WRONG: a broken response arrived as a whole one: %d %.200q", r.status, r.body)
}

// trailed wants the field X-Sum to be head, and the trailers to be tail or none.
func trailed(head, tail string) func(*response, error) error {
	return func(r *response, err error) error {
		if err := whole("hello")(r, err); err != nil {
			return err
		}
		if got := strings.Join(r.trailers, " "); r.get("X-Sum") != head || got != "" && got != tail {
			return fmt.Errorf("WRONG: X-Sum %q, trailers %q", r.get("X-Sum"), r.trailers)
		}
		return nil
	}
}

// broken wants 502 for each.
func broken(before, after string, samples ...sample) []attack {
	return each(func(name, text string) attack {
		return judged(name, get+"\r\n", script{raw: before + text + after}, status(502))
	}, samples...)
}

const answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden"

// answers are attacks by upstreams (RFC 9112, sections 4 and 6).
func answers() []attack {
	attacks := broken("", "\r\nContent-Length: 6\r\n\r\nhidden",
		sample{"garbage", "hidden"}, sample{"lower case", "http/1.1 200 OK"}, sample{"HTTP/2", "HTTP/2 200 OK"}, sample{"HTTP/2.0", "HTTP/2.0 200 OK"}, sample{"HTTP/1.2", "HTTP/1.2 200 OK"}, sample{"HTTP/0.9", "HTTP/0.9 200 OK"},
		sample{"ICY", "ICY 200 OK"}, sample{"version with two digits", "HTTP/1.10 200 OK"}, sample{"a request", "GET / HTTP/1.1"}, sample{"empty line first", "\r\nHTTP/1.1 200 OK"}, sample{"space first", " HTTP/1.1 200 OK"}, sample{"byte order mark", "\xef\xbb\xbfHTTP/1.1 200 OK"},
		sample{"no status", "HTTP/1.1"}, sample{"status of 2 digits", "HTTP/1.1 20 OK"}, sample{"status of 4 digits", "HTTP/1.1 2000 OK"}, sample{"status 099", "HTTP/1.1 099 OK"}, sample{"status 000", "HTTP/1.1 000 OK"}, sample{"status 600", "HTTP/1.1 600 OK"}, sample{"status 999", "HTTP/1.1 999 OK"},
		sample{"status negative", "HTTP/1.1 -20 OK"}, sample{"status a word", "HTTP/1.1 OK"}, sample{"status in hexadecimal", "HTTP/1.1 0xc OK"}, sample{"two spaces", "HTTP/1.1  200 OK"}, sample{"tab", "HTTP/1.1\t200 OK"}, sample{"no space", "HTTP/1.1200 OK"},
		sample{"reason without space", "HTTP/1.1 200OK"}, sample{"reason with NUL", "HTTP/1.1 200 O\x00K"}, sample{"reason with CR", "HTTP/1.1 200 O\rK"}, sample{"reason with control", "HTTP/1.1 200 \x1b[2J"}, sample{"bare LF", "HTTP/1.1 200 OK\nX: hidden"},
		sample{"CR CR LF", "HTTP/1.1 200 OK\r"})
	attacks = append(attacks, broken("HTTP/1.1 200 OK\r\n", "\r\nContent-Length: 6\r\n\r\nhidden",
		sample{"field without colon", "X-Hidden"}, sample{"field without name", ": hidden"}, sample{"space before colon", "X : hidden"}, sample{"tab before colon", "X\t: hidden"}, sample{"space in front", " X: hidden"}, sample{"space in name", "X Y: hidden"},
		sample{"NUL in name", "X\x00: hidden"}, sample{"high byte in name", "X\xe9: hidden"}, sample{"NUL in value", "X: hidden\x00"}, sample{"CR in value", "X: hidden\rY: 1"}, sample{"control in value", "X: hidden\x01"}, sample{"DEL in value", "X: hidden\x7f"},
		sample{"CR splits Location", "Location: /hidden\rSet-Cookie: a=b"}, sample{"LF in value", "X: hidden\nY: 1"}, sample{"fold", "X: a\r\n hidden"}, sample{"fold by tab", "X: a\r\n\thidden"}, sample{"fold hides framing", "X: a\r\n Transfer-Encoding: chunked"},
		sample{"201 fields", strings.Repeat("X: hidden\r\n", 201) + "Y: 1"}, sample{"head of 70 KiB", strings.Repeat("X: "+strings.Repeat("a", 1000)+"\r\n", 70) + "Y: hidden"}, sample{"field of 100 KiB", "X: " + strings.Repeat("a", 100<<10)},
		sample{"length twice", "Content-Length: 6"}, sample{"length twice, other", "Content-Length: 5"}, sample{"length in another case", "content-LENGTH: 0"}, sample{"length bad and good", "Content-Length: x"},
		sample{"both framings", "Transfer-Encoding: chunked"}, sample{"both, identity", "Transfer-Encoding: identity"}, sample{"both, gzip", "Transfer-Encoding: gzip"}, sample{"both, empty", "Transfer-Encoding:"}, sample{"both, space before colon", "Transfer-Encoding : chunked"})...)
	attacks = append(attacks, broken("HTTP/1.1 200 OK\r\nContent-Length:", "\r\n\r\nhidden",
		sample{"length plus", " +6"}, sample{"length minus", " -1"}, sample{"length leading zero", " 06"}, sample{"length list", " 6,6"}, sample{"length list with space", " 6, 6"}, sample{"length hexadecimal", " 0x6"}, sample{"length empty", ""}, sample{"length word", " six"}, sample{"length fraction", " 6.0"},
		sample{"length 2^63", " 9223372036854775808"}, sample{"length 2^64+6", " 18446744073709551622"}, sample{"length of 40 digits", " " + strings.Repeat("9", 40)}, sample{"length two numbers", " 6 6"}, sample{"length NUL", " 6\x00"}, sample{"length vertical tab", " \x0b6"})...)
	attacks = append(attacks, broken("HTTP/1.1 200 OK\r\nTransfer-Encoding:", "\r\n\r\n6\r\nhidden\r\n0\r\n\r\n",
		sample{"coding identity", " identity"}, sample{"coding gzip", " gzip"}, sample{"coding gzip, chunked", " gzip, chunked"}, sample{"coding chunked, gzip", " chunked, gzip"}, sample{"coding chunked twice", " chunked, chunked"}, sample{"coding xchunked", " xchunked"}, sample{"coding empty", ""},
		sample{"coding with parameter", " chunked;x"}, sample{"coding quoted", " \"chunked\""}, sample{"coding in two fields", " chunked\r\nTransfer-Encoding: chunked"}, sample{"coding and identity", " chunked\r\nTransfer-Encoding: identity"}, sample{"coding with vertical tab", " \x0bchunked"}, sample{"coding folded", "\r\n chunked"})...)
	attacks = append(attacks, broken("HTTP/1.", "\r\n\r\n",
		sample{"chunked in HTTP/1.0", "0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhidden\r\n0"},
		sample{"101 unasked", "1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket"}, sample{"101 unasked without Upgrade", "1 101 Switching Protocols"},
		sample{"101 unasked with a response behind", "1 101 Switching Protocols\r\n\r\n" + answer}, sample{"101 to h2c", "1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c"},
		sample{"17 interim responses", "1 103 Early Hints" + strings.Repeat("\r\n\r\nHTTP/1.1 103 Early Hints", 16)},
		sample{"interim with fold", "1 103 Early Hints\r\nLink: a\r\n b"}, sample{"interim with both framings", "1 103 Early Hints\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"})...)
	return append(append(attacks, ends()...), bodies()...)
}

// ends are upstreams that break off.
func ends() (attacks []attack) {
	for _, s := range []sample{
		{"before a byte", ""}, {"in the status line", "HTTP/1.1 20"}, {"behind the status line", "HTTP/1.1 200 OK\r\n"}, {"in a field", "HTTP/1.1 200 OK\r\nX: hid"}, {"before the end of the head", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n"},
		{"behind an interim response", "HTTP/1.1 103 Early Hints\r\n\r\n"},
	} {
		attacks = append(attacks,
			judged("closes "+s.name, post+"\r\n", script{raw: s.text, close: true}, status(502)),
			judged("resets "+s.name, post+"\r\n", script{raw: s.text, reset: true}, status(502)),
			judged("falls silent "+s.name, "GET /hasty/x HTTP/1.1\r\nHost: edge.test\r\n\r\n", script{raw: s.text, mute: s.text == ""}, status(504)))
	}
	for _, s := range []sample{
		{"a length", "Content-Length: 60\r\n\r\nhello"}, {"a length, before a byte", "Content-Length: 60\r\n\r\n"}, {"a large length", "Content-Length: 9223372036854775807\r\n\r\nhello"}, {"a chunk", "Transfer-Encoding: chunked\r\n\r\n50\r\nhello"},
		{"a chunk's size", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5"}, {"chunks", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"}, {"the last chunk", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"}, {"a trailer", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n"},
	} {
		raw := "HTTP/1.1 200 OK\r\n" + s.text
		attacks = append(attacks,
			judged("closes in "+s.name, get+"\r\n", script{raw: raw, close: true}, severed),
			judged("resets in "+s.name, get+"\r\n", script{raw: raw, reset: true}, severed),
			judged("falls silent in "+s.name, "GET /hasty/x HTTP/1.1\r\nHost: edge.test\r\n\r\n", script{raw: raw}, severed))
	}
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, s := range []sample{
		{"size no number", "x\r\nhello\r\n"}, {"size negative", "-5\r\nhello\r\n"}, {"size with plus", "+5\r\nhello\r\n"}, {"size with x", "0x5\r\nhello\r\n"}, {"size empty", "\r\nhello\r\n"}, {"space in front of size", " 5\r\nhello\r\n"}, {"space behind size", "5 \r\nhello\r\n"},
		{"size of 17 digits", "00000000000000005\r\nhello\r\n"}, {"size 2^64-1", "ffffffffffffffff\r\nhello\r\n"}, {"LF behind size", "5\nhello\r\n"}, {"CR behind size", "5\rhello\r\n"}, {"data too long", "5\r\nhello!\r\n"}, {"LF behind data", "5\r\nhello\n"}, {"nothing behind data", "5\r\nhello"},
		{"extension with LF", "5;a\nb\r\nhello\r\n"}, {"extension with NUL", "5;\x00\r\nhello\r\n"}, {"extension of 300 bytes", "5;" + strings.Repeat("a", 300) + "\r\nhello\r\n"}, {"second size bad", "5\r\nhello\r\nx\r\nhello\r\n"},
	} {
		attacks = append(attacks, judged("chunk: "+s.name, get+"\r\n", script{raw: chunked + s.text + "0\r\n\r\n"}, severed))
	}
	for _, s := range []sample{
		{"Content-Length", "Content-Length: 5"}, {"Transfer-Encoding", "Transfer-Encoding: chunked"}, {"Connection", "Connection: close"}, {"Host", "Host: x"}, {"Upgrade", "Upgrade: x"}, {"fold", "X: 1\r\n y"}, {"space before colon", "X : 1"}, {"no colon", "X"}, {"bare LF", "X: 1\nY: 2"},
		{"NUL", "X: \x00"}, {"over 8 KiB", "X: " + strings.Repeat("a", 9000)},
	} {
		attacks = append(attacks, judged("trailer: "+s.name, get+"TE: trailers\r\n\r\n", script{raw: chunked + "5\r\nhello\r\n0\r\n" + s.text + "\r\n\r\n"}, severed))
	}
	return attacks
}

// bodies are responses that are good, and those that may have no body.
func bodies() []attack {
	nothing := func(want int) func(*response, error) error {
		return func(r *response, err error) error {
			if err := status(want)(r, err); err != nil {
				return err
			}
			if r.body != "" {
				return fmt.Errorf("SMUGGLED: the client got the body %q", r.body)
			}
			if r.get("Transfer-Encoding") != "" || want == 204 && r.get("Content-Length") != "" {
				return fmt.Errorf("RISKY: a %d was framed: %q", want, r.fields)
			}
			return nil
		}
	}
	lean := func(names ...string) func(*response, error) error {
		return func(r *response, err error) error {
			if err := whole("hello")(r, err); err != nil {
				return err
			}
			for _, name := range names {
				if v := r.get(name); v != "" {
					return fmt.Errorf("RISKY: %s: %q was passed on", name, v)
				}
			}
			if len(r.interim) > 0 || len(r.trailers) > 0 {
				return fmt.Errorf("WRONG: interim %d, trailers %q", r.interim, r.trailers)
			}
			return nil
		}
	}
	ok := func(lines string) script {
		return script{raw: "HTTP/1.1 200 OK\r\n" + lines + "Content-Length: 5\r\n\r\nhello"}
	}
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	head := "HEAD /public/x HTTP/1.1\r\nHost: edge.test\r\n\r\n"
	return []attack{
		judged("204 with a length and a body", get+"\r\n", script{raw: "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nhidden"}, nothing(204)),
		judged("204 with chunks", get+"\r\n", script{raw: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhidden\r\n0\r\n\r\n"}, nothing(204)),
		judged("204 with a response behind", get+"\r\n", script{raw: "HTTP/1.1 204 No Content\r\n\r\n" + answer}, nothing(204)),
		judged("304 with a length and a body", get+"\r\n", script{raw: "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nhidden"}, nothing(304)),
		judged("304 with chunks", get+"\r\n", script{raw: "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhidden\r\n0\r\n\r\n"}, nothing(304)),
		judged("HEAD answered with a body", head, script{raw: answer}, nothing(200)),
		judged("HEAD answered with chunks", head, script{raw: chunked + "6\r\nhidden\r\n0\r\n\r\n"}, nothing(200)),
		judged("HEAD answered without framing", head, script{raw: "HTTP/1.1 200 OK\r\n\r\n", close: true}, nothing(200)),
		judged("HEAD answered with a large length", head, script{raw: "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n"}, nothing(200)),
		judged("205 with nothing", get+"\r\n", script{raw: "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"}, nothing(205)),
		judged("an unknown length to a kept HTTP/1.0 ends the line", "GET /public/x HTTP/1.0\r\nHost: edge.test\r\nConnection: keep-alive\r\n\r\n"+evil, script{raw: chunked + "5\r\nhello\r\n0\r\n\r\n"}, func(r *response, err error) error {
			if err == nil {
				r.close = true
			}
			return whole("hello")(r, err)
		}),
		judged("trailers asked for", get+"TE: trailers\r\n\r\n", script{raw: chunked + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"}, trailed("", "X-Sum: 1")),
		judged("trailers announced", get+"TE: trailers\r\n\r\n", script{raw: "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\n" + chunked[17:] + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"}, trailed("", "X-Sum: 1")),
		judged("a trailer called as a field", get+"TE: trailers\r\n\r\n", script{raw: "HTTP/1.1 200 OK\r\nX-Sum: head\r\n" + chunked[17:] + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"}, trailed("head", "X-Sum: 1")),
		judged("a field announced as a trailer", get+"TE: trailers\r\n\r\n", script{raw: "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nX-Sum: head\r\n" + chunked[17:] + "5\r\nhello\r\n0\r\n\r\n"}, trailed("head", "")),
		judged("a nominated trailer", get+"TE: trailers\r\n\r\n", script{raw: "HTTP/1.1 200 OK\r\nConnection: X-Sum\r\n" + chunked[17:] + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"}, trailed("", "")),
		judged("empty by length", get+"\r\n", script{raw: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, whole("")),
		judged("empty by chunks", get+"\r\n", script{raw: chunked + "0\r\n\r\n"}, whole("")),
		judged("empty by the end", get+"\r\n", script{raw: "HTTP/1.1 200 OK\r\n\r\n", close: true}, whole("")),
		judged("framed by the end", get+"\r\n", script{raw: "HTTP/1.1 200 OK\r\n\r\nhello", close: true}, whole("hello")),
		judged("HTTP/1.0 framed by the end", get+"\r\n", script{raw: "HTTP/1.0 200 OK\r\n\r\nhello", close: true}, whole("hello")),
		judged("framed by a reset", get+"\r\n", script{raw: "HTTP/1.1 200 OK\r\n\r\nhello", reset: true}, func(r *response, err error) error {
			if err == nil && r.status == 200 && r.body != "hello" {
				return errors.New("WRONG: a part passes for the whole")
			}
			if cutOff(err) {
				return nil
			}
			return err
		}),
		judged("no reason", get+"\r\n", script{raw: "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"}, whole("hello")),
		judged("empty reason", get+"\r\n", script{raw: "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello"}, whole("hello")),
		judged("chunk extensions are dropped", get+"\r\n", script{raw: chunked + "5;a=b\r\nhello\r\n0;c\r\n\r\n"}, whole("hello")),
		judged("trailers unasked", get+"\r\n", script{raw: chunked + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"}, lean("X-Sum")),
		judged("a response as a body", get+"\r\n", script{raw: fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)}, whole(answer)),
		judged("a response in a chunk", get+"\r\n", script{raw: chunked + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(answer), answer)}, whole(answer)),
		judged("Keep-Alive", get+"\r\n", ok("Keep-Alive: timeout=5\r\nConnection: keep-alive\r\n"), lean("Keep-Alive")),
		judged("Proxy-Connection", get+"\r\n", ok("Proxy-Connection: close\r\n"), lean("Proxy-Connection")),
		judged("Upgrade of 200", get+"\r\n", ok("Upgrade: h2c\r\nConnection: Upgrade\r\n"), lean("Upgrade")),
		judged("nominated field", get+"\r\n", ok("Connection: X-Secret\r\nX-Secret: 1\r\n"), lean("X-Secret")),
		judged("nominated length", get+"\r\n", ok("Connection: Content-Length\r\n"), lean()),
		judged("nominated coding", get+"\r\n", script{raw: "HTTP/1.1 200 OK\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"}, lean()),
		judged("16 interim responses", get+"\r\n", script{raw: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 16) + ok("").raw}, func(r *response, err error) error {
			r.interim = nil // a proxy passes them on (RFC 9110, section 15.2)
			return lean("Link")(r, err)
		}),
		judged("100 unasked", get+"\r\n", script{raw: "HTTP/1.1 100 Continue\r\n\r\n" + ok("").raw}, lean()),
		judged("102 with a length", get+"\r\n", script{raw: "HTTP/1.1 102 Processing\r\nContent-Length: 6\r\n\r\n" + ok("").raw}, func(r *response, err error) error {
			r.interim = nil // it is passed on without the length
			return lean()(r, err)
		}),
		judged("unknown interim response", get+"\r\n", script{raw: "HTTP/1.1 199 X\r\nX-Hidden: 1\r\n\r\n" + ok("").raw}, lean("X-Hidden")),
		judged("order, case and twins of fields", get+"\r\n", ok("sErVeR: x\r\nSet-Cookie: a=b\r\nX-A: 1\r\nset-cookie: c=d\r\nDate: then\r\nX-A: 2\r\nContent-Type: a/b\r\n"), func(r *response, err error) error {
			if err := whole("hello")(r, err); err != nil {
				return err
			}
			var got []string
			for _, f := range r.fields {
				got = append(got, f.name+"="+f.value)
			}
			if s := strings.Join(got, " "); !strings.Contains(s, "sErVeR=x Set-Cookie=a=b X-A=1 set-cookie=c=d Date=then X-A=2 Content-Type=a/b") {
				return fmt.Errorf("WRONG: the client got %s", s)
			}
			return nil
		}),
		judged("its own X-Request-Id", get+"\r\n", ok("X-Request-Id: forged\r\n"), func(r *response, err error) error {
			if err := whole("hello")(r, err); err != nil {
				return err
			}
			if id := r.get("X-Request-Id"); strings.Contains(id, "forged") || strings.Contains(id, "|") {
				return fmt.Errorf("WRONG: X-Request-Id %q", id)
			}
			return nil
		}),
		judged("unknown length to HTTP/1.0", "GET /public/x HTTP/1.0\r\nHost: edge.test\r\n\r\n", script{raw: chunked + "5\r\nhello\r\n0\r\n\r\n"}, func(r *response, err error) error {
			if err == nil && !r.byEnd {
				return errors.New("RISKY: an HTTP/1.0 client got chunks")
			}
			if err == nil {
				r.close = true
			}
			return whole("hello")(r, err)
		}),
	}
}
