package main_test

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// An answered is one request of a crowd.
type answered struct {
	from, to time.Duration // since the crowd began
	status   int
}

// A crowd asks several gateways for the same thing, over a few connections each.
type crowd struct {
	begin time.Time
	stop  chan struct{}
	wg    sync.WaitGroup
	mu    sync.Mutex
	all   []answered
	first error
}

func (c *crowd) ask(t *testing.T, addr string) {
	conn := connect(t, addr)
	c.wg.Go(func() {
		var mine []answered
		r := bufio.NewReader(conn)
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-c.stop:
				c.mu.Lock()
				c.all = append(c.all, mine...)
				c.mu.Unlock()
				return
			case <-pace.C:
			}
			a := answered{from: time.Since(c.begin)}
			resp, err := get(conn, r)
			if err != nil {
				c.mu.Lock()
				c.first = cmp.Or(c.first, err)
				c.mu.Unlock()
				return
			}
			a.to, a.status = time.Since(c.begin), resp.StatusCode
			mine = append(mine, a)
		}
	})
}

func get(conn io.Writer, r *bufio.Reader) (*http.Response, error) {
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, err
}

// end has everybody stop, and returns what was let through, by its end.
func (c *crowd) end(t *testing.T) (admitted []answered) {
	close(c.stop)
	c.wg.Wait()
	check(t, c.first)
	for _, a := range c.all {
		switch a.status {
		case 200:
			admitted = append(admitted, a)
		case 429:
		default:
			t.Fatalf("status %d", a.status)
		}
	}
	slices.SortFunc(admitted, func(a, b answered) int { return cmp.Compare(a.to, b.to) })
	return admitted
}

// slowest is the longest that anybody has waited.
func (c *crowd) slowest() (worst time.Duration) {
	for _, a := range c.all {
		worst = max(worst, a.to-a.from)
	}
	return worst
}

// beyond is how far the worst of all windows is beyond rate·t; as the test does
// not see when a gateway decides, only windows count that hold requests whole.
func beyond(admitted []answered, rate float64) (worst float64) {
	v, last := 0.0, time.Duration(0)
	for _, a := range admitted {
		v = max(0, v-rate*(a.to-last).Seconds()) + 1
		worst, last = max(worst, v), a.to
	}
	return worst
}

// exceeded is the same without doubt: each request counts only in windows that
// hold all of it.
func exceeded(admitted []answered, rate float64) (worst float64) {
	for i := 0; i < len(admitted); i++ {
		from, n := admitted[i].from, 0.0
		for _, a := range admitted {
			if a.from >= from {
				n++
				worst = max(worst, n-rate*(a.to-from).Seconds())
			}
		}
	}
	return worst
}

// overLimit is how far admitted is beyond rate·t + burst.
func overLimit(admitted []answered, rate, burst float64) float64 {
	if worst := beyond(admitted, rate); worst <= burst {
		return worst - burst
	}
	return exceeded(admitted, rate) - burst
}

// limited is a config of one limit that gateways share.
func limited(redis, timeout string) string {
	return fmt.Sprintf(`listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
shutdown: {grace: 0s}
access_log: {enabled: false}
redis: {addresses: [%q], timeout: %s}
backends: {a: {kind: respond, body: "ok"}}
routes:
  - match: /
    backend: a
    limits: [{name: shared, key: host, rate: 1000/1s, burst: 200, scope: global, nodes: 3}]
`, redis, timeout)
}

// three starts three gateways over one Redis.
func three(t *testing.T, redis *redistest.Server, timeout string) (all []*child) {
	for range 3 {
		c, _ := startChild(t, limited(redis.Address, timeout), "")
		all = append(all, c)
	}
	for _, c := range all {
		check(t, waitFor(func() error { return hasMetric(c, "sluice_limit_nodes 3") }))
	}
	return all
}

func crowdOf(t *testing.T, gateways []*child) *crowd {
	c := &crowd{begin: time.Now(), stop: make(chan struct{})}
	for _, g := range gateways {
		for range 5 {
			c.ask(t, g.addresses[0])
		}
	}
	return c
}

// Three gateways admit together what one limit allows: no more in any window,
// and in the long run nearly all of it.
func TestE2ELimitAcrossGateways(t *testing.T) {
	gateways := three(t, redistest.Start(t), "5s") // nobody is to be taken for dead
	c := crowdOf(t, gateways)
	<-time.After(5 * time.Second)
	admitted := c.end(t)
	if over := overLimit(admitted, 1000, 200); over > 0 {
		t.Errorf("in some window %.1f more than 200 + 1000/s", over)
	}
	steady := 0
	for _, a := range admitted {
		if a.to >= time.Second && a.to < 4500*time.Millisecond {
			steady++
		}
	}
	share := float64(steady) / 3500
	t.Logf("%d requests, %d admitted; in steady state %.1f %% of the limit; the slowest took %v", len(c.all), len(admitted), 100*share, c.slowest())
	if least := 0.5; exacting && share < 0.97 || share < least {
		t.Errorf("in steady state only %.1f %% of the limit are used", 100*share)
	}
}

// Redis dies while everybody asks: nobody waits for it, each gateway goes on with
// its share, and when it is back there is no burst.
func TestE2ELimitWithoutRedis(t *testing.T) {
	redis := redistest.Start(t)
	gateways := three(t, redis, "50ms")
	c := crowdOf(t, gateways)
	<-time.After(1500 * time.Millisecond)
	died := time.Since(c.begin)
	redis.Kill()
	<-time.After(2 * time.Second)
	redis.Restart()
	back := time.Since(c.begin)
	for _, g := range gateways {
		check(t, waitFor(func() error { return hasMetric(g, "sluice_limit_redis_up 1") }))
	}
	<-time.After(1500 * time.Millisecond)
	admitted := c.end(t)
	over := overLimit(admitted, 1000, 200)
	if over > 200 {
		t.Errorf("in some window %.1f more than 200 + 1000/s: the bound is one burst of 200", over)
	}
	during := 0
	for _, a := range admitted {
		if a.from >= died && a.to < back {
			during++
		}
	}
	slowest := c.slowest()
	t.Logf("%d requests, %d admitted, %d of them in %v without Redis; the worst window is %.1f beyond the limit; the slowest took %v",
		len(c.all), len(admitted), during, (back - died).Round(time.Millisecond), over, slowest)
	if during < 200 {
		t.Errorf("without Redis only %d were admitted", during)
	}
	if exacting && slowest > 100*time.Millisecond {
		t.Errorf("the slowest request took %v", slowest)
	}
}
