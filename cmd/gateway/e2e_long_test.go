//go:build long

package main_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// exacting says that times and shares count that a busy machine spoils.
const exacting = true

// bigBody is the length of a large body, in bytes.
const bigBody = 2 << 30

// growthReloads is how many reloads have to leave nothing behind.
const growthReloads = 500

// A client that does not read its response is reset when it has taken nothing
// for server.write_timeout, and the backend is rid of it; one that reads slowly
// is not.
func TestE2EWriteStall(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	c, _ := startChild(t, slowConfig(o, "write_timeout: 5s"), "")
	get := func() net.Conn {
		conn := connect(t, c.addresses[0])
		check(t, conn.(*net.TCPConn).SetReadBuffer(64<<10))
		check(t, conn.SetDeadline(time.Now().Add(5*time.Minute)))
		_, err := fmt.Fprintf(conn, "GET /bytes/%d HTTP/1.1\r\nHost: a\r\n\r\n", bigBody)
		check(t, err)
		return conn
	}
	stalled, slow := get(), get()
	check(t, waitFor(func() error { return hasMetric(c, "http_requests_in_flight 2") }))
	started := time.Now()
	for hasMetric(c, "http_requests_in_flight 1") != nil {
		if time.Since(started) > 2*time.Minute {
			t.Fatal("the stalled client is still served")
		}
		_, err := io.CopyN(io.Discard, slow, 256<<10)
		check(t, err)
		time.Sleep(500 * time.Millisecond) // lint:sleep a client that reads slowly
	}
	t.Logf("ended after %v", time.Since(started).Round(time.Second))
	if n, err := io.Copy(io.Discard, stalled); err == nil {
		t.Errorf("the stalled client read %d bytes to an end in order", n)
	}
	_, err := io.CopyN(io.Discard, slow, 64<<20)
	check(t, err)
	slow.Close()
	check(t, waitFor(func() error { return hasMetric(c, "http_requests_in_flight 0") }))
	check(t, c.stop())
}
