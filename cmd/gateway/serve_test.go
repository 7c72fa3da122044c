package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A slow is an upstream that answers when it is told to.
type slow struct {
	*httptest.Server
	came, answer chan struct{}
}

func newSlow(t *testing.T) *slow {
	s := &slow{came: make(chan struct{}), answer: make(chan struct{})}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.came <- struct{}{}
		select {
		case <-s.answer:
			io.WriteString(w, "late")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		close(s.answer)
		s.Close()
	})
	return s
}

func (s *slow) config(shutdown string) string {
	return `listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
shutdown: ` + shutdown + `
backends: {slow: {targets: ["` + s.URL + `"]}, now: {kind: respond, body: now}}
routes: [{match: /slow, backend: slow}, {match: /now, backend: now}]
`
}

// ask sends a GET in the background and waits until the upstream has it.
func (s *slow) ask(url string) <-chan string {
	got := make(chan string, 1)
	go func() {
		resp, err := (&http.Client{Transport: &http.Transport{}}).Get(url)
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		got <- resp.Status + " " + string(body)
	}()
	<-s.came
	return got
}

// On SIGTERM what is under way ends well, and nothing new begins.
func TestDrain(t *testing.T) {
	s := newSlow(t)
	r := run(t, s.config("{grace: 0s, timeout: 1h}"))
	address := r.address("127.0.0.1:0")
	got := s.ask("http://" + address + "/slow")
	r.signals <- syscall.SIGTERM
	r.log.await(t, "draining", map[string]any{"signal": "terminated"})
	for refused := false; !refused; {
		c, err := net.Dial("tcp", address)
		if refused = err != nil; !refused {
			c.Close()
		}
	}
	s.answer <- struct{}{}
	if body := <-got; body != "200 OK late" {
		t.Errorf("the exchange under way got %q", body)
	}
	r.exit(exitOK)
	r.log.await(t, "stopped", nil)
}

// What does not end in time is cut off.
func TestDrainTimeout(t *testing.T) {
	s := newSlow(t)
	r := run(t, s.config("{grace: 0s, timeout: 10ms}"))
	got := s.ask("http://" + r.address("127.0.0.1:0") + "/slow")
	r.signals <- syscall.SIGTERM
	r.log.await(t, "the time to drain is over; what still ran was closed", nil)
	r.exit(exitOK)
	if body := <-got; strings.HasPrefix(body, "200") {
		t.Errorf("the exchange got %q", body)
	}
}

// During the grace the gateway is not ready and serves as before; a second
// signal ends it.
func TestGrace(t *testing.T) {
	s := newSlow(t)
	r := run(t, s.config("{grace: 1h, timeout: 1h}"))
	url, admin := "http://"+r.address("127.0.0.1:0"), "http://"+r.address("admin")
	wantStatus(t, admin+"/readyz", "", 200)
	r.signals <- syscall.SIGTERM
	r.log.await(t, "draining", nil)
	wantStatus(t, admin+"/readyz", "", 503)
	wantStatus(t, admin+"/healthz", "", 200)
	wantBody(t, url+"/now", 200, "now")
	r.signals <- syscall.SIGHUP // no reload now
	r.signals <- syscall.SIGTERM
	r.exit(exitFailure)
	r.log.await(t, "a second signal: ending at once", nil)
}

// A second signal ends a drain as well.
func TestSecondSignalEndsDrain(t *testing.T) {
	s := newSlow(t)
	r := run(t, s.config("{grace: 0s, timeout: 1h}"))
	s.ask("http://" + r.address("127.0.0.1:0") + "/slow")
	r.signals <- syscall.SIGINT
	r.log.await(t, "draining", map[string]any{"signal": "interrupt"})
	r.signals <- syscall.SIGINT
	r.exit(exitFailure)
}

func TestPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	address := taken.Addr().String()
	r := launch(t, "", map[string]string{"SLUICE_ADDRESS": address, "SLUICE_ADMIN": "127.0.0.1:0", "SLUICE_DATA": t.TempDir()})
	r.exit(exitFailure)
	want := "gateway: cannot listen on " + address + ": address already in use; something else listens there\n" +
		"gateway: SLUICE_ADDRESS=:8000 and SLUICE_ADMIN=127.0.0.1:9000 would choose other addresses\n"
	if r.log.String() != want {
		t.Errorf("stderr %q, want %q", r.log, want)
	}
}

// Without a file there is a page to look at, and an echo service.
func TestDefault(t *testing.T) {
	r := launch(t, "", map[string]string{"SLUICE_ADDRESS": "127.0.0.1:0", "SLUICE_ADMIN": "127.0.0.1:0", "SLUICE_DATA": t.TempDir()})
	r.log.await(t, "serving", map[string]any{"routes": 6, "backends": 3})
	url := "http://" + r.address("127.0.0.1:0")
	if status, page := fetch(t, url+"/"); status != 200 || !strings.Contains(page, "curl -i localhost:8080/echo/hello") {
		t.Errorf("status %d, page %q", status, page)
	}
	if status, body := fetch(t, url+"/echo/hello?a=b"); status != 200 || !strings.Contains(body, `"target": "/echo/hello?a=b"`) || !strings.Contains(body, `["Via","1.1 sluice"]`) {
		t.Errorf("status %d, body %q", status, body)
	}
	wantStatus(t, url+"/echo/status/418", "", 418)
	wantStatus(t, url+"/nowhere", "", 404)
	resp, err := http.Post(url+"/api/users", "", strings.NewReader(`{"name": "Ada", "email": "ada@example.com"}`))
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 201 {
		t.Errorf("POST /api/users: %s", resp.Status)
	}
	r.signals <- syscall.SIGHUP
	r.log.await(t, "reloaded", nil)
	if status, body := fetch(t, url+resp.Header.Get("Location")); status != 200 || !strings.Contains(body, `"email":"ada@example.com"`) {
		t.Errorf("status %d, body %q", status, body)
	}
	wantStatus(t, url+"/health", "", 200)
	wantStatus(t, url+"/echo/hello", "", 200)
	r.signals <- syscall.SIGTERM
	r.exit(exitOK)
	if !strings.Contains(r.out.String(), `"GET /echo/hello?a=b HTTP/1.1" 200`) {
		t.Errorf("access log %q", r.out)
	}
}

// A person at a terminal is told what to try.
func TestHints(t *testing.T) {
	log := newJournal()
	p := &program{out: io.Discard, err: log, terminal: true}
	g, err := newGateway(p, nil, nil)
	must(t, err)
	g.hints = true
	s, err := build(g.proxy, source{"x", []byte(says("x"))}, nil, 1, links{})
	must(t, err)
	g.current.Store(s)
	c, err := g.bind(s)
	must(t, err)
	defer c.abandon()
	g.admin = c.admin
	g.serving.Store(&c.opened)
	g.announce(p)
	if want := "curl -i " + c.opened[0].server.Addr().String() + "/echo/hello"; !strings.Contains(log.String(), want) {
		t.Errorf("no %q in %s", want, log)
	}
}

// A realProgram is the program in a process of its own.
type realProgram struct {
	*exec.Cmd
	log  *journal
	read chan struct{} // closed when the log is at its end
}

// startProgram builds and runs the program with a file that says this.
func startProgram(t *testing.T, text string, prepare func(*exec.Cmd)) *realProgram {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program")
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "gateway")
	if out, err := exec.Command("go", "build", "-pgo=off", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := &realProgram{exec.Command(bin, "run", "-config", put(t, dir, "gw.yaml", text)), newJournal(), make(chan struct{})}
	if prepare != nil {
		prepare(p.Cmd)
	}
	stderr, err := p.StderrPipe()
	must(t, err)
	must(t, p.Start())
	t.Cleanup(func() { _ = p.Process.Kill() })
	go func() {
		defer close(p.read)
		io.Copy(p.log, bufio.NewReader(stderr))
	}()
	p.log.await(t, "serving", nil)
	return p
}

// end has the program end in order.
func (p *realProgram) end(t *testing.T) {
	t.Helper()
	must(t, p.Process.Signal(syscall.SIGTERM))
	<-p.read
	if err := p.Wait(); err != nil {
		t.Errorf("%v; log:\n%s", err, p.log)
	}
}

// The real program obeys real signals.
func TestBinary(t *testing.T) {
	p := startProgram(t, says("hello"), nil)
	address := p.log.await(t, "listening", nil)["address"].(string)
	wantBody(t, "http://"+address, 200, "hello")
	must(t, p.Process.Signal(syscall.SIGHUP))
	p.log.await(t, "reloaded", nil)
	p.end(t)
}

// Who reads the access log may end without ending the gateway.
func TestReaderOfTheLogLeaves(t *testing.T) {
	var stdout io.Closer
	p := startProgram(t, says("hello"), func(cmd *exec.Cmd) {
		var err error
		stdout, err = cmd.StdoutPipe()
		must(t, err)
	})
	address := p.log.await(t, "listening", nil)["address"].(string)
	admin := p.log.await(t, "admin listening", nil)["address"].(string)
	must(t, stdout.Close())
	for end := time.Now().Add(waitLimit); ; {
		wantBody(t, "http://"+address, 200, "hello")
		_, metrics := fetch(t, "http://"+admin+"/metrics")
		if !strings.Contains(metrics, "\nsluice_access_log_dropped_total 0\n") {
			break // it has tried to write
		}
		if time.Now().After(end) {
			t.Fatal("no line was counted as dropped")
		}
	}
	wantBody(t, "http://"+address, 200, "hello")
	p.end(t)
}

// What becomes of every request while a backend is down or full is told by the
// access log alone: the other log is written to while the exchange waits.
func TestOutageIsNoFlood(t *testing.T) {
	s := newSlow(t)
	r := run(t, `listeners: [{address: "127.0.0.1:0"}]
admin: {address: ""}
shutdown: {grace: 0s}
backends:
  down: {targets: ["http://127.0.0.1:1"], breaker: {max_failures: 1}}
  full: {targets: ["`+s.URL+`"], concurrency: {max: 1}}
routes: [{match: /down, backend: down}, {match: /full, backend: full}]
`)
	url := "http://" + r.address("127.0.0.1:0")
	wantStatus(t, url+"/down", "", 502)
	for range 3 {
		wantStatus(t, url+"/down", "", 503)
	}
	first := s.ask(url + "/full")
	wantStatus(t, url+"/full", "", 503)
	s.answer <- struct{}{}
	<-first
	r.signals <- syscall.SIGTERM
	r.exit(exitOK)
	if log := r.log.String(); strings.Contains(log, "exchange failed") {
		t.Errorf("a line a request in\n%s", log)
	}
}
