// Command gateway runs Sluice, an edge gateway.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/sluice-edge/sluice/internal/config"
)

const usage = `Sluice, an edge gateway.

  gateway                                   run on the embedded default
  gateway run     -config FILE              run; SIGHUP or a changed file reloads, SIGTERM and SIGINT drain
  gateway check   -config FILE              say everything that is wrong with a file
  gateway explain -config FILE [-X METHOD] [-H 'Name: value']... [-ip ADDR] URL
                                            say where a request would go, and why
  gateway test    -config FILE CASES.yaml   hold a file to cases of what should happen
  gateway cert    -dev DIR [NAME]...        write an authority and a certificate to try TLS with, for localhost and NAMEs
  gateway schema  [-example]                print the JSON Schema of a file, or the embedded default
  gateway version

CASES.yaml says what should become of requests, in any of these words:

  cases:
    - {request: http://api.example.com/orders, want: {route: orders, backend: orders}}
    - name: nobody deletes
      request: {method: DELETE, url: /orders, headers: {X-A: b}, ip: 203.0.113.9}
      want: {status: 405, headers: {Allow: "GET, HEAD"}, path: /orders, upstream_target: /v2/orders, upstream_host: o.internal}
`

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// A usageError is a command line that makes no sense.
type usageError string

func (e usageError) Error() string { return string(e) }

// errReported is a failure about which everything has been said.
var errReported = errors.New("reported")

// A program is one run of the command and what it has of the world.
type program struct {
	out, err io.Writer
	env      func(string) (string, bool)
	signals  <-chan os.Signal
	terminal bool // whether err is read by a person
}

func main() {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
	p := &program{
		out: os.Stdout, err: os.Stderr,
		env:      os.LookupEnv,
		signals:  signals,
		terminal: isTerminal(os.Stderr),
	}
	redis.SetLogger(new(logging.VoidLogger)) // its errors come back from its calls
	os.Exit(p.run(os.Args[1:]))
}

// run runs the command that args name and returns its exit code.
func (p *program) run(args []string) int {
	err := p.dispatch(args)
	var bad usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.out, usage)
		return exitOK
	case errors.Is(err, errReported):
		return exitFailure
	case errors.As(err, &bad):
		fmt.Fprintf(p.err, "gateway: %v; see gateway help\n", err)
		return exitUsage
	}
	p.complain(err)
	return exitFailure
}

// complain prints err, a line a fault; those of a file begin with their place.
func (p *program) complain(err error) {
	prefix := "gateway: "
	if errors.As(err, new(*config.Faults)) {
		prefix = ""
	}
	for _, line := range faultLines(err) {
		fmt.Fprintf(p.err, "%s%s\n", prefix, line)
	}
}

func (p *program) dispatch(args []string) error {
	if len(args) == 0 {
		return p.serveDefault()
	}
	commands := map[string]func([]string) error{
		"run": p.runCommand, "check": p.check, "explain": p.explain,
		"test": p.test, "cert": p.cert, "schema": p.schema, "version": p.version,
	}
	name, rest := args[0], args[1:]
	if command, ok := commands[name]; ok {
		return command(rest)
	}
	switch name {
	case "help", "-h", "-help", "--help":
		return flag.ErrHelp
	}
	if strings.HasPrefix(name, "-") {
		return usageError(fmt.Sprintf("a command comes first, such as gateway run %s", strings.Join(args, " ")))
	}
	return usageError(fmt.Sprintf("there is no command %q", name))
}

// flags returns a flag set for a command.
func flags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// parse reads args and returns those that are no flags; flags may follow them.
func parse(fs *flag.FlagSet, args []string, want ...string) ([]string, error) {
	rest, err := parseAny(fs, args)
	if err != nil {
		return nil, err
	}
	if len(rest) < len(want) {
		return nil, usageError(fmt.Sprintf("%s needs %s", fs.Name(), want[len(rest)]))
	}
	if len(rest) > len(want) {
		return nil, usageError(fmt.Sprintf("%s does not take %q", fs.Name(), rest[len(want)]))
	}
	return rest, nil
}

// parseAny is parse for any number of arguments.
func parseAny(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, usageError(fmt.Sprintf("%s: %v", fs.Name(), err))
		}
		if args = fs.Args(); len(args) == 0 {
			return rest, nil
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

// configFlag adds -config; the function it returns demands it.
func configFlag(fs *flag.FlagSet) func() (string, error) {
	path := fs.String("config", "", "")
	return func() (string, error) {
		if *path == "" {
			return "", usageError(fs.Name() + " needs -config FILE")
		}
		return *path, nil
	}
}

// logger writes to standard error: text for a person, JSON otherwise.
func (p *program) logger() *slog.Logger {
	if p.terminal {
		return slog.New(slog.NewTextHandler(p.err, nil))
	}
	return slog.New(slog.NewJSONHandler(p.err, nil))
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
