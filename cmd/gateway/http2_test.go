package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A keyPair is a certificate that is its own authority, in files.
type keyPair struct {
	cert, key string
	pair      tls.Certificate
	roots     *x509.CertPool
}

func newKeyPair(t *testing.T, name string) keyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	dir := t.TempDir()
	k := keyPair{cert: filepath.Join(dir, name+".pem"), key: filepath.Join(dir, name+".key"), roots: x509.NewCertPool()}
	must(t, os.WriteFile(k.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(k.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	k.pair, err = tls.LoadX509KeyPair(k.cert, k.key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	k.roots.AddCert(leaf)
	return k
}

// serveHTTP2 runs a target that speaks HTTP/2 alone, over TLS where cfg is not
// nil, and returns its address.
func serveHTTP2(t *testing.T, cfg *tls.Config, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &http.Server{Handler: h, TLSConfig: cfg, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP2(cfg != nil)
	s.Protocols.SetUnencryptedHTTP2(cfg == nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if cfg == nil {
			_ = s.Serve(l)
		} else {
			_ = s.ServeTLS(l, "", "")
		}
	}()
	t.Cleanup(func() { s.Close(); <-ended })
	return l.Addr().String()
}

// TestTargetsOfHTTP2 has clients of HTTP/1.1 reach targets of HTTP/2, plain and
// with TLS that is verified both ways.
func TestTargetsOfHTTP2(t *testing.T) {
	target, client := newKeyPair(t, "target.test"), newKeyPair(t, "gateway.test")
	left := make(chan struct{}, 1)
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/wait":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			left <- struct{}{}
		case "/trailers":
			w.Header().Set("Trailer", "Grpc-Status")
			io.WriteString(w, "te="+r.Header.Get("Te"))
			w.(http.Flusher).Flush()
			w.Header().Set("Grpc-Status", "0")
		default:
			body, err := io.ReadAll(r.Body)
			who := "nobody"
			if r.TLS != nil {
				who = r.TLS.PeerCertificates[0].Subject.CommonName
			}
			fmt.Fprintf(w, "%s %s %s %s %q %v %d", r.Proto, r.Method, r.Host, who, body, err, r.ContentLength)
		}
	}
	for protocol, x := range map[string]struct{ backend, who string }{
		"h2c": {`{targets: ["http://` + serveHTTP2(t, nil, handler) + `"], transport: {protocol: h2c}}`, "nobody"},
		"h2": {`{targets: ["https://` + serveHTTP2(t, &tls.Config{
			Certificates: []tls.Certificate{target.pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: client.roots,
		}, handler) + `"], transport: {protocol: h2, tls: {server_name: target.test, ca_file: ` + target.cert +
			`, cert_file: ` + client.cert + `, key_file: ` + client.key + `}}}`, "gateway.test"},
	} {
		t.Run(protocol, func(t *testing.T) {
			r := run(t, `listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
shutdown: {grace: 0s}
backends: {up: `+x.backend+`}
routes: [{match: /*, backend: up}]
`)
			address := r.address("127.0.0.1:0")
			for _, c := range []struct{ request, want string }{
				{"GET / HTTP/1.1\r\nHost: shop\r\n\r\n", "HTTP/2.0 GET shop " + x.who + ` "" <nil> 0`},
				{"POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nbody", "HTTP/2.0 POST shop " + x.who + ` "body" <nil> 4`},
				{"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "HTTP/2.0 POST shop " + x.who + ` "body" <nil> -1`},
				{"GET /trailers HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nConnection: TE\r\n\r\n", "te=trailers"},
				{"GET /trailers HTTP/1.1\r\nHost: shop\r\nTE: gzip\r\nConnection: TE\r\n\r\n", "te="},
			} {
				res, body := speak(t, address, c.request)
				if res.StatusCode != 200 || body != c.want || res.Header.Get("Via") != "2 sluice" {
					t.Errorf("%q: %d %q, Via %q; want %q", c.request, res.StatusCode, body, res.Header["Via"], c.want)
				}
				if strings.Contains(c.request, "TE: trailers") && res.Trailer.Get("Grpc-Status") != "0" {
					t.Errorf("trailers are %v", res.Trailer)
				}
			}
			res, body := speak(t, address, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			if res.StatusCode != 502 || res.Header.Get("Proxy-Status") != "sluice; error=http_upgrade_failed" || !strings.Contains(body, "does not take upgrades") {
				t.Errorf("an upgrade is answered with %d %v %s", res.StatusCode, res.Header["Proxy-Status"], body)
			}
			leave(t, address)
			select {
			case <-left:
			case <-time.After(waitLimit):
				t.Error("the target does not learn that the client has left")
			}
		})
	}
}

// speak sends one request on a connection of its own.
func speak(t *testing.T, address, request string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(waitLimit)))
	_, err = io.WriteString(c, request)
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	body, err := io.ReadAll(res.Body)
	must(t, err)
	return res, string(body)
}

// leave asks for what never ends, and goes once it has begun.
func leave(t *testing.T, address string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	must(t, err)
	must(t, c.SetDeadline(time.Now().Add(waitLimit)))
	_, err = io.WriteString(c, "GET /wait HTTP/1.1\r\nHost: shop\r\n\r\n")
	must(t, err)
	_, err = c.Read(make([]byte, 1))
	must(t, err)
	must(t, c.Close())
}

// TestTransportFaults has a check name the place of what cannot work.
func TestTransportFaults(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for _, x := range []struct{ backend, place, says string }{
		{`{targets: ["https://a", "http://b"], transport: {protocol: h2}}`, "backends.up.targets[1].url", "not an https:// URL"},
		{`{targets: ["unix:/a"], transport: {protocol: h2}}`, "backends.up.targets[0].url", "not an https:// URL"},
		{`{targets: ["https://a"], transport: {protocol: h2c}}`, "backends.up.targets[0].url", "is an https:// URL"},
		{`{targets: ["https://a"], transport: {protocol: h3}}`, "backends.up.transport.protocol", "h2c"},
		{`{targets: ["https://a"], transport: {multiplex: true}}`, "backends.up.transport.multiplex", "unknown"},
		{`{targets: ["https://a", "https://b"], transport: {tls: {ca_file: ` + missing + `}}}`, "backends.up.transport.tls.ca_file", missing},
		{`{targets: ["https://a"], transport: {tls: {cert_file: ` + missing + `}}}`, "backends.up.transport.tls.key_file", "without its key"},
		{`{targets: ["http://a"], transport: {tls: {key_file: ` + missing + `}}}`, "backends.up.transport.tls.cert_file", "without its certificate"},
		{`{targets: ["https://a"], transport: {tls: {cert_file: ` + missing + `, key_file: ` + missing + `}}}`, "backends.up.transport.tls", missing},
	} {
		r := launch(t, `backends: {up: `+x.backend+`}
routes: [{match: /*, backend: up}]
`, nil, "check")
		r.exit(1)
		said := r.log.String() + r.out.String()
		if strings.Count(said, x.place) != 1 || !strings.Contains(said, x.says) {
			t.Errorf("%s: it says %q, not %q once with %q", x.backend, said, x.place, x.says)
		}
	}
}
