package main_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A tunnelEnd is how a target's side of a tunnel ended.
type tunnelEnd struct {
	read int64
	err  error
	at   time.Time
}

// tunnelTarget agrees to every upgrade and sends back what it gets where echoes
// is true. It tells the end of each.
func tunnelTarget(t *testing.T, echoes bool) (addr string, ends chan tunnelEnd) {
	ends = make(chan tunnelEnd, 8)
	addr = target(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		if _, err := http.ReadRequest(r); err != nil {
			t.Errorf("the target got no request: %v", err)
			return
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n"); err != nil {
			t.Errorf("the target could not agree: %v", err)
			return
		}
		to := io.Writer(conn)
		if !echoes {
			to = io.Discard
		}
		n, err := io.Copy(to, r)
		ends <- tunnelEnd{n, err, time.Now()}
	})
	return addr, ends
}

// openTunnel upgrades a connection to the gateway.
func openTunnel(t *testing.T, c *child) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn := connect(t, c.addresses[0])
	_, err := io.WriteString(conn, "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n")
	check(t, err)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	check(t, err)
	if resp.StatusCode != 101 {
		t.Fatalf("the upgrade was answered %s", resp.Status)
	}
	return conn, r
}

// say sends a byte and wants it back.
func say(conn net.Conn, r *bufio.Reader) error {
	if _, err := conn.Write([]byte{'.'}); err != nil {
		return err
	}
	_, err := r.ReadByte()
	return err
}

// A tunnel through which bytes pass one way only lives on, and ends for both
// sides, in order, when it has been silent for timeouts.idle.
func TestE2ETunnelIdle(t *testing.T) {
	t.Parallel()
	const idle = 2 * time.Second
	addr, ends := tunnelTarget(t, false)
	c, _ := startChild(t, withBackend(toOrigin(&origin{addr: addr}, "a"), fmt.Sprintf("timeouts: {connect: 10s, idle: %v}", idle)), "")
	conn, r := openTunnel(t, c)
	sent := int64(0)
	for begun := time.Now(); time.Since(begun) < 2*idle+idle/2; sent++ {
		_, err := conn.Write([]byte{'.'})
		check(t, err)
		time.Sleep(idle / 20) // lint:sleep the tunnel has to last longer than its idle time
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("the client got %q, %v; want the end", rest, err)
	}
	if end := <-ends; end.err != nil || end.read != sent {
		t.Errorf("the target got %d of %d bytes, %v; want the end", end.read, sent, end.err)
	}
	check(t, waitFor(func() error { return hasMetric(c, "sluice_tunnels 0") }))
	check(t, c.stop())
}

// A tunnel in use holds a drain up to shutdown.timeout; then both sides see its
// end, in order where nothing is on its way, and the gateway exits.
func TestE2ETunnelDrain(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	addr, ends := tunnelTarget(t, true)
	c, _ := startChild(t, strings.Replace(toOrigin(&origin{addr: addr}, "a"), "grace: 0s", fmt.Sprintf("grace: 0s, timeout: %v", timeout), 1), "")
	conn, r := openTunnel(t, c)
	quiet, quietReader := openTunnel(t, c)
	check(t, say(conn, r))
	started := time.Now()
	exit := make(chan error, 1)
	go func() { exit <- c.stop() }()
	check(t, waitFor(func() error { // nobody else comes in
		late, err := net.DialTimeout("tcp", c.addresses[0], patience)
		if err != nil {
			return nil
		}
		late.Close()
		return fmt.Errorf("the listener is still open")
	}))
	said, err := 0, error(nil)
	for ; err == nil; said++ {
		err = say(conn, r)
		time.Sleep(10 * time.Millisecond) // lint:sleep a tunnel in use, not a load
	}
	ended := time.Since(started)
	t.Logf("in use for %v and %d bytes after SIGTERM", ended.Round(time.Millisecond), said)
	if said < 2 || ended < timeout/2 {
		t.Errorf("the tunnel was in use for %v and %d bytes after SIGTERM", ended, said)
	}
	if rest, err := io.ReadAll(quietReader); err != nil || len(rest) > 0 {
		t.Errorf("the quiet client got %q, %v; want the end", rest, err)
	}
	quiet.Close()
	for range 2 {
		// A byte on its way back at that moment makes the end of the busy one a reset.
		end := <-ends
		if end.err != nil && (end.read == 0 || !errors.Is(end.err, syscall.ECONNRESET)) {
			t.Errorf("the target's side ended with %v after %d bytes", end.err, end.read)
		}
	}
	check(t, <-exit)
	took := time.Since(started)
	t.Logf("exited after %v", took.Round(time.Millisecond))
	if took > timeout+patience/2 {
		t.Errorf("exited after %v", took)
	}
}
