package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users/service"
)

// purgeAfter is when what a move has left behind is removed. Until then the bucket
// could be looked at where it was.
const purgeAfter = 24 * time.Hour

// with runs something on the service of a file, which serves nobody.
func (p *program) with(ctx context.Context, path string, do func(s *service.Service) error) error {
	f, err := p.load(path)
	if err != nil {
		return err
	}
	f.Users.Jobs = nil // who is made up or moved gets no e-mails
	s, err := service.NewServices(nil, p.logger()).Open(ctx, f.Users, nil)
	if err != nil {
		return err
	}
	if c := s.Cluster(); c != nil && c.Router().Map() == nil {
		if err = c.Refresh(ctx); err != nil {
			err = fmt.Errorf("no map of the shards can be read: %w", err)
		}
	}
	if err == nil {
		err = do(s)
	}
	return errors.Join(err, s.Release())
}

// withMover is with for what moves buckets.
func (p *program) withMover(ctx context.Context, path string, do func(c *shard.Cluster, m *shard.Mover) error) error {
	return p.with(ctx, path, func(s *service.Service) error {
		c := s.Cluster()
		if c == nil {
			return errors.New("the shards of the embedded mode are files of one process: their buckets do not move")
		}
		return do(c, shard.NewMover(c))
	})
}

// shards is `users shards`.
func (p *program) shards(ctx context.Context, args []string) error {
	l := newLine("shards")
	if err := none(l, args); err != nil {
		return err
	}
	return p.with(ctx, *l.config, func(s *service.Service) error {
		sizes, err := s.Sizes(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "shard\tbuckets\tusers\tMiB\t")
		var failed []error
		estimates := false
		for _, z := range sizes {
			if z.Err != nil {
				fmt.Fprintf(w, "%s\t%d\t?\t?\t\n", z.Name, z.Buckets)
				failed = append(failed, fmt.Errorf("shard %s: %w", z.Name, z.Err))
				continue
			}
			about := ""
			if z.Estimate {
				about, estimates = "~", true
			}
			fmt.Fprintf(w, "%s\t%d\t%s%d\t%.1f\t\n", z.Name, z.Buckets, about, z.Rows, float64(z.Bytes)/(1<<20))
		}
		failed = append(failed, w.Flush())
		if estimates {
			fmt.Fprintln(p.err, "~ is an estimate: counting took too long")
		}
		return errors.Join(failed...)
	})
}

// moves is `users moves`.
func (p *program) moves(ctx context.Context, args []string) error {
	l := newLine("moves")
	n := l.Int("n", 20, "")
	if err := none(l, args); err != nil {
		return err
	}
	if *n < 1 {
		return usageError(fmt.Sprintf("moves: -n is at least 1, not %d", *n))
	}
	return p.withMover(ctx, *l.config, func(_ *shard.Cluster, m *shard.Mover) error {
		ended, err := m.Recover(ctx)
		if err != nil {
			return err
		}
		if ended > 0 {
			fmt.Fprintf(p.err, "ended %d moves that were left\n", ended)
		}
		purged, err := m.Purge(ctx, purgeAfter)
		if err != nil {
			return err
		}
		if purged > 0 {
			fmt.Fprintf(p.err, "removed %d rows that moves had left behind\n", purged)
		}
		list, err := m.Moves(ctx, *n)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "started\tbucket\tfrom\tto\trows\tstate")
		for _, v := range list {
			state := v.Step
			if v.Done {
				state = map[string]string{"commit": "moved", "abort": "given up"}[v.Decision]
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d\t%s\n", v.Started.UTC().Format(time.RFC3339), v.Bucket, v.From, v.To, v.Rows, state)
		}
		return w.Flush()
	})
}

// move is `users move`.
func (p *program) move(ctx context.Context, args []string) error {
	l := newLine("move")
	rest, err := l.parse(args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return usageError("move needs BUCKETS and SHARD, such as 0-99 s2")
	}
	first, last, err := bucketRange(rest[0])
	if err != nil {
		return err
	}
	return p.withMover(ctx, *l.config, func(c *shard.Cluster, m *shard.Mover) error {
		to := slices.Index(c.Names(), rest[1])
		if to < 0 {
			return usageError(fmt.Sprintf("there is no shard %q, but %s", rest[1], strings.Join(c.Names(), ", ")))
		}
		var plan []shard.Relocation
		for b := first; b <= last; b++ {
			if from := int(c.Router().Lookup(b).Shard); from != to {
				plan = append(plan, shard.Relocation{Bucket: b, From: from, To: to})
			}
		}
		return p.follow(ctx, c, m, plan)
	})
}

func bucketRange(text string) (first, last shard.Bucket, err error) {
	from, to, both := strings.Cut(text, "-")
	if !both {
		to = from
	}
	a, err1 := strconv.ParseUint(from, 10, 16)
	b, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || a > b || b >= shard.Buckets {
		return 0, 0, usageError(fmt.Sprintf("%q is neither a bucket from 0 to %d nor a range of them", text, shard.Buckets-1))
	}
	return shard.Bucket(a), shard.Bucket(b), nil
}

// follow does the moves of a plan, one after the other.
func (p *program) follow(ctx context.Context, c *shard.Cluster, m *shard.Mover, plan []shard.Relocation) error {
	names, total := c.Names(), int64(0)
	for i, r := range plan {
		rows, err := m.Move(ctx, r.Bucket, names[r.To])
		total += rows
		if err != nil {
			return fmt.Errorf("bucket %d from %s to %s, the move %d of %d: %w", r.Bucket, names[r.From], names[r.To], i+1, len(plan), err)
		}
		if p.terminal {
			fmt.Fprintf(p.err, "\rmoved %d of %d buckets, %d rows\x1b[K", i+1, len(plan), total)
		}
	}
	if p.terminal && len(plan) > 0 {
		fmt.Fprintln(p.err)
	}
	fmt.Fprintf(p.out, "moved %d buckets, %d rows\n", len(plan), total)
	return nil
}

// rebalance is `users rebalance`.
func (p *program) rebalance(ctx context.Context, args []string) error {
	l := newLine("rebalance")
	dry := l.Bool("dry-run", false, "")
	rest, err := l.parse(args)
	if err != nil {
		return err
	}
	return p.withMover(ctx, *l.config, func(c *shard.Cluster, m *shard.Mover) error {
		weights, err := weightsOf(c.Names(), rest)
		if err != nil {
			return err
		}
		plan, err := shard.Plan(c.Router().Map(), weights)
		if err != nil {
			return err
		}
		if !*dry {
			return p.follow(ctx, c, m, plan)
		}
		for _, r := range plan {
			fmt.Fprintf(p.out, "bucket %d from %s to %s\n", r.Bucket, c.Names()[r.From], c.Names()[r.To])
		}
		fmt.Fprintf(p.out, "%d buckets would move\n", len(plan))
		return nil
	})
}

// weightsOf reads SHARD=WEIGHT; who is not named weighs 1.
func weightsOf(names, args []string) ([]float64, error) {
	weights := make([]float64, len(names))
	for i := range weights {
		weights[i] = 1
	}
	for _, arg := range args {
		name, text, _ := strings.Cut(arg, "=")
		at := slices.Index(names, name)
		w, err := strconv.ParseFloat(text, 64)
		if at < 0 || err != nil || !(w >= 0 && w <= 1e6) {
			return nil, usageError(fmt.Sprintf("%q is not SHARD=WEIGHT with a shard of %s and a weight from 0", arg, strings.Join(names, ", ")))
		}
		weights[at] = w
	}
	return weights, nil
}
