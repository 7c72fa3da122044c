package main_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// slowConfig is toOrigin with another server section.
func slowConfig(o *origin, server string) string {
	return strings.Replace(toOrigin(o, "a"), "server: {", "server: {"+server+", ", 1)
}

// dribble sends text again and again, slowly, until the connection takes no
// more.
func dribble(conn net.Conn, text string, every time.Duration) {
	for {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
		time.Sleep(every) // lint:sleep this is a slow client
	}
}

// wholeAnswer reads all that comes until the connection ends. A reset counts as
// an end: a client that goes on sending may get one.
func wholeAnswer(conn net.Conn) (string, error) {
	got, err := io.ReadAll(conn)
	if errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	return string(got), err
}

// Requests that come too slowly end, with a 408 where there was something to
// answer, and the backend is rid of them.
func TestE2ESlowClients(t *testing.T) {
	for name, one := range map[string]struct{ first, more, status string }{
		"says nothing": {"", "", ""},
		"head":         {"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ", "x", "408"},
		"heads":        {"GET / HTTP/1.1\r\n", "X-Slow: x\r\n", "408"},
		"counted body": {"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx", "x", "408"},
		"chunked body": {"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", "1\r\nx\r\n", "408"},
		"no body":      {"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx", "", "408"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			c, _ := startChild(t, slowConfig(o, "header_timeout: 1s, min_body_rate: 500B/s"), "")
			conn := connect(t, c.addresses[0])
			_, err := io.WriteString(conn, one.first)
			check(t, err)
			var wg sync.WaitGroup
			if one.more != "" {
				wg.Go(func() { dribble(conn, one.more, 50*time.Millisecond) })
			}
			started := time.Now()
			got, err := wholeAnswer(conn)
			t.Logf("ended after %v", time.Since(started).Round(10*time.Millisecond))
			check(t, conn.Close())
			wg.Wait()
			head, _, _ := strings.Cut(got, "\r\n")
			if err != nil || one.status == "" && got != "" || one.status != "" && !strings.HasPrefix(head, "HTTP/1.1 "+one.status+" ") {
				t.Errorf("got %q, %v; want %q", got, err, one.status)
			}
			for _, state := range []string{"new", "active", "closing"} {
				check(t, waitFor(func() error { return hasMetric(c, `state="`+state+`"} 0`) }))
			}
			check(t, c.stop()) // at once: nothing is under way
		})
	}
}

// Many clients that stall leave the others alone, cost little, and are gone
// when their time is over.
func TestE2EManyStalledClients(t *testing.T) {
	t.Parallel()
	const stalled = 500
	o := newOrigin(t)
	c, _ := startChild(t, slowConfig(o, "header_timeout: 12s"), "")
	healthy := connect(t, c.addresses[0])
	r := bufio.NewReader(healthy)
	well := func() {
		t.Helper()
		for range 200 {
			if status, body, err := ask(healthy, r, "/who"); status != 200 || body != "origin\n" || err != nil {
				t.Fatalf("the healthy client got %d %q, %v", status, body, err)
			}
		}
	}
	well()
	before, err := c.statusLine("VmRSS")
	check(t, err)
	var conns []net.Conn
	for range stalled {
		conn := connect(t, c.addresses[0])
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nX-Stalled: ")
		check(t, err)
		conns = append(conns, conn)
	}
	check(t, waitFor(func() error { return hasMetric(c, `state="active"} 500`) }))
	well()
	check(t, hasMetric(c, `state="active"} 500`)) // all of that time
	after, err := c.statusLine("VmRSS")
	check(t, err)
	t.Logf("%d KiB of memory for each stalled connection", (after-before)/stalled)
	if !raceEnabled && (after-before)/stalled > 32 {
		t.Errorf("from %d to %d KiB for %d connections", before, after, stalled)
	}
	for _, conn := range conns {
		if got, err := wholeAnswer(conn); err != nil || !strings.HasPrefix(got, "HTTP/1.1 408 ") {
			t.Fatalf("a stalled client got %q, %v", got, err)
		}
		conn.Close()
	}
	well()
	check(t, waitFor(func() error { return hasMetric(c, `state="active"} 0`) }))
	check(t, c.stop())
}

// hasMetric wants a text in the metrics.
func hasMetric(c *child, text string) error {
	_, metrics, err := adminGet(c, "/metrics")
	if err == nil && !strings.Contains(metrics, text) {
		err = fmt.Errorf("the metrics have no %q", text)
	}
	return err
}
