package listen

import (
	"fmt"
	"strings"
)

// A verdict is what is expected of raw bytes: so many complete requests, and
// then status, or 0 if there is nothing to complain about (yet).
type verdict struct {
	name     string
	raw      string
	complete int
	status   int
}

const hostLine = "Host: a.example\r\n"

// get is a GET with the given lines between Host and the empty line.
func get(lines string) string { return "GET / HTTP/1.1\r\n" + hostLine + lines + "\r\n" }

// chunked is a POST with the given body.
func chunked(body string) string {
	return "POST /p HTTP/1.1\r\n" + hostLine + "Transfer-Encoding: chunked\r\n\r\n" + body
}

func corpus() []verdict {
	var all []verdict
	for _, part := range [][]verdict{
		lineCases(), targetCases(), nameCases(), valueCases(), hostCases(), lengthCases(),
		codingCases(), connectionCases(), chunkCases(), trailerCases(), limitCases(), sequenceCases(),
	} {
		all = append(all, part...)
	}
	return all
}

// each makes one case for every raw line, all with the same verdict.
func each(group string, complete, status int, raws ...string) []verdict {
	var all []verdict
	for i, raw := range raws {
		all = append(all, verdict{fmt.Sprintf("%s %d", group, i), raw, complete, status})
	}
	return all
}

func join(parts ...[]verdict) (all []verdict) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func lineCases() []verdict {
	with := func(line string) string { return line + "\r\n" + hostLine + "\r\n" }
	return join(
		each("line accepted", 1, 0,
			with("GET / HTTP/1.1"), with("GET / HTTP/1.0"), "GET / HTTP/1.0\r\n\r\n", "\r\n"+with("GET / HTTP/1.1"),
			with("OPTIONS * HTTP/1.1"), with("DELETE /x HTTP/1.1"), with("M-SEARCH /x HTTP/1.1"), with("get / HTTP/1.1"),
			with(strings.Repeat("M", 32)+" / HTTP/1.1"), with("HEAD /a?b=c&d HTTP/1.1"), with("GET //x HTTP/1.1")),
		each("line refused", 0, 400,
			with("GET  / HTTP/1.1"), with("GET / HTTP/1.1 "), with(" GET / HTTP/1.1"), with("GET /  HTTP/1.1"),
			with("GET\t/ HTTP/1.1"), with("GET /\tHTTP/1.1"), with("GET / x HTTP/1.1"), with("GET /"), with("GET"),
			with("GET / HTTP/1.1\x00"), with("GET / http/1.1"), with("GET / HTTP/1"), with("GET / HTTP/1.10"),
			with("GET / HTTP/01.1"), with("GET / HTTP/1,1"), with("GET / HTTP/a.b"), with("GET / FTP/1.1"), with("GET / HTTP/ 1.1"), with("GET x y"),
			with("GE(T / HTTP/1.1"), with("G\x80T / HTTP/1.1"), with("GET: / HTTP/1.1"), with(strings.Repeat("M", 33)+" / HTTP/1.1"),
			"\r\n\r\n"+with("GET / HTTP/1.1"), "\n"+with("GET / HTTP/1.1"), "\r"+with("GET / HTTP/1.1"), " \r\n"+with("GET / HTTP/1.1"),
			"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00", "{\"a\":1}", "GET / HTTP/1.1\nHost: a\n\n",
			"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\rHost: a\r\n\r\n", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\n", "\ufeffGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
		each("version refused", 0, 505,
			with("GET / HTTP/1.2"), with("GET / HTTP/9.9"), with("GET / HTTP/2.0"), with("GET / HTTP/0.9"), with("GET / HTTP/3.0"),
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", with("GET / HTTP/0.0")),
		each("method refused", 0, 405, with("TRACE / HTTP/1.1"), with("trace / HTTP/1.1")),
		each("connect refused", 0, 501, with("CONNECT a.example:443 HTTP/1.1"), with("connect [::1]:443 HTTP/1.1")),
		each("connect malformed", 0, 400, with("CONNECT / HTTP/1.1"), with("CONNECT a.example HTTP/1.1"), with("CONNECT http://a:1 HTTP/1.1")),
		each("incomplete", 0, 0, "", "G", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n", "\r", "GET / HTTP/1.1\r\nHost: a\r\n\r"),
	)
}

func targetCases() []verdict {
	with := func(target string) string { return "GET " + target + " HTTP/1.1\r\n" + hostLine + "\r\n" }
	return join(
		each("target accepted", 1, 0,
			with("/%2e%2e/x"), with("/a;b=c"), with("/\\x"), with("/a|b?q={x}"), with("http://a.example/"), with("http://A.EXAMPLE:80/x"),
			with("HTTP://a.example?x"), with("http://a.example"), with("/http://b.example/"),
			"GET http://a.example:8080/ HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", "GET http://a.example/ HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
			"GET http://a.example/ HTTP/1.0\r\n\r\n", "GET http://[::1]/ HTTP/1.1\r\nHost: [::1]\r\n\r\n", "GET /"+strings.Repeat("x", 16383)+" HTTP/1.1\r\nHost: a\r\n\r\n"),
		each("target refused", 0, 400,
			with("*"), with("x"), with("a.example:80"), with("/a#b"), with("/#"), with("/\x01"), with("/\x7f"), with("/\xc3\xa9"), with("/\x00"),
			with("http://b.example/"), with("http://a.example:81/"), with("https://a.example/"), with("http:///x"), with("http://u@a.example/"),
			with("http://a.example,b/"), with("ftp://a.example/"), with("http:/a.example/"), with("http://a.example\\x/"), with("//"+"\x0b"),
			with("?x"), with("\\x"), with("http://"), with("HTTPS://a.example/"), "OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n",
			"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n"),
	)
}

func nameCases() []verdict {
	return join(
		each("name accepted", 1, 0, get("X_User: 1\r\n"), get("a: b\r\n"), get("!#$%&'*+-.^_`|~0aZ: b\r\n"), get("X-User-ID:1\r\n"), get("_: 1\r\n"), get("X_Forward: 1\r\n")),
		each("name refused", 0, 400,
			get("X Y: 1\r\n"), get("X : 1\r\n"), get("X\t: 1\r\n"), get(": 1\r\n"), get("X\r\n"), get("X\x00: 1\r\n"), get("X\x80: 1\r\n"), get("X\xc3\xa9: 1\r\n"),
			get(" X: 1\r\n"), get("\tX: 1\r\n"), get("X: 1\r\n folded\r\n"), get("X: 1\r\n\tfolded\r\n"), get("X(: 1\r\n"), get("X/Y: 1\r\n"), get("\"X\": 1\r\n"),
			get("X@Y: 1\r\n"), get("[X]: 1\r\n"), get("{X}: 1\r\n"), get("X=Y: 1\r\n"), get("X,Y: 1\r\n"), get("X;Y: 1\r\n"), get("Content-Length : 0\r\n"),
			get("Transfer-Encoding\x0b: chunked\r\n"), get("\x0bTransfer-Encoding: chunked\r\n"), get("Transfer-Encoding \t: chunked\r\n"),
			"GET / HTTP/1.1\r\n "+hostLine+"\r\n", "GET / HTTP/1.1\r\n\tX: 1\r\n"+hostLine+"\r\n", get("X: 1\r\n \r\n")),
		each("alias refused", 0, 400,
			get("Content_Length: 5\r\n"), get("Transfer_Encoding: chunked\r\n"), get("TRANSFER_ENCODING: x\r\n"), get("X_Forwarded_For: 1\r\n"),
			get("X-Forwarded_For: 1\r\n"), get("x_forwarded-host: 1\r\n"), get("X_Real_IP: 1\r\n"), get("X_Request-Id: 1\r\n"), get("X_Forwarded_"+strings.Repeat("y", 60)+": 1\r\n")),
	)
}

func valueCases() []verdict {
	return join(
		each("value accepted", 1, 0, get("X:\r\n"), get("X: \t \r\n"), get("X: a\tb\r\n"), get("X: \"q\\\"x\" , y\r\n"), get("X: "+strings.Repeat("v", 8000)+"\r\n"), get("X: :;=\r\n"), get("Cookie: a=b; c=d\r\n")),
		each("value refused", 0, 400,
			get("X: a\x00b\r\n"), get("X: a\rb\r\n"), get("X: a\nb\r\n"), get("X: \x01\r\n"), get("X: \x1f\r\n"), get("X: \x7f\r\n"), get("X: \x80\r\n"), get("X: caf\xc3\xa9\r\n"),
			get("X: \xff\r\n"), get("X: 12345678\x0b12345678\r\n"), get("X: a\r\r\n"), get("X: a\x1bb\r\n"), get("X: a\x08\r\n"), get("Cookie: a\x0cb\r\n")),
	)
}

func hostCases() []verdict {
	with := func(host string) string { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	return join(
		each("host accepted", 1, 0, with("a"), with("A.B-c_d.example"), with("a:80"), with("a:0"), with("a:65535"), with("127.0.0.1:8080"), with("[::1]"), with("[2001:db8::1]:443"), with("a."), with("  a \t"), with("[::ffff:1.2.3.4]"), "GET / HTTP/1.1\r\nhOsT:a\r\n\r\n"),
		each("host refused", 0, 400,
			with(""), with(" "), with("u@a"), with("a,b"), with("a b"), with("a/b"), with("a\"b"), with("<a>"), with("a:"), with("a:x"), with("a:65536"), with("a:99999"), with("a:080808"),
			with("a:-1"), with("a:80:80"), with("[::1"), with("::1"), with("[]"), with("[::1]x"), with("[::1]:"), with("[fe80::1%eth0]"), with("[1.2.3.4]"), with("[v1.x]"), with("a..b"), with(".a"), with("."),
			with("a%20b"), with("a%00"), with("a?b"), with("a#b"), with("a\\b"), with("a;b"), with("a'b"), with("http://a"), with("*"), with("a\tb"), with("a~b"), with("a|b"), with("a\xe9"), with(strings.Repeat("a", 300)),
			"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nX: 1\r\n\r\n", get("Host: b\r\n"), get(hostLine), "GET / HTTP/1.0\r\n"+hostLine+hostLine+"\r\n", get("host: a.example\r\n"),
			"GET / HTTP/1.0\r\nHost:\r\n\r\n"),
	)
}

func lengthCases() []verdict {
	with := func(lines, body string) string { return "POST /p HTTP/1.1\r\n" + hostLine + lines + "\r\n" + body }
	return join(
		each("length accepted", 1, 0, with("Content-Length: 5\r\n", "hello"), with("Content-Length: 0\r\n", ""), with("content-length:\t5 \r\n", "hello"), get("Content-Length: 0\r\n"),
			"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy", "POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nxy", with("", "")),
		each("length unfinished", 0, 0, with("Content-Length: 9223372036854775807\r\n", "x"), with("Content-Length: 6\r\n", "hello")),
		each("length refused", 0, 400,
			with("Content-Length: +5\r\n", ""), with("Content-Length: -5\r\n", ""), with("Content-Length: 05\r\n", ""), with("Content-Length: 00\r\n", ""), with("Content-Length: 5,5\r\n", ""), with("Content-Length: 5, 5\r\n", ""),
			with("Content-Length: 5 5\r\n", ""), with("Content-Length: 0x5\r\n", ""), with("Content-Length: 5.0\r\n", ""), with("Content-Length:\r\n", ""), with("Content-Length: a\r\n", ""), with("Content-Length: 5\r\nContent-Length: 5\r\n", ""),
			with("Content-Length: 5\r\nContent-Length: 6\r\n", ""), with("Content-Length: 9223372036854775808\r\n", ""), with("Content-Length: 18446744073709551621\r\n", ""), with("Content-Length: 99999999999999999999\r\n", ""),
			with("Content-Length: 1e1\r\n", ""), with("Content-Length: 1_0\r\n", ""), with("Content-Length: ''\r\n", ""), with("Content-Length: 5\r\ncontent-length: 0\r\n", "")),
	)
}

func codingCases() []verdict {
	with := func(lines string) string { return "POST /p HTTP/1.1\r\n" + hostLine + lines + "\r\n0\r\n\r\n" }
	return join(
		each("coding accepted", 1, 0, with("Transfer-Encoding: chunked\r\n"), with("transfer-encoding:CHUNKED\r\n"), with("Transfer-Encoding:\tchunked \r\n")),
		each("coding refused", 0, 400,
			with("Transfer-Encoding: identity\r\n"), with("Transfer-Encoding:\r\n"), with("Transfer-Encoding: xchunked\r\n"), with("Transfer-Encoding: chunked, chunked\r\n"), with("Transfer-Encoding: chunked, identity\r\n"),
			with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), with("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), with("Transfer-Encoding: chunked;a=b\r\n"),
			with("Transfer-Encoding: \"chunked\"\r\n"), with("Transfer-Encoding: chunked,\r\n"), with("Transfer-Encoding: ,chunked\r\n"), with("Transfer-Encoding: chunked, gzip\r\n"), with("Transfer-Encoding: cow\r\n"), with("Transfer-Encoding: chunk\r\n"),
			with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), with("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), with("Content-Length: 5\r\nTransfer-Encoding: gzip\r\n"),
			"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", with("Transfer-Encoding: chunked\x0b\r\n"), with("Transfer-Encoding: \xa0chunked\r\n"), with("Transfer-Encoding: chun ked\r\n"), with("Transfer-Encoding\r\n : chunked\r\n")),
		each("coding unknown", 0, 501, with("Transfer-Encoding: gzip\r\n"), with("Transfer-Encoding: gzip, chunked\r\n"), with("Transfer-Encoding: deflate,chunked\r\n"), with("Transfer-Encoding: x-gzip\r\n")),
	)
}

func connectionCases() []verdict {
	return join(
		each("connection accepted", 1, 0, get("Connection: close\r\n"), get("Connection: Keep-Alive\r\n"), get("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"), get("Connection: X-Hop, TE\r\n"), get("Connection:\r\n"), get("Connection: ,close,\r\n"),
			get("Expect: 100-continue\r\n"), get("Expect: 100-Continue\r\n"), get("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n")),
		each("connection refused", 0, 400,
			get("Connection: Host\r\n"), get("Connection: close, Content-Length\r\n"), get("Connection: transfer-encoding\r\n"), get("Connection: Transfer_Encoding\r\n"), get("Connection: Authorization\r\n"), get("Connection: Cookie\r\n"),
			get("Connection: Content-Type\r\n"), get("Connection: X-Forwarded-For\r\n"), get("Connection: close,X-Forwarded-Proto\r\n"), get("Connection: Forwarded\r\n"), get("Connection: Via\r\n"), get("Connection: X-Request-Id\r\n"), get("Connection: X-Real-IP\r\n"),
			get("Connection: cache-control\r\n"), get("Connection: a b\r\n"), get("Connection: \"close\"\r\n"), get("Connection: close;x\r\n"), get("Connection: If-None-Match\r\n"), get("Connection: keep-alive\r\nConnection: Host\r\n")),
		each("expectation refused", 0, 417, get("Expect: 100\r\n"), get("Expect:\r\n"), get("Expect: 100-continue, x\r\n"), get("Expect: 200-ok\r\n")),
	)
}

func chunkCases() []verdict {
	return join(
		each("chunks accepted", 1, 0, chunked("0\r\n\r\n"), chunked("5\r\nhello\r\n0\r\n\r\n"), chunked("A\r\n0123456789\r\n0\r\n\r\n"), chunked("a;x=y\r\n0123456789\r\n0;z\r\n\r\n"), chunked("0000000000000005\r\nhello\r\n000\r\n\r\n"),
			chunked("5;"+strings.Repeat("x", 256)+"\r\nhello\r\n0\r\n\r\n"), chunked("1;\t \"q\"\r\nx\r\n0\r\n\r\n"), chunked("2\r\n\r\n\r\n0\r\n\r\n")),
		each("chunks unfinished", 0, 0, chunked("5\r\nhel"), chunked("5\r\nhello\r\n"), chunked("0\r\n"), chunked("7fffffffffffffff\r\n"), chunked("")),
		each("chunks refused", 0, 400,
			chunked("\r\n"), chunked("x\r\n"), chunked("-1\r\n"), chunked("+5\r\nhello\r\n"), chunked("0x5\r\nhello\r\n"), chunked("5 \r\nhello\r\n"), chunked(" 5\r\nhello\r\n"), chunked("5\t;a\r\n"), chunked("5\nhello\n0\n\n"), chunked("5\rhello"), chunked("5\r\r\n"),
			chunked("00000000000000005\r\nhello"), chunked("8000000000000000\r\n"), chunked("ffffffffffffffff\r\n"), chunked("5;"+strings.Repeat("x", 257)+"\r\n"), chunked("5;a\x00b\r\n"), chunked("5;a\nb\r\n"), chunked("5;\x80\r\n"), chunked("5;a\rb\r\n"),
			chunked(strings.Repeat("1;"+strings.Repeat("x", 250)+"\r\nx\r\n", 70)), chunked("5\r\nhelloX\r\n0\r\n\r\n"), chunked("5\r\nhello\n0\r\n\r\n"), chunked("5\r\nhello0\r\n\r\n"), chunked("5\r\nhello\r0\r\n\r\n"), chunked("5\r\nhello\r\n\r\n0\r\n\r\n"),
			chunked(";a\r\n"), chunked("5,5\r\n"), chunked("1_0\r\n"), chunked("5\x0b\r\n"), chunked("0\r\n\n"), chunked("0\r\n\r\r\n"), chunked("0\n\r\n")),
	)
}

func trailerCases() []verdict {
	with := func(lines string) string { return chunked("3\r\nabc\r\n0\r\n" + lines + "\r\n") }
	var refused []string
	for _, name := range []string{"Content-Length", "Transfer-Encoding", "transfer_encoding", "Host", "Trailer", "Authorization", "Content-Type", "Content-Encoding", "Content-Range", "Cookie", "Set-Cookie", "Connection", "X-Forwarded-For", "x_forwarded_host", "Forwarded", "Via", "TE", "Upgrade", "Expect", "Proxy-Authorization", "X-Request-Id", "X-Real-IP", "Cache-Control", "Range", "If-Match"} {
		refused = append(refused, with(name+": 1\r\n"))
	}
	return join(
		each("trailer accepted", 1, 0, with("X-Checksum: abc\r\n"), with("a: 1\r\nb: 2\r\n"), with(strings.Repeat("X: 1\r\n", 32)), with("Grpc-Status: 0\r\n")),
		each("trailer field refused", 0, 400, refused...),
		each("trailer malformed", 0, 400, with("X : 1\r\n"), with(" X: 1\r\n"), with("X: \x00\r\n"), with("X: 1\r\n y\r\n"), with("X: 1\n"), with("X\r\n"), with("GET / HTTP/1.1\r\nX: 1\r\n")),
		each("trailer too large", 0, 431, with(strings.Repeat("X: 1\r\n", 33)), with("X: "+strings.Repeat("v", 8192)+"\r\n"), chunked("0\r\nX: "+strings.Repeat("v", 9000))),
	)
}

func limitCases() []verdict {
	return join(
		each("size accepted", 1, 0, get(strings.Repeat("X: 1\r\n", 99)), get("X: "+strings.Repeat("v", 16<<10-3)+"\r\n"), get(strings.Repeat("X: "+strings.Repeat("v", 8000)+"\r\n", 4))),
		each("head too large", 0, 431, get(strings.Repeat("X: 1\r\n", 100)), get("X: "+strings.Repeat("v", 16<<10-2)+"\r\n"), get("X: "+strings.Repeat("v", 40<<10)), get(strings.Repeat("X: "+strings.Repeat("v", 8170)+"\r\n", 5)),
			get(strings.Repeat("X: "+strings.Repeat("v", 300)+"\r\n", 110))),
		each("target too long", 0, 414, "GET /"+strings.Repeat("x", 16384)+" HTTP/1.1\r\nHost: a\r\n\r\n", "GET /"+strings.Repeat("x", 20000), "GET /"+strings.Repeat("x", 100000)+" HTTP/1.1\r\n\r\n", strings.Repeat("A", 20000)),
	)
}

func sequenceCases() []verdict {
	one := get("")
	return []verdict{
		{"two requests", one + one, 2, 0},
		{"two with bodies", chunked("1\r\nx\r\n0\r\n\r\n") + chunked("0\r\nX: 1\r\n\r\n") + one, 3, 0},
		{"an empty line between", one + "\r\n" + one, 2, 0},
		{"two empty lines between", one + "\r\n\r\n" + one, 1, 400},
		{"the second malformed", one + "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 1, 400},
		{"the second in the body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 39\r\n\r\nGET /admin HTTP/1.1\r\nHost: a.example\r\n\r\n" + one, 1, 400},
		{"no length, then a body", "POST / HTTP/1.1\r\nHost: a\r\n\r\nx=1", 1, 0},
		{"no length, then a line", "POST / HTTP/1.1\r\nHost: a\r\n\r\nx=1\r\n", 1, 400},
		{"CL.0", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + one, 2, 0},
		{"too much body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxy\r\n\r\n", 1, 400},
		{"upgrade, then frames", get("Connection: Upgrade\r\nUpgrade: websocket\r\n") + "\x81\x05hello", 1, 400},
	}
}
