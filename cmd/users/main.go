// Command users runs the bundled user service as a process of its own, and does
// what its shards need from time to time.
package main

import (
	"context"
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
	"github.com/sluice-edge/sluice/internal/redislink"
	"github.com/sluice-edge/sluice/internal/users/service"
)

const usage = `The user service of Sluice.

  users run       -config FILE                serve until SIGTERM or SIGINT
  users worker    -config FILE [-queues a,b] [-concurrency N] [-listen ADDR]
                                              do jobs, N of a queue and shard at a time, until SIGTERM or SIGINT;
                                              /metrics on ADDR
  users jobs      list -config FILE [-n N]    list the jobs that were given up, with their errors
  users jobs      requeue -config FILE SHARD ID...|all
                                              have them tried again
  users seed      -config FILE [-n N]         make up users until there are N (1000000)
  users shards    -config FILE                print the shards, what buckets they have, how large they are
  users moves     -config FILE [-n N]         list the moves of buckets, the newest first; end those that were left
  users move      -config FILE BUCKETS SHARD  move buckets, such as 7 or 0-99, while they are read and written
  users rebalance -config FILE [-dry-run] [SHARD=WEIGHT]...
                                              move buckets until each shard has its share; a weight of 0 empties one
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

// A File is the configuration file.
type File struct {
	Redis *redislink.Settings `yaml:"redis" doc:"where processes keep what they share; without the key: each for itself"`
	Users service.Spec        `yaml:"users" required:"true" doc:"the service"`
}

// A program is one run of the command and what it has of the world.
type program struct {
	out, err io.Writer
	env      func(string) (string, bool)
	terminal bool // whether err is read by a person
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	info, err := os.Stderr.Stat()
	redis.SetLogger(new(logging.VoidLogger)) // its errors come back from its calls
	p := &program{
		out: os.Stdout, err: os.Stderr, env: os.LookupEnv,
		terminal: err == nil && info.Mode()&os.ModeCharDevice != 0,
	}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// run runs the command that args name, until ctx ends, and returns its exit code.
func (p *program) run(ctx context.Context, args []string) int {
	err := p.dispatch(ctx, args)
	var bad usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.out, usage)
		return exitOK
	case errors.As(err, &bad):
		fmt.Fprintf(p.err, "users: %v; see users help\n", err)
		return exitUsage
	}
	prefix := "users: "
	if errors.As(err, new(*config.Faults)) {
		prefix = "" // each begins with its place
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(p.err, "%s%s\n", prefix, line)
	}
	return exitFailure
}

func (p *program) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usageError("a command is missing")
	}
	commands := map[string]func(context.Context, []string) error{
		"run": p.serve, "seed": p.seed, "shards": p.shards, "moves": p.moves, "move": p.move, "rebalance": p.rebalance,
		"worker": p.worker, "jobs": p.jobs,
	}
	name, rest := args[0], args[1:]
	if command, ok := commands[name]; ok {
		return command(ctx, rest)
	}
	switch name {
	case "help", "-h", "-help", "--help":
		return flag.ErrHelp
	}
	return usageError(fmt.Sprintf("there is no command %q", name))
}

// A command line has -config and flags of its own; more follow in any order.
type line struct {
	*flag.FlagSet
	config *string
}

func newLine(name string) line {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return line{fs, fs.String("config", "", "")}
}

// parse returns what is no flag.
func (l line) parse(args []string) (rest []string, err error) {
	for {
		if err := l.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, usageError(fmt.Sprintf("%s: %v", l.Name(), err))
		}
		if args = l.Args(); len(args) == 0 {
			break
		}
		rest, args = append(rest, args[0]), args[1:]
	}
	if *l.config == "" {
		return nil, usageError(l.Name() + " needs -config FILE")
	}
	return rest, nil
}

// none refuses arguments.
func none(l line, args []string) error {
	rest, err := l.parse(args)
	if err == nil && len(rest) > 0 {
		err = usageError(fmt.Sprintf("%s does not take %q", l.Name(), rest[0]))
	}
	return err
}

// load reads a file.
func (p *program) load(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	doc, err := config.Parse(path, data, p.env)
	if err != nil {
		return nil, err
	}
	f := &File{Users: service.Default()}
	doc.Decode(f)
	if !doc.Has("users") { // the defaults of a service that nobody asked for
		doc.Fault("users", errors.New(`missing key "users" (the service)`))
	}
	return f, doc.Err()
}

// link opens the file's client of Redis; nil where it has none.
func (f *File) link() (redis.UniversalClient, func(), error) {
	if f.Redis == nil {
		return nil, func() {}, nil
	}
	link, err := f.Redis.Open(nil)
	if err != nil {
		return nil, nil, fmt.Errorf("redis: %w", err)
	}
	return link.UniversalClient, func() { _ = link.Close() }, nil
}

// logger writes to standard error: text for a person, JSON otherwise.
func (p *program) logger() *slog.Logger {
	if p.terminal {
		return slog.New(slog.NewTextHandler(p.err, nil))
	}
	return slog.New(slog.NewJSONHandler(p.err, nil))
}
