package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// A targetProcess is one that can be taken away and brought back.
type targetProcess struct {
	t    *testing.T
	addr string
	cmd  *exec.Cmd
}

func newTargetProcess(t *testing.T) *targetProcess {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	check(t, ln.Close())
	p := &targetProcess{t: t, addr: ln.Addr().String()}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *targetProcess) start() {
	p.t.Helper()
	p.cmd = exec.Command("target", p.addr, p.addr)
	check(p.t, p.cmd.Start())
	check(p.t, waitFor(func() error {
		_, _, err := plainCall(p.addr, "/").do()
		return err
	}))
}

func (p *targetProcess) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()         // of that
}

func (p *targetProcess) signal(s os.Signal) { check(p.t, p.cmd.Process.Signal(s)) }

// A load asks again and again, and wants every answer to be good.
type load struct {
	wg       sync.WaitGroup
	stop     atomic.Bool
	answers  atomic.Int64
	mu       sync.Mutex
	failures []string
}

func startLoad(addr string, clients int) *load {
	l := &load{}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: patience}
	for range clients {
		l.wg.Go(func() {
			for !l.stop.Load() {
				if fault := l.ask(client, addr); fault != "" {
					l.mu.Lock()
					l.failures = append(l.failures, fault)
					l.mu.Unlock()
				}
				l.answers.Add(1)
			}
		})
	}
	return l
}

func (l *load) ask(client *http.Client, addr string) string {
	resp, err := client.Get("http://" + addr + "/")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		return fmt.Sprint(resp.Status, " ", resp.Header.Get("Proxy-Status"), " ", string(body), err)
	}
	return ""
}

// more waits for n more answers.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	n += l.answers.Load()
	check(t, waitFor(func() error {
		if l.answers.Load() < n {
			return fmt.Errorf("%d answers, want %d", l.answers.Load(), n)
		}
		return nil
	}))
}

// seen is what the admin API says of a target.
func (c *child) seen(t *testing.T, addr string) (available bool) {
	t.Helper()
	_, body, err := plainCall(c.admin, "/api/backends").do()
	check(t, err)
	var backends []struct {
		Targets []struct {
			URL       string
			Available bool
		}
	}
	check(t, json.Unmarshal(body, &backends))
	for _, b := range backends {
		for _, one := range b.Targets {
			if one.URL == "http://"+addr {
				return one.Available
			}
		}
	}
	t.Fatalf("the admin API does not know %s: %s", addr, body)
	return false
}

func (c *child) awaitTarget(t *testing.T, addr string, available bool) {
	t.Helper()
	check(t, waitFor(func() error {
		if c.seen(t, addr) != available {
			return fmt.Errorf("available is not %t", available)
		}
		return nil
	}))
}

// attempts is how many requests have been sent to a target.
func (c *child) attempts(t *testing.T, addr string) (n int) {
	t.Helper()
	_, body, err := plainCall(c.admin, "/metrics").do()
	check(t, err)
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "sluice_attempts_total{") && strings.Contains(line, addr) {
			var one int
			_, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &one)
			check(t, err)
			n += one
		}
	}
	return n
}

// While one target after the other is killed, stopped, broken and refusing, no
// request that may come twice is lost, and who is down is left alone.
func TestE2ENoRequestIsLost(t *testing.T) {
	t.Parallel()
	var targets []*targetProcess
	var urls []string
	for range 4 {
		p := newTargetProcess(t)
		targets = append(targets, p)
		urls = append(urls, `"http://`+p.addr+`"`)
	}
	c, _ := startChild(t, fmt.Sprintf(`listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
shutdown: {grace: 0s}
access_log: {enabled: false}
backends:
  all:
    targets: [%s]
    health:
      active: {interval: 250ms, timeout: 200ms, healthy_after: 2, unhealthy_after: 2}
      passive: {consecutive_failures: 3, ejection: 2s}
    retry: {attempts: 3, on: [connect, reset, timeout, 500, 502, 503, 504], per_attempt_timeout: 1s}
routes: [{match: /*, backend: all}]
`, strings.Join(urls, ", ")), "")
	l := startLoad(c.addresses[0], 8)
	defer func() { l.stop.Store(true); l.wg.Wait() }()
	l.more(t, 200)
	for i, fault := range []struct {
		name     string
		down, up func(*targetProcess)
	}{
		{"killed", (*targetProcess).kill, (*targetProcess).start},
		{"stopped", func(p *targetProcess) { p.signal(syscall.SIGSTOP) }, func(p *targetProcess) { p.signal(syscall.SIGCONT) }},
		{"broken", func(p *targetProcess) { p.signal(syscall.SIGUSR1) }, func(p *targetProcess) { p.signal(syscall.SIGUSR2) }},
		{"refusing", (*targetProcess).kill, (*targetProcess).start},
	} {
		p := targets[i]
		fault.down(p)
		c.awaitTarget(t, p.addr, false)
		l.more(t, 50) // what was under way has come to its end
		before := c.attempts(t, p.addr)
		l.more(t, 300)
		if sent := c.attempts(t, p.addr) - before; sent > 3 {
			t.Errorf("%s: %d requests went to the target while it was down", fault.name, sent)
		}
		fault.up(p)
		c.awaitTarget(t, p.addr, true)
		before = c.attempts(t, p.addr)
		check(t, waitFor(func() error {
			if c.attempts(t, p.addr) == before {
				return fmt.Errorf("%s: nothing goes to the target that is back", fault.name)
			}
			return nil
		}))
	}
	l.stop.Store(true)
	l.wg.Wait()
	t.Logf("%d answers", l.answers.Load())
	if len(l.failures) > 0 {
		t.Errorf("%d requests were lost, the first: %s", len(l.failures), l.failures[0])
	}
	check(t, c.stop())
}

// With every target failing, requests are not multiplied.
func TestE2ERetriesHaveABudget(t *testing.T) {
	t.Parallel()
	var targets []*targetProcess
	var urls []string
	for range 3 {
		p := newTargetProcess(t)
		p.signal(syscall.SIGUSR1)
		targets = append(targets, p)
		urls = append(urls, `"http://`+p.addr+`"`)
	}
	c, _ := startChild(t, fmt.Sprintf(`listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
shutdown: {grace: 0s}
access_log: {enabled: false}
backends: {all: {targets: [%s], health: {passive: {max_ejected: 0%%}}, retry: {attempts: 3, on: ["500"]}}}
routes: [{match: /*, backend: all}]
`, strings.Join(urls, ", ")), "")
	for _, p := range targets {
		check(t, waitFor(func() error {
			resp, _, err := plainCall(p.addr, "/").do()
			if err == nil && resp.StatusCode != 500 {
				err = fmt.Errorf("%s is not broken yet", p.addr)
			}
			return err
		}))
	}
	const requests = 500
	for range requests {
		resp, _, err := plainCall(c.addresses[0], "/").do()
		if err != nil || resp.StatusCode != 500 {
			t.Fatalf("%v, %v; want the target's own 500", resp, err)
		}
	}
	sum := 0
	for _, p := range targets {
		sum += c.attempts(t, p.addr)
	}
	if sum < requests+10 || sum > requests*12/10 {
		t.Errorf("%d attempts for %d requests; want some retries, and at most a fifth", sum, requests)
	}
	check(t, c.stop())
}
