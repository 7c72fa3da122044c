package upstream

import (
	"context"
	"net"
	"testing"
)

const benchHead = "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Tue, 24 Nov 2026 04:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"

// echoServer answers every read with the same bytes and allocates nothing per
// request.
func echoServer(tb testing.TB, answer string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in, out := make([]byte, 4096), []byte(answer)
				for {
					if _, err := c.Read(in); err != nil {
						return
					}
					if _, err := c.Write(out); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func benchPool(tb testing.TB, url string) *Pool {
	t := NewTransport()
	p, err := t.Pool(Config{URL: url, Header: 10e9, Idle: 10e9})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { t.Run(ctx); close(done) }()
	tb.Cleanup(func() { p.Release(); cancel(); <-done })
	return p
}

func benchRequest(c *Call) {
	c.Method, c.Target = []byte("GET"), []byte("/some/path?query=1")
	c.Request.Fields = []Field{
		{[]byte("Host"), []byte("example.com")},
		{[]byte("User-Agent"), []byte("bench/1.0")},
		{[]byte("Accept"), []byte("*/*")},
		{[]byte("X-Forwarded-For"), []byte("192.0.2.1")},
		{[]byte("Via"), []byte("1.1 sluice")},
	}
}

func oneCall(tb testing.TB, c *Call, p *Pool) {
	if err := c.Do(p); err != nil {
		tb.Fatal(err)
	}
	if b, ok := c.Buffered(); !ok || len(b) != 13 {
		tb.Fatal("body is not buffered")
	}
	c.Close()
}

func BenchmarkCall(b *testing.B) {
	p := benchPool(b, echoServer(b, benchHead))
	var c Call
	benchRequest(&c)
	b.ReportAllocs()
	for b.Loop() {
		oneCall(b, &c, p)
	}
}

func BenchmarkCallParallel(b *testing.B) {
	p := benchPool(b, echoServer(b, benchHead))
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		var c Call
		benchRequest(&c)
		for pb.Next() {
			oneCall(b, &c, p)
		}
	})
}

// BenchmarkNetConn is the floor: the same bytes over a bare net.Conn.
func BenchmarkNetConn(b *testing.B) {
	url := echoServer(b, benchHead)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", url[len("http://"):])
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		out, in := make([]byte, 160), make([]byte, 4096)
		for pb.Next() {
			if _, err := c.Write(out); err != nil {
				b.Error(err)
			}
			if _, err := c.Read(in); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkHead(b *testing.B) {
	var h head
	in := []byte(benchHead)
	for b.Loop() {
		h.reset()
		if _, done, err := h.parse(in); !done || err != nil {
			b.Fatal(err)
		}
	}
}
