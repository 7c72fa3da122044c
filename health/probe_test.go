package health

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// peer listens and treats every connection as handle does, until the test ends.
// It counts the connections; who handles one closes it, or the test's end does.
func peer(t testing.TB, network, address string, handle func(net.Conn)) (string, *atomic.Int32) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	accepted := new(atomic.Int32)
	ended, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			stop := context.AfterFunc(ended, func() { c.Close() })
			go func() { handle(c); stop() }()
		}
	}()
	t.Cleanup(func() { l.Close(); end(); <-done })
	return l.Addr().String(), accepted
}

// answering writes the same bytes for every head that comes.
func answering(answer string) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(r); err != nil {
				c.Close()
				return
			}
			io.WriteString(c, answer)
		}
	}
}

// once answers the first request and closes.
func once(answer string) func(net.Conn) {
	return func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, answer)
		c.Close()
	}
}

func silent(c net.Conn) { io.Copy(io.Discard, c); c.Close() }

func reset(c net.Conn) {
	http.ReadRequest(bufio.NewReader(c))
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func slowHead(c net.Conn) {
	http.ReadRequest(bufio.NewReader(c))
	io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
	for {
		if _, err := io.WriteString(c, "x"); err != nil {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}

func slowBody(c net.Conn) {
	http.ReadRequest(bufio.NewReader(c))
	io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
	for {
		if _, err := io.WriteString(c, "x"); err != nil {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}

// probing checks a target once or more by cfg.
func probing(t testing.TB, cfg Active, tlsConfig *tls.Config, url string) probe {
	t.Helper()
	cfg.Timeout = time.Minute // ask has one
	p, err := cfg.compile()
	if err != nil {
		t.Fatal(err)
	}
	if tlsConfig == nil {
		tlsConfig = newTLS()
	}
	probe, err := newProbe(p, tlsConfig, (&net.Dialer{}).DialContext, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(probe.close)
	return probe
}

// ask is one check with a time-out.
func ask(t testing.TB, p probe, timeout time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.check(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(timeout + 10*time.Second):
		t.Fatal("the check does not end with its context")
		return nil
	}
}

func wantFault(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%v, want %q", err, want)
	}
}

func TestHTTP(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall good"
	for _, c := range []struct {
		name   string
		handle func(net.Conn)
		edit   func(*Active)
		want   string
	}{
		{"good", answering(ok), nil, ""},
		{"no length", once("HTTP/1.1 200 OK\r\n\r\nall good"), nil, ""},
		{"chunked", answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n0\r\n\r\n"), nil, ""},
		{"interim", answering("HTTP/1.1 103 Early Hints\r\n\r\n" + ok), nil, ""},
		{"204", answering("HTTP/1.1 204 No Content\r\n\r\n"), nil, ""},
		{"500", answering("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), nil, "status 500"},
		{"redirect", answering("HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n"), nil, "status 302"},
		{"expected 404", answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), func(a *Active) { a.Expect = []string{"400-404"} }, ""},
		{"substring", answering(ok), func(a *Active) { a.Body = "good" }, ""},
		{"no substring", answering(ok), func(a *Active) { a.Body = "well" }, "does not match"},
		{"regexp", answering(ok), func(a *Active) { a.Body = "re:^all .*d$" }, ""},
		{"no regexp", answering(ok), func(a *Active) { a.Body = "re:^good" }, "does not match"},
		{"beyond 64 KiB", once("HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 64<<10) + "good"), func(a *Active) { a.Body = "good" }, "does not match"},
		{"large", once("HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 1<<20)), nil, ""},
		{"truncated", once("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nall"), nil, "unexpected EOF"},
		{"truncated match", once("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nall"), func(a *Active) { a.Body = "all" }, "unexpected EOF"},
		{"garbage", once("SSH-2.0-x\r\n\r\n"), nil, "malformed"},
		{"huge head", once("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"), nil, "exceeded"},
		{"nothing", once(""), nil, "EOF"},
		{"reset", reset, nil, "reset"},
		{"hang", silent, nil, "deadline"},
		{"slow head", slowHead, nil, "deadline"},
		{"slow body", slowBody, nil, "deadline"},
	} {
		t.Run(c.name, func(t *testing.T) {
			address, _ := peer(t, "tcp", "127.0.0.1:0", c.handle)
			a := defaultActive()
			if c.edit != nil {
				c.edit(&a)
			}
			timeout := 10 * time.Second
			if c.want == "deadline" {
				timeout = 150 * time.Millisecond
			}
			wantFault(t, ask(t, probing(t, a, nil, "http://"+address), timeout), c.want)
		})
	}
}

// refusing is an address where nobody listens.
func refusing(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestRefused(t *testing.T) {
	for _, kind := range []string{"http", "tcp", "grpc"} {
		a := defaultActive()
		a.Kind = kind
		wantFault(t, ask(t, probing(t, a, nil, "http://"+refusing(t)), 10*time.Second), "connection refused")
		wantFault(t, ask(t, probing(t, a, nil, "unix:"+filepath.Join(t.TempDir(), "none")), 10*time.Second), "no such file")
	}
}

func TestTCP(t *testing.T) {
	address, accepted := peer(t, "tcp", "127.0.0.1:0", silent)
	a := defaultActive()
	a.Kind = "tcp"
	wantFault(t, ask(t, probing(t, a, nil, "http://"+address), 10*time.Second), "")
	_, port, _ := net.SplitHostPort(address)
	fmt.Sscan(port, &a.Port)
	wantFault(t, ask(t, probing(t, a, nil, "https://127.0.0.1:1"), 10*time.Second), "")
	deadline := time.Now().Add(10 * time.Second)
	for accepted.Load() != 2 {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections, want 2", accepted.Load())
		}
		runtime.Gosched()
	}
}

// TestRequest looks at what is sent, and that one connection carries it, and a
// new one after the target has closed it.
func TestRequest(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			heads := make(chan *http.Request, 10)
			closing := new(atomic.Bool)
			address, url := "127.0.0.1:0", "http://"
			if network == "unix" {
				address, url = filepath.Join(t.TempDir(), "s"), "unix:"
			}
			address, accepted := peer(t, network, address, func(c net.Conn) {
				r := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					heads <- req
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
					if closing.Load() {
						c.Close()
						return
					}
				}
			})
			a := defaultActive()
			a.Path, a.Host = "/up?deep=%20", "health.example.com"
			p := probing(t, a, nil, url+address)
			for range 5 {
				wantFault(t, ask(t, p, 10*time.Second), "")
				if r := <-heads; r.Method != "GET" || r.RequestURI != "/up?deep=%20" || r.Host != "health.example.com" || r.UserAgent() != "sluice-health" || len(r.Header) != 1 {
					t.Errorf("%+v", r)
				}
			}
			if n := accepted.Load(); n != 1 {
				t.Errorf("%d connections for 5 checks", n)
			}
			closing.Store(true)
			for range 3 {
				wantFault(t, ask(t, p, 10*time.Second), "")
			}
		})
	}
}

// certificate makes one that is good for name, and a pool that trusts it.
func certificate(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// secure serves h over TLS, as a certificate for name.
func secure(t testing.TB, name string, h2 bool, h http.Handler) (*httptest.Server, *x509.CertPool) {
	cert, pool := certificate(t, name)
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quiet()
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.EnableHTTP2 = h2
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, pool
}

func TestTLS(t *testing.T) {
	var names atomic.Value
	s, pool := secure(t, "target.example.com", true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names.Store(r.TLS.ServerName + " " + r.Proto)
	}))
	for _, c := range []struct {
		name string
		tls  *tls.Config
		want string
	}{
		{"good", &tls.Config{RootCAs: pool, ServerName: "target.example.com"}, ""},
		{"another name", &tls.Config{RootCAs: pool, ServerName: "other.example.com"}, "not other.example.com"},
		{"address", &tls.Config{RootCAs: pool}, "127.0.0.1"},
		{"unknown authority", &tls.Config{ServerName: "target.example.com"}, "unknown authority"},
		{"insecure", &tls.Config{InsecureSkipVerify: true}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := probing(t, defaultActive(), c.tls, s.URL)
			for range 2 {
				wantFault(t, ask(t, p, 10*time.Second), c.want)
			}
		})
	}
	wantFault(t, ask(t, probing(t, defaultActive(), &tls.Config{RootCAs: pool, ServerName: "target.example.com"}, s.URL), 10*time.Second), "")
	if got := names.Load(); got != "target.example.com HTTP/1.1" {
		t.Errorf("the target saw %v", got)
	}
	hung, _ := peer(t, "tcp", "127.0.0.1:0", silent)
	wantFault(t, ask(t, probing(t, defaultActive(), nil, "https://"+hung), 150*time.Millisecond), "deadline")
	plain, _ := peer(t, "tcp", "127.0.0.1:0", once("HTTP/1.1 400 Bad Request\r\n\r\n"))
	wantFault(t, ask(t, probing(t, defaultActive(), nil, "https://"+plain), 10*time.Second), "tls")
}
