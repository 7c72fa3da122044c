package attack_test

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
	"time"
)

const config = `
listeners: [{address: "127.0.0.1:0", protocols: [http1]}]
server: {header_timeout: 2s, idle_timeout: 4s}
admin: {address: ""}
access_log: {enabled: false}
shutdown: {grace: 0s, timeout: 5s}
backends:
  up:
    targets: ["http://ORIGIN"]
    timeouts: {connect: 4s, response_header: 4s, idle: 4s}
  hasty:
    targets: ["http://ORIGIN"]
    timeouts: {response_header: 200ms, idle: 200ms}
  pages: {kind: files, root: "ROOT"}
  deny: {kind: respond, status: 403, body: "denied\n"}
routes:
  - {match: "/public/*", backend: up}
  - {match: "/small/*", backend: up, max_body_bytes: 1KiB}
  - {match: "/hasty/*", backend: hasty}
  - {match: "/files/*", backend: pages, rewrite: {strip_prefix: /files}}
  - {match: "/strip/*", backend: up, rewrite: {strip_prefix: /strip}}
  - {match: "/strip/admin/*", backend: deny}
  - {match: "/admin/*", backend: deny}
  - {match: {hosts: [all.test], path: "/*"}, backend: up}
  - {match: {hosts: [all.test], path: "/admin/*"}, backend: deny}
  - {match: {hosts: [secret.test]}, backend: deny}
  - {match: {hosts: [star.test]}, backend: up}
`

// A gateway is the real binary in a process of its own.
type gateway struct {
	cmd  *exec.Cmd
	addr string
	mu   sync.Mutex
	log  bytes.Buffer
	gone chan struct{}
	end  error // how it ended, once it is gone
}

// startGateway builds the gateway into dir and runs it before o.
func startGateway(dir string, o *origin) (*gateway, error) {
	if err := noteSources(); err != nil {
		return nil, err
	}
	binary, file := filepath.Join(dir, "gateway"), filepath.Join(dir, "config.yaml")
	args := []string{"build", "-pgo=off", "-o", binary}
	if raced {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "../../cmd/gateway")...)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	root, err := writePages(dir)
	if err != nil {
		return nil, err
	}
	text := strings.NewReplacer("ORIGIN", o.ln.Addr().String(), "ROOT", root).Replace(config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	g := &gateway{cmd: exec.Command(binary, "run", "-config", file), gone: make(chan struct{})}
	stderr, err := g.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	found := make(chan string, 1)
	go g.read(bufio.NewScanner(stderr), found)
	select {
	case g.addr = <-found:
		return g, nil
	case <-g.gone:
	case <-time.After(20 * time.Second):
	}
	_ = g.stop() // what it says is in the log
	return nil, fmt.Errorf("the gateway did not start:\n%s", g.log.String())
}

// noteSources looks at all folders of the module, so that the result of this
// test is not taken from Go's cache when the gateway has changed: what a test
// looks at is part of the cache's key, what it has built is not.
func noteSources() error {
	return filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), ".git") {
			return fs.SkipDir
		}
		return err
	})
}

func (g *gateway) read(lines *bufio.Scanner, found chan<- string) {
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		g.mu.Lock()
		g.log.Write(lines.Bytes())
		g.log.WriteByte('\n')
		g.mu.Unlock()
		var line struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			found <- line.Address
		}
	}
	g.end = g.cmd.Wait()
	close(g.gone)
}

// stop ends the gateway as an operator does, and says what was wrong with that.
func (g *gateway) stop() error {
	_ = g.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-g.gone:
	case <-time.After(10 * time.Second):
		_ = g.cmd.Process.Kill() // likewise
		<-g.gone
	}
	if g.end != nil {
		return fmt.Errorf("CRASH: the gateway ended with %w:\n%s", g.end, g.log.String())
	}
	return nil
}

// complaints says what in the log means that the gateway itself is at fault.
func (g *gateway) complaints() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, sign := range []string{"DATA RACE", "panic", "goroutine 1 ["} {
		if strings.Contains(g.log.String(), sign) {
			return fmt.Errorf("CRASH: the log has %q:\n%s", sign, g.log.String())
		}
	}
	select {
	case <-g.gone:
		return errors.New("CRASH: the gateway has ended")
	default:
		return nil
	}
}
