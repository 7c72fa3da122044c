package main_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A size is what a gateway costs.
type size struct{ goroutines, descriptors, rss int } // rss in KiB

// measure collects the gateway's garbage and measures what is left.
func measure(t *testing.T, c *child) (s size) {
	t.Helper()
	for range 2 { // finalizers free more for the second
		_, _, err := adminGet(c, "/debug/pprof/heap?gc=1")
		check(t, err)
	}
	_, profile, err := adminGet(c, "/debug/pprof/goroutine?debug=1")
	check(t, err)
	_, err = fmt.Sscanf(profile, "goroutine profile: total %d", &s.goroutines)
	check(t, err)
	s.rss, err = c.statusLine("VmRSS")
	check(t, err)
	s.descriptors = c.descriptors(t)
	return s
}

// Reloads leave nothing behind, whether the targets' pools stay or are others,
// and close no connection.
func TestE2EReloadsDoNotGrow(t *testing.T) {
	t.Parallel()
	const clients = 20
	o := newOrigin(t)
	configs := make([]string, 3)
	for i := range configs {
		// Another time-out makes other pools.
		configs[i] = withBackend(toOrigin(o, "a"), fmt.Sprintf("timeouts: {connect: %ds}", 10+i/2))
	}
	c, path := startChild(t, configs[0], "")
	conns := make([]net.Conn, clients)
	var s swarm
	for i := range conns {
		conns[i] = connect(t, c.addresses[0])
		s.wg.Go(func() { s.run(conns[i]) })
	}
	check(t, s.await(clients))
	var sizes []size
	for n := 1; n <= growthReloads; n++ {
		check(t, os.WriteFile(path+".next", []byte(configs[n%3]), 0o600))
		check(t, os.Rename(path+".next", path))
		check(t, c.cmd.Process.Signal(syscall.SIGHUP))
		check(t, c.log.until(patience, func(log string, _ error) bool {
			return strings.Count(log, `"why":"SIGHUP"`) == n
		}))
		check(t, s.await(clients/2))
		if n%10 == 0 {
			check(t, s.await(clients)) // pools of before have been given back
			sizes = append(sizes, measure(t, c))
		}
	}
	s.stop.Store(true)
	s.wg.Wait()
	t.Logf("%d answers during %d reloads; every 10: {goroutines descriptors KiB} %v", s.answers.Load(), growthReloads, sizes)
	if s.first != nil {
		t.Errorf("%d connections failed, the first with: %v", s.failures.Load(), s.first)
	}
	first, last := sizes[0], sizes[len(sizes)-1]
	// One a reload would be 40 more; requests in flight differ by less.
	if last.goroutines > first.goroutines+clients || last.descriptors > first.descriptors+clients {
		t.Errorf("grown from %+v to %+v", first, last)
	}
	if !raceEnabled && last.rss > first.rss+8<<10 {
		t.Errorf("grown from %+v to %+v", first, last)
	}
	check(t, c.stop())
}
