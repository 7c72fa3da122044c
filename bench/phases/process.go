package phases

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Process is one that runs.
type Process struct {
	Spec
	Address string
	Admin   string // of a gateway
	Dir     string // postgres: the data directory

	cmd    *exec.Cmd
	log    string
	exited chan struct{} // closed when it is over
}

// Pid is the process that was started; a database has children.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// launch starts a command, whose output goes to a file in dir.
func (p *Process) launch(cmd *exec.Cmd, dir string) error {
	p.log = filepath.Join(dir, p.Name+".log")
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	p.cmd, p.exited = cmd, make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(p.exited)
	}()
	return nil
}

// Alive says whether it still runs.
func (p *Process) Alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return p.cmd != nil
	}
}

// Tail is the last of what it has written.
func (p *Process) Tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	data = data[max(0, len(data)-2048):]
	return strings.TrimSpace(string(data))
}

// stop ends it in good order, and otherwise by force.
func (p *Process) stop() {
	if p.cmd == nil {
		return
	}
	signal := syscall.SIGTERM
	if p.Kind == "postgres" {
		signal = syscall.SIGINT // fast: clients are cut off, the data is written
	}
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.exited:
		return
	case <-time.After(30 * time.Second):
	}
	if p.Kind == "postgres" {
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // ends its children as well
		select {
		case <-p.exited:
			return
		case <-time.After(5 * time.Second):
		}
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
}
