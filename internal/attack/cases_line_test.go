package attack_test

import "strings"

// A sample is a name and the bytes that are tried.
type sample struct{ name, text string }

// each makes one case of every sample.
func each(make func(name, text string) attack, samples ...sample) (attacks []attack) {
	for _, s := range samples {
		attacks = append(attacks, make(s.name, s.text))
	}
	return attacks
}

// rejects is each for reject, with what lies around the sample.
func rejects(before, after string, statuses []int, samples ...sample) []attack {
	return each(func(name, text string) attack { return reject(name, before+text+after, statuses...) }, samples...)
}

const rest = "\r\nHost: edge.test\r\n\r\n" + evil

// lines are attacks on the request line (RFC 9112, section 3).
func lines() []attack {
	attacks := rejects("", rest, nil,
		sample{"no version", "GET /public/x"},
		sample{"method alone", "GET"},
		sample{"no method", " /public/x HTTP/1.1"},
		sample{"space in front", " GET /public/x HTTP/1.1"},
		sample{"tab in front", "\tGET /public/x HTTP/1.1"},
		sample{"two spaces before target", "GET  /public/x HTTP/1.1"},
		sample{"two spaces before version", "GET /public/x  HTTP/1.1"},
		sample{"space at end", "GET /public/x HTTP/1.1 "},
		sample{"tab at end", "GET /public/x HTTP/1.1\t"},
		sample{"tabs for spaces", "GET\t/public/x\tHTTP/1.1"},
		sample{"tab before version", "GET /public/x\tHTTP/1.1"},
		sample{"vertical tab for space", "GET\x0b/public/x HTTP/1.1"},
		sample{"form feed for space", "GET /public/x\x0cHTTP/1.1"},
		sample{"no-break space", "GET\xa0/public/x HTTP/1.1"},
		sample{"space in target", "GET /public/x y HTTP/1.1"},
		sample{"version twice", "GET /public/x HTTP/1.1 HTTP/1.1"},
		sample{"version 0.9 inside target", "GET /public/x HTTP/0.9 HTTP/1.1"},
		sample{"CR in line", "GET /public/x\rHTTP/1.1"},
		sample{"CR before CRLF", "GET /public/x HTTP/1.1\r"},
		sample{"NUL in method", "GE\x00T /public/x HTTP/1.1"},
		sample{"NUL behind version", "GET /public/x HTTP/1.1\x00"},
		sample{"method with colon", "GET: /public/x HTTP/1.1"},
		sample{"method with slash", "GET/ /public/x HTTP/1.1"},
		sample{"method with at", "G@T /public/x HTTP/1.1"},
		sample{"method quoted", "\"GET\" /public/x HTTP/1.1"},
		sample{"method in parentheses", "(GET) /public/x HTTP/1.1"},
		sample{"method not ASCII", "G\xc3\x8aT /public/x HTTP/1.1"},
		sample{"method of 33 bytes", strings.Repeat("M", 33) + " /public/x HTTP/1.1"},
		sample{"version lower case", "GET /public/x http/1.1"},
		sample{"version mixed case", "GET /public/x Http/1.1"},
		sample{"version without minor", "GET /public/x HTTP/1"},
		sample{"version without dot", "GET /public/x HTTP/11"},
		sample{"version with comma", "GET /public/x HTTP/1,1"},
		sample{"version with two digits", "GET /public/x HTTP/1.10"},
		sample{"version with leading zero", "GET /public/x HTTP/01.1"},
		sample{"version with sign", "GET /public/x HTTP/+1.1"},
		sample{"version with space", "GET /public/x HTTP/1. 1"},
		sample{"version of another protocol", "GET /public/x HTTPS/1.1"},
		sample{"version of SIP", "OPTIONS /public/x SIP/2.0"},
		sample{"version without slash", "GET /public/x HTTP1.1"},
		sample{"version with backslash", "GET /public/x HTTP\\1.1"},
		sample{"version with letters", "GET /public/x HTTP/a.b"},
		sample{"full-width version", "GET /public/x HTTP/1.\xef\xbc\x91"},
		sample{"a field for a request line", "Host: edge.test"},
	)
	attacks = append(attacks, rejects("GET /public/x HTTP/", rest, []int{505},
		sample{"HTTP/0.0", "0.0"}, sample{"HTTP/0.9", "0.9"}, sample{"HTTP/1.2", "1.2"}, sample{"HTTP/1.9", "1.9"},
		sample{"HTTP/2.0", "2.0"}, sample{"HTTP/2.1", "2.1"}, sample{"HTTP/3.0", "3.0"}, sample{"HTTP/9.9", "9.9"})...)
	attacks = append(attacks, rejects("", "\r\nHost: edge.test\r\nContent-Length: 0\r\n\r\n"+evil, []int{405},
		sample{"TRACE", "TRACE /public/x HTTP/1.1"}, sample{"trace", "trace /public/x HTTP/1.1"}, sample{"TrAcE", "TrAcE /public/x HTTP/1.1"},
		sample{"TRACE absolute", "TRACE http://edge.test/public/x HTTP/1.1"}, sample{"TRACE HTTP/1.0", "TRACE /public/x HTTP/1.0"},
		sample{"TRACE of nothing", "TRACE * HTTP/1.1"})...)
	attacks = append(attacks, rejects("", rest, []int{400, 405, 501},
		sample{"CONNECT authority", "CONNECT edge.test:443 HTTP/1.1"}, sample{"CONNECT loopback", "CONNECT 127.0.0.1:22 HTTP/1.1"},
		sample{"CONNECT lower case", "connect edge.test:80 HTTP/1.1"}, sample{"CONNECT IPv6", "CONNECT [::1]:80 HTTP/1.1"},
		sample{"CONNECT HTTP/1.0", "CONNECT edge.test:80 HTTP/1.0"}, sample{"CONNECT path", "CONNECT /public/x HTTP/1.1"},
		sample{"CONNECT absolute", "CONNECT http://edge.test/ HTTP/1.1"}, sample{"CONNECT without port", "CONNECT edge.test HTTP/1.1"},
		sample{"CONNECT asterisk", "CONNECT * HTTP/1.1"})...)
	return append(attacks,
		reject("bare LF ends line", "GET /public/x HTTP/1.1\nHost: edge.test\r\n\r\n"+evil),
		reject("LF before target", "GET \n/public/x HTTP/1.1\r\nHost: edge.test\r\n\r\n"),
		reject("HTTP/0.9 with CRLF", "GET /public/x\r\n\r\n"+evil),
		reject("HTTP/0.9 with LF", "GET /public/x\n"),
		reject("two empty lines before", "\r\n\r\n"+get+"\r\n"),
		reject("bare LF before", "\n"+get+"\r\n"),
		reject("bare CR before", "\r"+get+"\r\n"),
		reject("empty line with space before", " \r\n"+get+"\r\n"),
		reject("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 505),
		reject("TLS hello", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"+strings.Repeat("\x00", 160)),
		reject("binary", "\x00\x01\x02\x03\r\n\r\n"),
		reject("PROXY protocol in plain text", "PROXY TCP4 6.6.6.6 6.6.6.6 1 1\r\n"+get+"\r\n"),
		reject("PROXY protocol v2", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"+get+"\r\n"),
		reject("byte order mark", "\xef\xbb\xbf"+get+"\r\n"),
		forward("plain", get+"\r\n", line("GET /public/x HTTP/1.1")),
		forward("one empty line before", "\r\n"+get+"\r\n", line("GET /public/x HTTP/1.1")),
		forward("HTTP/1.0 becomes 1.1", "GET /public/x HTTP/1.0\r\nHost: edge.test\r\n\r\n", line("GET /public/x HTTP/1.1"), has("Via", "1.0 sluice")),
		forward("HTTP/1.0 kept alive", "GET /public/x HTTP/1.0\r\nHost: edge.test\r\nConnection: keep-alive\r\n\r\n", lacks("keep-alive")),
		forward("HTTP/1.0 without Host", "GET /public/x HTTP/1.0\r\n\r\n", line("GET /public/x HTTP/1.1")),
		forward("method is case-sensitive", "get /public/x HTTP/1.1\r\nHost: edge.test\r\n\r\n", line("get /public/x HTTP/1.1")),
		forward("method with all of tchar", "A!#$%&'*+-.^_`|~9 /public/x HTTP/1.1\r\nHost: edge.test\r\n\r\n", line("A!#$%&'*+-.^_`|~9 /public/x HTTP/1.1")),
		forward("method of 32 bytes", strings.Repeat("M", 32)+" /public/x HTTP/1.1\r\nHost: edge.test\r\n\r\n"),
		forward("method PRI with a path", "PRI /public/x HTTP/1.1\r\nHost: edge.test\r\n\r\n"),
		forward("HEAD", "HEAD /public/x HTTP/1.1\r\nHost: edge.test\r\n\r\n", line("HEAD /public/x HTTP/1.1")),
	)
}

// targets are attacks by forms and bytes of the request target (RFC 9112,
// section 3.2); those on its path are paths.
func targets() []attack {
	attacks := rejects("GET ", " HTTP/1.1"+rest, nil,
		sample{"no slash", "public/x"}, sample{"query alone", "?x"}, sample{"asterisk for GET", "*"}, sample{"backslash in front", "\\public/x"},
		sample{"authority for GET", "edge.test:80"}, sample{"fragment", "/public/x#y"}, sample{"fragment of nothing", "/public/x#"},
		sample{"fragment in query", "/public/x?a#b"}, sample{"control", "/public/\x01"}, sample{"NUL", "/public/\x00"}, sample{"DEL", "/public/\x7f"},
		sample{"escape", "/public/\x1b[31m"}, sample{"Latin-1", "/public/\xe9"}, sample{"UTF-8", "/public/\xc3\xa9"}, sample{"overlong slash", "/public\xc0\xafx"},
		sample{"tab", "/public/\tx"}, sample{"vertical tab", "/public/\x0bx"}, sample{"high byte in query", "/public/x?\xff"}, sample{"NUL in query", "/public/x?a=\x00"},
		sample{"CR in query", "/public/x?a=\rb"}, sample{"other host", "http://other.test/public/x"}, sample{"denied host", "http://secret.test/public/x"},
		sample{"other port", "http://edge.test:81/public/x"}, sample{"https", "https://edge.test/public/x"}, sample{"HTTPS", "HTTPS://edge.test/public/x"},
		sample{"ftp", "ftp://edge.test/public/x"}, sample{"file", "file:///etc/passwd"}, sample{"ws", "ws://edge.test/public/x"}, sample{"scheme alone", "http://"},
		sample{"one slash", "http:/edge.test/public/x"}, sample{"no slash behind scheme", "http:edge.test/public/x"}, sample{"three slashes", "http:///public/x"},
		sample{"no scheme", "://edge.test/public/x"}, sample{"userinfo", "http://a@edge.test/public/x"}, sample{"userinfo with password", "http://a:b@edge.test/public/x"},
		sample{"userinfo hides host", "http://edge.test@secret.test/public/x"}, sample{"encoded userinfo", "http://edge.test%40secret.test/public/x"},
		sample{"backslash behind host", "http://edge.test\\@secret.test/public/x"}, sample{"fragment behind host", "http://edge.test#@secret.test/public/x"},
		sample{"two hosts", "http://edge.test,secret.test/public/x"}, sample{"port empty", "http://edge.test:/public/x"}, sample{"port too large", "http://edge.test:65536/public/x"},
		sample{"port no number", "http://edge.test:http/public/x"}, sample{"encoded host", "http://edge%2etest/public/x"}, sample{"IPv6 open", "http://[::1/public/x"},
		sample{"opaque", "urn:x"}, sample{"data", "data:text/plain,x"})
	return append(attacks,
		reject("OPTIONS of two asterisks", "OPTIONS ** HTTP/1.1"+rest),
		reject("POST of asterisk", "POST * HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 0\r\n\r\n"+evil),
		reject("absolute without Host", "GET http://edge.test/public/x HTTP/1.1\r\n\r\n"+evil),
		reject("absolute with two Hosts", "GET http://edge.test/public/x HTTP/1.1\r\nHost: edge.test\r\nHost: secret.test\r\n\r\n"),
		reject("absolute, HTTP/1.0, other Host", "GET http://secret.test/public/x HTTP/1.0\r\nHost: edge.test\r\n\r\n"),
		denied("absolute, HTTP/1.0, no Host, denied host", "GET http://secret.test/public/x HTTP/1.0\r\n\r\n", 403),
		denied("absolute to a denied host", "GET http://secret.test/public/x HTTP/1.1\r\nHost: secret.test\r\n\r\n", 403),
		denied("absolute to a denied path", "GET http://all.test/admin HTTP/1.1\r\nHost: all.test\r\n\r\n", 403),
		denied("absolute to a denied path, upper case", "GET HTTP://ALL.TEST:80/%61dmin HTTP/1.1\r\nHost: all.test\r\n\r\n", 403),
		forward("absolute becomes origin form", "GET http://edge.test/public/x?q HTTP/1.1\r\nHost: edge.test\r\n\r\n", line("GET /public/x?q HTTP/1.1"), has("Host", "edge.test")),
		forward("absolute, case and default port", "GET HTTP://EDGE.test:80/public/x HTTP/1.1\r\nHost: edge.test\r\n\r\n", line("GET /public/x HTTP/1.1")),
		forward("absolute, HTTP/1.0, no Host", "GET http://star.test/x HTTP/1.0\r\n\r\n", line("GET /x HTTP/1.1"), has("Host", "star.test")),
		forward("absolute without path", "GET http://star.test HTTP/1.1\r\nHost: star.test\r\n\r\n", line("GET / HTTP/1.1")),
		forward("absolute with query alone", "GET http://star.test?q=/admin HTTP/1.1\r\nHost: star.test\r\n\r\n", line("GET /?q=/admin HTTP/1.1")),
		forward("an URL in the path", "GET /public/http://secret.test/ HTTP/1.1\r\nHost: edge.test\r\n\r\n", line("GET /public/http://secret.test/ HTTP/1.1"), has("Host", "edge.test")),
		forward("host-like path", "GET //secret.test/x HTTP/1.1\r\nHost: star.test\r\n\r\n", line("GET //secret.test/x HTTP/1.1"), has("Host", "star.test")),
		forward("an URL in the query", "GET /public/x?u=http://secret.test/ HTTP/1.1\r\nHost: edge.test\r\n\r\n", has("Host", "edge.test")),
		forward("OPTIONS of asterisk", "OPTIONS * HTTP/1.1\r\nHost: star.test\r\n\r\n", line("OPTIONS * HTTP/1.1")),
		forward("two question marks", "GET /public/x??a=b?c HTTP/1.1\r\nHost: edge.test\r\n\r\n", line("GET /public/x??a=b?c HTTP/1.1")),
		forward("query with encoded CRLF", "GET /public/x?a=%0d%0aX:%201 HTTP/1.1\r\nHost: edge.test\r\n\r\n", line("GET /public/x?a=%0d%0aX:%201 HTTP/1.1")),
		forward("query with dots", "GET /public/x?/../../admin HTTP/1.1\r\nHost: edge.test\r\n\r\n", line("GET /public/x?/../../admin HTTP/1.1")),
		forward("empty query", "GET /public/x? HTTP/1.1\r\nHost: edge.test\r\n\r\n", line("GET /public/x? HTTP/1.1")),
	)
}
