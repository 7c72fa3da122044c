package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// silence opens connections that each ask once and then keep still, and says
// what memory they cost.
func silence(pid int, c contest) (measurement, error) {
	ask := func() (net.Conn, error) {
		conn, err := net.DialTimeout("tcp", proxyAddr, 5*time.Second)
		if err != nil {
			return nil, err
		}
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return conn, err
		}
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", c.path); err != nil {
			return conn, err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return conn, err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return conn, err
		}
		if resp.StatusCode != 200 {
			return conn, fmt.Errorf("status %d", resp.StatusCode)
		}
		return conn, nil
	}
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	more := func(n int) error {
		for range n {
			conn, err := ask()
			if conn != nil {
				open = append(open, conn)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := more(100); err != nil { // what the first few make it allocate is not theirs
		return measurement{}, err
	}
	before := rss(pid)
	if err := more(c.idle); err != nil {
		return measurement{}, err
	}
	after := rss(pid)
	return measurement{RSS: after, PerIdle: float64(after-before) / float64(c.idle)}, nil
}
