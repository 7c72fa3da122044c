package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// A target is a raw server for a Go test; serve has each of its connections,
// which is closed behind it.
func target(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	var conns []net.Conn // until accepting has ended
	var accepting, serving sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			serving.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		accepting.Wait()
		for _, conn := range conns {
			conn.Close()
		}
		serving.Wait()
	})
	return ln.Addr().String()
}

// A target that takes no more of large uploads ends them, and the gateway keeps
// none of what it cannot pass on.
func TestE2EUploadsToStalledTarget(t *testing.T) {
	t.Parallel()
	const uploads, length = 20, 1 << 30
	release := make(chan struct{})
	addr := target(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Errorf("the target got no request: %v", err)
		}
		<-release // and reads no more
	})
	defer close(release)
	text := withBackend(toOrigin(&origin{addr: addr}, "a"), "timeouts: {connect: 10s, idle: 2s}")
	c, _ := startChild(t, text, "")
	type result struct {
		sent   int64
		status string
	}
	results := make(chan result)
	for range uploads {
		conn := connect(t, c.addresses[0])
		go func() {
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", length) // a fault is seen by what follows
			answer := make(chan string)
			go func() {
				got, _ := wholeAnswer(conn)
				head, _, _ := strings.Cut(got, "\r\n")
				answer <- head
			}()
			n, _ := io.Copy(conn, io.LimitReader(zeros{}, length)) // the gateway cuts it off
			results <- result{n, <-answer}
		}()
	}
	for range uploads {
		if r := <-results; r.sent >= length/4 || !strings.HasPrefix(r.status, "HTTP/1.1 504 ") {
			t.Errorf("%d bytes were taken, and answered with %q", r.sent, r.status)
		}
	}
	peak, err := c.statusLine("VmHWM")
	check(t, err)
	t.Logf("%d uploads of 1 GiB to a target that does not read: VmHWM %d KiB", uploads, peak)
	if !raceEnabled && peak > 64<<10 {
		t.Errorf("VmHWM is %d KiB", peak)
	}
	check(t, waitFor(func() error { return hasMetric(c, "http_requests_in_flight 0") }))
	check(t, c.stop())
}
