package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certify runs gateway cert -dev.
func certify(t *testing.T, dir string, names ...string) {
	t.Helper()
	if code, _, errs := command(t, append([]string{"cert", "-dev", dir}, names...)...); code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs)
	}
}

// authorities are those in a PEM file.
func authorities(t *testing.T, path string) *x509.CertPool {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data)
	return pool
}

// A secure is a TLS connection with one request after another.
type secure struct {
	t *testing.T
	*tls.Conn
	client *http.Client
}

func dialTLS(t *testing.T, address string, cfg *tls.Config) *secure {
	t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: waitLimit}, "tcp", address, cfg)
	must(t, err)
	used := false
	transport := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		if used {
			return nil, io.ErrUnexpectedEOF // one connection is all there is
		}
		used = true
		return c, nil
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &secure{t, c, &http.Client{Transport: transport, Timeout: waitLimit}}
}

func (s *secure) want(body string) {
	s.t.Helper()
	resp, err := s.client.Get("https://localhost/")
	must(s.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || string(data) != body {
		s.t.Errorf("got %q, %v, want %q", data, err, body)
	}
}

func listenTLS(dir, more string) string {
	return fmt.Sprintf(`listeners: [{address: "127.0.0.1:0", tls: {certificates: [{cert_file: %[1]s/server.pem, key_file: %[1]s/server-key.pem}]%[2]s}}]`, dir, more)
}

func TestCert(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dev")
	code, out, errs := command(t, "cert", "-dev", dir, "a.example", "192.0.2.1")
	if code != exitOK || !strings.Contains(out, "wrote "+dir+"/ca.pem") || !strings.Contains(out, "curl --cacert "+dir+"/ca.pem") {
		t.Fatalf("exit code %d, %s%s", code, out, errs)
	}
	for name, want := range map[string]os.FileMode{"ca-key.pem": 0o600, "server-key.pem": 0o600, "ca.pem": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if info.Mode().Perm()&^want != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	pair, err := loadPair(dir+"/server.pem", dir+"/server-key.pem")
	must(t, err)
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "a.example", "192.0.2.1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: authorities(t, dir+"/ca.pem"), DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ca, err := os.ReadFile(dir + "/ca.pem")
	must(t, err)
	code, out, _ = command(t, "cert", "-dev", dir)
	if again, _ := os.ReadFile(dir + "/ca.pem"); code != exitOK || string(again) != string(ca) || !strings.Contains(out, "kept "+dir+"/ca.pem") {
		t.Errorf("exit code %d, %s", code, out)
	}
	must(t, os.Remove(dir+"/ca-key.pem"))
	expect(t, []string{"cert", "-dev", dir}, exitFailure, "", "gateway: cannot read "+dir+"/ca-key.pem: no such file or directory")
}

// Each case is one fault of a listener's TLS.
func TestCheckTLS(t *testing.T) {
	t.Chdir(t.TempDir())
	certify(t, "a")
	certify(t, "b")
	put(t, ".", "junk", "junk")
	f := func(text, want string) {
		t.Helper()
		put(t, ".", "gw.yaml", "backends: {r: {kind: respond}}\nroutes: [{match: /, backend: r}]\nlisteners: [{address: \":80\", "+text+"}]\n")
		if want != "" {
			expect(t, []string{"check", "-config", "gw.yaml"}, exitFailure, "", "gw.yaml:3:"+want)
			return
		}
		expect(t, []string{"check", "-config", "gw.yaml"}, exitOK, "gw.yaml: ok (1 listener, 1 backend, 1 route)", "")
	}
	pair := func(cert, key string) string {
		return fmt.Sprintf("certificates: [{cert_file: %s, key_file: %s}]", cert, key)
	}
	good := pair("a/server.pem", "a/server-key.pem")
	f(`tls: {`+good+`}`, ``)
	f(`tls: {`+good+`, min_version: 1.3}`, ``)
	f(`tls: {`+good+`, client_auth: {mode: request, ca_file: a/ca.pem}}, protocols: [h2]`, ``)
	f(`protocols: [h2c]`, ``)
	f(`redirect_https: true`, ``)
	f(`tls: {`+good+`}, hsts: 8760h`, ``)
	f(`hsts: 1h`, `36: listeners[0].hsts: hsts is for listeners with tls; clients take no notice without`)
	f(`tls: {`+good+`}, redirect_https: true`, `124: listeners[0].redirect_https: who is here has come with https already`)
	f(`tls: {}`, `35: listeners[0].tls.certificates: missing key "certificates" (chosen by the name that the client asks for; the first is for all other names; their files are watched)`)
	f(`tls: {certificates: []}`, `50: listeners[0].tls.certificates: must not be empty (chosen by the name that the client asks for; the first is for all other names; their files are watched)`)
	f(`tls: {`+pair("none", "a/server-key.pem")+`}`, `63: listeners[0].tls.certificates[0].cert_file: cannot read none: no such file or directory`)
	f(`tls: {`+pair("a/server.pem", "none")+`}`, `87: listeners[0].tls.certificates[0].key_file: cannot read none: no such file or directory`)
	f(`tls: {`+pair("none", "nokey")+`}`, "63: listeners[0].tls.certificates[0].cert_file: cannot read none: no such file or directory\n"+
		"gw.yaml:3:79: listeners[0].tls.certificates[0].key_file: cannot read nokey: no such file or directory")
	f(`tls: {`+pair("a/server.pem", "b/server-key.pem")+`}`, `87: listeners[0].tls.certificates[0].key_file: the key in b/server-key.pem is not that of the certificate in a/server.pem`)
	f(`tls: {`+pair("junk", "a/server-key.pem")+`}`, `63: listeners[0].tls.certificates[0].cert_file: junk holds no usable certificate: failed to find any PEM data in certificate input`)
	f(`tls: {`+pair("a/server.pem", "junk")+`}`, `87: listeners[0].tls.certificates[0].key_file: junk holds no usable key: failed to find any PEM data in key input`)
	f(`tls: {`+good+`, min_version: "1.1"}`, `120: listeners[0].tls.min_version: expected 1.2 or 1.3, got the string "1.1"; did you mean "1.2"?`)
	f(`tls: {`+good+`, client_auth: {mode: require}}`, `120: listeners[0].tls.client_auth: ca_file is missing: certificates of clients have to be verified by somebody`)
	f(`tls: {`+good+`, client_auth: {ca_file: a/ca.pem}}`, `130: listeners[0].tls.client_auth.ca_file: nobody is asked for a certificate; client_auth.mode would be request or require`)
	f(`tls: {`+good+`, client_auth: {mode: require, ca_file: junk}}`, `145: listeners[0].tls.client_auth.ca_file: junk holds no certificate in PEM form`)
	f(`tls: {`+good+`, acme: {}}`, `107: listeners[0].tls.acme: unknown key "acme"; the keys here are certificates, client_auth and min_version`)
	f(`tls: {`+good+`}, protocols: [h2c]`, `120: listeners[0].protocols[0]: h2c is HTTP/2 without TLS; with it, h2`)
	f(`protocols: [http1, h2]`, `49: listeners[0].protocols[1]: h2 needs tls; without it HTTP/2 is h2c`)
	f(`protocols: [h3]`, `42: listeners[0].protocols[0]: expected http1, h2 or h2c, got the string "h3"; did you mean "h2"?`)
}

// New files serve new connections, whichever way they come; those that are open
// go on, and what cannot be used changes nothing.
func TestCertificateFiles(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	r := run(t, says("hello", `admin: {address: "127.0.0.1:0"}`, listenTLS(dir, "")))
	address, admin := r.address("127.0.0.1:0"), "http://"+r.address("admin")
	cfg := &tls.Config{RootCAs: authorities(t, dir+"/ca.pem"), ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	first := dialTLS(t, address, cfg)
	first.want("hello")

	certify(t, dir, "new.example")
	r.log.await(t, "new certificates", map[string]any{"listener": "127.0.0.1:0"})
	first.want("hello")
	second := dialTLS(t, address, cfg)
	second.want("hello")
	if !second.ConnectionState().DidResume {
		t.Error("the session was not resumed")
	}
	fresh := &tls.Config{RootCAs: cfg.RootCAs, ServerName: "new.example"}
	third := dialTLS(t, address, fresh)
	third.want("hello")

	put(t, dir, "server.pem", "junk")
	r.log.await(t, "the new certificate cannot be used; the old one stays", nil)
	for _, c := range []*secure{first, second, third, dialTLS(t, address, fresh)} {
		c.want("hello")
	}
	wantMetric(t, admin, `sluice_tls_certificate_reloads_total{result="ok"} 1`, `sluice_tls_certificate_reloads_total{result="error"} 1`,
		`sluice_tls_handshakes_total{listener="127.0.0.1:0",version="1.3"} 4`, `sluice_tls_sessions_resumed_total{listener="127.0.0.1:0"} 1`)
	_, text := fetch(t, admin+"/metrics")
	left := time.Duration(0)
	for line := range strings.Lines(text) {
		var seconds float64
		if n, _ := fmt.Sscanf(line, `sluice_tls_certificate_expiry_seconds{listener="127.0.0.1:0",name="localhost"} %g`, &seconds); n == 1 {
			left = time.Duration(seconds) * time.Second
		}
	}
	if left < serverLife-time.Hour || left > serverLife {
		t.Errorf("the certificate expires in %v", left)
	}
}

// A Kubernetes secret swaps a link two steps away.
func TestCertificateLinkSwap(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir+"/..1")
	certify(t, dir+"/..2")
	must(t, os.Symlink("..1", filepath.Join(dir, "..data")))
	for _, name := range []string{"server.pem", "server-key.pem"} {
		must(t, os.Symlink("..data/"+name, filepath.Join(dir, name)))
	}
	r := run(t, says("hello", `admin: {address: ""}`, listenTLS(dir, "")))
	address := r.address("127.0.0.1:0")
	dialTLS(t, address, &tls.Config{RootCAs: authorities(t, dir+"/..1/ca.pem"), ServerName: "localhost"}).want("hello")
	must(t, os.Symlink("..2", filepath.Join(dir, "..new")))
	must(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
	r.log.await(t, "new certificates", nil)
	dialTLS(t, address, &tls.Config{RootCAs: authorities(t, dir+"/..2/ca.pem"), ServerName: "localhost"}).want("hello")
}

// A reload may bring TLS to an address, change it, and take it away.
func TestReloadTLS(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	const off = `admin: {address: ""}`
	r := run(t, says("one", off, `listeners: [{address: "127.0.0.1:0"}]`))
	address := r.address("127.0.0.1:0")
	plain := http.Client{Transport: &http.Transport{}, Timeout: waitLimit}
	defer plain.CloseIdleConnections()
	wantPlain := func(body string) {
		t.Helper()
		resp, err := plain.Get("http://" + address)
		must(t, err)
		defer resp.Body.Close()
		if data, _ := io.ReadAll(resp.Body); string(data) != body {
			t.Errorf("got %q, want %q", data, body)
		}
	}
	wantPlain("one")
	cfg := &tls.Config{RootCAs: authorities(t, dir+"/ca.pem"), ServerName: "localhost"}
	r.write(says("two", off, listenTLS(dir, "")))
	r.log.await(t, "reloaded", map[string]any{"generation": 2})
	first := dialTLS(t, address, cfg)
	first.want("two")
	wantPlain("two") // by the connection of before
	if status, body := fetch(t, "http://"+address); status != 400 || !strings.Contains(body, "TLS is spoken here") {
		t.Errorf("plaintext got %d %q", status, body)
	}

	r.write(says("three", off, listenTLS(dir, ", min_version: 1.3, client_auth: {mode: require, ca_file: "+dir+"/ca.pem}")))
	r.log.await(t, "reloaded", map[string]any{"generation": 3})
	first.want("three")
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: waitLimit}, "tcp", address, cfg)
	must(t, err)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(waitLimit)) // what follows fails
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("a client without a certificate got %v", err)
	}

	r.write(says("four", off, `listeners: [{address: "127.0.0.1:0"}]`))
	r.log.await(t, "reloaded", map[string]any{"generation": 4})
	first.want("four")
	wantBody(t, "http://"+address, 200, "four")
}

// A certificate that has expired is served, for some clients take it, and
// warned of.
func TestExpiredCertificate(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	l := &ListenerTLS{Certificates: []CertificateFiles{{dir + "/server.pem", dir + "/server-key.pem"}}, ClientAuth: ClientAuth{Mode: "none"}}
	for days, want := range map[time.Duration]string{0: "", 398: "expired on", -2: "not valid before"} {
		c, faults := l.credentials(time.Now().Add(days * 24 * time.Hour))
		if got := strings.Join(c.warnings, "\n"); len(faults) > 0 || len(c.tls.Certificates) != 1 || (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%d days on: faults %v, warning %q, want %q", days, faults, got, want)
		}
	}
}
