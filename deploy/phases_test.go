package deploy

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/sluice-edge/sluice/internal/pgtest"
	"github.com/sluice-edge/sluice/internal/redistest"
	"github.com/sluice-edge/sluice/internal/smtptest"
)

// A need is one of a file's x-processes.
type need struct {
	Run      string // postgres, redis, gateway, users or worker
	Name     string // the variable that says where it is
	File     string // gateway, users, worker: its configuration
	Replicas int    // postgres
}

// TestPhases starts each phase as its file says, asks it what a user of the
// whole would, and stops it.
func TestPhases(t *testing.T) {
	files, err := filepath.Glob("phases/*.yaml")
	must(t, err)
	ran := 0
	for _, file := range files {
		var phase struct {
			Needs []need `yaml:"x-processes"`
		}
		data, err := os.ReadFile(file)
		must(t, err)
		if !strings.Contains(string(data), "\nx-processes:") {
			continue // a part of another
		}
		must(t, yaml.Unmarshal(data, &phase))
		ran++
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			w := &whole{env: map[string]string{"SECRET": secret(t), "DATA": t.TempDir()}}
			if err := w.known(t, file, phase.Needs); err != nil {
				t.Fatal(err)
			}
			for _, n := range phase.Needs {
				w.start(t, n)
			}
			entry := w.gateway(t, "", file)
			probe(t, "http://"+entry, w.mail)
		})
	}
	if ran != 7 {
		t.Errorf("there are %d phases, want 7", ran)
	}
}

// secret is a file of what signs tokens, the same for all processes.
func secret(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(path, []byte("phases share this secret\n"), 0o600))
	return path
}

// A whole is all processes of a phase.
type whole struct {
	env  map[string]string // how they find each other
	mail *smtptest.Sink    // nil where there is no worker
}

func (w *whole) environ(more ...string) []string {
	env := os.Environ()
	for _, name := range slices.Sorted(maps.Keys(w.env)) {
		env = append(env, name+"="+w.env[name])
	}
	return append(env, more...)
}

// known asks the programs whether they know everything that a phase's files ask
// of them.
func (w *whole) known(t *testing.T, file string, needs []need) error {
	t.Helper()
	files := map[string]string{file: "gateway"}
	for _, n := range needs {
		switch n.Run {
		case "gateway":
			files[filepath.Join("phases", n.File)] = "gateway"
		case "users", "worker":
			if _, err := os.Stat("../cmd/users"); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		cmd := exec.Command(binary(t, "gateway"), "check", "-config", name)
		cmd.Env = w.environ()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("gateway check: %s", out)
		}
	}
	return nil
}

func (w *whole) start(t *testing.T, n need) {
	t.Helper()
	switch n.Run {
	case "postgres":
		c := pgtest.Start(t, pgtest.Options{Replicas: n.Replicas})
		w.env[n.Name] = c.Primary.URL("postgres")
		for i, r := range c.Replicas {
			w.env[fmt.Sprintf("%s_REPLICA_%d", n.Name, i+1)] = r.URL("postgres")
		}
	case "redis":
		w.env[n.Name] = redistest.Start(t).Address
	case "gateway":
		w.env[n.Name] = w.gateway(t, n.Name, filepath.Join("phases", n.File))
	case "users":
		addr := fmt.Sprint("127.0.0.1:", freePort(t))
		startEnv(t, w.environ("ENTRY="+addr), binary(t, "users"), "run", "-config", filepath.Join("phases", n.File))
		awaitListening(t, addr)
		w.env[n.Name] = addr
	case "worker":
		w.mail = smtptest.Start(t)
		w.env["SMTP"] = w.mail.Addr
		startEnv(t, w.environ(), binary(t, "users"), "worker", "-config", filepath.Join("phases", n.File))
	default:
		t.Fatalf("nobody knows how to run %q", n.Run)
	}
}

// gateway starts one and returns where it listens.
func (w *whole) gateway(t *testing.T, name, file string) string {
	t.Helper()
	g := startEnv(t, w.environ("ENTRY=127.0.0.1:0", "ADMIN=127.0.0.1:0"), binary(t, "gateway"), "run", "-config", file)
	g.message(t, "serving", "msg")
	return g.message(t, "listening", "address")
}

// awaitListening waits until somebody accepts connections.
func awaitListening(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	eventually(t, addr+" is listened on", func() bool {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}
