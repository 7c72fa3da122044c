package service

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/jobs"
	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users/cache"
)

// lostTime bounds the noting of a write that the cache could not be told of.
const lostTime = 2 * time.Second

// lost is for cache.Config: a write that the cache could not be told of is told
// again by a job, by whichever process does it. That cannot be enqueued with the
// write, which does not know of it yet; a process that ends in between leaves an
// entry that is old until it expires. Any shard does where the user's own does not.
func (o *jobsOf) lost() func(ctx context.Context, id string, version int64, until time.Time) {
	if o == nil {
		return nil
	}
	return func(ctx context.Context, id string, version int64, until time.Time) {
		ctx, cancel := context.WithTimeout(ctx, lostTime)
		defer cancel()
		order := jobs.Order{Args: jobs.CacheFix{User: id, Version: version, Until: until}}
		first := o.home(id)
		var errs []error
		for i := range o.queues {
			err := o.queues[(first+i)%len(o.queues)].Add(ctx, order)
			if err == nil {
				return
			}
			errs = append(errs, err)
		}
		o.log.Warn("the repair of the cache could not be enqueued", "user", id, "error", errors.Join(errs...))
	}
}

// fixCache does a CacheFix, in every Redis that a service of this process uses.
func (o *jobsOf) fixCache(ctx context.Context, _ jobs.Job, args jobs.CacheFix) error {
	if !args.Until.IsZero() && time.Now().After(args.Until) {
		return nil // nothing that is older has outlived that
	}
	all := o.levels.all()
	if len(all) == 0 {
		return errors.New("this process has no redis")
	}
	var errs []error
	for _, level := range all {
		errs = append(errs, level.Repair(ctx, args.User, args.Version, o.grave))
	}
	return errors.Join(errs...)
}

// homes finds the place, in shards, of the shard that a user began in.
func (s *Spec) homes() (func(id string) int, error) {
	assign, err := s.assigner()
	if err != nil {
		return nil, err
	}
	return func(id string) int {
		parsed, err := shard.ParseID(id)
		if err != nil {
			return 0
		}
		return assign.Home(parsed.Bucket())
	}, nil
}

// levels are what the services over one store cache in, by who uses them.
type levels struct {
	mu  sync.Mutex
	has map[any]*cache.Redis
}

func (l *levels) add(user any, level *cache.Redis) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.has == nil {
		l.has = map[any]*cache.Redis{}
	}
	l.has[user] = level
}

func (l *levels) remove(user any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.has, user)
}

func (l *levels) all() []*cache.Redis {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.has))
}
