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
}

func newTarget(cfg Config) (*target, error) {
	if path, ok := strings.CutPrefix(cfg.URL, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("upstream %q: want unix:/path/to/socket", cfg.URL)
		}
		return &target{network: "unix", address: path}, nil
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
	t := &target{network: "tcp", address: net.JoinHostPort(host, port)}
	if u.Scheme == "https" {
		if t.tls, err = cfg.TLS.config(host); err != nil {
			return nil, fmt.Errorf("upstream %q: %w", cfg.URL, err)
		}
	}
	return t, nil
}

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
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %s holds no certificate", s.CAFile)
		}
	}
	return c, nil
}

// dial connects to the target. The error is an *Error.
func (t *target) dial(ctx context.Context) (*conn, error) {
	d := net.Dialer{KeepAlive: -1}
	nc, err := d.DialContext(ctx, t.network, t.address)
	if err != nil {
		return nil, dialError(err, t.network)
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
	c.tls = tls.Client(c.socket, t.tls)
	c.nc = c.tls
	if err := c.tls.HandshakeContext(ctx); err != nil {
		nc.Close()
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return nil, handshakeError(err)
	}
	return c, nil
}
