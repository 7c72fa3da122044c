package upstream

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
)

const benchHead = "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Tue, 24 Nov 2026 04:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"

// echoServer answers requests of a size or more with the same bytes and
// allocates nothing for it.
func echoServer(tb testing.TB, size int, answer string) string {
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
					for got := 0; got < size; {
						n, err := c.Read(in)
						if got += n; err != nil {
							return
						}
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

// cpu reports the processor time of the whole process, target included.
func cpu(b *testing.B) func() {
	var from, to syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &from)
	return func() {
		syscall.Getrusage(syscall.RUSAGE_SELF, &to)
		spent := to.Utime.Nano() + to.Stime.Nano() - from.Utime.Nano() - from.Stime.Nano()
		b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
	}
}

func BenchmarkCall(b *testing.B) {
	p := benchPool(b, echoServer(b, 1, benchHead))
	var c Call
	benchRequest(&c)
	b.ReportAllocs()
	for b.Loop() {
		oneCall(b, &c, p)
	}
}

func BenchmarkCallParallel(b *testing.B) {
	p := benchPool(b, echoServer(b, 1, benchHead))
	b.ReportAllocs()
	b.ResetTimer()
	defer cpu(b)()
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
	url := echoServer(b, 1, benchHead)
	defer cpu(b)()
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

// BenchmarkPost sends 1 KiB at hand, and from a reader that may block.
func BenchmarkPost(b *testing.B) {
	for name, atHand := range map[string]bool{"hand": true, "stream": false} {
		b.Run(name, func(b *testing.B) {
			p := benchPool(b, echoServer(b, 1024, benchHead))
			b.ReportAllocs()
			b.ResetTimer()
			defer cpu(b)()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				var c Call
				benchRequest(&c)
				data := make([]byte, 1024)
				var r bytes.Reader
				c.Body, c.Request.ContentLength, c.BodyAtHand = &r, 1024, atHand
				for pb.Next() {
					r.Reset(data)
					if err := c.Do(p); err != nil {
						b.Error(err)
					}
					c.Close()
				}
			})
		})
	}
}

// BenchmarkRelay has 1 MiB bodies moved by the kernel.
func BenchmarkRelay(b *testing.B) {
	const size = 1 << 20
	p := benchPool(b, echoServer(b, 1, "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n"+strings.Repeat("x", size)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c})
			c.Close()
		}
	}()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	var c Call
	benchRequest(&c)
	b.SetBytes(size)
	b.ReportAllocs()
	b.ResetTimer()
	defer cpu(b)()
	for range b.N {
		if err := c.Do(p); err != nil {
			b.Fatal(err)
		}
		if n, err := c.WriteTo(client); err != nil || n != size {
			b.Fatal(n, err)
		}
		c.Close()
	}
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
