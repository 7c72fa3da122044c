package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ask sends a GET over a connection that stays, and returns the answer.
func ask(conn net.Conn, r *bufio.Reader, path string) (status int, body string, err error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// A gateway whose descriptors are used up by idle connections neither dies nor
// spins: who is connected is served, the admin API answers, connections that
// are idle for long make room, and all is well when they have gone.
func TestE2EDescriptorsUsedUp(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	c, _ := startChild(t, slowConfig(o, "header_timeout: 1m"), "64")
	check(t, whoIs(c))
	var idle []net.Conn
	for range 100 {
		idle = append(idle, connect(t, c.addresses[0]))
	}
	check(t, c.log.until(patience, func(log string, _ error) bool { return strings.Contains(log, "descriptors run short") }))
	if gauge(t, c, `sluice_connections_refused_total{listener="127.0.0.1:0",reason="descriptors"}`) < 1 {
		t.Error("nobody is counted who was turned away")
	}
	if open, most := gauge(t, c, "process_open_fds"), gauge(t, c, "process_max_fds"); most != 64 || open < 50 || open > most {
		t.Errorf("%v of %v descriptors are open", open, most)
	}
	// Some were turned away, and some may have made room. With nobody else coming
	// the others stay.
	kept, reader := firstServed(t, idle)
	served := func() {
		t.Helper()
		for range 3 {
			// Closing makes the gateway dial again the next time.
			for _, path := range []string{"/who", "/closing"} {
				if status, body, err := ask(kept, reader, path); status != 200 || err != nil {
					t.Fatalf("a connection that was there: %d %q, %v", status, body, err)
				}
			}
		}
	}
	before, began := cpuTicks(t, c), time.Now()
	for time.Since(began) < time.Second {
		for range 3 {
			status, body, err := adminGet(c, "/healthz")
			if err != nil || status != 200 || body != "ok\n" {
				t.Fatalf("the admin API, without descriptors: %d %q, %v", status, body, err)
			}
		}
		served()
		time.Sleep(50 * time.Millisecond) // lint:sleep what the gateway does meanwhile is what is measured
	}
	used, took := time.Duration(cpuTicks(t, c)-before)*10*time.Millisecond, time.Since(began)
	t.Logf("without descriptors: %v of CPU time in %v", used, took.Round(time.Millisecond))
	share := took / 5
	if raceEnabled {
		share = took / 2 // it is some times slower
	}
	if used > share {
		t.Errorf("%v of CPU time in %v", used, took)
	}

	// Those that have said nothing for a second make room for more than there can
	// have been room for.
	started := time.Now()
	for range 10 {
		check(t, waitFor(func() error {
			conn := connect(t, c.addresses[0]) // and stays
			status, body, err := ask(conn, bufio.NewReader(conn), "/who")
			if err == nil && status != 200 {
				err = fmt.Errorf("%d %q", status, body)
			}
			return err
		}))
	}
	t.Logf("10 more clients were served within %v, with all others still there", time.Since(started).Round(time.Millisecond))
	served()

	started = time.Now()
	for _, conn := range idle {
		conn.Close()
	}
	check(t, waitFor(func() error { return whoIs(c) }))
	t.Logf("another client was served %v after they had gone", time.Since(started).Round(time.Millisecond))
	check(t, c.stop())
}

// gauge is the value of a metric.
func gauge(t *testing.T, c *child, name string) float64 {
	t.Helper()
	_, text, err := adminGet(c, "/metrics")
	check(t, err)
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			check(t, err)
			return v
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// firstServed returns the first of conns that is served.
func firstServed(t *testing.T, conns []net.Conn) (net.Conn, *bufio.Reader) {
	t.Helper()
	for _, conn := range conns {
		r := bufio.NewReader(conn)
		if status, _, err := ask(conn, r, "/who"); err == nil && status == 200 {
			return conn, r
		}
	}
	t.Fatal("none of those that are connected is served")
	return nil, nil
}

// Clients that are all at work at once, with fewer descriptors than they would
// need, get what there is or a 503, and the admin API answers.
func TestE2EDescriptorsShared(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	c, _ := startChild(t, toOrigin(o, "a"), "64")
	type client struct {
		conn   net.Conn
		r      *bufio.Reader
		status int
	}
	var clients []*client
	for {
		conn := connect(t, c.addresses[0])
		r := bufio.NewReader(conn)
		if status, _, err := ask(conn, r, "/who"); err != nil || status == 503 {
			conn.Close()
			break // turned away, with a word or without
		}
		if clients = append(clients, &client{conn: conn, r: r}); len(clients) > 64 {
			t.Fatal("nobody is turned away")
		}
	}
	clients = slices.DeleteFunc(clients, func(one *client) bool { // the last that came may have made others go
		status, _, err := ask(one.conn, one.r, "/who")
		return err != nil || status != 200
	})
	answered := make(chan *client)
	work := func(one *client) {
		status, _, err := ask(one.conn, one.r, "/wait/go")
		if one.status = status; err != nil {
			one.status = -1
		}
		answered <- one
	}
	for _, one := range clients {
		go work(one)
	}
	working := len(clients)
	for c.descriptors(t) < 64 {
		one := <-answered // it found none, but may now
		if one.status != 503 {
			t.Fatalf("status %d", one.status)
		}
		go work(one)
	}
	for range 20 {
		if status, _, err := adminGet(c, "/metrics"); status != 200 {
			t.Fatalf("the admin API: %d, %v", status, err)
		}
	}
	o.events.happen("go")
	count := map[int]int{}
	for range working {
		count[(<-answered).status]++
	}
	t.Logf("%d clients: %v", working, count)
	if count[200] == 0 || count[200]+count[503] != working {
		t.Errorf("statuses %v", count)
	}
	check(t, waitFor(func() error { return whoIs(c) }))
	check(t, c.stop())
}

// whoIs asks the origin behind c who it is, over a new connection.
func whoIs(c *child) error {
	_, body, err := plainCall(c.addresses[0], "/who").do()
	if err == nil && string(body) != "origin\n" {
		err = fmt.Errorf("the answer is %q", body)
	}
	return err
}

// adminGet asks the admin API over a new connection.
func adminGet(c *child, path string) (status int, body string, err error) {
	conn, err := dial(c.admin)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience / 2)); err != nil {
		return 0, "", err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// descriptors is how many the gateway has open.
func (c *child) descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/" + strconv.Itoa(c.cmd.Process.Pid) + "/fd")
	check(t, err)
	return len(list)
}

// cpuTicks is the CPU time of the gateway's process, in hundredths of a second.
func cpuTicks(t *testing.T, c *child) (ticks int) {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(c.cmd.Process.Pid) + "/stat")
	check(t, err)
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(f)
		check(t, err)
		ticks += n
	}
	return ticks
}
