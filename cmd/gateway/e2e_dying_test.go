package main_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A dying target counts the requests that reach it, answers those for /well and
// closes the connection under all others, after it has sent what is given, with
// a FIN or a reset.
type dying struct {
	addr  string
	mu    sync.Mutex
	count map[string]int // by method and path
}

func newDying(t *testing.T, answer string, reset bool) *dying {
	d := &dying{count: map[string]int{}}
	d.addr = target(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			d.mu.Lock()
			d.count[req.Method+" "+req.URL.Path]++
			d.mu.Unlock()
			if req.URL.Path == "/well" {
				if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"); err != nil {
					return
				}
				continue
			}
			_, _ = io.WriteString(conn, answer) // what arrives is compared
			if reset {
				_ = conn.(*net.TCPConn).SetLinger(0)
			}
			return
		}
	})
	return d
}

func (d *dying) times(request string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count[request]
}

// A request whose target dies before it answers is a 502. One that may not come
// twice reached it once, another at most twice, over fresh connections and over
// such as have served before.
func TestE2ETargetDiesUnanswered(t *testing.T) {
	t.Parallel()
	for _, reset := range []bool{false, true} {
		d := newDying(t, "", reset)
		c, _ := startChild(t, toOrigin(&origin{addr: d.addr}, "a"), "")
		client := keep(t, connect(t, c.addresses[0]))
		for n, one := range []struct {
			method, body string
			most         int
		}{{"POST", "some text", 1}, {"POST", "", 1}, {"PATCH", "x", 1}, {"GET", "", 2}, {"PUT", "x", 2}, {"DELETE", "", 2}} {
			for _, used := range []bool{false, true} {
				path := fmt.Sprintf("/%d/%t", n, used)
				if used {
					client.want("/well", 200)
				}
				resp, _, err := (&httpCall{spoken: plainHTTP1, addr: c.addresses[0], method: one.method, path: path, body: one.body}).do()
				if err != nil || resp.StatusCode != 502 {
					t.Errorf("%s %s, reset %t: %v, %v", one.method, path, reset, resp, err)
				}
				got := d.times(one.method + " " + path)
				if got < 1 || got > one.most || !used && got != 1 {
					t.Errorf("%s %s, reset %t: it reached the target %d times", one.method, path, reset, got)
				}
			}
		}
		client.want("/well", 200)
		check(t, c.stop())
	}
}

// A response that the target's death cuts is visibly incomplete, and is not
// asked for again.
func TestE2ETargetDiesMidBody(t *testing.T) {
	t.Parallel()
	for _, reset := range []bool{false, true} {
		for framing, answer := range map[string]string{
			"counted": "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 1000),
			"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + strings.Repeat("x", 1000) + "\r\n",
			"a chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + strings.Repeat("x", 1000),
		} {
			d := newDying(t, answer, reset)
			c, _ := startChild(t, toOrigin(&origin{addr: d.addr}, "a"), "")
			conn := connect(t, c.addresses[0])
			keep(t, conn).want("/well", 200)
			_, err := io.WriteString(conn, "GET /cut HTTP/1.1\r\nHost: a\r\n\r\n")
			check(t, err)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err == nil && resp.StatusCode == 200 {
				_, err = io.ReadAll(resp.Body)
			}
			// A reset may overtake all that was sent: then there is nothing to cut.
			switch {
			case err == nil && reset && resp.StatusCode == 502:
			case !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET):
				t.Errorf("%s, reset %t: the client saw %v, %v", framing, reset, resp, err)
			}
			if n := d.times("GET /cut"); n != 1 && !reset || n > 2 {
				t.Errorf("%s, reset %t: it was asked for %d times", framing, reset, n)
			}
			check(t, c.stop())
		}
	}
}

// A target that is killed in the middle of a large body and of an upload: its
// clients see it, and the next request finds nobody.
func TestE2ETargetKilled(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	behind, _ := startChild(t, toOrigin(o, "a"), "")
	c, _ := startChild(t, toOrigin(&origin{addr: behind.addresses[0]}, "a"), "")

	down := connect(t, c.addresses[0])
	_, err := fmt.Fprintf(down, "GET /bytes/%d HTTP/1.1\r\nHost: a\r\n\r\n", int64(1)<<40)
	check(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(down), nil)
	check(t, err)
	_, err = io.CopyN(io.Discard, resp.Body, 1<<20)
	check(t, err)

	up := connect(t, c.addresses[0])
	_, err = io.WriteString(up, "POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
	check(t, err)
	check(t, waitFor(func() error { return hasMetric(behind, "http_requests_in_flight 2") }))

	behind.kill()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("the download ended after %d bytes as if it were whole", n)
	}
	answer, err := http.ReadResponse(bufio.NewReader(up), nil)
	if err != nil || answer.StatusCode != 502 {
		t.Errorf("the upload was answered %v, %v", answer, err)
	}
	next, _, err := plainCall(c.addresses[0], "/who").do()
	if err != nil || next.StatusCode != 502 || next.Header.Get("Proxy-Status") != "sluice; error=connection_refused" {
		t.Errorf("the next request was answered %v, %v", next, err)
	}
	check(t, waitFor(func() error { return hasMetric(c, "http_requests_in_flight 0") }))
	check(t, c.stop())
}
