package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long anything that should happen soon may take: generous, for
// machines that do much else.
const patience = 20 * time.Second

// A transcript is what has been written so far; others can wait for more.
type transcript struct {
	mu      sync.Mutex
	data    []byte
	changed chan struct{} // closed by the next change
	ended   error         // why nothing more will come; nil while it may
}

func newTranscript() *transcript { return &transcript{changed: make(chan struct{})} }

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	close(t.changed)
	t.changed = make(chan struct{})
	return len(p), nil
}

// end tells that nothing more will come.
func (t *transcript) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended == nil {
		t.ended = err
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

// now is what has been written, and why nothing more will be.
func (t *transcript) now() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data), t.ended
}

var errImpatient = errors.New("it did not happen in time")

// until waits for ok to hold of what is written. It returns why that will not
// be.
func (t *transcript) until(limit time.Duration, ok func(data string, ended error) bool) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		t.mu.Lock()
		data, ended, changed := string(t.data), t.ended, t.changed
		t.mu.Unlock()
		if ok(data, ended) {
			return nil
		}
		if ended != nil {
			return ended
		}
		select {
		case <-changed:
		case <-timer.C:
			return errImpatient
		}
	}
}

// A child is a gateway in a process of its own.
type child struct {
	cmd      *exec.Cmd
	out, log *transcript // standard output and error
	done     chan struct{}
	err      error // of Wait, once done is closed

	addresses []string // of the listeners, in the order in which they opened
	admin     string
}

// startGateway runs cmd, which is a gateway, and returns when it serves.
func startGateway(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, out: newTranscript(), log: newTranscript(), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = c.out, c.log
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=50") // not a second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		c.err = cmd.Wait()
		c.out.end(errExited)
		c.log.end(errExited)
		close(c.done)
	}()
	err := c.log.until(patience, func(log string, _ error) bool { return c.read(log) })
	if err != nil {
		c.kill()
		log, _ := c.log.now()
		return nil, fmt.Errorf("the gateway did not start: %w; its log:\n%s", err, log)
	}
	return c, nil
}

var errExited = errors.New("the gateway has ended")

// read takes the addresses from the log and reports whether the gateway serves.
func (c *child) read(log string) bool {
	c.addresses, c.admin = nil, ""
	lines := bufio.NewScanner(strings.NewReader(log))
	for lines.Scan() {
		var line struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		switch line.Msg {
		case "listening":
			c.addresses = append(c.addresses, line.Address)
		case "admin listening":
			c.admin = line.Address
		case "serving":
			return len(c.addresses) > 0
		}
	}
	return false
}

// stop has the gateway drain and returns how it ended.
func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return c.wait()
}

// wait returns how the gateway ended.
func (c *child) wait() error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.err
	case <-timer.C:
		_ = c.cmd.Process.Signal(syscall.SIGQUIT) // for its stacks
		<-c.done
		log, _ := c.log.now()
		return fmt.Errorf("the gateway did not end; its log:\n%s", log)
	}
}

// kill ends the gateway at once, if it runs.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.done
}

// complaints are signs in the log that something is wrong in the gateway
// itself.
func (c *child) complaints() error {
	log, _ := c.log.now()
	for _, sign := range []string{"DATA RACE", "panic", "goroutine 1 ["} {
		if strings.Contains(log, sign) {
			return fmt.Errorf("the gateway's log has %q:\n%s", sign, log)
		}
	}
	return nil
}

// statusLine returns a line of /proc/PID/status, in KiB where it says so.
func (c *child) statusLine(name string) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			var n int
			_, err := fmt.Sscan(string(rest), &n)
			return n, err
		}
	}
	return 0, fmt.Errorf("the status of the process has no %s", name)
}
