// Package deploy has tests only: that what lies in its folders works, each with
// the program that it is for, and that the README says what is so. README.md says
// what there is.
package deploy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/pgtest"
)

// waitLimit bounds every wait of a test; none is expected to last.
const waitLimit = 120 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var built struct {
	sync.Mutex
	dir string
	err map[string]error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// binary builds a command of this module, once.
func binary(t testing.TB, name string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		var err error
		built.dir, err = os.MkdirTemp("", "sluice-deploy")
		must(t, err)
		must(t, noteSources())
		built.err = map[string]error{}
	}
	path := filepath.Join(built.dir, name)
	if _, ok := built.err[name]; !ok {
		out, err := exec.Command("go", "build", "-pgo=off", "-o", path, "../cmd/"+name).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("go build: %w\n%s", err, out)
		}
		built.err[name] = err
	}
	must(t, built.err[name])
	return path
}

// noteSources looks at all folders of the module, so that no result is taken
// from Go's cache when the programs have changed: what a test looks at is part
// of the cache's key, what it has built is not.
func noteSources() error {
	return filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), ".git") {
			return fs.SkipDir
		}
		return err
	})
}

// A process is one that the test started.
type process struct {
	cmd  *exec.Cmd
	gone chan struct{}
	mu   sync.Mutex
	more *sync.Cond
	log  bytes.Buffer
}

// start runs a program until the end of the test.
func start(t testing.TB, path string, args ...string) *process {
	t.Helper()
	return startEnv(t, nil, path, args...)
}

// startEnv runs a program in an environment; nil: this one's.
func startEnv(t testing.TB, env []string, path string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(path, args...), gone: make(chan struct{})}
	p.cmd.Env = env
	p.more = sync.NewCond(&p.mu)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StderrPipe()
	must(t, err)
	must(t, p.cmd.Start())
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			p.mu.Lock()
			p.log.Write(append(lines.Bytes(), '\n'))
			p.more.Broadcast()
			p.mu.Unlock()
		}
		_ = p.cmd.Wait() // how it ended is no matter
		p.mu.Lock()
		close(p.gone)
		p.more.Broadcast()
		p.mu.Unlock()
	}()
	t.Cleanup(func() { p.stop(t) })
	return p
}

// stop ends the process as a service manager would.
func (p *process) stop(t testing.TB) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.gone:
	case <-time.After(waitLimit):
		t.Errorf("%s does not end; its log:\n%s", p.cmd.Path, p.text())
		_ = p.cmd.Process.Kill()
		<-p.gone
	}
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// await waits for a line of the log, and returns the last that found accepts.
func (p *process) await(t testing.TB, what string, found func(line string) bool) string {
	t.Helper()
	late := time.AfterFunc(waitLimit, func() { p.mu.Lock(); p.more.Broadcast(); p.mu.Unlock() })
	defer late.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for deadline := time.Now().Add(waitLimit); ; p.more.Wait() {
		match := ""
		for line := range strings.Lines(p.log.String()) {
			if found(line) {
				match = line
			}
		}
		select {
		case <-p.gone:
			t.Fatalf("%s ended before %s:\n%s", p.cmd.Path, what, p.log.String())
		default:
		}
		if match != "" {
			return match
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in the log of %s:\n%s", what, p.cmd.Path, p.log.String())
		}
	}
}

// message waits for a log line of a message, and returns one of its attributes;
// attrs are pairs that it has.
func (p *process) message(t testing.TB, message, attribute string, attrs ...string) string {
	t.Helper()
	value := ""
	p.await(t, message, func(text string) bool {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) != nil || line["msg"] != message {
			return false
		}
		for i := 0; i < len(attrs); i += 2 {
			if fmt.Sprint(line[attrs[i]]) != attrs[i+1] {
				return false
			}
		}
		value = fmt.Sprint(line[attribute])
		return true
	})
	return value
}

// gateway runs the gateway over a configuration.
func gateway(t testing.TB, config string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	must(t, os.WriteFile(file, []byte(config), 0o600))
	g := start(t, binary(t, "gateway"), "run", "-config", file)
	g.message(t, "serving", "msg")
	return g
}

// status is that of a GET.
func status(t testing.TB, url string) int {
	t.Helper()
	code, _ := fetch(t, url)
	return code
}

func fetch(t testing.TB, url string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: waitLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(body)
}

// freePort is a port that nothing listens on yet, and that no connection is given.
func freePort(t testing.TB) int {
	t.Helper()
	port, err := pgtest.FreePort()
	must(t, err)
	return port
}
