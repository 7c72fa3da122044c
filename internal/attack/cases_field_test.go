package attack_test

import "strings"

// names are attacks by field names (RFC 9110, section 5.1).
func names() []attack {
	attacks := rejects(get, "\r\n\r\n"+evil, nil,
		sample{"no colon", "X-Name"}, sample{"no colon but a value", "X-Name value"}, sample{"empty", ": value"}, sample{"colon alone", ":"},
		sample{"space before colon", "X : 1"}, sample{"tab before colon", "X\t: 1"}, sample{"space inside", "X Y: 1"}, sample{"space in front", " X: 1"}, sample{"tab in front", "\tX: 1"},
		sample{"NUL", "X\x00: 1"}, sample{"CR", "X\r: 1"}, sample{"vertical tab", "X\x0b: 1"}, sample{"form feed", "\x0cX: 1"}, sample{"DEL", "X\x7f: 1"}, sample{"escape", "X\x1b: 1"},
		sample{"Latin-1", "X\xe9: 1"}, sample{"no-break space", "X\xa0: 1"}, sample{"UTF-8", "X\xc3\xa9: 1"}, sample{"zero-width space", "X\xe2\x80\x8b: 1"},
		sample{"quote", "\"X\": 1"}, sample{"slash", "X/Y: 1"}, sample{"backslash", "X\\Y: 1"}, sample{"at", "X@Y: 1"}, sample{"comma", "X,Y: 1"}, sample{"semicolon", "X;Y: 1"}, sample{"equals", "X=Y: 1"},
		sample{"parenthesis", "X(Y): 1"}, sample{"bracket", "X[Y]: 1"}, sample{"brace", "{X}: 1"}, sample{"angle", "<X>: 1"}, sample{"question mark", "X?: 1"},
		sample{"a request line", "GET /admin HTTP/1.1"}, sample{"line of space", " "}, sample{"line of tab", "\t"},
		sample{"fold", "X: 1\r\n folded"}, sample{"fold by tab", "X: 1\r\n\tfolded"}, sample{"fold of nothing", "X: 1\r\n "}, sample{"fold hides a field", "X: 1\r\n Transfer-Encoding: chunked"},
		sample{"two folds", "X: 1\r\n a\r\n b"}, sample{"bare LF", "X: 1\nY: 2"}, sample{"bare CR", "X: 1\rY: 2"}, sample{"LF CR", "X: 1\n\rY: 2"}, sample{"CR CR LF", "X: 1\r"},
		sample{"bare LF ends head", "X: 1\n\n" + evil}, sample{"CRLF LF ends head", "X: 1\r\n\n" + evil}, sample{"CR alone ends head", "X: 1\r\n\r" + evil})
	for _, name := range []string{
		"Transfer_Encoding", "TRANSFER_ENCODING", "Content_Length", "content_length", "X_Forwarded_For", "X-Forwarded_For", "X_Forwarded-Proto",
		"x_forwarded_host", "X_FORWARDED_PORT", "X_Real_IP", "X-Real_IP", "X_Request_Id", "Content_Type", "Keep_Alive", "Proxy_Connection",
	} {
		attacks = append(attacks, reject("alias "+name, get+name+": 1\r\n\r\n"+evil))
	}
	return append(attacks,
		reject("fold under the request line", "GET /public/x HTTP/1.1\r\n Host: edge.test\r\n\r\n"),
		reject("all of the head folded", "GET /public/x HTTP/1.1\r\n\tX: 1\r\nHost: edge.test\r\n\r\n"),
		forward("nothing is made up", post+counted("a=b"), lacks("User-Agent", "Content-Type", "Accept", "Authorization", "Date")),
		forward("Cookies stay apart and in place", get+"Cookie: a=b\r\nX: 1\r\nCookie: c=d; e\r\n\r\n", raws("Cookie: a=b\r\nX: 1\r\nCookie: c=d; e")),
		forward("User-Agent stays in place", get+"X: 1\r\nuser-agent: me\r\nY: 2\r\n\r\n", raws("X: 1\r\nuser-agent: me\r\nY: 2")),
		forward("Content-Type twice stays twice", post+"Content-Type: a/b\r\nContent-Type: c/d\r\n"+counted("x"), has("Content-Type", "a/b|c/d")),
		forward("Authorization is left alone", get+"Authorization: Basic  eA== \r\n\r\n", raws("Authorization: Basic  eA==")),
		forward("multipart is left alone", post+"Content-Type: multipart/form-data; boundary=b\r\n"+counted("--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--b--\r\ntail"), body("--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--b--\r\ntail")),
		forward("broken multipart is left alone", post+"Content-Type: multipart/form-data; boundary=b\r\n"+counted("--c\r\n\x00\r\n"+evil), body("--c\r\n\x00\r\n"+evil)),
		forward("a form is left alone", post+"Content-Type: application/x-www-form-urlencoded\r\n"+counted("a=%zz&&b;=%00"), body("a=%zz&&b;=%00")),
		forward("a declared coding is left alone", post+"Content-Encoding: gzip\r\n"+counted("no gzip"), body("no gzip"), has("Content-Encoding", "gzip")),
		forward("all of tchar", get+"!#$%&'*+-.^_`|~0aZ: 1\r\n\r\n", raws("!#$%&'*+-.^_`|~0aZ: 1")),
		forward("case and order kept", get+"b: 1\r\nA: 2\r\nb: 3\r\n\r\n", raws("b: 1\r\nA: 2\r\nb: 3")),
		forward("underscore that imitates nothing", get+"X_User: 1\r\n\r\n", raws("X_User: 1")),
		forward("one letter", get+"a: b\r\n\r\n", raws("a: b")),
	)
}

// values are attacks by field values (RFC 9110, section 5.5).
func values() []attack {
	var attacks []attack
	for _, c := range []struct{ name, text string }{
		{"NUL", "a\x00b"}, {"NUL at end", "a\x00"}, {"CR", "a\rb"}, {"CR at end", "a\r"}, {"LF", "a\nb"}, {"SOH", "\x01"}, {"backspace", "a\x08"}, {"vertical tab", "a\x0bb"},
		{"form feed", "a\x0cb"}, {"escape", "\x1b[2J"}, {"unit separator", "a\x1fb"}, {"DEL", "a\x7fb"}, {"CR smuggles a field", "a\rTransfer-Encoding: chunked"},
		{"LF smuggles a field", "a\nTransfer-Encoding: chunked"}, {"LF smuggles a request", "a\n\n" + evil}, {"NUL behind 8 bytes", "12345678\x00"}, {"control behind 15 bytes", "123456789012345\x0b"},
	} {
		attacks = append(attacks,
			reject(c.name, get+"X: "+c.text+"\r\n\r\n"+evil),
			reject(c.name+" in Cookie", get+"Cookie: "+c.text+"\r\n\r\n"+evil))
	}
	same := func(got string) check { return raws("X: " + got) }
	return append(attacks,
		either("Latin-1", get+"X: caf\xe9\r\n\r\n", same("caf\xe9")),
		either("UTF-8", get+"X: caf\xc3\xa9\r\n\r\n", same("caf\xc3\xa9")),
		either("UTF-8 that some fold to CRLF", get+"X: a\xe5\x98\x8d\xe5\x98\x8aY: b\r\n\r\n", same("a\xe5\x98\x8d\xe5\x98\x8aY: b")),
		either("next line, C1", get+"X: a\x85b\r\n\r\n", same("a\x85b")),
		forward("empty", get+"X:\r\n\r\n", raws("X: ")),
		forward("trimmed", get+"X: \t a b \t \r\n\r\n", raws("X: a b")),
		forward("tab inside", get+"X: a\tb\r\n\r\n", raws("X: a\tb")),
		forward("quotes are left alone", get+"X: \"a\\\"\r\n\r\n", raws("X: \"a\\\"")),
		forward("encoded CRLF is text", get+"X: a%0d%0aY: b\r\n\r\n", raws("X: a%0d%0aY: b")),
		forward("escaped CRLF is text", get+"X: a\\r\\nY: b\r\n\r\n", raws("X: a\\r\\nY: b")),
		forward("a request line is text", get+"X: GET /admin HTTP/1.1\r\n\r\n", raws("X: GET /admin HTTP/1.1")),
	)
}

// limits go to the sizes of edge-security's table, and one beyond.
func limits() []attack {
	long := func(n int) string { return strings.Repeat("a", n) }
	small := "POST /small/x HTTP/1.1\r\nHost: edge.test\r\n"
	return []attack{
		forward("100 fields", get+strings.Repeat("X: 1\r\n", 99)+"\r\n"),
		reject("101 fields", get+strings.Repeat("X: 1\r\n", 100)+"\r\n"+evil, 431),
		reject("500 fields", get+strings.Repeat("X: 1\r\n", 499)+"\r\n"+evil, 431),
		forward("field of 16 KiB", get+"X: "+long(16<<10-3)+"\r\n\r\n"),
		reject("field over 16 KiB", get+"X: "+long(16<<10-2)+"\r\n\r\n"+evil, 431),
		reject("field name over 16 KiB", get+long(17<<10)+": 1\r\n\r\n"+evil, 431),
		forward("head of 30 KiB", get+strings.Repeat("X: "+long(10<<10-5)+"\r\n", 3)+"\r\n"),
		reject("head over 32 KiB", get+strings.Repeat("X: "+long(8<<10)+"\r\n", 4)+"\r\n"+evil, 431),
		reject("head without end", get+strings.Repeat("X: "+long(1000)+"\r\n", 60), 431),
		reject("line without end", get+"X: "+long(64<<10), 431),
		forward("target of 16 KiB", "GET /public/"+long(16<<10-8)+" HTTP/1.1\r\nHost: edge.test\r\n\r\n"),
		reject("target over 16 KiB", "GET /public/"+long(16<<10-7)+" HTTP/1.1\r\nHost: edge.test\r\n\r\n"+evil, 414),
		reject("query over 16 KiB", "GET /public/x?"+long(16<<10)+" HTTP/1.1\r\nHost: edge.test\r\n\r\n"+evil, 414),
		reject("request line without end", "GET /public/"+long(40<<10), 414),
		reject("method without end", long(40<<10), 400, 414),
		forward("body at its limit", small+"Content-Length: 1024\r\n\r\n"+long(1024), body(long(1024))),
		cut("body over its limit", small+"Content-Length: 1025\r\n\r\n"+long(1025)+evil, 413),
		cut("body far over its limit", small+"Content-Length: 9223372036854775807\r\n\r\n"+evil, 413),
		forward("chunked body at its limit", small+"Transfer-Encoding: chunked\r\n\r\n400\r\n"+long(1024)+"\r\n0\r\n\r\n", body(long(1024))),
		cut("chunked body over its limit", small+"Transfer-Encoding: chunked\r\n\r\n401\r\n"+long(1025)+"\r\n0\r\n\r\n"+evil, 413),
		cut("many chunks over the limit", small+"Transfer-Encoding: chunked\r\n\r\n"+strings.Repeat("1\r\na\r\n", 1025)+"0\r\n\r\n"+evil, 413),
		stalled("head stalls at once", "G"),
		stalled("head stalls in a field", get+"X: "),
		stalled("head stalls before its end", get+"X: 1\r\n\r"),
		stalled("second head stalls", get+"\r\nGET /public/y HTTP/1.1\r\nHost"),
	}
}

// stalled wants a head that does not go on closed, with 408 if anything, and
// what was whole before it answered.
func stalled(name, raw string) attack {
	return attack{name: name, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(raw)
		if strings.Contains(raw, "\r\n\r\n") {
			if err := c.statuses([]int{200}); err != nil {
				return err
			}
		}
		if err := c.more(); err != nil { // nothing, and the end, is good too
			return wantEnd(err)
		}
		if err := c.statuses([]int{408}); err != nil {
			return err
		}
		return c.closed()
	}}
}
