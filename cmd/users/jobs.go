package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/internal/jobs"
	"github.com/sluice-edge/sluice/internal/users/service"
)

// worker is `users worker`: it does the jobs that services have enqueued.
func (p *program) worker(ctx context.Context, args []string) error {
	l := newLine("worker")
	queues := l.String("queues", "", "")
	concurrency := l.Int("concurrency", 4, "")
	listen := l.String("listen", "", "")
	if err := none(l, args); err != nil {
		return err
	}
	var list []string
	if *queues != "" {
		list = strings.Split(*queues, ",")
	}
	if *concurrency < 1 {
		return usageError(fmt.Sprintf("worker: -concurrency is at least 1, not %d", *concurrency))
	}
	return p.withJobs(ctx, *l.config, true, func(room *service.JobRoom) error {
		w, err := room.Worker(ctx, list, *concurrency)
		if unknown := new(jobs.UnknownError); errors.As(err, &unknown) {
			return usageError("worker: " + err.Error())
		}
		if err != nil {
			return err
		}
		stop, err := p.show(*listen, w)
		if err != nil {
			return err
		}
		defer stop()
		signal.Ignore(syscall.SIGPIPE) // who reads the logs may end; who works does not
		p.logger().Info("working", "queues", *queues, "concurrency", *concurrency)
		return w.Run(ctx)
	})
}

// withJobs does something with the jobs of a file; caching, with its Redis as well.
func (p *program) withJobs(ctx context.Context, path string, caching bool, do func(*service.JobRoom) error) error {
	f, err := p.load(path)
	if err != nil {
		return err
	}
	if !caching {
		f.Redis = nil
	}
	client, done, err := f.link()
	if err != nil {
		return err
	}
	defer done()
	room, err := service.OpenJobs(ctx, f.Users, client, p.logger())
	if err != nil {
		return err
	}
	defer room.Close()
	return do(room)
}

// show serves a worker's metrics, if there is an address for them.
func (p *program) show(address string, w *jobs.Worker) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	server := &http.Server{ReadHeaderTimeout: readTime, Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(out, r)
			return
		}
		out.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		jobs.WriteMetrics(out, w)
		metrics.WriteProcessMetrics(out)
		metrics.WriteFDMetrics(out)
	})}
	p.logger().Info("metrics", "address", ln.Addr().String())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(ln) // until it is closed
	}()
	return func() {
		_ = server.Close()
		<-ended
	}, nil
}

// jobs is `users jobs`.
func (p *program) jobs(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usageError("jobs: list or requeue is missing")
	}
	switch args[0] {
	case "list":
		return p.listJobs(ctx, args[1:])
	case "requeue":
		return p.requeueJobs(ctx, args[1:])
	case "help", "-h", "-help", "--help":
		return flag.ErrHelp
	}
	return usageError(fmt.Sprintf("jobs: there is no %q, only list and requeue", args[0]))
}

// listJobs prints the dead letters.
func (p *program) listJobs(ctx context.Context, args []string) error {
	l := newLine("jobs list")
	limit := l.Int("n", 100, "")
	if err := none(l, args); err != nil {
		return err
	}
	if *limit < 1 {
		return usageError(fmt.Sprintf("jobs list: -n is at least 1, not %d", *limit))
	}
	return p.withJobs(ctx, *l.config, false, func(room *service.JobRoom) error {
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "shard\tid\tkind\tattempts\tdied\terror")
		boxes := room.Boxes()
		var failed []error
		for _, name := range slices.Sorted(maps.Keys(boxes)) {
			list, err := boxes[name].Dead(ctx, 0, *limit)
			failed = append(failed, err)
			for _, d := range list {
				fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%q\n", name, d.ID, d.Kind, d.Attempts, d.Died.Format(time.RFC3339), d.Error)
			}
		}
		return errors.Join(append(failed, w.Flush())...)
	})
}

// requeueJobs has dead letters tried again.
func (p *program) requeueJobs(ctx context.Context, args []string) error {
	l := newLine("jobs requeue")
	rest, err := l.parse(args)
	if err != nil {
		return err
	}
	if len(rest) < 2 {
		return usageError("jobs requeue needs SHARD and the ids of jobs, or all")
	}
	return p.withJobs(ctx, *l.config, false, func(room *service.JobRoom) error {
		box := room.Boxes()[rest[0]]
		if box == nil {
			return usageError(fmt.Sprintf("there is no shard %q", rest[0]))
		}
		ids, err := deadIDs(ctx, box, rest[1:])
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := box.Requeue(ctx, id); err != nil {
				return err
			}
		}
		fmt.Fprintf(p.out, "%d jobs of shard %s are tried again\n", len(ids), rest[0])
		return nil
	})
}

// deadIDs are the ids that words name.
func deadIDs(ctx context.Context, box service.DeadLetterBox, words []string) (ids []int64, err error) {
	if len(words) == 1 && words[0] == "all" {
		for after := int64(0); ; {
			list, err := box.Dead(ctx, after, 1000)
			if err != nil || len(list) == 0 {
				return ids, err
			}
			for _, d := range list {
				ids, after = append(ids, d.ID), d.ID
			}
		}
	}
	for _, word := range words {
		id, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return nil, usageError(fmt.Sprintf("jobs requeue: %q is no id", word))
		}
		ids = append(ids, id)
	}
	return ids, nil
}
