package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func newEcho(t *testing.T) *echo {
	t.Helper()
	e, err := startEcho()
	must(t, err)
	t.Cleanup(func() { e.close(t.Context()) }) // the test's context is done: at once
	return e
}

// dial opens a raw connection that does not wait forever.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	return c
}

func TestEchoShowsWhatCame(t *testing.T) {
	c := dial(t, newEcho(t).ln.Addr().String())
	io.WriteString(c, "PUT /echo/a%20b?x=1&y HTTP/1.1\r\nhost: example.com\r\nX-ODD-case: 1\r\na: 2\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nhi\n\r\n0\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	var got map[string]any
	must(t, json.NewDecoder(resp.Body).Decode(&got))
	delete(got, "remote")
	want := map[string]any{
		"method": "PUT", "target": "/echo/a%20b?x=1&y", "host": "example.com",
		"body_bytes": 3.0, "body": "hi\n",
		"headers": []any{
			[]any{"host", "example.com"}, []any{"X-ODD-case", "1"}, []any{"a", "2"},
			[]any{"Transfer-Encoding", "chunked"}, []any{"Connection", "close"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestEchoLargeBody(t *testing.T) {
	url := newEcho(t).url()
	resp, err := http.Post(url+"/echo/up", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
	must(t, err)
	defer resp.Body.Close()
	var got map[string]any
	must(t, json.NewDecoder(resp.Body).Decode(&got))
	if _, has := got["body"]; has || got["body_bytes"] != float64(1<<20) {
		t.Errorf("got body %v, %v bytes", has, got["body_bytes"])
	}
}

func TestEchoPaths(t *testing.T) {
	url := newEcho(t).url()
	for _, c := range []struct {
		path   string
		status int
		bytes  int64 // -1: any
	}{
		{"/echo/status/418", 418, -1},
		{"/echo/status/204", 204, 0},
		{"/echo/status/99", 400, -1},
		{"/echo/status/x", 400, -1},
		{"/echo/delay/1ms", 200, -1},
		{"/echo/delay/10h", 400, -1},
		{"/echo/delay/-1s", 400, -1},
		{"/echo/bytes/0", 200, 0},
		{"/echo/bytes/1", 200, 1},
		{"/echo/bytes/123456", 200, 123456},
		{"/echo/bytes/99999999999", 400, -1},
		{"/echo/ws", 426, -1},
		{"/echo", 200, -1},
	} {
		resp, err := http.Get(url + c.path)
		must(t, err)
		n, err := io.Copy(io.Discard, resp.Body)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != c.status || c.bytes >= 0 && n != c.bytes {
			t.Errorf("%s: status %d and %d bytes, want %d and %d", c.path, resp.StatusCode, n, c.status, c.bytes)
		}
	}
}

func TestEchoEvents(t *testing.T) {
	resp, err := http.Get(newEcho(t).url() + "/echo/sse")
	must(t, err)
	defer resp.Body.Close()
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	must(t, err)
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" || line != "id: 1\n" {
		t.Errorf("Content-Type %q, first line %q", kind, line)
	}
}

// The frames are those of RFC 6455, section 5.7, masked by 37 fa 21 3d.
func TestEchoWebSocket(t *testing.T) {
	address := newEcho(t).ln.Addr().String()
	const mask = "\x37\xfa\x21\x3d"
	for name, c := range map[string]struct{ send, want string }{
		"text":         {"\x81\x85" + mask + "\x7f\x9f\x4d\x51\x58", "\x81\x05Hello"},
		"ping":         {"\x89\x85" + mask + "\x7f\x9f\x4d\x51\x58", "\x8a\x05Hello"},
		"fragments":    {"\x01\x81" + mask + "\x7f" + "\x80\x81" + mask + "\x5e", "\x01\x01H\x80\x01i"},
		"16 bits":      {"\x82\xfe\x00\x7e\x00\x00\x00\x00" + strings.Repeat("x", 126), "\x82\x7e\x00\x7e" + strings.Repeat("x", 126)},
		"64 bits":      {"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00" + strings.Repeat("x", 65536), "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + strings.Repeat("x", 65536)},
		"close":        {"\x88\x82" + mask + "\x34\x12", "\x88\x02\x03\xe8"},
		"not masked":   {"\x81\x05Hello", "\x88\x02\x03\xea"},
		"reserved bit": {"\xc1\x85" + mask + "\x7f\x9f\x4d\x51\x58", "\x88\x02\x03\xea"},
		"too big":      {"\x82\xff\x00\x00\x00\x00\x40\x00\x00\x00", "\x88\x02\x03\xf1"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, address)
			io.WriteString(conn, "GET /echo/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, nil)
			must(t, err)
			if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
				t.Fatalf("status %d, accept %q", resp.StatusCode, resp.Header.Get("Sec-WebSocket-Accept"))
			}
			io.WriteString(conn, c.send)
			got := make([]byte, len(c.want))
			if _, err := io.ReadFull(r, got); err != nil || string(got) != c.want {
				t.Errorf("got %.20q and %v, want %.20q", got, err, c.want)
			}
		})
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"))
	f.Add([]byte("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := readFrame(bufio.NewReader(strings.NewReader(string(data))))
		if err == nil && len(frame.payload) > len(data) {
			t.Errorf("%d bytes of payload from %d", len(frame.payload), len(data))
		}
	})
}
