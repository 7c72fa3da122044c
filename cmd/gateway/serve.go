package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluice-edge/sluice/internal/users/service"
)

// runCommand is `gateway run`.
func (p *program) runCommand(args []string) error {
	fs := flags("run")
	path := configFlag(fs)
	if _, err := parse(fs, args); err != nil {
		return err
	}
	name, err := path()
	if err != nil {
		return err
	}
	g, err := newGateway(p, func() (source, error) { return readSource(name) }, p.env)
	if err != nil {
		return err
	}
	full, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	// Watching begins before the file is read: no change is missed.
	w, err := newWatcher(full)
	if err != nil {
		g.log.Warn("changes of the file will go unseen; SIGHUP reloads", "error", err)
		return p.serve(g, nil)
	}
	return p.serve(g, w)
}

// serveDefault is `gateway`: the embedded default, and the echo service that it
// forwards to.
func (p *program) serveDefault() error {
	e, err := startEcho()
	if err != nil {
		return err
	}
	defer e.close(context.Background())
	env := func(name string) (string, bool) {
		if name == echoVariable {
			return e.url(), true
		}
		return p.env(name)
	}
	g, err := newGateway(p, func() (source, error) { return source{"default.yaml", defaultYAML}, nil }, env)
	if err != nil {
		return err
	}
	g.hints = p.terminal
	err = p.serve(g, nil)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w\nSLUICE_ADDRESS=:8000 and SLUICE_ADMIN=127.0.0.1:9000 would choose other addresses", err)
	}
	if errors.Is(err, service.ErrTaken) {
		err = fmt.Errorf("%w\nSLUICE_DATA=./other would choose another folder", err)
	}
	return err
}

// serve runs g until a signal or a failure ends it. w may be nil.
func (p *program) serve(g *gateway, w *watcher) error {
	signal.Ignore(syscall.SIGPIPE) // who reads the logs may end; who serves does not
	ctx, stop := context.WithCancel(context.Background())
	if w != nil {
		g.renewal.follow, w.followed = w.also, g.renew
	}
	if err := g.start(ctx); err != nil {
		stop()
		if w != nil {
			w.fs.Close()
		}
		return err
	}
	if w != nil {
		g.wg.Go(func() { w.run(ctx, g.changed) })
	}
	g.announce(p)
	err := p.wait(g)
	if errors.Is(err, errForced) {
		stop()
		g.closeAdmin()
		g.log.Warn("a second signal: ending at once")
		return errReported
	}
	g.closeAdmin()
	stop()
	g.leaving.Wait()
	g.wg.Wait()
	g.current.Load().drop(links{})
	g.log.Info("stopped")
	return err
}

// errForced is what a second signal asks for.
var errForced = errors.New("a second signal")

// wait obeys signals until one of them has ended the gateway, or something in
// it has failed.
func (p *program) wait(g *gateway) error {
	for {
		select {
		case err := <-g.failed:
			g.draining.Store(true)
			g.log.Error("ending", "error", err)
			return errors.Join(errReported, p.end(g, 0))
		case s := <-p.signals:
			if s == syscall.SIGHUP {
				_ = g.reload("SIGHUP") // it has been logged
				continue
			}
			g.draining.Store(true) // before the log says so
			g.log.Info("draining", "signal", s.String())
			return p.end(g, g.current.Load().file.Shutdown.Grace)
		}
	}
}

// end is the way out of a gateway that is not ready any more: serving for the
// grace, then no new exchanges, then nothing. A signal meanwhile gives
// errForced.
func (p *program) end(g *gateway, grace time.Duration) error {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	if err := p.until(timer.C); err != nil {
		return err
	}
	timeout := g.current.Load().file.Shutdown.Timeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	drained := make(chan time.Time)
	go func() {
		defer close(drained)
		if err := g.drain(ctx); err != nil {
			g.log.Warn("the time to drain is over; what still ran was closed", "timeout", timeout.String(), "error", err)
		}
	}()
	return p.until(drained)
}

// until waits for done, or for a signal that ends everything.
func (p *program) until(done <-chan time.Time) error {
	for {
		select {
		case <-done:
			return nil
		case s := <-p.signals:
			if s != syscall.SIGHUP {
				return errForced
			}
		}
	}
}

// announce says that the gateway serves; to a person who started it without a
// file, also what to try.
func (g *gateway) announce(p *program) {
	s := g.current.Load()
	g.log.Info("serving", "version", version(), "generation", s.gen.Number(),
		"routes", len(s.file.Routes), "backends", len(s.file.Backends), "pid", os.Getpid())
	if !g.hints {
		return
	}
	base := ""
	for _, l := range *g.serving.Load() {
		base = reachable(l.server.Addr())
	}
	fmt.Fprintf(p.err, `
Sluice listens on http://%[1]s - open it in a browser, or try:

  curl -i %[1]s/echo/hello?name=you
  curl -N %[1]s/echo/sse
  curl -X POST %[1]s/api/users -d '{"name": "Ada", "email": "ada@example.com"}'
  curl %[2]s/metrics

Ctrl-C ends it. To start from this configuration: gateway schema -example

`, base, reachable(g.admin.ln.Addr()))
}

// reachable is where a person on this machine reaches a listener.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
