// Package redistest gives tests a real redis-server of their own, on loopback,
// and does to it what machines and networks do: kill it, let it hang, bring it
// back. It is for tests alone.
package redistest

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait; none is expected to last.
const patience = 20 * time.Second

// A Server is a redis-server at work. Its methods end the test where they
// fail, and are for the goroutine of the test.
type Server struct {
	// Address is host:port; it stays the same through every restart.
	Address string

	t    testing.TB
	dir  string
	args []string
	run  *process // nil while it is killed
}

// Start runs a redis-server without persistence on a free port until the test
// is over. args are further options of its command line, such as
// "--appendonly", "yes"; PORT among them is the port that it gets. It fails the
// test where no redis-server is installed.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("this test needs redis-server: apt-get install redis-server, or make test as root, which does so")
	}
	s := &Server{t: t, dir: t.TempDir(), args: args}
	t.Cleanup(s.end)
	var err error
	for range 5 { // somebody else may take the port that was free
		s.Address = freeAddress(t)
		if err = s.start(); err == nil {
			return s
		}
	}
	t.Fatal(err)
	return nil
}

// URL is the address as redis://host:port.
func (s *Server) URL() string { return "redis://" + s.Address }

// Pid is the process that serves now, 0 while it is killed.
func (s *Server) Pid() int {
	if s.run == nil {
		return 0
	}
	return s.run.cmd.Process.Pid
}

// Kill ends the server as a crash would (SIGKILL) and waits until its port is
// closed. What it held is lost, but for what `--appendonly yes` has written.
func (s *Server) Kill() {
	s.t.Helper()
	s.end()
}

// Stop freezes the server (SIGSTOP): it accepts connections and bytes, as the
// kernel does that, and answers nothing.
func (s *Server) Stop() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	s.await("stop", func() bool { return state(s.Pid()) == "T" })
}

// Continue wakes the server up (SIGCONT); it answers then what it was sent
// while it was stopped.
func (s *Server) Continue() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
	s.await("continue", func() bool { return state(s.Pid()) != "T" })
}

// Restart brings the server up again on the same port, empty, whether it runs,
// is stopped or was killed.
func (s *Server) Restart() {
	s.t.Helper()
	s.end()
	_ = os.Remove(filepath.Join(s.dir, "dump.rdb"))
	_ = os.RemoveAll(filepath.Join(s.dir, "appendonlydir"))
	s.again()
}

// RestartWithData brings the server up again on the same port with what it
// holds: it must be running, or have been started with `--appendonly yes`.
func (s *Server) RestartWithData() {
	s.t.Helper()
	if s.run != nil {
		s.signal(syscall.SIGCONT)
		s.Do("SAVE")
	}
	s.end()
	s.again()
}

// Flush empties the server.
func (s *Server) Flush() {
	s.t.Helper()
	s.Do("FLUSHALL")
}

// Do sends one command on a connection of its own and returns the first line
// of the answer: "+OK", ":1", "$5" or the like. An answer that is an error ends
// the test.
func (s *Server) Do(words ...string) string {
	s.t.Helper()
	line, err := s.ask(words)
	if err != nil {
		s.t.Fatalf("redis: %s: %v", strings.Join(words, " "), err)
	}
	return line
}

func (s *Server) ask(words []string) (string, error) {
	c, err := net.DialTimeout("tcp", s.Address, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	var command bytes.Buffer
	fmt.Fprintf(&command, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&command, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := c.Write(command.Bytes()); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "-") {
		return "", fmt.Errorf("it answers %s", line[1:])
	}
	return line, nil
}

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.run == nil {
		s.t.Fatalf("redis: %v for a server that was killed", sig)
	}
	if err := s.run.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("redis: %v: %v", sig, err)
	}
}

// await polls what nothing tells: when a signal has reached another process.
func (s *Server) await(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("redis: it does not %s", what)
		}
	}
}

func (s *Server) again() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) start() error {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	args := append([]string{
		"--bind", host, "--port", port, "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--tcp-backlog", "128",
	}, s.args...)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "PORT", port)
	}
	s.run, err = launch(args)
	return err
}

// end kills the process if there is one; SIGKILL also ends what is stopped.
func (s *Server) end() {
	if s.run == nil {
		return
	}
	_ = s.run.cmd.Process.Kill()
	<-s.run.ended
	s.run = nil
}

// A process is one run of redis-server.
type process struct {
	cmd   *exec.Cmd
	log   log
	ended chan struct{} // closed once it is no more
}

// launch returns when the server has said that it takes connections.
func launch(args []string) (*process, error) {
	p := &process{cmd: exec.Command("redis-server", args...), ended: make(chan struct{})}
	p.log.ready = make(chan struct{})
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-p.log.ready:
		return p, nil
	case <-p.ended:
	case <-late.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return nil, fmt.Errorf("redis-server does not start; it says:\n%s", p.log.String())
}

// A log keeps what the server writes.
type log struct {
	mu    sync.Mutex
	text  bytes.Buffer
	said  bool
	ready chan struct{} // closed once the server takes connections
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if !l.said && (bytes.Contains(l.text.Bytes(), []byte("Ready to accept connections")) || bytes.Contains(l.text.Bytes(), []byte("+monitor master"))) {
		l.said = true
		close(l.ready)
	}
	return len(p), nil
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// freeAddress has a port below those that the kernel gives to connections, so that
// it stays free while a server is down.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprint("127.0.0.1:", 15000+rand.IntN(15000))
		if l, err := net.Listen("tcp4", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("redis: found no free port")
	return ""
}

// state is the letter that Linux shows for a process; "" elsewhere, where a
// signal is taken to have arrived.
func state(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	letter, _, _ := strings.Cut(after, " ")
	return letter
}
