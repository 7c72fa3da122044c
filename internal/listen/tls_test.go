package listen

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// authority signs certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	a.cert = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, key.Public())
	return a
}

func (a *authority) sign(t testing.TB, template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a certificate for names, for servers and clients; with an RSA key
// or else an ECDSA one.
func (a *authority) issue(t testing.TB, withRSA bool, names ...string) tls.Certificate {
	t.Helper()
	var key crypto.Signer
	var err error
	if withRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert := a.sign(t, template, key.Public())
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// standardTLS is TLS with one certificate.
func standardTLS(t testing.TB) *TLS {
	return &TLS{Certificates: []tls.Certificate{newAuthority(t).issue(t, false, "a.example")}}
}

// greet connects with cfg and returns what was negotiated after a request.
func greet(t testing.TB, s *Server, cfg *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	c, err := net.DialTimeout("tcp", s.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience)) // what follows fails
	tc := tls.Client(c, cfg)
	if err := tc.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := io.WriteString(tc, get("")); err != nil {
		return tc.ConnectionState(), err
	}
	res, err := http.ReadResponse(bufio.NewReader(tc), nil) // with the session's tickets
	if err != nil {
		return tc.ConnectionState(), err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return tc.ConnectionState(), err
}

// blind is a client that takes every certificate.
func blind(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true}
}

func TestCertificateByName(t *testing.T) {
	a := newAuthority(t)
	both := []tls.Certificate{
		a.issue(t, false, "first.example"), a.issue(t, true, "two.example", "*.wild.example"),
		a.issue(t, false, "two.example"), a.issue(t, false, "exact.wild.example"), a.issue(t, true, "first.example"),
	}
	s := start(t, Config{TLS: &TLS{Certificates: both}}, Handlers{})
	onlyRSA := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for _, c := range []struct {
		name    string
		ciphers []uint16
		want    int
	}{
		{"first.example", nil, 0}, {"FIRST.example", nil, 0}, {"", nil, 0}, {"other.example", nil, 0},
		{"first.example", onlyRSA, 4}, {"other.example", onlyRSA, 4}, {"", onlyRSA, 4},
		{"two.example", nil, 2}, {"two.example", onlyRSA, 1},
		{"x.wild.example", nil, 1}, {"exact.wild.example", nil, 3}, {"y.x.wild.example", nil, 0}, {"wild.example", nil, 0},
	} {
		cfg := blind(c.name)
		if c.ciphers != nil {
			cfg.CipherSuites, cfg.MaxVersion = c.ciphers, tls.VersionTLS12
		}
		st, err := greet(t, s, cfg)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if !st.PeerCertificates[0].Equal(both[c.want].Leaf) {
			t.Errorf("%+v: got a certificate for %v", c, st.PeerCertificates[0].DNSNames)
		}
	}
	if h := s.Handshakes(); h.TLS12 != 4 || h.TLS13 != 9 || h.Failed != [len(HandshakeFailures)]int64{} {
		t.Errorf("counted %+v", h)
	}
}

// Each way in which a handshake fails is counted with its reason.
func TestHandshakeFailures(t *testing.T) {
	a := newAuthority(t)
	verify := &TLS{Certificates: []tls.Certificate{a.issue(t, false, "a.example")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool()}
	stranger := newAuthority(t).issue(t, false, "stranger")
	for _, c := range []struct {
		reason string
		tls    *TLS
		client *tls.Config // nil: raw
		raw    string
	}{
		{"bad_record", standardTLS(t), nil, "GET / HTTP/1.1\r\n\r\n"},
		{"bad_record", standardTLS(t), nil, "\x00\x01\x02\x03\x04\x05\x06"},
		{"closed", standardTLS(t), nil, "\x16\x03\x01\x02"},
		{"closed", standardTLS(t), nil, ""},
		{"version", standardTLS(t), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}, ""},
		{"version", &TLS{Certificates: verify.Certificates, MinVersion: tls.VersionTLS13}, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, ""},
		{"cipher", standardTLS(t), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, ""},
		{"protocol", standardTLS(t), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"nonsense"}}, ""},
		{"alert", standardTLS(t), &tls.Config{ServerName: "a.example", RootCAs: a.pool()}, ""},
		{"client_certificate", verify, blind("a.example"), ""},
		{"client_certificate", verify, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{stranger}}, ""},
	} {
		s := start(t, Config{TLS: c.tls}, Handlers{})
		if c.client != nil {
			if _, err := greet(t, s, c.client); err == nil {
				t.Errorf("%s: served", c.reason)
			}
		} else {
			raw := dialRaw(t, s)
			_, _ = io.WriteString(raw, c.raw) // the count tells
			_ = raw.CloseWrite()              // as well
		}
		failed := func(reason string) int64 {
			return s.Handshakes().Failed[slices.Index(HandshakeFailures[:], reason)]
		}
		until(t, "a failed handshake", func() bool {
			n := int64(0)
			for _, f := range s.Handshakes().Failed {
				n += f
			}
			return n == 1
		})
		if failed(c.reason) != 1 {
			t.Errorf("wanted %s, counted %v", c.reason, s.Handshakes().Failed)
		}
		until(t, "no connection", func() bool { return s.Stats() == Stats{} })
	}
}

func dialRaw(t testing.TB, s *Server) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", s.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience)) // what follows fails
	return c.(*net.TCPConn)
}

// Who speaks plaintext where TLS is spoken is told so.
func TestPlaintextToTLS(t *testing.T) {
	s := start(t, Config{TLS: standardTLS(t)}, Handlers{})
	raw := dialRaw(t, s)
	_, _ = io.WriteString(raw, get("")) // the answer tells
	c := &client{raw, raw, t, bufio.NewReader(raw)}
	c.want(400, "TLS")
	c.wantEnd()
}

func TestHandshakeTimeout(t *testing.T) {
	s := start(t, Config{TLS: standardTLS(t), HandshakeTimeout: 200 * time.Millisecond}, Handlers{})
	silent, half := dialRaw(t, s), dialRaw(t, s)
	_, _ = io.WriteString(half, "\x16\x03\x01\x02\x00\x01\x00") // the end tells
	until(t, "handshakes", func() bool { return s.Stats().Shaking == 2 })
	for _, c := range []net.Conn{silent, half} {
		if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
			t.Errorf("got %q, %v", b, err)
		}
	}
	if n := s.Handshakes().Failed[slices.Index(HandshakeFailures[:], "timeout")]; n != 2 {
		t.Errorf("%d time-outs", n)
	}
	until(t, "no connection", func() bool { return s.Stats() == Stats{} })
}

func TestClientCertificate(t *testing.T) {
	a := newAuthority(t)
	server, known, stranger := a.issue(t, false, "a.example"), a.issue(t, false, "known"), newAuthority(t).issue(t, false, "stranger")
	for _, c := range []struct {
		auth   tls.ClientAuthType
		client []tls.Certificate
		want   string // the name the handler sees, "refused" where it sees nothing
	}{
		{tls.NoClientCert, []tls.Certificate{known}, ""},
		{tls.VerifyClientCertIfGiven, nil, ""}, {tls.VerifyClientCertIfGiven, []tls.Certificate{known}, "known"},
		{tls.VerifyClientCertIfGiven, []tls.Certificate{stranger}, "refused"},
		{tls.RequireAndVerifyClientCert, []tls.Certificate{known}, "known"}, {tls.RequireAndVerifyClientCert, nil, "refused"},
	} {
		seen := make(chan string, 1)
		s := start(t, Config{TLS: &TLS{Certificates: []tls.Certificate{server}, ClientAuth: c.auth, ClientCAs: a.pool()}}, Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
			name := ""
			if st := ctx.TLSConnectionState(); ctx.IsTLS() && len(st.VerifiedChains) > 0 {
				name = st.PeerCertificates[0].Subject.CommonName
			}
			seen <- name
		}})
		cfg := blind("a.example")
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(c.client) == 0 {
				return &tls.Certificate{}, nil
			}
			return &c.client[0], nil // whatever authorities are asked for
		}
		got := "refused"
		if _, err := greet(t, s, cfg); err == nil {
			got = <-seen
		}
		if got != c.want {
			t.Errorf("%v, %d certificates: %q, want %q", c.auth, len(c.client), got, c.want)
		}
	}
}

// Sessions are resumed after settings and certificates have changed, and with
// keys that were rotated away; not with a client that would not be let in.
func TestSessions(t *testing.T) {
	a := newAuthority(t)
	cfg := Config{TLS: &TLS{Certificates: []tls.Certificate{a.issue(t, false, "a.example")}}}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := start(t, cfg, Handlers{})
		client := blind("a.example")
		client.MaxVersion, client.ClientSessionCache = version, tls.NewLRUClientSessionCache(8)
		resumed := func() bool {
			t.Helper()
			st, err := greet(t, s, client)
			if err != nil {
				t.Fatal(err)
			}
			return st.DidResume
		}
		if resumed() || !resumed() {
			t.Fatal("no resumption at all")
		}
		s.SetLimits(Config{TLS: &TLS{Certificates: []tls.Certificate{a.issue(t, false, "a.example")}}})
		if !resumed() {
			t.Error("not resumed after a change")
		}
		s.tickets.rotate(s.now() + int64(ticketEvery))
		if len(s.tickets.keys) != 2 || !resumed() {
			t.Error("not resumed after a rotation")
		}
		for i := range 2 * ticketKeys {
			s.tickets.rotate(s.now() + int64(i+2)*int64(ticketEvery))
		}
		if len(s.tickets.keys) != ticketKeys || resumed() {
			t.Error("resumed with a key of long ago")
		}
		if s.Handshakes().Resumed != 3 {
			t.Errorf("counted %+v", s.Handshakes())
		}
		s.SetLimits(Config{TLS: &TLS{Certificates: cfg.TLS.Certificates, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool()}})
		if _, err := greet(t, s, client); err == nil {
			t.Error("a session without a certificate was resumed where one is required")
		}
	}
}

// What is open goes on as it began; what is new begins by the new settings.
func TestTLSComesAndGoes(t *testing.T) {
	s := start(t, Config{}, Handlers{})
	plain := dial(t, s)
	plain.send(get(""))
	plain.want(200, "")
	s.SetLimits(Config{TLS: standardTLS(t)})
	secure := dial(t, s)
	for _, c := range []*client{plain, secure} {
		c.send(get(""))
		c.want(200, "")
	}
	s.SetLimits(Config{})
	for _, c := range []*client{plain, secure, dial(t, s)} {
		c.send(get(""))
		c.want(200, "")
	}
}

// A body of known length takes the way past fasthttp's buffers.
func TestReadFromIsEncrypted(t *testing.T) {
	const size = 3 << 20
	s := start(t, Config{TLS: standardTLS(t)}, Handlers{Handle: func(ctx *fasthttp.RequestCtx) {
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(func(nc net.Conn) {
			c := nc.(interface{ UnsafeConn() net.Conn }).UnsafeConn()
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			_, _ = c.(io.ReaderFrom).ReadFrom(io.LimitReader(zeros{}, size)) // what is read tells
		})
	}})
	c := dial(t, s)
	c.send(get(""))
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	c.wantEnd()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// Records that come in pieces are waited for without fasthttp's buffers.
func TestPartialRecord(t *testing.T) {
	s := start(t, Config{TLS: standardTLS(t)}, Handlers{})
	p := &pieces{Conn: dialRaw(t, s)}
	tc := tls.Client(p, blind("a.example"))
	c := &client{tc, nil, t, bufio.NewReader(tc)}
	c.send(get(""))
	c.want(200, "")
	parked := func() bool { return s.conns.all()[0].parked.Load() }
	until(t, "parking", parked)
	p.hold = true
	c.send(get(""))
	_, _ = p.Conn.Write(p.held[:20])
	until(t, "parking again", func() bool { return len(s.conns.all()) == 1 && !s.conns.all()[0].pending() && parked() })
	_, _ = p.Conn.Write(p.held[20:])
	c.want(200, "")
}

// pieces keeps what is written, from when it is told to.
type pieces struct {
	net.Conn
	hold bool
	held []byte
}

func (p *pieces) Write(b []byte) (int, error) {
	if !p.hold {
		return p.Conn.Write(b)
	}
	p.held = append(p.held, b...)
	return len(b), nil
}
