package listen

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/net/http2"
)

// TestIdleMemory measures what idle connections cost the server; the clients'
// ends live in the same process and are not counted apart.
func TestIdleMemory(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("LISTEN_IDLE"))
	if err != nil {
		t.Skip("LISTEN_IDLE, the number of connections, is not set")
	}
	cfg := Config{IdleTimeout: time.Hour, HeaderTimeout: time.Hour}
	if os.Getenv("LISTEN_TLS") != "" {
		cfg.TLS, cfg.HTTP2 = standardTLS(t), os.Getenv("LISTEN_HTTP2") != ""
	}
	s := start(t, cfg, Handlers{HTTP2: face(echo2)})
	raw := os.Getenv("LISTEN_HALF")
	inUse := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	clients := make([]int, n)
	before := inUse()
	if cfg.TLS != nil {
		defer idleTLSClients(t, s, n)()
		clients = nil
	}
	for i := range clients {
		clients[i] = dialBare(t, s)
	}
	for _, fd := range clients {
		if raw != "" {
			writeBare(fd, "GET / HTTP/1.1\r\nHost: ")
			continue
		}
		writeBare(fd, get(""))
		readBare(fd)
	}
	time.Sleep(parkAfter + 500*time.Millisecond) // lint:sleep measured by hand only
	for range 4 {
		runtime.GC() // stacks shrink by half each time
	}
	after := inUse()
	t.Logf("%d idle connections: %d bytes each (%+v)", n, (after-before)/uint64(n), s.Stats())
}

// idleTLSClients has another process be the clients, for TLS takes memory at
// their ends, too; they have been answered when it returns.
func idleTLSClients(t *testing.T, s *Server, n int) (end func()) {
	child := exec.Command(os.Args[0], "-test.run=^TestIdleTLSClients$", "-test.v")
	child.Env = append(os.Environ(), "LISTEN_CLIENTS="+strconv.Itoa(n), "LISTEN_ADDRESS="+s.Addr().String())
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "clients", func() bool { return s.Stats().Idle == int64(n) })
	return func() { in.Close(); _ = child.Wait() } // it ends with its input
}

func TestIdleTLSClients(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("LISTEN_CLIENTS"))
	if err != nil {
		t.Skip("TestIdleMemory runs it")
	}
	buf := make([]byte, 4096)
	for range n {
		c, err := tls.Dial("tcp", os.Getenv("LISTEN_ADDRESS"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if c.ConnectionState().NegotiatedProtocol == "h2" {
			f := framerOver(t, c, c)
			id := f.open("/", true)
			f.until("a response", func(fr http2.Frame) bool { return fr.Header().StreamID == id && fr.Header().Type == http2.FrameData })
			continue
		}
		if _, err := io.WriteString(c, get("")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = os.Stdin.Read(buf) // until it is closed
}

// hello answers without an allocation.
func hello(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("hello") }

func TestServingDoesNotAllocate(t *testing.T) {
	s := start(t, Config{}, Handlers{Handle: hello})
	fd := dialBare(t, s)
	request := []byte(typicalGet)
	buf := make([]byte, 4096)
	if n := testing.AllocsPerRun(500, func() {
		_, _ = syscall.Write(fd, request)
		_, _ = syscall.Read(fd, buf) // see readBare
	}); n > 0 && !raceEnabled {
		t.Errorf("%v allocations a request", n)
	}
}

// BenchmarkKeepAlive compares a request over loopback with bare fasthttp.
func BenchmarkKeepAlive(b *testing.B) {
	bare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	go fasthttp.Serve(bare, hello) // until the listener is closed
	for _, c := range []struct {
		name string
		addr net.Addr
	}{{"guarded", start(b, Config{}, Handlers{Handle: hello}).Addr()}, {"bare", bare.Addr()}} {
		b.Run(c.name, func(b *testing.B) {
			conn, err := net.Dial("tcp", c.addr.String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			request := []byte(typicalGet)
			buf := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Read(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
