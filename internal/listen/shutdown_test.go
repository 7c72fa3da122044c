package listen

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// shutdown begins to shut s down, and returns when that has taken effect.
func shutdown(ctx context.Context, s *Server) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	<-s.Draining()
	return done
}

func TestShutdownLetsExchangesFinish(t *testing.T) { ways(t, testShutdownLetsExchangesFinish) }

func testShutdownLetsExchangesFinish(t *testing.T, way Config) {
	began, finish := make(chan struct{}, 2), make(chan struct{})
	s := start(t, way.with(Config{}), Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/slow" {
			began <- struct{}{}
			<-finish
		}
		ctx.SetBodyString("done")
	}})
	idle, busy, half := dial(t, s), dial(t, s), dial(t, s)
	idle.send(get(""))
	idle.want(200, "done")
	busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	half.send("GET / HTTP/1.1\r\n")
	<-began
	until(t, "half a head", func() bool { return s.Stats().Active == 2 })
	done := shutdown(context.Background(), s)
	idle.wantEnd()
	half.send("Host: a\r\n\r\n")
	if res := half.want(200, "done"); !res.Close {
		t.Error("no Connection: close")
	}
	half.wantEnd()
	select {
	case <-done:
		t.Fatal("Shutdown did not wait")
	default:
	}
	close(finish)
	if res := busy.want(200, "done"); !res.Close {
		t.Error("no Connection: close")
	}
	busy.wantEnd()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		c.Close()
		t.Error("still listening")
	}
}

func TestShutdownGivesUp(t *testing.T) { ways(t, testShutdownGivesUp) }

func testShutdownGivesUp(t *testing.T, way Config) {
	began, x := make(chan struct{}), make(canceler, 1)
	s := start(t, way.with(Config{}), Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/up" {
			ctx.HijackSetNoResponse(true)
			ctx.Hijack(func(nc net.Conn) {
				own(nc.(interface{ UnsafeConn() net.Conn }).UnsafeConn()).Raw()
				close(began)
				_, _ = io.Copy(io.Discard, nc) // until it is closed
			})
			return
		}
		c := own(ctx.Conn())
		c.Attach(x)
		<-x
		c.Detach()
	}})
	stuck, up := dial(t, s), dial(t, s)
	up.send("GET /up HTTP/1.1\r\nHost: a\r\n\r\n")
	<-began
	stuck.send(get(""))
	until(t, "both", func() bool { st := s.Stats(); return st.Active == 1 && st.Raw == 1 })
	until(t, "attached", func() bool {
		for _, c := range s.conns.all() {
			if c.begun.Load() != 0 {
				return true
			}
		}
		return false
	})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := <-shutdown(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	select {
	case <-s.done:
	case <-time.After(patience):
		t.Fatal("Run did not return")
	}
	if _, err := up.r.ReadByte(); err == nil {
		t.Error("the tunnel is open")
	}
}

func TestShutdownBeforeRun(t *testing.T) {
	s, err := New(Config{Address: "127.0.0.1:0"}, Handlers{Handle: echo}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(); err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := s.Run(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{{}, {Address: "x"}, {Address: ":0", MaxConnections: -1}, {Address: ":0", IdleTimeout: -1}} {
		if _, err := New(cfg, Handlers{Handle: echo}, nil); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
	if _, err := New(Config{Address: ":0"}, Handlers{}, nil); err == nil {
		t.Error("no handler was accepted")
	}
}

func TestTooManyConnections(t *testing.T) {
	for _, cfg := range []Config{{MaxConnections: 2}, {MaxConnectionsPerIP: 2}} {
		s := start(t, cfg, Handlers{})
		one, two := dial(t, s), dial(t, s)
		for _, c := range []*client{one, two} {
			c.send(get(""))
			c.want(200, "")
		}
		three := dial(t, s)
		three.send(get(""))
		if res := three.want(503, "too many"); res.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		three.wantEnd()
		one.Close()
		until(t, "room", func() bool { return len(s.conns.all()) == 1 })
		four := dial(t, s)
		four.send(get(""))
		four.want(200, "")
		s.SetLimits(Config{MaxConnections: 3, MaxHeaderBytes: 1 << 10})
		five := dial(t, s)
		five.send(get("X: 0123456789\r\n"))
		five.want(200, "")
		five.send(get("X: " + string(make([]byte, 2<<10))))
		five.want(431, "")
	}
}

// flaky is a listener that runs out of descriptors now and then.
type flaky struct {
	net.Listener
	left atomic.Int32
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return f.Listener.Accept()
}

func TestAcceptSurvives(t *testing.T) {
	s, err := New(Config{Address: "127.0.0.1:0"}, Handlers{Handle: echo}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(); err != nil {
		t.Fatal(err)
	}
	ln := &flaky{Listener: s.ln}
	ln.left.Store(4)
	s.ln = ln
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	c := dial(t, s)
	c.send(get(""))
	c.want(200, "")
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// With a real end of descriptors accept waits, and goes on when there are some.
func TestDescriptorsGone(t *testing.T) {
	s := start(t, Config{}, Handlers{})
	first := dial(t, s)
	first.send(get(""))
	first.want(200, "")
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Skip(err)
	}
	c := dial(t, s) // a descriptor for the client, before there are none
	c.send(get(""))
	c.want(200, "")
	fd, err := syscall.Dup(0)
	if err != nil {
		t.Skip(err)
	}
	_ = syscall.Close(fd) // it is a descriptor that was free
	sock, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Skip(err)
	}
	addr := s.Addr().(*net.TCPAddr)
	low := old
	low.Cur = uint64(sock) + 1
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Skip(err)
	}
	sa := &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte{127, 0, 0, 1}}
	connected := syscall.Connect(sock, sa)
	first.send(get("")) // those that are there are served
	first.want(200, "")
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if connected != nil {
		t.Skip(connected)
	}
	f := os.NewFile(uintptr(sock), "client")
	defer f.Close()
	_, _ = f.WriteString(get("Connection: close\r\n")) // what is read tells
	b, err := io.ReadAll(f)
	if err != nil || len(b) == 0 {
		t.Errorf("got %q, %v", b, err)
	}
}
