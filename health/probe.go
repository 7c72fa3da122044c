package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// waiting is a context value: the context of who connects, for look-ups, whose
// own context ends later.
type waiting struct{}

// open connects, without TLS.
func (at *place) open(ctx context.Context) (net.Conn, error) {
	return at.dial(context.WithValue(ctx, waiting{}, ctx), at.network, at.address)
}

// dialer returns one that resolves names over connections of dns. These end with
// who waits for them: net's resolver would go on for ten seconds or more, and
// goroutines would add up where a resolver hangs.
func dialer(dns dialFunc) *net.Dialer {
	return &net.Dialer{KeepAlive: -1, Resolver: &net.Resolver{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		limit, ok := ctx.Value(waiting{}).(context.Context)
		if !ok { // net does not show values of a context that has ended
			return nil, context.Canceled
		}
		c, err := dns(ctx, network, address)
		if err == nil {
			context.AfterFunc(limit, func() { c.Close() })
		}
		return c, err
	}}}
}

// A probe asks one target, one question at a time.
type probe interface {
	// check returns why the target is not well. It returns when ctx ends.
	check(ctx context.Context) error
	close() // closes connections that are not in use
}

// A place is where a target is found.
type place struct {
	network, address string
	authority        string      // for Host
	tls              *tls.Config // nil: none
	dial             dialFunc
	timeout          time.Duration
}

func newProbe(p *plan, tlsConfig *tls.Config, dial dialFunc, rawURL string) (probe, error) {
	at, err := newPlace(p, tlsConfig, rawURL)
	if err != nil {
		return nil, err
	}
	at.dial, at.timeout = dial, p.Timeout
	switch p.Kind {
	case "tcp":
		return tcpProbe{at}, nil
	case "grpc":
		return newGRPCProbe(p, at)
	}
	return newHTTPProbe(p, at)
}

func newPlace(p *plan, tlsConfig *tls.Config, rawURL string) (*place, error) {
	if path, ok := strings.CutPrefix(rawURL, "unix:"); ok {
		switch {
		case !strings.HasPrefix(path, "/"):
			return nil, fmt.Errorf("health: %q is not unix:/path/to/socket", rawURL)
		case p.Port != 0:
			return nil, &FieldError{"port", fmt.Errorf("is not for %s, a socket without ports", rawURL)}
		}
		return &place{network: "unix", address: path, authority: "localhost"}, nil
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	host, port := u.Hostname(), u.Port()
	if u.Scheme != "http" && u.Scheme != "https" || host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("health: %q is not http://host:port, https://host:port or unix:/path", rawURL)
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if p.Port != 0 {
		port = strconv.Itoa(p.Port)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("health: the port of %q is not from 1 to 65535", rawURL)
	}
	at := &place{network: "tcp", address: net.JoinHostPort(host, port), authority: u.Host}
	if p.Port != 0 {
		at.authority = at.address
	}
	if u.Scheme == "https" {
		at.tls = tlsConfig.Clone()
		if at.tls.ServerName == "" {
			at.tls.ServerName = host
		}
	}
	return at, nil
}

// untilStop is a context value: the checker's own context.
type untilStop struct{}

// connect is what a http.Transport dials with. The Transport lets a connection
// attempt outlive the request that caused it, so ctx never ends; the time-out
// and the end of the checker do it here.
func (at *place) connect(ctx context.Context) (net.Conn, error) {
	if stop, ok := ctx.Value(untilStop{}).(context.Context); ok {
		ctx = stop
	}
	ctx, cancel := context.WithTimeout(ctx, at.timeout)
	defer cancel()
	nc, err := at.open(ctx)
	if err != nil || at.tls == nil {
		return nc, err
	}
	c := tls.Client(nc, at.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// A tcpProbe is content with a connection.
type tcpProbe struct{ at *place }

func (p tcpProbe) check(ctx context.Context) error {
	nc, err := p.at.open(ctx)
	if err != nil {
		return short(err)
	}
	return nc.Close()
}

func (p tcpProbe) close() {}

// short leaves out the addresses, which who reads of the target knows.
func short(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}
