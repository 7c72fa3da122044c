package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	maxBody = 64 << 10 // of an answer that is looked at
	maxHead = 16 << 10
	// keepMax is up to which interval a connection is kept from one check to the
	// next; most servers would close it sooner.
	keepMax = time.Minute
)

// An httpProbe sends a request over a connection that it keeps. It has a
// Transport of its own, so that what belongs to one target can be closed.
type httpProbe struct {
	plan      *plan
	transport *http.Transport
	request   *http.Request
}

func newHTTPProbe(p *plan, at *place) (probe, error) {
	u, err := at.url(p.Path)
	if err != nil {
		return nil, &FieldError{"path", err}
	}
	if at.tls != nil {
		at.tls.NextProtos = []string{"http/1.1"}
	}
	t := at.transport()
	t.DisableKeepAlives = p.Interval > keepMax
	return &httpProbe{plan: p, transport: t, request: at.request(http.MethodGet, u, p.Host)}, nil
}

func (p *httpProbe) check(ctx context.Context) error {
	response, err := p.transport.RoundTrip(p.request.WithContext(ctx))
	if err != nil {
		return short(err)
	}
	defer response.Body.Close()
	if !p.plan.expect.has(response.StatusCode) {
		io.CopyN(io.Discard, response.Body, maxBody) // so that the connection can be kept
		return fmt.Errorf("status %d", response.StatusCode)
	}
	if !p.plan.body.wants() {
		if _, err := io.CopyN(io.Discard, response.Body, maxBody); err != nil && err != io.EOF {
			return fmt.Errorf("body: %w", short(err))
		}
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return fmt.Errorf("body: %w", short(err))
	}
	if !p.plan.body.match(body) {
		return errors.New("the body does not match")
	}
	return nil
}

func (p *httpProbe) close() { p.transport.CloseIdleConnections() }

// url is what a Transport is asked for; where it leads to, connect knows.
func (at *place) url(path string) (*url.URL, error) {
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return nil, err
	}
	u.Scheme, u.Host = "http", at.authority
	if at.tls != nil {
		u.Scheme = "https"
	}
	return u, nil
}

func (at *place) request(method string, u *url.URL, host string) *http.Request {
	if host == "" {
		host = at.authority
	}
	return &http.Request{
		Method: method, URL: u, Host: host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": {"sluice-health"}},
	}
}

func (at *place) transport() *http.Transport {
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) { return at.connect(ctx) }
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext: connect, DialTLSContext: connect, TLSClientConfig: new(tls.Config), Protocols: &protocols,
		DisableCompression: true, MaxIdleConnsPerHost: 1, MaxResponseHeaderBytes: maxHead,
		ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10,
	}
}
