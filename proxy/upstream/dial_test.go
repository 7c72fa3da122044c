package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestConfigRejected(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	os.WriteFile(empty, []byte("nothing"), 0o600)
	for _, cfg := range []Config{
		{}, {URL: "h:80"}, {URL: "//h:80"}, {URL: "ftp://h"}, {URL: "http://"}, {URL: "http://:80"},
		{URL: "http://h:0"}, {URL: "http://h:65536"}, {URL: "http://h:x"}, {URL: "http://h/path"}, {URL: "http://h?q"},
		{URL: "http://h?"}, {URL: "http://h#f"}, {URL: "http://u@h"}, {URL: "http://[::1"}, {URL: "http://h h"},
		{URL: "unix:"}, {URL: "unix:relative"}, {URL: "http://h\r\n"},
		{URL: "https://h", TLS: TLS{CAFile: "/does/not/exist"}}, {URL: "https://h", TLS: TLS{CAFile: empty}},
	} {
		if _, err := NewTransport().Pool(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}

func TestTargets(t *testing.T) {
	for url, want := range map[string]string{
		"http://h": "tcp h:80", "http://h/": "tcp h:80", "https://h": "tcp h:443", "http://h:8080": "tcp h:8080",
		"http://[::1]": "tcp [::1]:80", "http://[::1]:81": "tcp [::1]:81", "unix:/a/b": "unix /a/b", "http://10.0.0.1:1": "tcp 10.0.0.1:1",
	} {
		target, err := newTarget(Config{URL: url})
		if err != nil {
			t.Errorf("%s: %v", url, err)
		} else if got := target.network + " " + target.address; got != want {
			t.Errorf("%s: %s; want %s", url, got, want)
		}
	}
}

func TestDialErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for url, want := range map[string]string{
		"http://" + l.Addr().String():   "connection_refused",
		"unix:/does/not/exist":          "connection_refused",
		"http://does-not-exist.invalid": "dns_error",
	} {
		p := pool(t, Config{URL: url, Connect: patience})
		e := wantError(t, do(t, get("/"), p), want)
		if !e.Unsent || e.Stale {
			t.Errorf("%+v", e)
		}
		wantStats(t, p, 0, 0, 1, 0)
	}
	for err, want := range map[error]string{
		&net.OpError{Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}: "destination_ip_unroutable",
		&net.OpError{Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}:  "destination_ip_unroutable",
		&net.OpError{Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}:    "connection_timeout",
		&net.OpError{Err: os.NewSyscallError("connect", syscall.ECONNRESET)}:   "connection_terminated",
		&net.OpError{Err: os.NewSyscallError("socket", syscall.EMFILE)}:        "connection_limit_reached",
		&net.OpError{Err: context.DeadlineExceeded}:                            "connection_timeout",
		&net.OpError{Err: &net.DNSError{IsTimeout: true}}:                      "connection_timeout",
	} {
		if got := dialError(err, "tcp").Type; got != want {
			t.Errorf("%v: %s; want %s", err, got, want)
		}
	}
}

func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, answers(ok, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100000)))
	p := pool(t, Config{URL: "unix:" + path})
	c := get("/")
	must(t, c, p)
	wantBody(t, c, "ok")
	c.Close()
	must(t, c, p)
	if s, err := take(t, c, "splice"); err != nil || len(s) != 100000 {
		t.Errorf("%d bytes, %v", len(s), err)
	}
	c.Close()
	wantStats(t, p, 1, 1, 1, 1)
}

func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip(err)
	}
	serveOn(t, l, answers(ok))
	p := pool(t, Config{URL: "http://" + l.Addr().String()})
	c := get("/")
	must(t, c, p)
	wantBody(t, c, "ok")
	c.Close()
}

// authority makes a CA file and a certificate for the name.
func authority(t testing.TB, name string) (file string, cert tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serveTLS is serve with TLS.
func serveTLS(t *testing.T, cfg *tls.Config, scripts ...func(p *peer)) string {
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, scripts...)
	return "https://" + l.Addr().String()
}

func TestTLS(t *testing.T) {
	file, cert := authority(t, "upstream.test")
	big := strings.Repeat("0123456789", 20000)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		url := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}},
			func(p *peer) {
				for i := 0; ; i++ {
					r := p.request()
					if r == "" {
						return
					}
					if s := p.Conn.(*tls.Conn).ConnectionState(); s.NegotiatedProtocol != "http/1.1" || s.ServerName != "upstream.test" {
						t.Errorf("%+v", s)
					}
					p.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r)+len(big), r+big))
				}
			})
		p := pool(t, Config{URL: url, TLS: TLS{CAFile: file, ServerName: "upstream.test"}})
		c := get("/")
		for i := range 3 {
			must(t, c, p)
			wantBody(t, c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"+big)
			c.Close()
			wantStats(t, p, 1, 1, 1, uint64(i))
		}
		c = post(strings.NewReader(big), -1)
		must(t, c, p)
		if s, err := take(t, c, "splice"); err != nil || len(s) < 2*len(big) {
			t.Errorf("%d bytes, %v", len(s), err)
		}
		c.Close()
		wantStats(t, p, 1, 1, 1, 3)
		q := pool(t, Config{URL: url, TLS: TLS{Insecure: true, ServerName: "upstream.test"}})
		must(t, c, q)
		c.Close()
	}
}

func TestTLSErrors(t *testing.T) {
	file, cert := authority(t, "upstream.test")
	url := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}}, func(p *peer) { p.ended() })
	plain := "https" + serve(t, func(p *peer) { p.send("HTTP/1.1 400 Bad Request\r\n\r\n"); p.ended() })[4:]
	gone := "https" + serve(t, func(p *peer) { p.in.Peek(1) })[4:]
	other := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"spdy/1"}}, func(p *peer) { p.ended() })
	for _, x := range []struct {
		cfg  Config
		want string
	}{
		{Config{URL: url}, "tls_certificate_error"},
		{Config{URL: url, TLS: TLS{ServerName: "upstream.test"}}, "tls_certificate_error"},
		{Config{URL: url, TLS: TLS{CAFile: file}}, "tls_certificate_error"},
		{Config{URL: url, TLS: TLS{CAFile: file, ServerName: "other.test"}}, "tls_certificate_error"},
		{Config{URL: plain}, "tls_protocol_error"},
		{Config{URL: gone}, "connection_terminated"},
		{Config{URL: other, TLS: TLS{Insecure: true}}, "tls_protocol_error"},
	} {
		x.cfg.Connect = patience
		p := pool(t, x.cfg)
		if e := wantError(t, do(t, get("/"), p), x.want); !e.Unsent {
			t.Errorf("%+v", e)
		}
		wantStats(t, p, 0, 0, 1, 0)
	}
}

// TestTLSLeftOver has bytes come behind the response that TLS has read already
// but not given away, and others that lie in the socket.
func TestTLSLeftOver(t *testing.T) {
	_, cert := authority(t, "upstream.test")
	exact := "HTTP/1.1 200 OK\r\nContent-Length: " // fills the first buffer exactly
	n := initialBuffer - len(exact) - len("8000\r\n\r\n")
	exact += fmt.Sprintf("%d\r\n\r\n%s", n, strings.Repeat("x", n))
	now := make(chan bool)
	p := pool(t, Config{TLS: TLS{Insecure: true}, URL: serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true},
		answers(exact+"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
		func(p *peer) {
			p.request()
			p.send(ok)
			<-now
			p.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
			p.ended()
		}, answers(ok))})
	c := get("/")
	must(t, c, p)
	if b, whole := c.Buffered(); !whole || len(b) != n {
		t.Fatal("the response does not fill the buffer")
	}
	c.Close()
	wantStats(t, p, 0, 0, 1, 0)
	must(t, c, p)
	c.Close()
	wantStats(t, p, 1, 1, 2, 0)
	close(now)
	eventually(t, "the poison arrives", func() bool { return spoiled(p.idle[0]) })
	must(t, c, p)
	wantBody(t, c, "ok")
	c.Close()
	wantStats(t, p, 1, 1, 3, 0)
}

func TestTLSUpgrade(t *testing.T) {
	_, cert := authority(t, "upstream.test")
	p := pool(t, Config{TLS: TLS{Insecure: true}, URL: serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}}, func(p *peer) {
		p.request()
		p.send("HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n")
		io.Copy(p, p.in)
	})})
	c := get("/")
	c.Upgrade = []byte("x")
	must(t, c, p)
	conn, _ := c.Upgraded()
	c.Close()
	io.WriteString(conn, "echo")
	b := make([]byte, 4)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "echo" {
		t.Errorf("%q, %v", b, err)
	}
	conn.Close()
}

func TestErrorText(t *testing.T) {
	e := &Error{Type: "dns_error", Err: errLimit}
	if e.Error() != "dns_error: "+errLimit.Error() || !errors.Is(e, errLimit) || e.Timeout() {
		t.Error(e)
	}
}
