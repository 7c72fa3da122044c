package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// StartTLS is Start with a server that speaks TLS alone, by a certificate whose
// PEM files are given. Do and what needs it is not for it.
func StartTLS(t testing.TB, certFile, keyFile string, args ...string) *Server {
	t.Helper()
	return Start(t, append([]string{
		"--port", "0", "--tls-port", "PORT", "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-auth-clients", "no",
	}, args...)...)
}

// StartReplica runs a server that has all that master has when it returns, and
// gets what master is written afterwards.
func StartReplica(t testing.TB, master *Server, args ...string) *Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(master.Address)
	s := Start(t, append([]string{"--replicaof", host + " " + port, "--repl-diskless-sync-delay", "0"}, args...)...)
	master.await("have a replica", func() bool {
		_, err := master.ask([]string{"SET", "redistest", "1"})
		if err != nil {
			return false
		}
		line, err := master.ask([]string{"WAIT", "1", "100"})
		return err == nil && line == ":1"
	})
	return s
}

// StartSentinel runs a sentinel that watches master under that name, alone takes
// it for dead after half a second without an answer, and knows its replica when
// it returns.
func StartSentinel(t testing.TB, name string, master *Server) *Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(master.Address)
	s := &Server{t: t, dir: t.TempDir(), Address: freeAddress(t)}
	file := filepath.Join(s.dir, "sentinel.conf")
	_, own, _ := net.SplitHostPort(s.Address)
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nsentinel monitor %s %s %s 1\nsentinel down-after-milliseconds %[3]s 500\nsentinel failover-timeout %[3]s 2000\n", own, s.dir, name, host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	var err error
	if s.run, err = launch([]string{file, "--sentinel"}); err != nil {
		t.Fatal(err)
	}
	s.await("know the replica", func() bool {
		line, err := s.ask([]string{"SENTINEL", "REPLICAS", name})
		return err == nil && line == "*1"
	})
	return s
}

// StartCluster runs a cluster of three masters, each with a third of the slots.
func StartCluster(t testing.TB) (nodes []*Server) {
	t.Helper()
	if _, err := exec.LookPath("redis-cli"); err != nil {
		t.Fatal("this test needs redis-cli: apt-get install redis-server")
	}
	args := []string{"--cluster", "create"}
	for range 3 {
		s := Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
		nodes, args = append(nodes, s), append(args, s.Address)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "redis-cli", append(args, "--cluster-yes")...).CombinedOutput(); err != nil {
		t.Fatalf("redis-cli: %v: %s", err, out)
	}
	for _, s := range nodes {
		s.await("serve", func() bool {
			out, err := exec.CommandContext(ctx, "redis-cli", "-u", s.URL(), "CLUSTER", "INFO").Output()
			return err == nil && strings.Contains(string(out), "cluster_state:ok")
		})
	}
	return nodes
}

// Addresses are those of servers.
func Addresses(servers []*Server) (all []string) {
	for _, s := range servers {
		all = append(all, s.Address)
	}
	return all
}

// Keys is how many keys with that pattern the server has.
func (s *Server) Keys(pattern string) int {
	s.t.Helper()
	var n int
	line := s.Do("EVAL", "return #redis.call('KEYS', ARGV[1])", "0", pattern)
	if _, err := fmt.Sscanf(line, ":%d", &n); err != nil {
		s.t.Fatalf("redis: %q is no count", line)
	}
	return n
}

// IsMaster reports whether the server takes writes.
func (s *Server) IsMaster() bool {
	_, err := s.ask([]string{"SET", "redistest", "1"})
	return err == nil
}
