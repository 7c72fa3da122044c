package upstream

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// dechunkAll decodes a body that comes in pieces, in place or not.
func dechunkAll(in string, piece, room int, inPlace bool) (out string, took int, d *dechunker, err error) {
	d = new(dechunker)
	d.reset()
	var all []byte
	b := []byte(in)
	for took < len(b) && !d.done() {
		src := b[took:min(took+piece, len(b))]
		dst := make([]byte, room)
		if inPlace {
			src = bytes.Clone(src)
			dst = src
		}
		put, n, err := d.decode(dst, src)
		all = append(all, dst[:put]...)
		took += n
		if err != nil {
			return string(all), took, d, err
		}
	}
	if !d.done() {
		err = errShort
	}
	return string(all), took, d, err
}

func TestChunks(t *testing.T) {
	ext := strings.Repeat("x", 300)
	long := "4;" + strings.Repeat("x", 250) + "\r\ndata\r\n"
	for _, x := range []struct {
		in, out string
		err     error
		trailer string
	}{
		{in: "0\r\n\r\n"},
		{in: "000\r\n\r\n"},
		{in: "3\r\nabc\r\n0\r\n\r\n", out: "abc"},
		{in: "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", out: "01234567890123456789"},
		{in: "0000000000000003\r\nabc\r\n0\r\n\r\n", out: "abc"},
		{in: "3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\n\r\n", out: "abc"},
		{in: "3\r\n\r\n\r\n\r\n0\r\n\r\n", err: errChunkEnd, out: "\r\n\r"},
		{in: "0\r\nA: b\r\nC:\t d \r\n\r\n", trailer: "A=b;C=d;"},
		{in: "00000000000000003\r\nabc\r\n0\r\n\r\n", err: errChunkSize},
		{in: "ffffffffffffffff\r\n", err: errChunkSize},
		{in: "8000000000000000\r\n", err: errChunkSize},
		{in: "7fffffffffffffff\r\nab", out: "ab", err: errShort},
		{in: "\r\n", err: errChunkSize},
		{in: ";a\r\n", err: errChunkSize},
		{in: "0x3\r\nabc", err: errChunkSize},
		{in: "+3\r\nabc", err: errChunkSize},
		{in: "-1\r\n", err: errChunkSize},
		{in: " 3\r\nabc", err: errChunkSize},
		{in: "3 \r\nabc", err: errChunkSize},
		{in: "3 ;a\r\nabc", err: errChunkSize},
		{in: "3\t\r\nabc", err: errChunkSize},
		{in: "3_0\r\nabc", err: errChunkSize},
		{in: "3\nabc\r\n", err: errChunkSize},
		{in: "3\rXabc", err: errChunkSize},
		{in: "3;a\nabc", err: errChunkExt},
		{in: "3;a\x00\r\nabc", err: errChunkExt},
		{in: "3;a\rb\r\n", err: errChunkSize},
		{in: "3;" + ext + "\r\nabc", err: errChunkExt},
		{in: strings.Repeat(long, 70), out: strings.Repeat("data", 65), err: errChunkExt},
		{in: "3\r\nabcd\r\n", out: "abc", err: errChunkEnd},
		{in: "3\r\nabc\n0\r\n", out: "abc", err: errChunkEnd},
		{in: "3\r\nabc\rx", out: "abc", err: errChunkEnd},
		{in: "3\r\nabc0\r\n", out: "abc", err: errChunkEnd},
		{in: "3\r\nabc\r\n", out: "abc", err: errShort},
		{in: "3\r\nab", out: "ab", err: errShort},
		{in: "0\r\n", err: errShort},
		{in: "0\r\n\r", err: errShort},
		{in: "0\r\n\n", err: errLineEnd},
		{in: "0\r\nA: b\n\r\n", err: errLineEnd},
		{in: "0\r\nA : b\r\n\r\n", err: errFieldName},
		{in: "0\r\nA: b\r\n c\r\n\r\n", trailer: "A=b;", err: errFieldName},
		{in: "0\r\nA: \x00\r\n\r\n", err: errFieldValue},
		{in: "0\r\nContent-Length: 5\r\n\r\n", err: errTrailerField},
		{in: "0\r\ntransfer-encoding: chunked\r\n\r\n", err: errTrailerField},
		{in: "0\r\nConnection: x\r\n\r\n", err: errTrailerField},
		{in: "0\r\nHost: x\r\n\r\n", err: errTrailerField},
		{in: "0\r\nA: " + strings.Repeat("x", 8<<10) + "\r\n\r\n", err: errTrailerSize},
	} {
		for _, piece := range []int{1, 2, 5, 1 << 20} {
			for _, inPlace := range []bool{false, true} {
				name := fmt.Sprintf("%.40q by %d, in place %v", x.in, piece, inPlace)
				out, took, d, err := dechunkAll(x.in+"!", piece, 3, inPlace)
				if x.err == errShort {
					out, _, d, err = dechunkAll(x.in, piece, 3, inPlace)
				}
				if out != x.out || err != x.err {
					t.Errorf("%s: %q, %v; want %q, %v", name, out, err, x.out, x.err)
				}
				if err == nil && took != len(x.in) {
					t.Errorf("%s: took %d of %d", name, took, len(x.in))
				}
				if got := fieldString(d.trailer); got != x.trailer {
					t.Errorf("%s: trailer %q; want %q", name, got, x.trailer)
				}
			}
		}
	}
}
