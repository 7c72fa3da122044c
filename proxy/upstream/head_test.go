package upstream

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// parseAll parses a head that comes in pieces of the given size.
func parseAll(in string, piece int) (h *head, n int, err error) {
	h = new(head)
	h.reset()
	b := []byte(in)
	for end := min(piece, len(b)); ; end = min(end+piece, len(b)) {
		m, done, err := h.parse(b[n:end])
		n += m
		if done || err != nil {
			return h, n, err
		}
		if end == len(b) {
			return h, n, errShort
		}
	}
}

var errShort = errors.New("head is not over")

func TestHeadRejects(t *testing.T) {
	many := strings.Repeat("X: y\r\n", 201)
	for in, want := range map[string]error{
		"\r\nHTTP/1.1 200 OK\r\n\r\n":                                       errStatusLine,
		" HTTP/1.1 200 OK\r\n\r\n":                                          errStatusLine,
		"garbage":                                                           errStatusLine,
		"H":                                                                 errShort,
		"HTTP/1.":                                                           errShort,
		"HTTP/2":                                                            errStatusLine,
		"http/1.1 200 OK\r\n\r\n":                                           errStatusLine,
		"HTTP/1.2 200 OK\r\n\r\n":                                           errStatusLine,
		"HTTP/0.9 200 OK\r\n\r\n":                                           errStatusLine,
		"HTTP/1.1  200 OK\r\n\r\n":                                          errStatusLine,
		"HTTP/1.1\t200 OK\r\n\r\n":                                          errStatusLine,
		"HTTP/1.1 20 OK\r\n\r\n":                                            errStatusLine,
		"HTTP/1.1 2000 OK\r\n\r\n":                                          errStatusLine,
		"HTTP/1.1 2x0 OK\r\n\r\n":                                           errStatusLine,
		"HTTP/1.1 099 OK\r\n\r\n":                                           errStatusLine,
		"HTTP/1.1 600 OK\r\n\r\n":                                           errStatusLine,
		"HTTP/1.1 200\tOK\r\n\r\n":                                          errStatusLine,
		"HTTP/1.1 200OK\r\n\r\n":                                            errStatusLine,
		"HTTP/1.1 \r\n\r\n":                                                 errStatusLine,
		"HTTP/1.1 200 O\x00K\r\n\r\n":                                       errStatusLine,
		"HTTP/1.1 200 O\rK\r\n\r\n":                                         errStatusLine,
		"HTTP/1.1 200 OK\n\n":                                               errLineEnd,
		"HTTP/1.1 200 OK\n":                                                 errLineEnd,
		"HTTP/1.1 200 OK\r\nA: b\n\r\n":                                     errLineEnd,
		"HTTP/1.1 200 OK\r\nA: b\r\n\n":                                     errLineEnd,
		"HTTP/1.1 200 OK\r\n\n":                                             errLineEnd,
		"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n":                                errFieldValue,
		"HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n":                                 errFieldValue,
		"HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n":                               errFieldValue,
		"HTTP/1.1 200 OK\r\nA: \x7f\r\n\r\n":                                errFieldValue,
		"HTTP/1.1 200 OK\r\nA: 1234567\x01901234567\r\n\r\n":                errFieldValue,
		"HTTP/1.1 200 OK\r\nA: 12345678901234567\x7f\r\n\r\n":               errFieldValue,
		"HTTP/1.1 200 OK\r\nA : b\r\n\r\n":                                  errFieldName,
		"HTTP/1.1 200 OK\r\nA\t: b\r\n\r\n":                                 errFieldName,
		"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n":                                 errFieldName,
		"HTTP/1.1 200 OK\r\n: b\r\n\r\n":                                    errFieldName,
		"HTTP/1.1 200 OK\r\nA\r\n\r\n":                                      errFieldName,
		"HTTP/1.1 200 OK\r\n A: b\r\n\r\n":                                  errFieldName,
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n":                             errFieldName,
		"HTTP/1.1 200 OK\r\nA: b\r\n\tc: d\r\n\r\n":                         errFieldName,
		"HTTP/1.1 200 OK\r\nA\x80: b\r\n\r\n":                               errFieldName,
		"HTTP/1.1 200 OK\r\nA\x00: b\r\n\r\n":                               errFieldName,
		"HTTP/1.1 200 OK\r\nA(: b\r\n\r\n":                                  errFieldName,
		"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n":                        errLength,
		"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n":                     errLength,
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n":                     errLength,
		"HTTP/1.1 200 OK\r\nContent-Length: 1 1\r\n\r\n":                    errLength,
		"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\n":                    errLength,
		"HTTP/1.1 200 OK\r\nContent-Length: 01\r\n\r\n":                     errLength,
		"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n":                   errLength,
		"HTTP/1.1 200 OK\r\nContent-Length: 1.0\r\n\r\n":                    errLength,
		"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n":    errLength,
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n":   errLength,
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n": errLengthTwice,
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n": errLengthTwice,
		"HTTP/1.1 304 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n": errLengthTwice,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n":                     errCoding,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n":            errCoding,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n":       errCoding,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n":    errCoding,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n":            errCoding,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n":         errFieldValue,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n": errCodingTwice,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n":    errCodingTwice,
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n":                               errCoding10,
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n":          errBothFramings,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n":          errBothFramings,
		"HTTP/1.1 101 OK\r\nUpgrade: a\r\nUpgrade: b\r\n\r\n":                                 errOtherUpgrade,
		"HTTP/1.1 200 OK\r\n" + many + "\r\n":                                                 errFieldCount,
		"HTTP/1.1 200 OK\r\nA: b\r\n":                                                         errShort,
	} {
		for _, piece := range []int{1, 7, len(in)} {
			if _, _, err := parseAll(in, piece); err != want {
				t.Errorf("%.80q in pieces of %d: %v; want %v", in, piece, err, want)
			}
		}
	}
}

func TestHeadAccepts(t *testing.T) {
	many := strings.Repeat("X: y\r\n", 200)
	for _, x := range []struct{ in, want string }{
		{"HTTP/1.1 200 OK\r\n\r\n", "200 len=-1 "},
		{"HTTP/1.1 200\r\n\r\n", "200 len=-1 "},
		{"HTTP/1.1 200 \r\n\r\n", "200 len=-1 "},
		{"HTTP/1.1 200 tr\xe8s \tbon\r\n\r\n", "200 len=-1 "},
		{"HTTP/1.0 599 x\r\n\r\n", "599 1.0 len=-1 "},
		{"HTTP/1.1 100 Continue\r\n\r\n", "100 len=-1 "},
		{"HTTP/1.1 200 OK\r\nA:b\r\nB: \t c d \t\r\nC:\r\n\r\n", "200 len=-1 A=b;B=c d;C=;"},
		{"HTTP/1.1 200 OK\r\nA: \x80\xff\tx\r\n\r\n", "200 len=-1 A=\x80\xff\tx;"},
		{"HTTP/1.1 200 OK\r\nA: 1234\t678901\x80345678\t\t\r\n\r\n", "200 len=-1 A=1234\t678901\x80345678;"},
		{"HTTP/1.1 200 OK\r\n!#$%&'*+-.^_`|~09azAZ: v\r\n\r\n", "200 len=-1 !#$%&'*+-.^_`|~09azAZ=v;"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 len=0 Content-Length=0;"},
		{"HTTP/1.1 200 OK\r\ncOnTeNt-LeNgTh: 9223372036854775807\r\n\r\n", "200 len=9223372036854775807 cOnTeNt-LeNgTh=9223372036854775807;"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nA: b\r\n\r\n", "200 len=-1 chunked A=b;"},
		{"HTTP/1.1 204 No\r\nContent-Length: 5\r\nA: b\r\n\r\n", "204 len=5 A=b;"},
		{"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", "304 len=5 Content-Length=5;"},
		{"HTTP/1.1 200 OK\r\nConnection: close\r\nA: b\r\n\r\n", "200 len=-1 close A=b;"},
		{"HTTP/1.1 200 OK\r\nConnection: keep-alive, Close\r\n\r\n", "200 len=-1 close keep "},
		{"HTTP/1.1 200 OK\r\nA: 1\r\nConnection: a,, b\r\nB: 2\r\nC: 3\r\na: 4\r\n\r\n", "200 len=-1 C=3;"},
		{"HTTP/1.1 200 OK\r\nConnection: content-length, transfer-encoding\r\nContent-Length: 3\r\n\r\n", "200 len=3 Content-Length=3;"},
		{"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nA: b\r\n\r\n", "200 len=-1 A=b;"},
		{"HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\nA: b\r\n\r\n", "101 len=-1 up=websocket Upgrade=websocket;A=b;"},
		{"HTTP/1.1 200 OK\r\n" + many + "\r\n", "200 len=-1 " + strings.Repeat("X=y;", 200)},
	} {
		for _, piece := range []int{1, 3, len(x.in) + 8} {
			h, n, err := parseAll(x.in+"trailing", piece)
			if err != nil || n != len(x.in) {
				t.Errorf("%.80q: %v after %d bytes", x.in, err, n)
				continue
			}
			if got := headString(h); got != x.want {
				t.Errorf("%.80q:\n got %q\nwant %q", x.in, got, x.want)
			}
		}
	}
}

func headString(h *head) string {
	s := fmt.Sprint(h.status, " ")
	if h.http10 {
		s += "1.0 "
	}
	s += fmt.Sprintf("len=%d ", h.length)
	for _, x := range []struct {
		on   bool
		name string
	}{{h.chunked, "chunked "}, {h.close, "close "}, {h.keepAlive, "keep "}, {h.upgrade != nil, "up=" + string(h.upgrade) + " "}} {
		if x.on {
			s += x.name
		}
	}
	return s + fieldString(h.fields)
}

func TestValidValueBytes(t *testing.T) {
	for c := range 256 {
		want := c >= 0x20 && c != 0x7f || c == '\t'
		for at := range 19 {
			v := []byte("\xff0123\x80567\t9\x21abcd\x7eef")
			v[at] = byte(c)
			if got := validValue(v); got != want {
				t.Fatalf("byte %#x at %d: %v", c, at, got)
			}
		}
	}
}
