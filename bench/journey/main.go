// Command journey loads each growth phase of deploy/phases with the same client
// and writes what each gains, and what limits it, into JOURNEY.md with charts:
//
//	go -C bench run ./journey
//
// It needs PostgreSQL's server and redis-server, and builds the rest. Everything
// runs on loopback in a scratch folder that is gone afterwards. A phase in which
// anything went wrong has no figures, and the command fails at its end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-edge/sluice/bench/phases"
)

var (
	root        = flag.String("root", "..", "the module of the gateway")
	out         = flag.String("out", ".", "where JOURNEY.md and its charts are written")
	gateway     = flag.String("gateway", "", "the gateway's binary; empty: it is built")
	users       = flag.String("users", "", "the user service's binary; empty: it is built")
	only        = flag.String("phases", "", "phases to measure, with commas; empty: all")
	size        = flag.Int("n", 1_000_000, "users")
	connections = flag.Int("connections", 64, "client connections")
	threads     = flag.Int("threads", 1, "of the client")
	writes      = flag.Float64("writes", 0.1, "share of requests that write")
	skew        = flag.Float64("zipf", 0.99, "exponent of users' popularity, not 1")
	seed        = flag.Uint64("seed", 1, "of the sequence of requests")
	warm        = flag.Duration("warm", 10*time.Second, "load before each measurement, which fills caches")
	measured    = flag.Duration("duration", 15*time.Second, "of each measurement")
	readsTime   = flag.Duration("reads", 8*time.Second, "of each measurement of reads alone; 0: none")
	settled     = flag.Bool("settled", false, "PostgreSQL need not force commits to the disk")
	patch       = flag.Bool("patch", false, "write by PATCH of one attribute instead of PUT")
	budget      = flag.Duration("budget", 90*time.Minute, "for all; phases that are not reached by then have no figures")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "journey:", err)
		os.Exit(1)
	}
}

// usable says what is wrong with the flags.
func usable() error {
	switch {
	case *size < 1 || *size > 99_999_999:
		return errors.New("-n is from 1 to 99999999")
	case *writes < 0 || *writes > 1:
		return errors.New("-writes is from 0 to 1")
	case *skew <= 0 || *skew == 1:
		return errors.New("-zipf is positive and not 1")
	case *connections < 1 || *threads < 1:
		return errors.New("-connections and -threads are 1 at least")
	case *measured <= 0 || *warm < 0 || *readsTime < 0 || *budget <= 0:
		return errors.New("-duration and -budget are positive, -warm and -reads not negative")
	}
	return nil
}

func run(ctx context.Context) error {
	if err := usable(); err != nil {
		return err
	}
	list, err := chosen()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, *budget, fmt.Errorf("the time of -budget %v is over", *budget))
	defer cancel()
	in, err := phases.Find()
	if err != nil {
		return err
	}
	dir, err := phases.Scratch()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := newBar(os.Stderr)
	b.step("build", "the gateway and the user service")
	in.Gateway, in.Users = *gateway, *users
	if err := in.Build(*root, dir, list); err != nil {
		return err
	}
	people := newPopulation(*size, *patch)
	j := &journey{in: in, dir: dir, threads: *threads, seed: *seed, people: people, bar: b,
		seeder: &seeder{in: in, dir: dir, people: people, kept: map[string]map[string]string{}},
		setting: setting{users: *size, connections: *connections, writes: *writes, skew: *skew, warm: *warm, measured: *measured,
			settled: *settled, reads: *readsTime > 0, readsTime: *readsTime, patched: *patch}}
	r := &report{when: time.Now(), machine: describe(), versions: in.Version, setting: j.setting}
	for _, p := range list {
		o := j.measure(ctx, p)
		r.outcomes = append(r.outcomes, o)
		if o.why != "" {
			b.line("%-12s NOT MEASURED: %s", o.name, o.why)
			continue
		}
		b.line("%-12s %9s requests/s, p95 %s ms, %s queries and %s ms of database CPU per 1,000; %s", o.name,
			thousands(o.mixed.perSecond), millis(o.mixed.p95), thousands(o.mixed.queries), millis(o.mixed.cpu("database")), o.mixed.cores.limit())
	}
	if err := r.write(*out); err != nil {
		return err
	}
	fmt.Println(r.markdown())
	return missing(r.outcomes)
}

// missing is an error where a phase has no figures.
func missing(outcomes []outcome) error {
	var names []string
	for _, o := range outcomes {
		if o.why != "" {
			names = append(names, o.name)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("there are no figures of %s: see above", strings.Join(names, ", "))
	}
	return nil
}

// chosen are the phases to measure.
func chosen() ([]*phases.Phase, error) {
	all, err := phases.All(filepath.Join(*root, "deploy", "phases"))
	if err != nil {
		return nil, err
	}
	own, err := phases.Load(filepath.Join(*root, "bench", "journey", "1-single.yaml"))
	if err != nil {
		return nil, err
	}
	for i, p := range all {
		if p.Name == own.Name {
			all[i] = own
		}
	}
	if *only == "" {
		return all, nil
	}
	names := strings.Split(*only, ",")
	list := slices.DeleteFunc(all, func(p *phases.Phase) bool { return !slices.Contains(names, p.Name) })
	if len(list) != len(names) {
		return nil, fmt.Errorf("not all of -phases %s are in deploy/phases", *only)
	}
	return list, nil
}
