package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func (cfg Config) withDefaults() Config {
	if cfg.Connect <= 0 {
		cfg.Connect = time.Second
	}
	if cfg.PoolIdle <= 0 {
		cfg.PoolIdle = 55 * time.Second
	}
	if cfg.IdleConnections <= 0 {
		cfg.IdleConnections = 256
	}
	return cfg
}

// A target is where a pool's connections go.
type target struct {
	network string // tcp or unix
	address string
	tls     *tls.Config // nil for plain
	host    string      // that of the URL, for requests that name none
}

// newTarget returns a *ConfigError where cfg cannot work.
func newTarget(cfg Config) (*target, error) {
	t, err := parseTarget(cfg)
	if err != nil {
		return nil, &ConfigError{"url", err}
	}
	if err := cfg.TLS.paired(); err != nil {
		return nil, err
	}
	secure := strings.HasPrefix(cfg.URL, "https:")
	switch cfg.Protocol {
	case "", "http1":
	case "h2":
		if !secure {
			return nil, &ConfigError{"protocol", fmt.Errorf("h2 is spoken over TLS, and %q is not an https:// URL; h2c is for it", cfg.URL)}
		}
	case "h2c":
		if secure {
			return nil, &ConfigError{"protocol", fmt.Errorf("h2c is spoken without TLS, and %q is an https:// URL; h2 is for it", cfg.URL)}
		}
	default:
		return nil, &ConfigError{"protocol", fmt.Errorf("%q is none of http1, h2, h2c", cfg.Protocol)}
	}
	if secure {
		if t.tls, err = cfg.TLS.config(t.host); err != nil {
			return nil, err
		}
		if cfg.multiplexed() {
			t.tls.NextProtos = []string{protoH2}
		}
	}
	return t, nil
}

// multiplexed reports whether calls share connections.
func (cfg Config) multiplexed() bool { return cfg.Protocol == "h2" || cfg.Protocol == "h2c" }

const protoH2 = "h2" // in ALPN

func parseTarget(cfg Config) (*target, error) {
	if path, ok := strings.CutPrefix(cfg.URL, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("upstream %q: want unix:/path/to/socket", cfg.URL)
		}
		return &target{network: "unix", address: path, host: "localhost"}, nil
	}
	if !strings.Contains(cfg.URL, "://") && !strings.ContainsAny(cfg.URL, "/ ") {
		return nil, fmt.Errorf("upstream %q: no scheme; write http://%s", cfg.URL, cfg.URL)
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	host, port := u.Hostname(), u.Port()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("upstream %q: scheme is not http, https or unix", cfg.URL)
	case host == "":
		return nil, fmt.Errorf("upstream %q: no host", cfg.URL)
	case u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("upstream %q: want no more than scheme, host and port", cfg.URL)
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("upstream %q: port is not in 1 to 65535", cfg.URL)
	}
	return &target{network: "tcp", address: net.JoinHostPort(host, port), host: host}, nil
}

// Config is how a target of that host is verified, for whoever else connects to
// it. The error may be a *ConfigError.
func (s TLS) Config(host string) (*tls.Config, error) { return s.config(host) }

func (s TLS) config(host string) (*tls.Config, error) {
	c := &tls.Config{
		ServerName:         host,
		InsecureSkipVerify: s.Insecure,
		NextProtos:         []string{"http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	if s.ServerName != "" {
		c.ServerName = s.ServerName
	}
	if err := s.roots(c); err != nil {
		return nil, &ConfigError{"tls.ca_file", err}
	}
	if s.CertFile == "" {
		return c, nil
	}
	pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	var missing *os.PathError
	if errors.As(err, &missing) && missing.Path == s.KeyFile {
		return nil, &ConfigError{"tls.key_file", fmt.Errorf("client key: %w", err)}
	}
	if err != nil {
		return nil, &ConfigError{"tls.cert_file", fmt.Errorf("client certificate %s with key %s: %w", s.CertFile, s.KeyFile, err)}
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

// paired tells half a client certificate, also where no target asks for it.
func (s TLS) paired() error {
	switch {
	case s.CertFile == "" && s.KeyFile != "":
		return &ConfigError{"tls.cert_file", errors.New("a client key without its certificate")}
	case s.CertFile != "" && s.KeyFile == "":
		return &ConfigError{"tls.key_file", errors.New("a client certificate without its key")}
	}
	return nil
}

func (s TLS) roots(c *tls.Config) error {
	if s.CAFile == "" {
		return nil
	}
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		return fmt.Errorf("CA file: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("CA file %s holds no certificate", s.CAFile)
	}
	return nil
}

// open connects, without TLS. The error is an *Error.
func (t *target) open(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	nc, err := d.DialContext(ctx, t.network, t.address)
	if err != nil {
		return nil, dialError(err, t.network)
	}
	return nc, nil
}

// secure does the TLS handshake over nc, which it closes where that fails. The
// error is an *Error.
func (t *target) secure(ctx context.Context, nc net.Conn) (*tls.Conn, error) {
	c := tls.Client(nc, t.tls)
	err := c.HandshakeContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	if err == nil && t.tls.NextProtos[0] == protoH2 && c.ConnectionState().NegotiatedProtocol != protoH2 {
		err = errNoH2
	}
	if err != nil {
		nc.Close()
		return nil, handshakeError(err)
	}
	return c, nil
}

// dial connects to the target. The error is an *Error.
func (t *target) dial(ctx context.Context) (*conn, error) {
	nc, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		nc.Close()
		return nil, dialError(err, t.network)
	}
	c := &conn{nc: nc, raw: raw}
	c.look, c.step = c.lookStep, c.tripStep
	if t.tls == nil {
		c.tcp, _ = nc.(*net.TCPConn)
		return c, nil
	}
	c.socket = &socket{Conn: nc}
	if c.tls, err = t.secure(ctx, c.socket); err != nil {
		return nil, err
	}
	c.nc = c.tls
	return c, nil
}
