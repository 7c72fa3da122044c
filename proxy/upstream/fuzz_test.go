package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// FuzzResponseHead holds the parser against itself in pieces, and against
// net/http where both accept.
func FuzzResponseHead(f *testing.F) {
	for _, s := range []string{
		ok, benchHead, "HTTP/1.1 204 No\r\n\r\n", "HTTP/1.0 200\r\nConnection: keep-alive\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 200 OK\nA: b\n\n",
		"HTTP/1.1 200 OK\r\nConnection: a, close\r\nA: b\r\n\r\n", "HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n",
	} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, in []byte, piece int) {
		h, n, err := parseAll(string(in), len(in))
		if piece < 1 || piece > len(in) {
			piece = 1
		}
		h2, n2, err2 := parseAll(string(in), piece)
		if err != err2 && (err == errShort || err2 == errShort) || n != n2 && err == nil || err == nil && headString(h) != headString(h2) {
			t.Fatalf("whole: %v, %d; in pieces of %d: %v, %d", err, n, piece, err2, n2)
		}
		if err != nil {
			return
		}
		for _, x := range h.fields {
			if bytes.ContainsAny(x.Name, "\r\n\x00 \t:") || len(x.Name) == 0 || bytes.ContainsAny(x.Value, "\r\n\x00") {
				t.Fatalf("field %q: %q", x.Name, x.Value)
			}
		}
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), nil)
		if err != nil {
			return
		}
		if r.StatusCode != h.status || r.ProtoAtLeast(1, 1) == h.http10 {
			t.Fatalf("net/http reads %s %d", r.Proto, r.StatusCode)
		}
		if bodyless := h.status < 200 || h.status == 204 || h.status == 304; !bodyless {
			want := h.length
			if h.chunked {
				want = -1
			}
			if r.ContentLength != want || (len(r.TransferEncoding) > 0) != h.chunked {
				t.Fatalf("net/http reads length %d, %v; we %d, %v", r.ContentLength, r.TransferEncoding, h.length, h.chunked)
			}
		}
		for _, x := range h.fields {
			name := string(x.Name)
			if strings.EqualFold(name, "trailer") {
				continue
			}
			found := false
			for _, v := range r.Header.Values(name) {
				found = found || v == string(x.Value)
			}
			if !found {
				t.Fatalf("net/http does not see %q: %q in %q", name, x.Value, r.Header)
			}
		}
	})
}

// FuzzChunked holds the decoder against itself in pieces and in place, and
// against net/http where both accept.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nA: b\r\n\r\n", "3\nabc\n0\n\n", "3 \r\nabc\r\n0\r\n\r\n", "fffffffffffffffff\r\n",
	} {
		f.Add([]byte(s), 3, 5)
	}
	f.Fuzz(func(t *testing.T, in []byte, piece, room int) {
		out, took, d, err := dechunkAll(string(in), max(len(in), 1), max(len(in), 1), false)
		piece, room = 1+abs(piece)%64, 1+abs(room)%64
		for _, inPlace := range []bool{false, true} {
			out2, took2, d2, err2 := dechunkAll(string(in), piece, room, inPlace)
			if out != out2 || took != took2 || err != err2 || fieldString(d.trailer) != fieldString(d2.trailer) {
				t.Fatalf("whole: %q, %d, %v; in pieces of %d: %q, %d, %v", out, took, err, piece, out2, took2, err2)
			}
		}
		if err != nil {
			return
		}
		r, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(in))), nil)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if string(theirs) != out {
			t.Fatalf("net/http reads %q; we %q", theirs, out)
		}
	})
}

func abs(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

// FuzzResponse has a call take any bytes as its response: it must end, not
// panic, and not pool the connection with bytes left over.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{ok, ok + "x", "HTTP/1.1 103 E\r\n\r\n" + ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"} {
		f.Add(s)
	}
	say := make(chan string)
	url := serve(f, func(p *peer) {
		p.request()
		p.send(<-say)
	})
	f.Fuzz(func(t *testing.T, s string) {
		tr := NewTransport()
		p, err := tr.Pool(Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Release()
		c := get("/")
		go func() { say <- s }()
		if c.Do(p) == nil {
			n, err := c.WriteTo(io.Discard)
			if err == nil && c.Response.ContentLength >= 0 && n != c.Response.ContentLength {
				t.Fatal("body of " + strconv.Itoa(int(n)))
			}
			c.Close()
		}
		if p.Stats().InUse != 0 {
			t.Fatal("connection in use after the call")
		}
	})
}
