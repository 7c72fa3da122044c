package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-edge/sluice/bench/phases"
)

// A seeder fills databases with the population, once for every layout of shards,
// and keeps their data directories for phases to begin with copies of.
type seeder struct {
	in     *phases.Install
	dir    string
	people *population
	kept   map[string]map[string]string // of the databases' names, by layout
}

// data are the data directories that a phase begins with.
func (s *seeder) data(ctx context.Context, p *phases.Phase) (map[string]string, error) {
	layout := strings.Join(p.Primaries(), "+")
	if have := s.kept[layout]; have != nil {
		return have, nil
	}
	empty, err := s.found(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("having the service make its tables: %w", err)
	}
	full, err := s.fill(ctx, p, empty)
	if err != nil {
		return nil, fmt.Errorf("filling the databases: %w", err)
	}
	s.kept[layout] = full
	return full, nil
}

func (s *seeder) begin(ctx context.Context, p *phases.Phase, sub string, opts phases.Options) (*phases.Running, error) {
	opts.Install, opts.Settled, opts.Env = s.in, true, environment()
	opts.Dir = filepath.Join(s.dir, sub)
	if err := os.Mkdir(opts.Dir, 0o711); err != nil {
		return nil, err
	}
	return phases.Start(ctx, p, opts)
}

// dirs are where a phase's primaries keep their data.
func dirs(r *phases.Running) map[string]string {
	list := map[string]string{}
	for _, p := range r.Processes {
		if p.Primary() {
			list[p.Name] = p.Dir
		}
	}
	return list
}

// found runs the phase once over empty databases, in which the service makes
// tables and divides the buckets.
func (s *seeder) found(ctx context.Context, p *phases.Phase) (map[string]string, error) {
	r, err := s.begin(ctx, p, "empty-"+p.Name, phases.Options{})
	if err != nil {
		return nil, err
	}
	defer r.Stop()
	if _, err := r.Probe(ctx); err != nil {
		return nil, fmt.Errorf("the phase does not do what it must: %w", err)
	}
	return dirs(r), r.Dead()
}

// fill copies the population into the shards, each user into the one that owns
// its bucket.
func (s *seeder) fill(ctx context.Context, p *phases.Phase, empty map[string]string) (map[string]string, error) {
	r, err := s.begin(ctx, p, "full-"+p.Name, phases.Options{Data: empty, Only: phases.Spec.Primary})
	if err != nil {
		return nil, err
	}
	defer r.Stop()
	counts := make([]int, len(r.Processes))
	errs := make([]error, len(r.Processes))
	var wg sync.WaitGroup
	for i, process := range r.Processes {
		wg.Go(func() { counts[i], errs[i] = s.copy(ctx, process) })
	}
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if total != s.people.Len() {
		return nil, fmt.Errorf("the shards own the buckets of %d users of %d", total, s.people.Len())
	}
	return dirs(r), nil
}

func (s *seeder) copy(ctx context.Context, p *phases.Process) (int, error) {
	conn, err := pgx.Connect(ctx, p.URL("users"))
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, "SELECT bucket FROM bucket_owner WHERE state = 'active'")
	if err != nil {
		return 0, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[int16])
	if err != nil {
		return 0, err
	}
	buckets := map[int16]bool{}
	for _, b := range list {
		buckets[b] = true
	}
	users := s.people.in(buckets)
	for _, table := range []struct {
		name    string
		columns []string
		row     func(int) []any
	}{{"users", columns, s.people.row}, {"email_claim", claimColumns, s.people.claim}} {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{table.name}, table.columns,
			pgx.CopyFromSlice(len(users), func(i int) ([]any, error) { return table.row(users[i]), nil }))
		if err != nil {
			return 0, fmt.Errorf("table %s: %w", table.name, err)
		}
	}
	for _, sql := range []string{"VACUUM (ANALYZE) users", "VACUUM (ANALYZE) email_claim", "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return 0, fmt.Errorf("%s: %w", sql, err)
		}
	}
	return len(users), nil
}
