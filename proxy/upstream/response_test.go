package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// TestResponses has a table of what a target says, in pieces of which each is a
// write of its own, and what becomes of it. reuse is whether the connection is
// pooled after the body was read.
func TestResponses(t *testing.T) {
	big := strings.Repeat("0123456789", 20000)
	long := "X-Long: " + strings.Repeat("v", 20000) + "\r\n"
	for _, x := range []struct {
		name, method string
		say          []string
		end          bool // close after it
		head         string
		length       int64
		body         string
		trailer      string
		err          string // of Do or Read
		reuse        bool
	}{
		{name: "known length", say: []string{ok}, head: "200 Content-Length=2;", length: 2, body: "ok", reuse: true},
		{name: "in pieces", say: []string{"HTT", "P/1.1 200 O", "K\r\nContent-Le", "ngth: 2\r\n\r", "\no", "k"},
			head: "200 Content-Length=2;", length: 2, body: "ok", reuse: true},
		{name: "empty", say: []string{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, head: "200 Content-Length=0;", reuse: true},
		{name: "large", say: []string{"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + big},
			head: "200 Content-Length=200000;", length: 200000, body: big, reuse: true},
		{name: "long head", say: []string{"HTTP/1.1 200 OK\r\nA: b\r\n" + long + "Content-Length: 2\r\n\r\nok"},
			head: "200 A=b;X-Long=" + strings.Repeat("v", 20000) + ";Content-Length=2;", length: 2, body: "ok", reuse: true},
		{name: "head of 64 KiB and more", say: []string{"HTTP/1.1 200 OK\r\n" + strings.Repeat(long, 4)},
			err: "http_response_header_section_size"},
		{name: "chunked", say: []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n", "2\r\nde\r", "\n0\r\n\r\n"},
			head: "200 ", length: -1, body: "abcde", reuse: true},
		{name: "large chunked", say: []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n", len(big), big), "0\r\n\r\n"},
			head: "200 ", length: -1, body: big, reuse: true},
		{name: "trailer", say: []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n", "C: d\r\n\r\n"},
			head: "200 Trailer=A;", length: -1, body: "x", trailer: "A=b;C=d;", reuse: true},
		{name: "until EOF", say: []string{"HTTP/1.1 200 OK\r\nA: b\r\n\r\nab", "cd"}, end: true, head: "200 A=b;", length: -1, body: "abcd"},
		{name: "until EOF, empty", say: []string{"HTTP/1.1 200 OK\r\n\r\n"}, end: true, head: "200 ", length: -1},
		{name: "1.0 until EOF", say: []string{"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nab"}, end: true, head: "200 ", length: -1, body: "ab"},
		{name: "1.0", say: []string{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"}, head: "200 Content-Length=2;", length: 2, body: "ok"},
		{name: "1.0 kept alive", say: []string{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\nok"},
			head: "200 Content-Length=2;", length: 2, body: "ok", reuse: true},
		{name: "Connection: close", say: []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, close\r\n\r\nok"},
			head: "200 Content-Length=2;", length: 2, body: "ok"},
		{name: "left-over bytes", say: []string{ok + "HTTP/1.1 200 OK\r\n"}, head: "200 Content-Length=2;", length: 2, body: "ok"},
		{name: "left-over bytes after chunks", say: []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nX"},
			head: "200 ", length: -1, body: "ok"},
		{name: "HEAD with length", method: "HEAD", say: []string{"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n"},
			head: "200 Content-Length=200;", reuse: true},
		{name: "HEAD chunked", method: "HEAD", say: []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"}, head: "200 ", reuse: true},
		{name: "HEAD without length", method: "HEAD", say: []string{"HTTP/1.1 200 OK\r\n\r\n"}, head: "200 ", reuse: true},
		{name: "HEAD with body bytes", method: "HEAD", say: []string{ok}, head: "200 Content-Length=2;"},
		{name: "204", say: []string{"HTTP/1.1 204 No Content\r\n\r\n"}, head: "204 ", reuse: true},
		{name: "204 with body", say: []string{"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok"}, head: "204 "},
		{name: "204 whose body is to come", say: []string{"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n"}, head: "204 "},
		{name: "204 chunked", say: []string{"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"}, head: "204 "},
		{name: "304 with length", say: []string{"HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n"}, head: "304 Content-Length=20;", reuse: true},
		{name: "103 then final", say: []string{"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok}, head: "200 Content-Length=2;", length: 2, body: "ok", reuse: true},
		{name: "100, then final later", say: []string{"HTTP/1.1 100 Continue\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 102 P\r\n\r\n", ok},
			head: "200 Content-Length=2;", length: 2, body: "ok", reuse: true},
		{name: "16 interim", say: []string{strings.Repeat("HTTP/1.1 103 E\r\n\r\n", 16) + ok}, head: "200 Content-Length=2;", length: 2, body: "ok", reuse: true},
		{name: "17 interim", say: []string{strings.Repeat("HTTP/1.1 103 E\r\n\r\n", 17) + ok}, err: "http_protocol_error"},
		{name: "many large interim", say: []string{strings.Repeat("HTTP/1.1 103 E\r\n"+long+"\r\n", 10) + ok},
			head: "200 Content-Length=2;", length: 2, body: "ok", reuse: true},
		{name: "unasked 101", say: []string{"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"}, err: "http_protocol_error"},
		{name: "garbage", say: []string{"SSH-2.0-OpenSSH"}, err: "http_protocol_error"},
		{name: "both framings", say: []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok"}, err: "http_protocol_error"},
		{name: "nothing", end: true, err: "connection_terminated"},
		{name: "half a head", say: []string{"HTTP/1.1 200 OK\r\nA: "}, end: true, err: "http_response_incomplete"},
		{name: "only interim", say: []string{"HTTP/1.1 100 C\r\n\r\n"}, end: true, err: "http_response_incomplete"},
		{name: "short body", say: []string{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"}, end: true,
			head: "200 Content-Length=5;", length: 5, body: "ab", err: "http_response_incomplete"},
		{name: "no last chunk", say: []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"}, end: true,
			head: "200 ", length: -1, body: "ab", err: "http_response_incomplete"},
		{name: "half a chunk", say: []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nab"}, end: true,
			head: "200 ", length: -1, body: "ab", err: "http_response_incomplete"},
		{name: "bad chunk", say: []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabX"},
			head: "200 ", length: -1, body: "ab", err: "http_protocol_error"},
		{name: "bad chunk later", say: []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "zz"},
			head: "200 ", length: -1, body: "ab", err: "http_protocol_error"},
	} {
		for _, via := range []string{"Read", "WriteTo", "splice"} {
			t.Run(x.name+"/"+via, func(t *testing.T) {
				p := pool(t, Config{URL: serve(t, func(p *peer) {
					p.request()
					for _, s := range x.say {
						p.send(s)
					}
					if !x.end {
						p.ended()
					}
				})})
				c := get("/")
				if x.method != "" {
					c.Method = []byte(x.method)
				}
				err := do(t, c, p)
				var got string
				if err == nil {
					if head := fmt.Sprint(c.Status, " ", fieldString(c.Response.Fields)); head != x.head || c.Response.ContentLength != x.length {
						t.Errorf("head is %.200q, length %d; want %.200q, %d", head, c.Response.ContentLength, x.head, x.length)
					}
					got, err = take(t, c, via)
				}
				if x.err != "" {
					wantError(t, err, x.err)
				} else if err != nil {
					t.Error(err)
				}
				if got != x.body {
					t.Errorf("body is %.100q (%d bytes); want %.100q (%d)", got, len(got), x.body, len(x.body))
				}
				if trailer := fieldString(c.Response.Trailer); trailer != x.trailer {
					t.Errorf("trailer is %q; want %q", trailer, x.trailer)
				}
				c.Close()
				idle := 0
				if x.reuse {
					idle = 1
				}
				wantStats(t, p, idle, idle, 1, 0)
			})
		}
	}
}

// take reads the body by Read, into a writer, or into a TCP connection.
func take(t *testing.T, c *Call, via string) (string, error) {
	t.Helper()
	switch via {
	case "WriteTo":
		var b strings.Builder
		n, err := c.WriteTo(&b)
		if n != int64(b.Len()) {
			t.Errorf("WriteTo returned %d for %d bytes", n, b.Len())
		}
		return b.String(), err
	case "splice":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		got := make(chan string)
		go func() {
			conn, _ := l.Accept()
			b, _ := io.ReadAll(conn)
			conn.Close()
			got <- string(b)
		}()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		n, err := c.WriteTo(conn)
		conn.Close()
		s := <-got
		if n != int64(len(s)) {
			t.Errorf("WriteTo returned %d for %d bytes", n, len(s))
		}
		return s, err
	}
	return body(t, c)
}

func TestResetMidBody(t *testing.T) {
	for _, head := range []string{"", "Content-Length: 100000\r\n", "Transfer-Encoding: chunked\r\n"} {
		for _, via := range []string{"Read", "WriteTo", "splice"} {
			seen := make(chan bool)
			p := pool(t, Config{URL: serve(t, func(p *peer) {
				p.request()
				p.send("HTTP/1.1 200 OK\r\n" + head + "\r\n")
				<-seen
				p.reset()
			})})
			c := get("/")
			must(t, c, p)
			close(seen)
			_, err := take(t, c, via)
			wantError(t, err, "http_response_incomplete")
			c.Close()
			wantStats(t, p, 0, 0, 1, 0)
		}
	}
}

func TestBuffered(t *testing.T) {
	p := pool(t, Config{URL: serve(t, answers(ok, "HTTP/1.1 204 No\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"))})
	c := get("/")
	must(t, c, p)
	if b, whole := c.Buffered(); !whole || string(b) != "ok" {
		t.Fatalf("%q, %v", b, whole)
	}
	c.Close()
	if _, whole := c.Buffered(); whole {
		t.Error("a closed call has a body")
	}
	must(t, c, p)
	if b, whole := c.Buffered(); !whole || len(b) != 0 {
		t.Fatalf("%q, %v", b, whole)
	}
	c.Close()
	must(t, c, p)
	if _, whole := c.Buffered(); whole {
		t.Fatal("a chunked body is said to be buffered")
	}
	c.Close()
	wantStats(t, p, 0, 0, 1, 2)
}

func TestBodyNotRead(t *testing.T) {
	p := pool(t, Config{URL: serve(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + strings.Repeat("x", 50000))
		p.ended()
	})})
	c := get("/")
	must(t, c, p)
	c.Close()
	wantStats(t, p, 0, 0, 1, 0)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("Read of a closed call succeeds")
	}
}

// failing takes some bytes, then fails.
type failing struct{ room int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func (f *failing) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(struct{ io.Writer }{f}, r)
	return n, err
}

func TestWriterFails(t *testing.T) {
	big := strings.Repeat("x", 200000)
	for _, head := range []string{"Content-Length: 200000\r\n\r\n" + big, "\r\n" + big, "Transfer-Encoding: chunked\r\n\r\n30d40\r\n" + big} {
		p := pool(t, Config{URL: serve(t, func(p *peer) {
			p.request()
			p.send("HTTP/1.1 200 OK\r\n" + head)
			p.ended()
		})})
		c := get("/")
		must(t, c, p)
		within(t, func() {
			if _, err := c.WriteTo(&failing{50000}); err != errFull {
				t.Errorf("got %v", err)
			}
		})
		c.Close()
		wantStats(t, p, 0, 0, 1, 0)
	}
}

// flushing counts flushes.
type flushing struct {
	bytes.Buffer
	flushes int
	got     chan string
}

func (f *flushing) Flush() error {
	f.flushes++
	f.got <- f.String()
	return nil
}

func TestFlush(t *testing.T) {
	next := make(chan bool)
	p := pool(t, Config{URL: serve(t, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
		<-next
		p.send("1\r\nb\r\n0\r\n\r\n")
		p.ended()
	})})
	c := get("/")
	must(t, c, p)
	f := &flushing{got: make(chan string, 8)}
	done := make(chan error)
	go func() { _, err := c.WriteTo(f); done <- err }()
	if s := <-f.got; s != "a" {
		t.Errorf("first flush after %q", s)
	}
	close(next)
	if err := <-done; err != nil || f.String() != "ab" {
		t.Errorf("%q, %v", f.String(), err)
	}
	c.Close()
	wantStats(t, p, 1, 1, 1, 0)
}

func TestUpgrade(t *testing.T) {
	p := pool(t, Config{MaxConnections: 1, URL: serve(t, func(p *peer) {
		if head := p.head(); !strings.HasSuffix(head, "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n") {
			t.Errorf("request is %q", head)
		}
		p.send("HTTP/1.1 103 E\r\n\r\nHTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nA: b\r\n\r\nearly")
		io.Copy(p, p.in)
	})})
	c := get("/")
	c.Upgrade = []byte("websocket")
	must(t, c, p)
	if c.Status != 101 || fieldString(c.Response.Fields) != "Upgrade=WebSocket;A=b;" {
		t.Errorf("%d %s", c.Status, fieldString(c.Response.Fields))
	}
	conn, early := c.Upgraded()
	if string(early) != "early" {
		t.Errorf("early is %q", early)
	}
	if again, _ := c.Upgraded(); again != nil {
		t.Error("upgraded twice")
	}
	c.Cancel(nil)
	wantStats(t, p, 1, 0, 1, 0)
	wantError(t, do(t, get("/"), p), "connection_limit_reached")
	c.Reset()
	wantStats(t, p, 0, 0, 1, 0)
	io.WriteString(conn, "echo")
	b := make([]byte, 4)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "echo" {
		t.Errorf("%q, %v", b, err)
	}
	conn.Close()
}

func TestUpgradeRefused(t *testing.T) {
	p := pool(t, Config{URL: serve(t, answers(ok), answers("HTTP/1.1 101 S\r\nUpgrade: h2c\r\n\r\n"), answers("HTTP/1.1 101 S\r\n\r\n"), answers("HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n"))})
	c := get("/")
	c.Upgrade = []byte("websocket")
	must(t, c, p) // any other final answer is an ordinary one
	wantBody(t, c, "ok")
	if conn, _ := c.Upgraded(); conn != nil {
		t.Error("a 200 was upgraded")
	}
	c.Close()
	p.closeIdle(p.t.now())
	wantError(t, do(t, c, p), "http_protocol_error")
	wantError(t, do(t, c, p), "http_protocol_error")
	must(t, c, p)
	c.Close() // without taking the connection
	wantStats(t, p, 0, 0, 4, 0)
}
