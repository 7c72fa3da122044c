package attack_test

import (
	"fmt"
	"strings"
)

// counted is evil as a body, with its length in front.
func counted(s string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(s), s) }

// lengths are attacks by Content-Length (RFC 9112, section 6.2).
func lengths() []attack {
	attacks := rejects(post+"Content-Length:", "\r\n\r\nhello"+evil, nil,
		sample{"plus", " +5"}, sample{"minus", " -5"}, sample{"minus zero", " -0"}, sample{"leading zero", " 05"}, sample{"two zeros", " 00"}, sample{"many zeros", " 0000000000000000000005"},
		sample{"list", " 5,5"}, sample{"list with space", " 5, 5"}, sample{"list that differs", " 5, 0"}, sample{"list with empty", " 5,"}, sample{"two numbers", " 5 0"}, sample{"two numbers by tab", " 5\t0"},
		sample{"hexadecimal", " 0x5"}, sample{"hexadecimal digits", " a"}, sample{"fraction", " 5.0"}, sample{"exponent", " 5e0"}, sample{"separator", " 1_0"}, sample{"thousands", " 1'000"},
		sample{"empty", ""}, sample{"blank", " \t "}, sample{"word", " five"}, sample{"quoted", " \"5\""}, sample{"unit", " 5b"}, sample{"parameter", " 5;q=1"},
		sample{"2^63", " 9223372036854775808"}, sample{"2^64", " 18446744073709551616"}, sample{"2^64+5", " 18446744073709551621"}, sample{"2^32 five times", " 4294967301429496730142949673014294967301"},
		sample{"NUL", " 5\x00"}, sample{"vertical tab", " \x0b5"}, sample{"form feed", " 5\x0c"}, sample{"no-break space", " \xa05"}, sample{"CR", " 5\r"}, sample{"full-width digit", " \xef\xbc\x95"}, sample{"Arabic digit", " \xd9\xa5"},
		sample{"folded", "\r\n 5"}, sample{"fold adds a digit", " 5\r\n 0"}, sample{"bare LF", " 5\nX: y"}, sample{"CR and another", " 5\rContent-Length: 0"},
		sample{"twice alike", " 5\r\nContent-Length: 5"}, sample{"twice", " 5\r\nContent-Length: 0"}, sample{"twice in other cases", " 5\r\ncontent-LENGTH: 5"}, sample{"twice apart", " 5\r\nX: 1\r\nY: 2\r\nContent-Length: 0"},
		sample{"twice, the first bad", " x\r\nContent-Length: 5"}, sample{"three times", " 0\r\nContent-Length: 5\r\nContent-Length: 5"})
	attacks = append(attacks, rejects(post, "\r\n\r\nhello"+evil, nil,
		sample{"space before colon", "Content-Length : 5"}, sample{"tab before colon", "Content-Length\t: 5"}, sample{"NUL in name", "Content-Length\x00: 5"}, sample{"space in front", " Content-Length: 5"},
		sample{"space in name", "Content Length: 5"}, sample{"underscore", "Content_Length: 5"}, sample{"underscore beside good", "Content-Length: 0\r\nContent_Length: 5"}, sample{"no colon", "Content-Length 5"},
		sample{"no-break hyphen", "Content\xe2\x80\x91Length: 5"}, sample{"control in front", "\x0bContent-Length: 5"}, sample{"nominated away", "Connection: Content-Length\r\nContent-Length: 5"})...)
	for _, method := range []string{"GET", "DELETE", "OPTIONS", "PUT", "PATCH", "QUERY", "FOO"} {
		attacks = append(attacks, forward(method+" with a body", method+" /public/x HTTP/1.1\r\nHost: edge.test\r\n"+counted(evil), body(evil), has("Content-Length", fmt.Sprint(len(evil)))))
	}
	return append(attacks,
		forward("a request as a body", post+counted(evil), body(evil)),
		forward("two requests as a body", post+counted(evil+evil), body(evil+evil)),
		forward("chunks as a body", post+counted("5\r\nhello\r\n0\r\n\r\n"), body("5\r\nhello\r\n0\r\n\r\n"), lacks("Transfer-Encoding")),
		forward("HEAD with a body", "HEAD /public/x HTTP/1.1\r\nHost: edge.test\r\n"+counted(evil), body(evil)),
		forward("HTTP/1.0 with a body", "POST /public/x HTTP/1.0\r\nHost: edge.test\r\n"+counted(evil), body(evil)),
		forward("zero", post+"Content-Length: 0\r\n\r\n", has("Content-Length", "0")),
		forward("padded", post+"Content-Length: \t5 \t\r\n\r\nhello", raws("Content-Length: 5"), body("hello")),
		forward("case", post+"cOnTeNt-LeNgTh:5\r\n\r\nhello", has("Content-Length", "5"), body("hello")),
		forward("200 KiB", post+counted(strings.Repeat(evil, 3500)), body(strings.Repeat(evil, 3500))),
		forward("a name that only looks like it", get+"X-Content-Length: 5\r\n\r\n", has("X-Content-Length", "5"), has("Content-Length", "")),
		seq("CL.0: a GET's body is no request", "GET /public/a HTTP/1.1\r\nHost: edge.test\r\n"+counted(evil)+get+"\r\n", []int{200, 200}, []string{"/public/a", "/public/x"}, false),
		seq("0.CL: no length, so the next is a request", "POST /public/a HTTP/1.1\r\nHost: edge.test\r\n\r\n"+get+"\r\n", []int{200, 200}, []string{"/public/a", "/public/x"}, false),
		seq("no length, then bytes of a body", "POST /public/a HTTP/1.1\r\nHost: edge.test\r\n\r\n\"x\"=1"+evil, []int{200, 400}, []string{"/public/a"}, true),
		seq("length too short", "POST /public/a HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 4\r\n\r\nhell{}"+evil, []int{200, 400}, []string{"/public/a"}, true),
		broke("length too long", post+"Content-Length: 500\r\n\r\n"+evil),
		cut("length of 2^63-1", post+"Content-Length: 9223372036854775807\r\n\r\n"+evil, 413),
		broke("length without a byte", post+"Content-Length: 5\r\n\r\n"),
		broke("head cut behind the length", post+"Content-Length: 5\r\n"),
		broke("head cut in the length", post+"Content-Length: 5"),
	)
}

// broke wants nothing whole at the upstream where the client's half ends in the
// middle, and the connection closed behind at most one refusal.
func broke(name, raw string) attack {
	return attack{name: name, raw: raw, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(raw)
		if half, ok := c.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
			return fmt.Errorf("the client cannot half-close")
		}
		if err := c.more(); err == nil {
			if err := c.statuses([]int{400}); err != nil {
				return err
			}
		} else if err := wantEnd(err); err != nil {
			return err
		}
		if err := c.closed(); err != nil {
			return err
		}
		return e.targets(nil)
	}}
}

// codings are attacks by Transfer-Encoding (RFC 9112, section 6.1), alone and
// beside Content-Length.
func codings() []attack {
	const after = "\r\n\r\n0\r\n\r\n" + evil
	attacks := rejects(post+"Transfer-Encoding:", after, []int{400, 501},
		sample{"identity", " identity"}, sample{"gzip", " gzip"}, sample{"deflate", " deflate"}, sample{"x-gzip", " x-gzip"}, sample{"gzip, chunked", " gzip, chunked"},
		sample{"chunked, gzip", " chunked, gzip"}, sample{"identity, chunked", " identity, chunked"}, sample{"chunked, identity", " chunked, identity"}, sample{"chunked, chunked", " chunked, chunked"},
		sample{"xchunked", " xchunked"}, sample{"chunkedx", " chunkedx"}, sample{"chunk", " chunk"}, sample{"cow", " cow"}, sample{"empty", ""}, sample{"blank", " \t"}, sample{"comma alone", " ,"},
		sample{"comma in front", " ,chunked"}, sample{"comma at end", " chunked,"}, sample{"parameter", " chunked;q=1"}, sample{"quoted", " \"chunked\""}, sample{"apostrophes", " 'chunked'"}, sample{"colon", " : chunked"},
		sample{"space inside", " chun ked"}, sample{"semicolon in front", " ;chunked"}, sample{"comment", " chunked (x)"},
		sample{"vertical tab in front", " \x0bchunked"}, sample{"form feed at end", " chunked\x0c"}, sample{"NUL at end", " chunked\x00"}, sample{"NUL in front", " \x00chunked"}, sample{"no-break space", " \xa0chunked"},
		sample{"CR in front", " \rchunked"}, sample{"CR at end", " chunked\r"}, sample{"Kelvin sign", " chun\xe2\x84\xaaed"}, sample{"DEL", " chunked\x7f"},
		sample{"folded", "\r\n chunked"}, sample{"folded by tab", "\r\n\tchunked"}, sample{"fold adds", " chunked\r\n , identity"}, sample{"fold behind", " chunked\r\n "}, sample{"bare LF", " chunked\nX: y"},
		sample{"twice", " chunked\r\nTransfer-Encoding: chunked"}, sample{"twice, then identity", " chunked\r\nTransfer-Encoding: identity"}, sample{"identity, then chunked", " identity\r\nTransfer-Encoding: chunked"},
		sample{"gzip, then chunked", " gzip\r\nTransfer-Encoding: chunked"}, sample{"chunked, then cow", " chunked\r\nTransfer-encoding: cow"}, sample{"chunked, then empty", " chunked\r\nTransfer-Encoding:"}, sample{"twice apart", " chunked\r\nX: 1\r\ntransfer-encoding: x"})
	attacks = append(attacks, rejects(post, after, nil,
		sample{"space before colon", "Transfer-Encoding : chunked"}, sample{"tab before colon", "Transfer-Encoding\t: chunked"}, sample{"space in front", " Transfer-Encoding: chunked"},
		sample{"fold in name", "Transfer-Encoding\r\n : chunked"}, sample{"space in name", "Transfer Encoding: chunked"}, sample{"control in name", "Transfer\x0b-Encoding: chunked"}, sample{"NUL in name", "Transfer-Encoding\x00: chunked"},
		sample{"underscore", "Transfer_Encoding: chunked"}, sample{"underscore beside a length", "Content-Length: 5\r\nTransfer_Encoding: chunked"}, sample{"high byte in name", "Transfer-Encoding\xff: chunked"},
		sample{"quoted name", "\"Transfer-Encoding\": chunked"}, sample{"no colon", "Transfer-Encoding chunked"}, sample{"equals for colon", "Transfer-Encoding=chunked"},
		sample{"behind a bare CR", "X: y\rTransfer-Encoding: chunked"}, sample{"behind a bare LF", "X: y\nTransfer-Encoding: chunked"}, sample{"nominated away", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked"},
		sample{"nominated away in a list", "Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked"})...)
	attacks = append(attacks, rejects(post, after, []int{400},
		sample{"CL.TE", "Content-Length: 5\r\nTransfer-Encoding: chunked"}, sample{"TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 5"}, sample{"zero CL.TE", "Content-Length: 0\r\nTransfer-Encoding: chunked"},
		sample{"CL.TE apart", "Content-Length: 5\r\nX: 1\r\nTransfer-Encoding: chunked"}, sample{"CL.TE in other cases", "content-length: 5\r\ntransfer-ENCODING: CHUNKED"}, sample{"CL.TE identity", "Content-Length: 5\r\nTransfer-Encoding: identity"},
		sample{"CL.TE gzip", "Content-Length: 5\r\nTransfer-Encoding: gzip"}, sample{"CL.TE empty", "Content-Length: 5\r\nTransfer-Encoding:"}, sample{"CL.TE xchunked", "Content-Length: 5\r\nTransfer-Encoding: xchunked"},
		sample{"CL.TE by tab", "Content-Length: 5\r\nTransfer-Encoding:\tchunked"}, sample{"CL.TE space before colon", "Content-Length: 5\r\nTransfer-Encoding : chunked"}, sample{"CL.TE folded", "Content-Length: 5\r\nTransfer-Encoding:\r\n chunked"},
		sample{"CL.TE.TE", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x"}, sample{"CL.CL.TE", "Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"},
		sample{"bad CL.TE", "Content-Length: x\r\nTransfer-Encoding: chunked"}, sample{"CL space before colon, TE", "Content-Length : 5\r\nTransfer-Encoding: chunked"})...)
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	hidden := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(evil), evil)
	for _, method := range []string{"GET", "DELETE", "OPTIONS", "PATCH", "FOO"} {
		attacks = append(attacks, forward(method+" with chunks", method+" /public/x HTTP/1.1\r\nHost: edge.test\r\n"+chunked+hidden, body(evil), has("Transfer-Encoding", "chunked"), has("Content-Length", "")))
	}
	return append(attacks,
		reject("HTTP/1.0", "POST /public/x HTTP/1.0\r\nHost: edge.test\r\n"+chunked+"0\r\n\r\n"+evil),
		reject("HTTP/1.0, kept alive", "POST /public/x HTTP/1.0\r\nHost: edge.test\r\nConnection: keep-alive\r\n"+chunked+"0\r\n\r\n"+evil),
		reject("HTTP/1.0 with CL", "POST /public/x HTTP/1.0\r\nHost: edge.test\r\nContent-Length: 5\r\n"+chunked+"0\r\n\r\n"+evil),
		reject("GET with CL.TE", get+"Content-Length: 5\r\n"+chunked+"0\r\n\r\n"+evil),
		forward("a request in a chunk", post+chunked+hidden, body(evil)),
		forward("case and padding", post+"tRaNsFeR-eNcOdInG: \tChUnKeD \t\r\n\r\n"+hidden, body(evil), has("Transfer-Encoding", "chunked")),
		forward("GET with no chunk but the last", get+chunked+"0\r\n\r\n"),
		forward("no chunk but the last", post+chunked+"0\r\n\r\n", body("")),
		forward("a name that only looks like it", get+"X-Transfer-Encoding: chunked\r\n\r\n", has("Transfer-Encoding", "")),
		forward("TE is not Transfer-Encoding", get+"TE: chunked\r\n\r\n", has("Transfer-Encoding", ""), has("TE", "")),
		seq("a request behind the last chunk is one", "POST /public/a HTTP/1.1\r\nHost: edge.test\r\n"+chunked+"0\r\n\r\n"+get+"\r\n", []int{200, 200}, []string{"/public/a", "/public/x"}, false),
	)
}
