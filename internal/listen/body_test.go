package listen

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// A handler begins with the head, before any byte of a body has come.
func TestBodyIsNotWaitedFor(t *testing.T) { ways(t, testBodyIsNotWaitedFor) }

func testBodyIsNotWaitedFor(t *testing.T, way Config) {
	begun := make(chan struct{})
	s := start(t, way, Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
		close(begun)
		echo(ctx)
	}})
	c := dial(t, s)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
	select {
	case <-begun:
	case <-time.After(patience):
		t.Fatal("the handler has not begun")
	}
	c.send("abc")
	c.want(200, "POST / abc")
}

// However a head and its body are cut into pieces, each goes where it belongs,
// and the next request is found.
func TestBodyInPieces(t *testing.T) { ways(t, testBodyInPieces) }

func testBodyInPieces(t *testing.T, way Config) {
	s := start(t, way, Handlers{Handle: echo})
	raw := "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd" +
		"GET /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nef" +
		"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" +
		"POST /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ngh\r\n0\r\n\r\n"
	for cut := 1; cut < len(raw); cut++ {
		c := dial(t, s)
		c.send(raw[:cut])
		c.send(raw[cut:])
		c.want(200, "POST /1 abcd")
		c.want(200, "GET /2 ef")
		c.want(200, "POST /3 ")
		c.want(200, "POST /4 gh")
		c.Close()
	}
}

// What a handler leaves unread is never taken for a request: a little is
// skipped, for more the connection ends, and the response says so.
func TestBodyLeftUnread(t *testing.T) { ways(t, testBodyLeftUnread) }

func testBodyLeftUnread(t *testing.T, way Config) {
	s := start(t, way, Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
		if ctx.IsPost() {
			var some [4]byte
			_, _ = io.ReadFull(bodyOf(ctx), some[:]) // it is there
			fmt.Fprintf(ctx, "left %s", some[:])
			return
		}
		echo(ctx)
	}})
	evil := "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, size := range []int{len(evil) + 4, 5000, maxSkipped, maxSkipped + 5, 4 << 20} {
		c := dial(t, s)
		body := "some" + evil + strings.Repeat("x", size)
		body = body[:size]
		raw := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%sGET /next HTTP/1.1\r\nHost: a\r\n\r\n", size, body)
		go func() { _, _ = io.WriteString(c.Conn, raw) }() // it may be cut off
		r := c.want(200, "left some")
		if closes := size-4 > maxSkipped; r.Close != closes {
			t.Errorf("%d bytes: Connection: close is %v, want %v", size, r.Close, closes)
		}
		if r.Close {
			c.wantEnd()
		} else {
			c.want(200, "GET /next ")
		}
		c.Close()
	}
}
