package pgtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const patience = 30 * time.Second // for what a server has to do

// A Server is one PostgreSQL server. Its methods may be called from any
// goroutine.
type Server struct {
	Port int

	in   install
	dir  string
	opts Options

	mu      sync.Mutex
	cmd     *exec.Cmd
	exited  chan struct{} // closed when cmd is
	stopped []int         // the processes under SIGSTOP
}

// URL returns the address of a database of the server.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.Port, database)
}

// Dir is the server's data directory.
func (s *Server) Dir() string { return s.dir }

// begin starts the server for the first time, as a replica of the one at the
// port primary unless that is 0, at a port that is free.
func (s *Server) begin(primary int) error {
	var err error
	for range 5 { // another may take the port first
		if s.Port, err = FreePort(); err != nil {
			return err
		}
		if err = s.configure(primary); err != nil {
			return err
		}
		if err = s.Run(); err == nil {
			return nil
		}
	}
	return err
}

// FreePort returns a port below those that the kernel gives to connections, so
// that it stays free while a server is down.
func FreePort() (int, error) {
	for range 100 {
		port := 15000 + rand.IntN(15000)
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("pgtest: found no free port")
}

func (s *Server) configure(primary int) error {
	settings := map[string]string{
		"listen_addresses": "127.0.0.1", "port": fmt.Sprint(s.Port), "unix_socket_directories": "",
		"max_connections": "200", "shared_buffers": "32MB", "dynamic_shared_memory_type": "mmap",
		"fsync": "off", "full_page_writes": "off", "wal_level": "replica", "hot_standby": "on",
		"wal_keep_size": "256MB", "max_wal_size": "256MB",
		"wal_retrieve_retry_interval": "100ms", "wal_receiver_status_interval": "1s",
		"autovacuum_naptime": "10s", "jit": "off", "log_min_messages": "warning", "log_line_prefix": "%m [%p] ",
	}
	if s.opts.Durable {
		settings["fsync"], settings["full_page_writes"] = "on", "on"
	}
	for key, value := range s.opts.Settings {
		settings[key] = value
	}
	if primary != 0 {
		settings["primary_conninfo"] = fmt.Sprintf("host=127.0.0.1 port=%d user=postgres application_name=replica%d", primary, s.Port)
		if err := s.write("standby.signal", ""); err != nil {
			return err
		}
		_ = os.Remove(filepath.Join(s.dir, "postgresql.auto.conf")) // pg_basebackup's, which would win
	}
	keys := make([]string, 0, len(settings))
	for key := range settings {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, key := range keys {
		fmt.Fprintf(&b, "%s = '%s'\n", key, strings.ReplaceAll(settings[key], "'", "''"))
	}
	return s.write("postgresql.conf", b.String())
}

func (s *Server) write(name, text string) error {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return s.in.Own(path)
}

// Run starts the server and returns when it answers.
func (s *Server) Run() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return errors.New("pgtest: the server runs already")
	}
	log, err := os.OpenFile(s.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.in.Command("postgres", "-D", s.dir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	s.cmd, s.exited = cmd, exited
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	if err := s.answer(exited); err != nil {
		_ = cmd.Process.Kill()
		<-exited
		s.cmd = nil
		return fmt.Errorf("%w\n%s", err, s.tail(2048))
	}
	return nil
}

// answer returns when the server answers queries.
func (s *Server) answer(exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-exited:
			return errors.New("pgtest: the server ended")
		case <-ctx.Done():
			return fmt.Errorf("pgtest: the server does not answer: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Kill ends the server and all its processes by SIGKILL, as a crash of the
// machine would, and returns when they are gone. A server that is down already
// is left so.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGSTOP) // it begins no more children
	family := append(children(s.cmd.Process.Pid), s.cmd.Process.Pid)
	for _, pid := range family {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-s.exited
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && anyAlive(family); {
		time.Sleep(time.Millisecond)
	}
	s.cmd, s.stopped = nil, nil
}

// Restart starts a server again that was killed, at its port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
}

// Freeze stops every process of the server by SIGSTOP: connections stay open
// and nothing answers.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		t.Fatal("pgtest: Freeze of a server that is down")
	}
	pid := s.cmd.Process.Pid
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	s.stopped = append(children(pid), pid)
	for _, p := range s.stopped {
		_ = syscall.Kill(p, syscall.SIGSTOP)
	}
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pid := range s.stopped {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	s.stopped = nil
}

// Promote makes a replica a primary, and returns when it takes writes. The old
// primary is not told.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.Exec(t, "postgres", "SELECT pg_promote(true, 30)")
}

// PauseReplay has a replica receive and not replay, so that it lags.
func (s *Server) PauseReplay(t testing.TB) {
	t.Helper()
	s.Exec(t, "postgres", "SELECT pg_wal_replay_pause()")
}

// ResumeReplay ends PauseReplay.
func (s *Server) ResumeReplay(t testing.TB) {
	t.Helper()
	s.Exec(t, "postgres", "SELECT pg_wal_replay_resume()")
}

// Exec runs statements that have no parameters in a database.
func (s *Server) Exec(t testing.TB, database string, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// CatchUp waits until the replicas that run show all that the primary has.
func (c *Cluster) CatchUp(t testing.TB) {
	t.Helper()
	lsn := c.Primary.text(t, "SELECT pg_current_wal_insert_lsn()")
	for _, r := range c.Replicas {
		for deadline := time.Now().Add(patience); r.text(t, "SELECT pg_last_wal_replay_lsn() >= '"+lsn+"'") != "true"; time.Sleep(2 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("pgtest: the replica at port %d does not catch up", r.Port)
			}
		}
	}
}

// text asks for one value.
func (s *Server) text(t testing.TB, sql string) (value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, "SELECT ("+sql+")::text").Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// Database makes a new database for the test, and returns its name.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d_%x", os.Getpid(), rand.Uint64())
	s.Exec(t, "postgres", "CREATE DATABASE "+name)
	return name
}

func (s *Server) tail(n int) []byte {
	data, err := os.ReadFile(s.dir + ".log")
	if err != nil {
		return []byte(err.Error())
	}
	return data[max(0, len(data)-n):]
}
