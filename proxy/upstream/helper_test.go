package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	if leaked := leaks(); code == 0 && leaked != "" {
		fmt.Println("leaked goroutines:\n" + leaked)
		code = 1
	}
	os.Exit(code)
}

// leaks returns the stacks of this package's goroutines that do not end.
func leaks() string {
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) { // lint:sleep polls
		var left []string
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "proxy/upstream.") && !strings.Contains(g, "TestMain") {
				left = append(left, g)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return strings.Join(left, "\n\n")
		}
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) { // lint:sleep polls
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// within fails the test when f hangs.
func within(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		t.Fatalf("hangs\n%s", buf[:runtime.Stack(buf, true)])
	}
}

// A peer is one connection as a scripted upstream sees it.
type peer struct {
	net.Conn
	in *bufio.Reader
}

// head reads a request head.
func (p *peer) head() string {
	var b strings.Builder
	for {
		line, err := p.in.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String()
		}
	}
}

// request reads a request with its body, which it leaves in its coding.
func (p *peer) request() string {
	head := p.head()
	lower := strings.ToLower(head)
	if strings.Contains(lower, "transfer-encoding: chunked") {
		return head + p.chunks()
	}
	if _, v, ok := strings.Cut(lower, "content-length: "); ok {
		v, _, _ = strings.Cut(v, "\r\n")
		n, _ := strconv.Atoi(v)
		body := make([]byte, n)
		m, _ := io.ReadFull(p.in, body)
		return head + string(body[:m])
	}
	return head
}

func (p *peer) chunks() string {
	var b strings.Builder
	for {
		line, err := p.in.ReadString('\n')
		b.WriteString(line)
		n, bad := strconv.ParseInt(strings.TrimSpace(line), 16, 64)
		if err != nil || bad != nil {
			return b.String()
		}
		if n == 0 {
			return b.String() + p.head()
		}
		data := make([]byte, n+2)
		io.ReadFull(p.in, data)
		b.Write(data)
	}
}

func (p *peer) send(s string) { io.WriteString(p.Conn, s) }

// ended reads until the connection is over.
func (p *peer) ended() { io.Copy(io.Discard, p.in) }

// reset closes with a RST.
func (p *peer) reset() {
	p.Conn.(*net.TCPConn).SetLinger(0)
	p.Close()
}

// serve runs one script a connection, the last one for all that follow.
func serve(t testing.TB, scripts ...func(p *peer)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, scripts...)
	return "http://" + l.Addr().String()
}

func serveOn(t testing.TB, l net.Listener, scripts ...func(p *peer)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			script := scripts[min(i, len(scripts)-1)]
			wg.Go(func() {
				defer c.Close()
				script(&peer{c, bufio.NewReader(c)})
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

// answers reads a request and sends an answer, each in turn, then waits for
// the end.
func answers(all ...string) func(p *peer) {
	return func(p *peer) {
		for _, a := range all {
			if p.request() == "" {
				return
			}
			p.send(a)
		}
		p.ended()
	}
}

// pool makes a pool on a running Transport.
func pool(t testing.TB, cfg Config) *Pool {
	t.Helper()
	if cfg.Connect == 0 {
		cfg.Connect = patience // a busy machine takes long over a handshake
	}
	tr := NewTransport()
	p, err := tr.Pool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- tr.Run(ctx) }()
	t.Cleanup(func() {
		p.Release()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func get(target string) *Call { return request("GET", target) }

func request(method, target string) *Call {
	c := new(Call)
	c.Request.Method, c.Request.Target = []byte(method), []byte(target)
	c.Request.Fields = []Field{{[]byte("Host"), []byte("h")}}
	return c
}

// post has a body of known length.
func post(body io.Reader, length int) *Call {
	c := request("POST", "/")
	c.Request.Body, c.Request.ContentLength = body, int64(length)
	if length >= 0 {
		c.Request.Fields = append(c.Request.Fields, Field{[]byte("Content-Length"), []byte(strconv.Itoa(length))})
	}
	return c
}

// do runs Do and fails the test when it hangs.
func do(t *testing.T, c *Call, p *Pool) (err error) {
	t.Helper()
	within(t, func() { err = c.Do(p) })
	return err
}

// must is do without an error.
func must(t *testing.T, c *Call, p *Pool) {
	t.Helper()
	if err := do(t, c, p); err != nil {
		t.Fatal(err)
	}
}

func body(t *testing.T, c *Call) (s string, err error) {
	t.Helper()
	within(t, func() {
		var b []byte
		b, err = io.ReadAll(struct{ io.Reader }{c})
		s = string(b)
	})
	return s, err
}

// wantBody reads the body to its end.
func wantBody(t *testing.T, c *Call, want string) {
	t.Helper()
	if got, err := body(t, c); err != nil || got != want {
		t.Fatalf("body is %q, %v; want %q", got, err, want)
	}
}

func wantError(t *testing.T, err error, typ string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, not an *Error; want %s", err, typ)
	}
	if e.Type != typ {
		t.Fatalf("got %v; want %s", e, typ)
	}
	return e
}

// wantStats compares what is comparable.
func wantStats(t *testing.T, p *Pool, open, idle int, dials, reuses uint64) {
	t.Helper()
	want := Stats{open, idle, open - idle, dials, reuses}
	if got := p.Stats(); got != want {
		t.Fatalf("stats are %+v; want %+v", got, want)
	}
}

// spoiled reports whether anything came on an unused connection, and leaves it
// there.
func spoiled(c *conn) bool {
	_, err := c.peek()
	return err != unix.EAGAIN
}

func fieldString(fields []Field) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%s=%s;", f.Name, f.Value)
	}
	return b.String()
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// sortedString is fieldString in the order of names.
func sortedString(fields []Field) string {
	fields = slices.Clone(fields)
	slices.SortStableFunc(fields, func(a, b Field) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return fieldString(fields)
}
