package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// waitLimit bounds every wait; none is expected to last.
const waitLimit = 20 * time.Second

var (
	binary string // the gateway's
	certs  string // a folder of certificates, as gateway cert -dev makes them
)

func TestMain(m *testing.M) {
	speakUp()
	dir, err := os.MkdirTemp("", "interop")
	if err == nil {
		binary, certs = filepath.Join(dir, "gateway"), filepath.Join(dir, "certs")
		err = errors.Join(noteSources(), build())
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	_ = os.RemoveAll(dir) // nothing depends on it
	os.Exit(code)
}

// build makes the gateway, with the race detector where this test has it, and
// certificates for it and for the servers behind it.
func build() error {
	args := []string{"build", "-pgo=off", "-o", binary}
	if raced {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/gateway")...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	if out, err := exec.Command(binary, "cert", "-dev", certs).CombinedOutput(); err != nil {
		return fmt.Errorf("gateway cert: %w\n%s", err, out)
	}
	return nil
}

// noteSources looks at the gateway's folders, so that a result is not taken from
// Go's cache when the gateway has changed.
func noteSources() error {
	return filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), ".git") {
			return fs.SkipDir
		}
		return err
	})
}

// A gateway is the real binary in a process of its own.
type gateway struct {
	t    *testing.T
	cmd  *exec.Cmd
	file string
	gone chan struct{} // closed when it has ended, and all it said is in log
	end  error         // how; once it is gone

	mu   sync.Mutex
	more *sync.Cond
	log  bytes.Buffer
}

// listeners are the configuration's beginning: one listener with TLS, one
// without.
const listeners = `
listeners:
  - {address: "127.0.0.1:0", protocols: [http1, h2c]}
  - address: "localhost:0"
    tls: {certificates: [{cert_file: CERTS/server.pem, key_file: CERTS/server-key.pem}]}
admin: {address: ""}
access_log: {enabled: false}
shutdown: {grace: 0s, timeout: 15s}
`

// startGateway runs the gateway before what config says of backends and routes.
func startGateway(t *testing.T, config string) *gateway {
	t.Helper()
	g := &gateway{t: t, file: filepath.Join(t.TempDir(), "config.yaml"), gone: make(chan struct{})}
	g.more = sync.NewCond(&g.mu)
	g.write(config)
	g.cmd = exec.Command(binary, "run", "-config", g.file)
	stderr, err := g.cmd.StderrPipe()
	must(t, err)
	must(t, g.cmd.Start())
	go func() {
		defer close(g.gone)
		for lines := bufio.NewScanner(stderr); lines.Scan(); g.more.Broadcast() {
			g.mu.Lock()
			fmt.Fprintf(&g.log, "%s\n", lines.Bytes())
			g.mu.Unlock()
		}
		g.end = g.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = g.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		g.wait()
	})
	g.await("serving", 1)
	return g
}

// write replaces the configuration as careful editors do.
func (g *gateway) write(config string) {
	g.t.Helper()
	text := strings.ReplaceAll(listeners+config, "CERTS", certs)
	must(g.t, os.WriteFile(g.file+".next", []byte(text), 0o600))
	must(g.t, os.Rename(g.file+".next", g.file))
}

// wait returns when the gateway has ended, which must be in order.
func (g *gateway) wait() {
	g.t.Helper()
	select {
	case <-g.gone:
	case <-time.After(waitLimit):
		_ = g.cmd.Process.Kill() // likewise
		<-g.gone
		g.t.Error("the gateway does not end")
	}
	if text := g.log.String(); g.end != nil || strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic") {
		g.t.Errorf("the gateway ended with %v:\n%s", g.end, text)
	}
}

// await waits for the nth line of that message, and returns it.
func (g *gateway) await(message string, n int) (line struct{ Msg, Listener, Address string }) {
	g.t.Helper()
	late := time.AfterFunc(waitLimit, g.more.Broadcast)
	defer late.Stop()
	began := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for time.Since(began) < waitLimit {
		seen := 0
		for text := range bytes.Lines(g.log.Bytes()) {
			if json.Unmarshal(text, &line) == nil && line.Msg == message {
				if seen++; seen == n {
					return line
				}
			}
		}
		g.more.Wait()
	}
	g.t.Fatalf("not %d times %q in the log:\n%s", n, message, g.log.String())
	return line
}

// address is where a listener listens, the one with TLS or the one without.
func (g *gateway) address(secure bool) string {
	g.t.Helper()
	for n := 1; ; n++ {
		line := g.await("listening", n)
		if strings.HasPrefix(line.Listener, "localhost") == secure {
			return line.Address
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
