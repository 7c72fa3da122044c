package main_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// A protocol is what clients speak to the gateway in one run of the tests.
type protocol struct {
	name    string // http1, h2c or h2: the condition in scripts
	version string // as Via and the access log have it
	scheme  string

	cert, key []byte // PEM, with TLS
	next      []byte // another certificate by the key, as good as the first
	tls       *tls.Config
}

var plainHTTP1 = &protocol{name: "http1", version: "1.1", scheme: "http"}

// protocols are all that are spoken, with a new certificate.
func protocols(t *testing.T) []*protocol {
	t.Helper()
	const host = "gateway.test"
	pair, cert, err := selfSigned(host)
	check(t, err)
	_, next, err := selfSignedBy(pair.PrivateKey.(*ecdsa.PrivateKey), host)
	check(t, err)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	check(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(append(cert, next...))
	return []*protocol{plainHTTP1, {name: "h2c", version: "2", scheme: "http"}, {
		name: "h2", version: "2", scheme: "https",
		cert: cert, next: next, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		tls: &tls.Config{RootCAs: roots, ServerName: host},
	}}
}

// condition is the protocol's part of testscript's.
func (p *protocol) condition(name string) (bool, error) {
	switch name {
	case "http1", "h2c", "h2":
		return name == p.name, nil
	case "http2":
		return p.version == "2", nil
	}
	return false, fmt.Errorf("there is no protocol %q", name)
}

// plainListener is the listener of a config, as scripts and tests write it.
const plainListener = `listeners: [{address: "127.0.0.1:0"}]`

// listener makes the listener of a config one where p is spoken and nothing
// else; its certificate is in dir.
func (p *protocol) listener(config, dir string) string {
	more := ", protocols: [" + p.name + "]"
	if p.tls != nil {
		more += fmt.Sprintf(", tls: {certificates: [{cert_file: %s, key_file: %s}]}",
			filepath.Join(dir, "gateway.pem"), filepath.Join(dir, "gateway-key.pem"))
	}
	return strings.Replace(config, plainListener, strings.Replace(plainListener, "}]", more+"}]", 1), 1)
}

// writeCertificate writes what a listener needs to dir.
func (p *protocol) writeCertificate(dir string) error {
	if p.tls == nil {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, "gateway-key.pem"), p.key, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "gateway.pem"), p.cert, 0o644)
}

// prepare has the configs of a script speak p, and says so in its environment.
func (p *protocol) prepare(env *testscript.Env) error {
	env.Setenv("SCHEME", p.scheme)
	if err := p.writeCertificate(env.WorkDir); err != nil {
		return err
	}
	configs, err := filepath.Glob(filepath.Join(env.WorkDir, "*.yaml"))
	if err != nil {
		return err
	}
	for _, path := range configs {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if text = []byte(p.listener(string(text), "")); bytes.Contains(text, []byte(plainListener)) {
			return fmt.Errorf("%s has more than one listener", path)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

var spelled = regexp.MustCompile(`\$\{(VERSION|SCHEME)\}`)

// spell puts in what differs between protocols: ${VERSION} and ${SCHEME}.
func (p *protocol) spell(text string) string {
	return spelled.ReplaceAllStringFunc(text, func(name string) string {
		return map[string]string{"${VERSION}": p.version, "${SCHEME}": p.scheme}[name]
	})
}

// transport speaks p, and nothing else.
func (p *protocol) transport() *http.Transport {
	t := &http.Transport{DisableCompression: true, TLSClientConfig: p.tls.Clone(), Protocols: new(http.Protocols), ExpectContinueTimeout: patience}
	t.Protocols.SetHTTP1(p.name == "http1")
	t.Protocols.SetHTTP2(p.name == "h2")
	t.Protocols.SetUnencryptedHTTP2(p.name == "h2c")
	return t
}

// examine finds what a response may not have in the protocol.
func (p *protocol) examine(r *http.Response) error {
	if r.ProtoMajor != int(p.version[0]-'0') {
		return fmt.Errorf("the answer came over %s", r.Proto)
	}
	if r.ProtoMajor != 2 {
		return nil
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
		if values, ok := r.Header[name]; ok {
			return fmt.Errorf("over HTTP/2 an answer has %s: %q (RFC 9113, section 8.2.2)", name, values)
		}
	}
	return nil
}
