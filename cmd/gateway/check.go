package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/proxy"
)

// idle is a proxy that serves nobody, to build setups with.
func (p *program) idle() (*proxy.Proxy, error) {
	px, _, err := newProxy(&program{out: io.Discard}, slog.New(slog.DiscardHandler), metrics.NewSet())
	return px, err
}

// examine reads and builds a configuration that will not be served.
func (p *program) examine(path string) (*proxy.Proxy, *setup, error) {
	px, err := p.idle()
	if err != nil {
		return nil, nil, err
	}
	src, err := readSource(path)
	if err != nil {
		return nil, nil, err
	}
	s, err := build(px, src, p.env, 1, nil)
	return px, s, err
}

// check is `gateway check`.
func (p *program) check(args []string) error {
	fs := flags("check")
	path := configFlag(fs)
	if _, err := parse(fs, args); err != nil {
		return err
	}
	name, err := path()
	if err != nil {
		return err
	}
	_, s, err := p.examine(name)
	if err != nil {
		return err
	}
	defer s.drop(nil)
	for _, w := range s.warnings {
		fmt.Fprintf(p.err, "%s: warning: %s\n", name, w)
	}
	f := s.file
	fmt.Fprintf(p.out, "%s: ok (%s, %s, %s)\n", name, count(len(f.Listeners), "listener"),
		count(len(f.Backends), "backend"), count(len(f.Routes), "route"))
	return nil
}

// count is "1 route" or "2 routes".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
