package main_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// newOrigin starts an origin for a Go test.
func newOrigin(t *testing.T) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	o := startOrigin("origin", ln, &events{})
	t.Cleanup(o.close)
	return o
}

// toOrigin is a config that forwards everything to o and adds the field X-Config.
// To connect may take longer than by default, on a machine that does much else.
func toOrigin(o *origin, config string) string {
	return fmt.Sprintf(`listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
server: {max_body_bytes: 4GiB}
shutdown: {grace: 0s}
access_log: {enabled: false}
backends: {%[1]s: {targets: ["http://%[2]s"], timeouts: {connect: 10s}}}
routes: [{match: /*, backend: %[1]s, response_headers: {set: {X-Config: %[1]s}}}]
`, config, o.addr)
}

// withBackend is such a config with other keys of its backend.
func withBackend(config, keys string) string {
	return strings.Replace(config, "timeouts: {connect: 10s}", keys, 1)
}

// startChild runs a gateway over a file of that text; limit, where it is not "",
// is how many descriptors it may have.
func startChild(t *testing.T, text, limit string) (c *child, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "gw.yaml")
	check(t, os.WriteFile(path, []byte(text), 0o600))
	cmd := exec.Command("gateway", "run", "-config", path)
	if limit != "" {
		cmd = exec.Command("sh", "-c", "ulimit -n "+limit+" && exec gateway run -config "+path)
	}
	c, err := startGateway(cmd)
	check(t, err)
	t.Cleanup(func() {
		c.kill()
		if err := c.complaints(); err != nil {
			t.Error(err)
		}
	})
	return c, path
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connect opens a connection to the gateway, and bounds all that is done on it.
func connect(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := dial(addr)
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	check(t, conn.SetDeadline(time.Now().Add(5*patience)))
	return conn
}

// A swarm is many clients that ask again as soon as they have an answer, each
// over a connection that must stay.
type swarm struct {
	wg       sync.WaitGroup
	stop     atomic.Bool
	answers  atomic.Int64
	failures atomic.Int64
	configs  sync.Map // X-Config of the answers
	mu       sync.Mutex
	first    error
}

func (s *swarm) run(conn net.Conn) {
	r := bufio.NewReader(conn)
	for !s.stop.Load() {
		if err := s.ask(conn, r); err != nil {
			s.failures.Add(1)
			s.mu.Lock()
			if s.first == nil {
				s.first = err
			}
			s.mu.Unlock()
			return
		}
		s.answers.Add(1)
	}
}

func (s *swarm) ask(conn net.Conn, r *bufio.Reader) error {
	if _, err := io.WriteString(conn, "GET /delay/50ms HTTP/1.1\r\nHost: swarm\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != 200 || string(body) != "late\n" || resp.Close {
		return fmt.Errorf("%s, close %t, %s, %q", resp.Status, resp.Close, resp.Header.Get("Proxy-Status"), body)
	}
	s.configs.Store(resp.Header.Get("X-Config"), true)
	return nil
}

// await waits until there are n more answers than now.
func (s *swarm) await(n int64) error {
	n += s.answers.Load()
	return waitFor(func() error {
		if s.answers.Load() < n && s.failures.Load() == 0 {
			return errors.New("the answers do not come")
		}
		return nil
	})
}

// Under load, reloads cost no request and no connection.
func TestE2EReloadUnderLoad(t *testing.T) {
	clients, reloads := 1000, 20
	if testing.Short() {
		clients = 200
	}
	o := newOrigin(t)
	configs := []string{toOrigin(o, "even"), toOrigin(o, "odd")}
	c, path := startChild(t, configs[0], "")
	started := time.Now()
	conns := make([]net.Conn, clients)
	for i := range conns {
		conns[i] = connect(t, c.addresses[0])
	}
	var s swarm
	for _, conn := range conns {
		s.wg.Go(func() { s.run(conn) })
	}
	check(t, s.await(int64(clients)))
	t.Logf("%d clients connected and answered after %v", clients, time.Since(started).Round(time.Millisecond))
	started = time.Now()
	for n := 1; n <= reloads; n++ {
		check(t, os.WriteFile(path+".next", []byte(configs[n%2]), 0o600))
		check(t, os.Rename(path+".next", path))
		check(t, c.cmd.Process.Signal(syscall.SIGHUP))
		check(t, c.log.until(patience, func(log string, _ error) bool {
			return strings.Count(log, `"why":"SIGHUP"`) == n
		}))
		check(t, s.await(int64(clients/5)))
	}
	took := time.Since(started)
	s.stop.Store(true)
	s.wg.Wait()
	t.Logf("%d connections, %d reloads in %v: %d answers, %d failures", clients, reloads, took.Round(time.Millisecond), s.answers.Load(), s.failures.Load())
	if s.first != nil {
		t.Errorf("%d connections failed, the first with: %v", s.failures.Load(), s.first)
	}
	for _, config := range []string{"even", "odd"} {
		if _, seen := s.configs.Load(config); !seen {
			t.Errorf("no answer by the config %s", config)
		}
	}
	if log, _ := c.log.now(); strings.Contains(log, "ERROR") {
		t.Errorf("the log has errors:\n%s", log)
	}
	started = time.Now()
	check(t, c.stop())
	t.Logf("drained after %v", time.Since(started).Round(time.Millisecond))
}

// A client that leaves takes its request back from the backend.
func TestE2EClientLeaves(t *testing.T) {
	for _, how := range []string{"FIN", "RST"} {
		o := newOrigin(t)
		c, _ := startChild(t, toOrigin(o, "a"), "")
		conn := connect(t, c.addresses[0])
		_, err := io.WriteString(conn, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
		check(t, err)
		check(t, o.events.wait("hanging"))
		if how == "RST" {
			check(t, conn.(*net.TCPConn).SetLinger(0))
		}
		at := time.Now()
		conn.Close()
		select {
		case left := <-o.left:
			ms := left.Sub(at).Milliseconds()
			t.Logf("the backend's exchange ended %d ms after the client's %s", ms, how)
			if ms > 2000 {
				t.Errorf("%d ms", ms)
			}
		case <-time.After(patience):
			t.Fatal("the backend's exchange never ended")
		}
	}
}

// Bodies pass through, however large.
func TestE2EMemory(t *testing.T) {
	o := newOrigin(t)
	transport := &http.Transport{WriteBufferSize: 64 << 10}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: 3 * patience}
	for _, length := range []int64{bigBody, -1} {
		c, _ := startChild(t, toOrigin(o, "a"), "")
		url := "http://" + c.addresses[0]
		started := time.Now()
		req, err := http.NewRequest("POST", url+"/count", io.LimitReader(zeros{}, bigBody))
		check(t, err)
		req.ContentLength = length
		resp, err := client.Do(req)
		check(t, err)
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		check(t, err)
		if string(got) != fmt.Sprintln(bigBody, nil) {
			t.Errorf("the backend got %q", got)
		}
		up := time.Since(started)

		started = time.Now()
		resp, err = client.Get(url + fmt.Sprintf("/bytes/%d", bigBody))
		check(t, err)
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || n != bigBody {
			t.Errorf("the client got %d bytes: %v", n, err)
		}
		peak, err := c.statusLine("VmHWM")
		check(t, err)
		t.Logf("%d MiB (Content-Length %d) up in %v and down in %v: VmHWM %d KiB", bigBody>>20, length,
			up.Round(time.Millisecond), time.Since(started).Round(time.Millisecond), peak)
		if peak > 64<<10 && !raceEnabled {
			t.Errorf("VmHWM is %d KiB", peak)
		}
		check(t, c.stop())
	}
}

// Events are not held back, whatever is spoken.
func TestE2EEventLatency(t *testing.T) {
	for _, p := range protocols(t) {
		t.Run(p.name, func(t *testing.T) {
			o := newOrigin(t)
			c, _ := startSpeaking(t, p, t.TempDir(), toOrigin(o, "a"))
			transport := p.transport()
			defer transport.CloseIdleConnections()
			client := http.Client{Transport: transport, Timeout: 5 * patience}
			resp, err := client.Get(p.scheme + "://" + c.addresses[0] + "/sse/50/10ms")
			check(t, err)
			defer resp.Body.Close()
			check(t, p.examine(resp))
			wantLatency(t, resp.Body)
		})
	}
}

func wantLatency(t *testing.T, events io.Reader) {
	t.Helper()
	var all []time.Duration
	for lines := bufio.NewScanner(events); lines.Scan(); {
		var sent int64
		if _, err := fmt.Sscanf(lines.Text(), "data: %d", &sent); err == nil {
			all = append(all, time.Since(time.Unix(0, sent)))
		}
	}
	if len(all) != 50 {
		t.Fatalf("%d events", len(all))
	}
	slices.Sort(all)
	middle, worst := all[len(all)/2], all[len(all)-1]
	t.Logf("events arrive after %v in the middle, %v at worst", middle.Round(time.Microsecond), worst.Round(time.Microsecond))
	// On a busy machine a few may be late; were they held back, all would be.
	if middle > 50*time.Millisecond || worst > 2*time.Second {
		t.Errorf("events arrive after %v in the middle, %v at worst", middle, worst)
	}
}
