package main_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A kept client has one connection, over which it asks again and again.
type keptClient struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func keep(t *testing.T, conn net.Conn) *keptClient {
	return &keptClient{t, conn, bufio.NewReader(conn)}
}

// want asks for path and compares the status of the answer.
func (k *keptClient) want(path string, status int) {
	k.t.Helper()
	if got, body, err := ask(k.conn, k.r, path); got != status || err != nil {
		k.t.Fatalf("GET %s: %d %q, %v; want %d", path, got, body, err, status)
	}
}

// wantTurnedAway checks that a connection is answered with a 503, without a
// word from its client, and closed.
func wantTurnedAway(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	got, err := io.ReadAll(conn)
	check(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(got))), nil)
	check(t, err)
	if resp.StatusCode != 503 || !resp.Close || resp.Header.Get("Retry-After") == "" ||
		resp.Header.Get("Proxy-Status") != "sluice; error=connection_limit_reached" {
		t.Errorf("the answer to a connection too many: %q", got)
	}
}

// from connects from a loopback address.
func from(t *testing.T, c *child, ip string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: patience}
	conn, err := d.Dial("tcp", c.addresses[0])
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	check(t, conn.SetDeadline(time.Now().Add(5*patience)))
	return conn
}

// comes wants a new connection to be served before long.
func comes(t *testing.T, dial func() net.Conn) {
	t.Helper()
	check(t, waitFor(func() error {
		conn := dial()
		status, _, err := ask(conn, bufio.NewReader(conn), "/who")
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d", status)
		}
		return errors.Join(err, conn.Close())
	}))
}

// Beyond server.max_connections one is turned away; who is there already
// notices nothing, and when one has left another can come.
func TestE2EMaxConnections(t *testing.T) {
	t.Parallel()
	c, _ := startChild(t, slowConfig(newOrigin(t), "max_connections: 4"), "")
	var there []*keptClient
	for range 4 {
		k := keep(t, connect(t, c.addresses[0]))
		k.want("/who", 200)
		there = append(there, k)
	}
	for range 3 {
		wantTurnedAway(t, connect(t, c.addresses[0]))
	}
	check(t, hasMetric(c, `sluice_connections_refused_total{listener="127.0.0.1:0",reason="max_connections"} 3`))
	for _, k := range there {
		k.want("/who", 200)
	}
	there[0].conn.Close()
	comes(t, func() net.Conn { return connect(t, c.addresses[0]) })
	for _, k := range there[1:] {
		k.want("/who", 200)
	}
	check(t, hasMetric(c, `http_requests_total{method="other",route="",status="503"}`))
	check(t, c.stop())
}

// server.max_connections_per_ip bounds each address, and no other.
func TestE2EMaxConnectionsPerIP(t *testing.T) {
	t.Parallel()
	c, _ := startChild(t, slowConfig(newOrigin(t), "max_connections_per_ip: 2"), "")
	one, two := keep(t, from(t, c, "127.0.0.2")), keep(t, from(t, c, "127.0.0.2"))
	one.want("/who", 200)
	two.want("/who", 200)
	wantTurnedAway(t, from(t, c, "127.0.0.2"))
	check(t, hasMetric(c, `sluice_connections_refused_total{listener="127.0.0.1:0",reason="max_connections_per_ip"} 1`))
	other := keep(t, from(t, c, "127.0.0.3"))
	other.want("/who", 200)
	one.want("/who", 200)
	two.conn.Close()
	comes(t, func() net.Conn { return from(t, c, "127.0.0.2") })
	one.want("/who", 200)
	check(t, c.stop())
}

// Beyond transport.max_connections a request is a 503, whose client may ask
// again over the same connection.
func TestE2ETransportMaxConnections(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	c, _ := startChild(t, withBackend(toOrigin(o, "a"), "transport: {max_connections: 2}"), "")
	done := make(chan error)
	for range 2 {
		conn := connect(t, c.addresses[0])
		go func() {
			status, _, err := ask(conn, bufio.NewReader(conn), "/wait/go")
			if err == nil && status != 200 {
				err = fmt.Errorf("a request within the bound: %d", status)
			}
			done <- err
		}()
	}
	check(t, waitFor(func() error { return hasMetric(c, "http_requests_in_flight 2") }))
	over := keep(t, connect(t, c.addresses[0]))
	for range 3 {
		over.want("/who", 503)
	}
	resp, _, err := plainCall(c.addresses[0], "/who").do()
	check(t, err)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Proxy-Status") != "sluice; error=connection_limit_reached" {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
	check(t, hasMetric(c, `sluice_shed_total{backend="a",reason="max_connections"} 4`))
	o.events.happen("go")
	check(t, errors.Join(<-done, <-done))
	check(t, waitFor(func() error { return hasMetric(c, "http_requests_in_flight 0") }))
	over.want("/who", 200)
	check(t, c.stop())
}
