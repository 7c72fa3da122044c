package attack_test

import (
	"fmt"
	"strings"
)

const chunkedPost = post + "Transfer-Encoding: chunked\r\n\r\n"

// cuts is each for cut, with what lies around the sample.
func cuts(before, after string, statuses []int, samples ...sample) []attack {
	return each(func(name, text string) attack { return cut(name, before+text+after, statuses...) }, samples...)
}

// chunks are attacks by the grammar of chunks (RFC 9112, section 7.1).
func chunks() []attack {
	const after = "\r\n0\r\n\r\n" + evil
	attacks := cuts(chunkedPost, after, nil,
		sample{"empty size", "\r\nhello"}, sample{"no size but an extension", ";a\r\nhello"}, sample{"size no number", "x\r\nhello"}, sample{"size with x", "0x5\r\nhello"}, sample{"size with h", "5h\r\nhello"},
		sample{"minus", "-5\r\nhello"}, sample{"plus", "+5\r\nhello"}, sample{"space in front", " 5\r\nhello"}, sample{"tab in front", "\t5\r\nhello"}, sample{"space behind", "5 \r\nhello"}, sample{"tab behind", "5\t\r\nhello"},
		sample{"space before extension", "5 ;a\r\nhello"}, sample{"comma", "5,5\r\nhello"}, sample{"dot", "5.0\r\nhello"}, sample{"underscore", "0_5\r\nhello"}, sample{"quoted", "\"5\"\r\nhello"},
		sample{"NUL in front", "\x005\r\nhello"}, sample{"NUL behind", "5\x00\r\nhello"}, sample{"vertical tab", "5\x0b\r\nhello"}, sample{"high byte", "5\xa0\r\nhello"}, sample{"full-width digit", "\xef\xbc\x95\r\nhello"},
		sample{"LF ends size", "5\nhello"}, sample{"CR ends size", "5\rhello"}, sample{"CR CR LF ends size", "5\r\r\nhello"}, sample{"LF CR ends size", "5\n\rhello"},
		sample{"17 digits", "00000000000000005\r\nhello"}, sample{"300 zeros", strings.Repeat("0", 300) + "5\r\nhello"}, sample{"2^63", "8000000000000000\r\nhello"}, sample{"2^64-1", "ffffffffffffffff\r\nhello"}, sample{"2^64+5", "10000000000000005\r\nhello"},
		sample{"data too long", "5\r\nhello!"}, sample{"data too short", "6\r\nhello"}, sample{"LF ends data", "5\r\nhello\n0\r\n\r\n"}, sample{"CR ends data", "5\r\nhello\r0\r\n\r\n"}, sample{"nothing ends data", "5\r\nhello0\r\n\r\n"},
		sample{"LF CR ends data", "5\r\nhello\n\r0\r\n\r\n"}, sample{"space behind data", "5\r\nhello \r\n0\r\n\r\n"}, sample{"empty line between", "5\r\nhello\r\n\r\n0\r\n\r\n"}, sample{"a request for a chunk", evil},
		sample{"second size bad", "5\r\nhello\r\n5x\r\nhello"}, sample{"second size negative", "5\r\nhello\r\n-1\r\nhello"},
		sample{"extension with NUL", "5;a\x00\r\nhello"}, sample{"extension with LF", "5;a\nhello"}, sample{"extension with LF hides a chunk", "5;a\n0\n\n" + evil}, sample{"extension with CR", "5;a\rb\r\nhello"}, sample{"extension with CR CR", "5;a\r\r\nhello"},
		sample{"extension with control", "5;a\x01\r\nhello"}, sample{"extension with high byte", "5;a\xe9\r\nhello"}, sample{"extension with DEL", "5;\x7f\r\nhello"}, sample{"extension of 257 bytes", "5;" + strings.Repeat("a", 257) + "\r\nhello"},
		sample{"extension quoted over the line", "5;a=\"\n\"\r\nhello"}, sample{"extensions of 17 KiB", strings.Repeat("1;"+strings.Repeat("a", 250)+"\r\nx\r\n", 70)})
	attacks = append(attacks, cuts(chunkedPost+"5\r\nhello\r\n", evil, nil,
		sample{"last chunk with LF", "0\n\r\n"}, sample{"last chunk with CR", "0\r\r\n"}, sample{"end with LF", "0\r\n\n"}, sample{"end with CR CR LF", "0\r\n\r\r\n"}, sample{"last chunk with space", "0 \r\n\r\n"},
		sample{"last chunk with minus", "-0\r\n\r\n"}, sample{"last chunk with x", "0x0\r\n\r\n"}, sample{"last chunk of 17 zeros", "00000000000000000\r\n\r\n"}, sample{"last chunk with NUL", "0\x00\r\n\r\n"}, sample{"data behind the last chunk", "0\r\nhello\r\n\r\n"})...)
	plain := func(name, text, want string) attack {
		return forward(name, chunkedPost+text, body(want), has("Content-Length", ""))
	}
	return append(attacks,
		plain("upper and lower case", "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
		plain("15 digits", "000000000000005\r\nhello\r\n000000000000000\r\n\r\n", "hello"),
		plain("16 digits", "0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", "hello"),
		plain("extensions are dropped", "5;a=b;c=\"d;e\"\r\nhello\r\n0;z\r\n\r\n", "hello"),
		plain("extension that looks like a size", "5;0\r\nhello\r\n0;5\r\n\r\n", "hello"),
		plain("extension of 256 bytes", "5;"+strings.Repeat("a", 256)+"\r\nhello\r\n0\r\n\r\n", "hello"),
		plain("CRLF as data", "2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
		plain("an end as data", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
		plain("500 chunks of a byte", strings.Repeat("1\r\na\r\n", 500)+"0\r\n\r\n", strings.Repeat("a", 500)),
		plain("a chunk of 70000 bytes", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 70000, strings.Repeat("a", 70000)), strings.Repeat("a", 70000)),
		broke("cut in a size", chunkedPost+"5"),
		broke("cut behind a size", chunkedPost+"5\r\n"),
		broke("cut in data", chunkedPost+"5\r\nhel"),
		broke("cut behind data", chunkedPost+"5\r\nhello"),
		broke("cut before the last chunk", chunkedPost+"5\r\nhello\r\n"),
		broke("cut in the last chunk", chunkedPost+"5\r\nhello\r\n0"),
		broke("cut before the end", chunkedPost+"5\r\nhello\r\n0\r\n"),
		broke("cut in the end", chunkedPost+"5\r\nhello\r\n0\r\n\r"),
		broke("cut in a trailer", chunkedPost+"5\r\nhello\r\n0\r\nX: y\r\n"),
		broke("chunk of 2^63-1", chunkedPost+"7fffffffffffffff\r\n"+evil),
	)
}

// trailers are attacks by trailer sections (RFC 9110, section 6.5).
func trailers() []attack {
	var attacks []attack
	for _, name := range []string{
		"Content-Length", "Transfer-Encoding", "transfer_encoding", "Content_Length", "Host", "Trailer", "TE", "Connection", "Upgrade", "Keep-Alive", "Proxy-Connection", "Expect", "Max-Forwards",
		"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "WWW-Authenticate", "Content-Type", "Content-Encoding", "Content-Range", "Range", "If-Match", "If-Modified-Since", "Cache-Control", "Pragma",
		"X-Forwarded-For", "x_forwarded_host", "X-Forwarded-Proto", "X-Real-IP", "X-Request-Id", "Forwarded", "Via", "Date", "Age", "Expires", "Vary", "Location",
	} {
		attacks = append(attacks, cut("field "+name, chunkedPost+"5\r\nhello\r\n0\r\n"+name+": 1\r\n\r\n"+evil))
	}
	attacks = append(attacks, cuts(chunkedPost+"5\r\nhello\r\n0\r\n", "\r\n\r\n"+evil, nil,
		sample{"space before colon", "X : 1"}, sample{"no colon", "X"}, sample{"no name", ": 1"}, sample{"fold", "X: 1\r\n y"}, sample{"space in front", " X: 1"}, sample{"bare LF", "X: 1\nY: 2"}, sample{"bare CR", "X: 1\rY: 2"},
		sample{"NUL in value", "X: \x00"}, sample{"NUL in name", "X\x00: 1"}, sample{"control", "X: \x0b"}, sample{"a request line", "GET /admin HTTP/1.1\r\nHost: edge.test"}, sample{"high byte in name", "X\xe9: 1"},
		sample{"good, then bad", "X: 1\r\nContent-Length: 0"}, sample{"space inside name", "X Y: 1"}, sample{"CR CR LF", "X: 1\r"})...)
	attacks = append(attacks, cuts(chunkedPost+"0\r\n", "\r\n"+evil, []int{431},
		sample{"33 fields", strings.Repeat("X: 1\r\n", 33)}, sample{"field over 8 KiB", "X: " + strings.Repeat("a", 9000) + "\r\n"}, sample{"section over 8 KiB", strings.Repeat("X: "+strings.Repeat("a", 500)+"\r\n", 20)},
		sample{"line without end", "X: " + strings.Repeat("a", 30000)}, sample{"name without end", strings.Repeat("a", 30000)})...)
	return append(attacks,
		forward("announced", post+"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", body("hello"), tail("X-Sum=1")),
		forward("not announced", chunkedPost+"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", body("hello"), tail("X-Sum=1"), lacks("X-Sum:")),
		forward("two alike", chunkedPost+"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n", body("hello"), tail("X-Sum=1 X-Sum=2")),
		forward("another than announced", post+"Trailer: X-Other\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", body("hello"), tail("X-Sum=1")),
		cut("framing announced, not sent", post+"Trailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"+evil),
		forward("same name as a field", post+"X-Sum: head\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: tail\r\n\r\n", body("hello"), has("X-Sum", "head"), tail("X-Sum=tail")),
		forward("a field announced as a trailer stays one", post+"X-Sum: head\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", body("hello"), has("X-Sum", "head"), tail("")),
		forward("nominated", post+"Connection: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", body("hello"), tail("")),
		seq("a request behind trailers", "POST /public/a HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n"+get+"\r\n", []int{200, 200}, []string{"/public/a", "/public/x"}, false),
	)
}

// tail wants these trailer fields, or none: they may be dropped (RFC 9110,
// section 6.5.1).
func tail(want string) check {
	return func(r request) error {
		var got []string
		for _, f := range r.trailers {
			got = append(got, f.name+"="+f.value)
		}
		if s := strings.Join(got, " "); s != want && s != "" {
			return fmt.Errorf("trailers %q, want %q", s, want)
		}
		return nil
	}
}
