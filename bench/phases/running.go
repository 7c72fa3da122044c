package phases

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// patience bounds the start of each process.
const patience = 60 * time.Second

// Options is how a phase is started.
type Options struct {
	Install *Install
	Dir     string            // a scratch folder, which is there
	Data    map[string]string // data directories to begin with, by the name of the database; they are copied
	Settled bool              // databases need not force writes to the disk
	Only    func(Spec) bool   // what to start; nil: all
	Env     map[string]string // for processes of ours, beside the addresses
}

// Running is a phase at work.
type Running struct {
	Phase     *Phase
	Processes []*Process

	opts Options
	env  map[string]string
}

// Start runs a phase. Where it fails it has stopped what it started.
func Start(ctx context.Context, p *Phase, opts Options) (*Running, error) {
	r := &Running{Phase: p, opts: opts, env: maps.Clone(opts.Env)}
	if err := r.common(); err != nil {
		return nil, err
	}
	for _, s := range p.Specs {
		if opts.Only != nil && !opts.Only(s) {
			continue
		}
		if err := r.begin(ctx, s); err != nil {
			r.Stop()
			return nil, fmt.Errorf("starting %s: %w", s.Name, err)
		}
	}
	return r, nil
}

// common is what every process is told.
func (r *Running) common() error {
	if r.env == nil {
		r.env = map[string]string{}
	}
	r.env["DATA"] = filepath.Join(r.opts.Dir, "data")
	r.env["SECRET"] = filepath.Join(r.opts.Dir, "secret")
	return os.WriteFile(r.env["SECRET"], []byte(rand.Text()), 0o600)
}

// freeAddress is one on loopback, its port below those that the kernel gives to
// connections.
func freeAddress() (string, error) {
	for range 100 {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", 20000+mrand.IntN(12000)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", errors.New("there is no free port")
}

// environ is what a process of ours is given.
func (r *Running) environ(p *Process) []string {
	env := os.Environ()
	for name, value := range r.env {
		env = append(env, name+"="+value)
	}
	return append(env, "ENTRY="+p.Address, "ADMIN="+p.Admin)
}

func (r *Running) begin(ctx context.Context, s Spec) error {
	p := &Process{Spec: s}
	var err error
	if p.Address, err = freeAddress(); err != nil {
		return err
	}
	if p.Admin, err = freeAddress(); err != nil {
		return err
	}
	cmd, ready, err := r.command(p)
	if err != nil {
		return err
	}
	if p.Config != "" {
		cmd.Env, cmd.Dir = r.environ(p), r.opts.Dir
	}
	if err := p.launch(cmd, r.opts.Dir); err != nil {
		return err
	}
	r.Processes = append(r.Processes, p)
	if s.Variable != "" {
		r.env[s.Variable] = p.Address
		if s.Kind == "postgres" {
			r.env[s.Variable] = p.URL("users")
		}
	}
	return p.await(ctx, ready)
}

// command is what runs a process, and what says that it is ready.
func (r *Running) command(p *Process) (*exec.Cmd, func(context.Context) error, error) {
	in := r.opts.Install
	switch p.Kind {
	case "postgres":
		cmd, err := r.database(p)
		return cmd, p.createDatabase, err
	case "redis":
		host, port, err := net.SplitHostPort(p.Address)
		return exec.Command(in.redis, "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", r.opts.Dir,
			"--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"), func(ctx context.Context) error { return dial(ctx, p.Address) }, err
	case "users":
		return exec.Command(in.Users, "run", "-config", p.Config), func(ctx context.Context) error { return ask(ctx, "http://"+p.Address+"/ready") }, nil
	case "worker":
		return exec.Command(in.Users, "worker", "-config", p.Config), func(context.Context) error { return nil }, nil
	case "gateway":
		return exec.Command(in.Gateway, "run", "-config", p.Config), func(ctx context.Context) error { return ask(ctx, "http://"+p.Admin+"/readyz") }, nil
	}
	return nil, nil, fmt.Errorf("nobody knows how to run %q", p.Kind)
}

// await waits until a process says that it is ready, or is over.
func (p *Process) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it ended:\n%s", p.Tail())
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w\n%s", err, p.Tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func dial(ctx context.Context, address string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

func ask(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

// Process is the one of that name.
func (r *Running) Process(name string) *Process {
	for _, p := range r.Processes {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Front is the process that clients connect to.
func (r *Running) Front() *Process { return r.Processes[len(r.Processes)-1] }

// Dead are those that ended by themselves, with the last of what they wrote.
func (r *Running) Dead() error {
	var errs []error
	for _, p := range r.Processes {
		if !p.Alive() {
			errs = append(errs, fmt.Errorf("%s ended:\n%s", p.Name, p.Tail()))
		}
	}
	return errors.Join(errs...)
}

// Stop ends everything, the last that was started first.
func (r *Running) Stop() {
	for _, p := range slices.Backward(r.Processes) {
		p.stop()
	}
}
