package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-edge/sluice/bench/load"
	"github.com/sluice-edge/sluice/bench/phases"
)

// settle is how long a server may take to count what its connections have done
// (PostgreSQL gathers it once a second).
const settle = 1200 * time.Millisecond

// walkTime bounds the reading of every user. The most popular ones come last, so that
// what expires meanwhile is of those that hardly anybody asks for.
const walkTime = 10 * time.Minute

// environment is what the phases' files take from it for a load. One client is all
// of the world here, so that the limit of a client is counted and never hit; and
// where everything waits for the same cores, Redis is not given up after 50 ms. The
// edge's memory is that of a machine of its own.
func environment() map[string]string {
	return map[string]string{"CLIENT_RATE": "100000000/1m", "CLIENT_BURST": "1000000", "REDIS_TIMEOUT": "1s", "SMTP": "127.0.0.1:9",
		"CACHE_MEMORY": "2GiB"}
}

// A journey measures one phase after the other.
type journey struct {
	in      *phases.Install
	dir     string
	setting setting
	threads int
	seed    uint64
	people  *population
	seeder  *seeder
	bar     *bar
	walked  *phases.Running // whose caches have every user
}

// measure runs a phase and loads it. It always returns: why there are no figures
// is in the outcome.
func (j *journey) measure(ctx context.Context, p *phases.Phase) outcome {
	o := outcome{name: p.Name, title: p.Title, processes: len(p.Specs)}
	if err := j.phase(ctx, p, &o); err != nil {
		o.why = err.Error()
	}
	return o
}

func (j *journey) phase(ctx context.Context, p *phases.Phase, o *outcome) error {
	j.bar.step(p.Name, "filling databases")
	data, err := j.seeder.data(ctx, p)
	if err != nil {
		return err
	}
	j.bar.step(p.Name, "starting")
	dir := filepath.Join(j.dir, p.Name)
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := phases.Start(ctx, p, phases.Options{Install: j.in, Dir: dir, Data: data, Settled: j.setting.settled, Env: environment()})
	if err != nil {
		return err
	}
	defer r.Stop()
	mix := load.Mix{Writes: j.setting.writes, Skew: j.setting.skew, Seed: j.seed}
	if o.mixed, err = j.load(ctx, r, mix, "mixed", j.setting.warm, j.setting.measured); err != nil {
		return j.cause(ctx, r, err)
	}
	if j.setting.reads {
		mix.Writes, mix.Seed = 0, j.seed+1
		if o.reads, err = j.load(ctx, r, mix, "reads", time.Second, j.setting.readsTime); err != nil {
			return j.cause(ctx, r, fmt.Errorf("reads alone: %w", err))
		}
	}
	return r.Dead()
}

// cause adds to an error which processes have ended by themselves, once they have
// had the time to.
func (j *journey) cause(ctx context.Context, r *phases.Running, err error) error {
	_ = pause(ctx, settle)
	return errors.Join(err, r.Dead())
}

// load is one load of a phase, after some that does not count.
func (j *journey) load(ctx context.Context, r *phases.Running, mix load.Mix, what string, warm, measured time.Duration) (part, error) {
	c, err := load.Dial(ctx, load.Config{Address: r.Front().Address, Connections: j.setting.connections, Threads: j.threads, Population: j.people, Mix: mix})
	if err != nil {
		return part{}, err
	}
	defer c.Close()
	if err := j.warm(ctx, r, c, what+" warm", warm); err != nil {
		return part{}, fmt.Errorf("warming up: %w", err)
	}
	if err := pause(ctx, settle); err != nil {
		return part{}, err
	}
	before, err := count(ctx, r)
	if err != nil {
		return part{}, err
	}
	begin, err := use(r)
	if err != nil {
		return part{}, err
	}
	result, err := j.watched(ctx, r, c, what, measured, c.Run)
	if err != nil {
		return part{}, err
	}
	end, err := use(r)
	if err != nil {
		return part{}, err
	}
	if err := pause(ctx, settle); err != nil {
		return part{}, err
	}
	after, err := count(ctx, r)
	if err != nil {
		return part{}, err
	}
	return newPart(result, after.minus(before), end.since(begin)), nil
}

// warm loads a phase before it is measured. Where it has caches, every user is read
// once as well: a cache that has run for a day is not as empty as one that has run
// for seconds.
func (j *journey) warm(ctx context.Context, r *phases.Running, c *load.Client, what string, d time.Duration) error {
	before, err := count(ctx, r)
	if err != nil {
		return err
	}
	if _, err := j.watched(ctx, r, c, what, d, c.Run); err != nil {
		return err
	}
	after, err := count(ctx, r)
	if err != nil {
		return err
	}
	if !after.minus(before).cached() || j.walked == r {
		return nil
	}
	j.walked = r
	walk, err := j.watched(ctx, r, c, "every user", walkTime, c.Walk)
	if err == nil && walk.Requests < j.people.Len() {
		err = fmt.Errorf("%d of %d users were read in %v", walk.Requests, j.people.Len(), walkTime)
	}
	return err
}

// watched runs a load under the bar. One error, and it has no result.
func (j *journey) watched(ctx context.Context, r *phases.Running, c *load.Client, what string, d time.Duration,
	run func(context.Context, time.Duration) *load.Result) (*load.Result, error) {
	j.bar.begin(r.Phase.Name, what)
	done, watching := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watching)
		j.bar.watch(r.Phase.Name, what, d, c.Sent, done)
	}()
	result := run(ctx, d)
	close(done)
	<-watching
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case result.Failed() > 0:
		return nil, fmt.Errorf("%d of %d requests went wrong: %s", result.Failed(), result.Requests+result.Failed(), result.Failures())
	case result.Requests == 0:
		return nil, errors.New("nothing was answered")
	}
	return result, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
