package attack_test

import "strings"

// hosts are attacks by the Host field (RFC 9110, section 7.2).
func hosts() []attack {
	attacks := rejects("GET /public/x HTTP/1.1\r\nHost: ", "\r\n\r\n"+evil, nil,
		sample{"empty", ""}, sample{"blank", " \t"}, sample{"userinfo", "a@edge.test"}, sample{"userinfo and password", "a:b@edge.test"},
		sample{"comma", "edge.test,secret.test"}, sample{"comma and space", "edge.test, secret.test"}, sample{"space", "edge.test secret.test"},
		sample{"tab", "edge.test\tsecret.test"}, sample{"slash", "edge.test/admin"}, sample{"backslash", "edge.test\\admin"}, sample{"query", "edge.test?x"},
		sample{"fragment", "edge.test#x"}, sample{"quote", "edge\".test"}, sample{"apostrophe", "edge'.test"}, sample{"angle", "<edge.test>"},
		sample{"braces", "{edge.test}"}, sample{"pipe", "edge|test"}, sample{"caret", "edge^test"}, sample{"backtick", "`id`.test"}, sample{"semicolon", "edge.test;x"},
		sample{"asterisk", "*"}, sample{"wildcard", "*.test"}, sample{"dollar", "${x}.test"}, sample{"percent", "edge%2etest"}, sample{"encoded NUL", "edge.test%00"},
		sample{"encoded CRLF", "edge.test%0d%0aX:1"}, sample{"URL", "http://edge.test"}, sample{"protocol-relative", "//edge.test"}, sample{"Latin-1", "edge\xe9.test"}, sample{"UTF-8", "\xc3\xa9dge.test"},
		sample{"NUL", "edge.test\x00"}, sample{"control", "edge\x01.test"}, sample{"DEL", "edge.test\x7f"}, sample{"CR", "edge.test\rX: y"}, sample{"LF", "edge.test\nX: y"},
		sample{"port empty", "edge.test:"}, sample{"port word", "edge.test:http"}, sample{"port 65536", "edge.test:65536"}, sample{"port 99999", "edge.test:99999"},
		sample{"port of 6 digits", "edge.test:000080"}, sample{"port negative", "edge.test:-1"}, sample{"port with plus", "edge.test:+80"}, sample{"port hexadecimal", "edge.test:0x50"}, sample{"two ports", "edge.test:80:80"},
		sample{"port and path", "edge.test:80/x"}, sample{"port and userinfo", "edge.test:80@secret.test"}, sample{"port with space", "edge.test: 80"}, sample{"port alone", ":80"},
		sample{"IPv6 bare", "::1"}, sample{"IPv6 open", "[::1"}, sample{"IPv6 closed", "::1]"}, sample{"IPv6 empty", "[]"}, sample{"IPv6 and name", "[::1]edge.test"}, sample{"IPv6 port empty", "[::1]:"},
		sample{"IPv6 zone", "[fe80::1%25eth0]"}, sample{"IPv4 in brackets", "[127.0.0.1]"}, sample{"IPvFuture", "[v1.x]"}, sample{"name in brackets", "[edge.test]"}, sample{"too many groups", "[1:2:3:4:5:6:7:8:9]"},
		sample{"dot", "."}, sample{"dot in front", ".edge.test"}, sample{"two dots", "edge..test"}, sample{"two dots at end", "secret.test.."}, sample{"300 bytes", strings.Repeat("a", 300)})
	attacks = append(attacks,
		reject("none", "GET /public/x HTTP/1.1\r\n\r\n"+evil),
		reject("none but another field", "GET /public/x HTTP/1.1\r\nX-Host: edge.test\r\n\r\n"),
		reject("two", get+"Host: secret.test\r\n\r\n"),
		reject("two alike", get+"Host: edge.test\r\n\r\n"),
		reject("two in other cases", get+"hOST: secret.test\r\n\r\n"),
		reject("two, the first denied", "GET /public/x HTTP/1.1\r\nHost: secret.test\r\nHost: edge.test\r\n\r\n"),
		reject("two with fields between", get+"X: 1\r\nY: 2\r\nHost: secret.test\r\n\r\n"),
		reject("two, one empty", get+"Host:\r\n\r\n"),
		reject("two in HTTP/1.0", "GET /public/x HTTP/1.0\r\nHost: edge.test\r\nHost: secret.test\r\n\r\n"),
		reject("empty in HTTP/1.0", "GET /public/x HTTP/1.0\r\nHost:\r\n\r\n"),
		reject("folded", "GET /public/x HTTP/1.1\r\nHost:\r\n edge.test\r\n\r\n"),
		reject("fold adds another", "GET /public/x HTTP/1.1\r\nHost: edge.test\r\n secret.test\r\n\r\n"),
		reject("space before", "GET /public/x HTTP/1.1\r\n Host: edge.test\r\nHost: secret.test\r\n\r\n"),
		reject("space before colon", get+"Host : secret.test\r\n\r\n"),
		reject("tab before colon", get+"Host\t: secret.test\r\n\r\n"),
		reject("second without colon", get+"Host secret.test\r\n\r\n"),
		reject("second with NUL in name", get+"Ho\x00st: secret.test\r\n\r\n"),
		forward("padded", "GET /public/x HTTP/1.1\r\nHost: \t edge.test \t\r\n\r\n", raws("Host: edge.test")),
		forward("case kept", "GET /public/x HTTP/1.1\r\nhOsT:Edge.TEST\r\n\r\n", raws("hOsT: Edge.TEST")),
		forward("underscore", "GET /public/x HTTP/1.1\r\nHost: a_b.test\r\n\r\n", has("Host", "a_b.test")),
		forward("port 0", "GET /public/x HTTP/1.1\r\nHost: edge.test:0\r\n\r\n", has("Host", "edge.test:0")),
		forward("port 65535", "GET /public/x HTTP/1.1\r\nHost: edge.test:65535\r\n\r\n", has("X-Forwarded-Host", "edge.test:65535")),
		forward("IPv6", "GET /public/x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", has("Host", "[::1]:80"), lacks("host=[::1]")),
		forward("IPv4", "GET /public/x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", has("Host", "127.0.0.1")),
	)
	for _, host := range []string{"secret.test", "SECRET.test", "secret.test.", "Secret.Test:80", "secret.test:1", "secret.test.:65535"} {
		attacks = append(attacks, denied("denied "+host, "GET /public/x HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 403))
	}
	for _, name := range []string{"X-Forwarded-Host", "X-Host", "X-Original-Host", "X-HTTP-Host-Override", "Forwarded", "X-Forwarded-Server"} {
		value := "star.test"
		if name == "Forwarded" {
			value = "host=star.test"
		}
		attacks = append(attacks, denied("routed by "+name, "GET /public/x HTTP/1.1\r\nHost: secret.test\r\n"+name+": "+value+"\r\n\r\n", 403))
	}
	return attacks
}
