package main_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// TestScripts runs testdata/*.txtar against the real program, once for each
// protocol. Each is a config, what is sent to it, and what is wanted back; the
// commands are those of testscript and the ones below. What holds for one
// protocol alone stands behind its condition: [http1], [h2c], [h2], or [http2]
// for both of the last.
func TestScripts(t *testing.T) {
	for _, p := range protocols(t) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			runScripts(t, p)
		})
	}
}

func runScripts(t *testing.T, p *protocol) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Condition:          p.condition,
		Setup: func(env *testscript.Env) error {
			env.Values[stageKey{}] = &stage{
				tb: env.T().(testing.TB), dir: env.WorkDir, spoken: p, upstreams: map[string]*upstream{}, background: map[string]chan outcome{},
				servers: map[string]*redistest.Server{},
			}
			return p.prepare(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"gateway-start":  command(gatewayStart),
			"gateway-stop":   command(gatewayStop),
			"gateway-signal": command(gatewaySignal),
			"gateway-wait":   command(gatewayWait),
			"gateway-log":    command(gatewayLog),
			"access-log":     command(accessLog),
			"no-access-log":  command(noAccessLog),
			"replace":        command(replaceFile),
			"upstream":       command(upstreamStart),
			"received":       command(received),
			"connections":    command(connections),
			"origin":         command(originStart),
			"certificate":    command(certificate),
			"event":          command(event),
			"raw":            command(rawSend),
			"join":           command(join),
			"refuse":         command(refuse),
			"http":           command(httpSend),
			"metric":         command(metric),
			"ws":             command(webSocket),
			"nobody":         command(nobody),
			"redis":          command(redisDo),
		},
	})
}

type stageKey struct{}

// A stage is what one script has running.
type stage struct {
	tb         testing.TB
	dir        string
	spoken     *protocol
	env        []string // for the gateway: where upstreams are
	gateway    *child
	upstreams  map[string]*upstream
	background map[string]chan outcome
	servers    map[string]*redistest.Server
	events     events
}

// command makes a command of f, whose error fails the script.
func command(f func(s *stage, ts *testscript.TestScript, args []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command cannot be negated")
		}
		ts.Check(f(ts.Value(stageKey{}).(*stage), ts, args))
	}
}

func (s *stage) setenv(ts *testscript.TestScript, key, value string) {
	ts.Setenv(key, value)
	s.env = append(s.env, key+"="+value)
}

var errUsage = errors.New("wrong arguments")

// gatewayStart is: gateway-start FILE. It sets GATEWAY, GATEWAY2, … and ADMIN.
func gatewayStart(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errUsage
	}
	cmd := exec.Command("gateway", "run", "-config", args[0])
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), s.env...)
	c, err := startGateway(cmd)
	if err != nil {
		return err
	}
	s.gateway = c
	ts.Defer(func() {
		c.kill()
		if err := c.complaints(); err != nil {
			s.tb.Error(err)
		}
	})
	for i, addr := range c.addresses {
		name := "GATEWAY"
		if i > 0 {
			name += strconv.Itoa(i + 1)
		}
		ts.Setenv(name, addr)
	}
	ts.Setenv("ADMIN", c.admin)
	return nil
}

// gatewayStop is: gateway-stop. The gateway must drain and exit with 0.
func gatewayStop(s *stage, ts *testscript.TestScript, args []string) error {
	if err := s.gateway.stop(); err != nil {
		return err
	}
	return s.gateway.complaints()
}

// gatewaySignal is: gateway-signal HUP|TERM|INT.
func gatewaySignal(s *stage, ts *testscript.TestScript, args []string) error {
	signals := map[string]os.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT}
	if len(args) != 1 || signals[args[0]] == nil {
		return errUsage
	}
	return s.gateway.cmd.Process.Signal(signals[args[0]])
}

// gatewayWait is: gateway-wait CODE. The gateway must end by itself with it.
func gatewayWait(s *stage, ts *testscript.TestScript, args []string) error {
	err := s.gateway.wait()
	if got := s.gateway.cmd.ProcessState.ExitCode(); len(args) != 1 || strconv.Itoa(got) != args[0] {
		return fmt.Errorf("exit code %d: %w", got, err)
	}
	return nil
}

// gatewayLog is: gateway-log REGEXP. The log must come to match it.
func gatewayLog(s *stage, ts *testscript.TestScript, args []string) error {
	return s.matchSoon(s.gateway.log, args)
}

// accessLog is: access-log REGEXP.
func accessLog(s *stage, ts *testscript.TestScript, args []string) error {
	return s.matchSoon(s.gateway.out, args)
}

// noAccessLog is: no-access-log REGEXP. The gateway has ended, and its access
// log must have nothing that matches.
func noAccessLog(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errUsage
	}
	re, err := regexp.Compile("(?m)" + args[0])
	if err != nil {
		return err
	}
	got, ended := s.gateway.out.now()
	if ended == nil {
		return errors.New("the gateway still runs")
	}
	if re.MatchString(got) {
		return fmt.Errorf("the access log matches %s:\n%s", re, got)
	}
	return nil
}

func (s *stage) matchSoon(t *transcript, args []string) error {
	if len(args) != 1 {
		return errUsage
	}
	re, err := regexp.Compile("(?m)" + s.spoken.spell(args[0]))
	if err != nil {
		return err
	}
	if err := t.until(patience, func(s string, _ error) bool { return re.MatchString(s) }); err != nil {
		got, _ := t.now()
		return fmt.Errorf("nothing matches %s: %w; got:\n%s", re, err, got)
	}
	return nil
}

// replaceFile is: replace FILE WITH. FILE changes at once, as by an editor.
func replaceFile(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errUsage
	}
	next := filepath.Join(s.dir, ".next")
	if err := os.WriteFile(next, []byte(ts.ReadFile(args[1])), 0o644); err != nil {
		return err
	}
	return os.Rename(next, ts.MkAbs(args[0]))
}

// listenFor listens where flags say, and returns what is left of args:
// [-unix FILE | -ipv6] NAME …
func (s *stage) listenFor(ts *testscript.TestScript, args []string) (net.Listener, []string, error) {
	switch {
	case len(args) > 2 && args[0] == "-unix":
		// A path of a socket may have a hundred bytes; the script's folder has more.
		dir, err := os.MkdirTemp("", "sluice")
		if err != nil {
			return nil, nil, err
		}
		ts.Defer(func() { os.RemoveAll(dir) })
		ln, err := net.Listen("unix", filepath.Join(dir, args[1]))
		return ln, args[2:], err
	case len(args) > 1 && args[0] == "-ipv6":
		ln, err := net.Listen("tcp", "[::1]:0")
		return ln, args[1:], err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	return ln, args, err
}

// upstreamStart is: upstream [-unix FILE | -ipv6] NAME SCRIPT. It sets NAME to
// the address.
func upstreamStart(s *stage, ts *testscript.TestScript, args []string) error {
	ln, args, err := s.listenFor(ts, args)
	if err != nil {
		return err
	}
	if len(args) != 2 {
		return errUsage
	}
	u := startUpstream(ln, ts.ReadFile(args[1]), &s.events)
	s.upstreams[args[0]] = u
	s.setenv(ts, args[0], ln.Addr().String())
	ts.Defer(func() {
		if s.gateway != nil {
			s.gateway.kill() // whose connections would keep plays waiting
		}
		if err := u.close(); err != nil {
			s.tb.Errorf("upstream %s: %v", args[0], err)
		}
	})
	return nil
}

// received is: received NAME WANTFILE | received NAME -heads N.
func received(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) < 2 || s.upstreams[args[0]] == nil {
		return errUsage
	}
	u := s.upstreams[args[0]]
	if args[1] == "-heads" {
		got := u.received()
		if n := strings.Count(got, " HTTP/1.1\r\n"); strconv.Itoa(n) != args[2] {
			return fmt.Errorf("%d requests reached the upstream:\n%s", n, visible(got))
		}
		return nil
	}
	w, err := parseWant(s.spoken.spell(ts.ReadFile(args[1])))
	if err != nil {
		return err
	}
	return u.check(w)
}

// connections is: connections NAME N. The upstream must have had just so many.
func connections(s *stage, ts *testscript.TestScript, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	u := s.upstreams[args[0]]
	if err := u.accepted(n); err != nil {
		return err
	}
	if got, _ := u.count.now(); len(got) != n {
		return fmt.Errorf("%d connections, want %d", len(got), n)
	}
	return nil
}

// originStart is: origin [-unix FILE | -ipv6 | -tls NAME CA] NAME.
func originStart(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) == 4 && args[0] == "-tls" {
		return s.originTLS(ts, args[3], args[1], args[2])
	}
	ln, args, err := s.listenFor(ts, args)
	if err != nil {
		return err
	}
	if len(args) != 1 {
		return errUsage
	}
	s.serveOrigin(ts, args[0], ln)
	return nil
}

func (s *stage) serveOrigin(ts *testscript.TestScript, name string, ln net.Listener) {
	o := startOrigin(name, ln, &s.events)
	ts.Defer(o.close)
	s.setenv(ts, name, o.addr)
}

// event is: event NAME.
func event(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errUsage
	}
	s.events.happen(args[0])
	return nil
}

// nobody is: nobody NAME. It sets NAME to an address where nobody listens.
func nobody(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errUsage
	}
	// Bound and never listening: were it free, another test could get it.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ts.Defer(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		return err
	}
	s.setenv(ts, args[0], fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port))
	return nil
}

// redisDo is: redis start|kill|stop|continue|restart NAME. A redis-server of its
// own; start sets NAME to its address.
func redisDo(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errUsage
	}
	server := s.servers[args[1]]
	if args[0] == "start" {
		server = redistest.Start(s.tb)
		s.servers[args[1]] = server
		s.setenv(ts, args[1], server.Address)
		return nil
	}
	do := map[string]func(*redistest.Server){
		"kill": (*redistest.Server).Kill, "stop": (*redistest.Server).Stop,
		"continue": (*redistest.Server).Continue, "restart": (*redistest.Server).Restart,
	}[args[0]]
	if do == nil || server == nil {
		return errUsage
	}
	do(server)
	return nil
}

// dial connects a client to the gateway, or to addr.
func dial(addr string) (net.Conn, error) { return net.DialTimeout("tcp", addr, patience) }

// waitFor tries f until it returns nil, or for patience.
func waitFor(f func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
