package main_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

const twoPools = `listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
server: {header_timeout: 1m}
shutdown: {grace: 0s}
access_log: {enabled: false}
backends:
  a: {targets: ["http://%[1]s"], timeouts: {connect: 10s}}
  b: {targets: ["http://%[1]s"], timeouts: {connect: 11s}}
routes:
  - {match: /a/*, backend: a, rewrite: {strip_prefix: /a}}
  - {match: /b/*, backend: b, rewrite: {strip_prefix: /b}}
`

// Without descriptors a request to one target gets those of connections to
// another that are unused.
func TestE2EDescriptorsOfIdleTargets(t *testing.T) {
	t.Parallel()
	const calls = 12
	o := newOrigin(t)
	c, _ := startChild(t, fmt.Sprintf(twoPools, o.addr), "64")
	var others []net.Conn
	for range 10 {
		others = append(others, connect(t, c.addresses[0])) // the longest idle: they would have to go first
	}
	clients := make([]*keptClient, calls)
	for i := range clients {
		clients[i] = keep(t, connect(t, c.addresses[0]))
	}
	all := func(path, event string) {
		t.Helper()
		answers := make(chan string)
		for _, one := range clients {
			go func() {
				status, _, err := ask(one.conn, one.r, path)
				answers <- fmt.Sprint(status, err)
			}()
		}
		var got []string
		for range clients {
			if len(got) == 0 {
				check(t, waitFor(func() error { return hasMetric(c, fmt.Sprintf("http_requests_in_flight %d", calls)) }))
				o.events.happen(event)
			}
			got = append(got, <-answers)
		}
		for _, answer := range got {
			if answer != "200 <nil>" {
				t.Errorf("%s: %v", path, got)
				return
			}
		}
	}
	all("/a/wait/first", "first") // and now there are so many unused connections
	for full := false; !full; full = c.logs("descriptors run short") {
		if others = append(others, connect(t, c.addresses[0])); len(others) > 1000 {
			t.Fatal("nobody is turned away")
		}
	}
	all("/b/wait/second", "second")
	check(t, c.stop())
}

// logs reports whether the log has text.
func (c *child) logs(text string) bool {
	log, _ := c.log.now()
	return strings.Contains(log, text)
}
