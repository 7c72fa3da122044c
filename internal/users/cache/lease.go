package cache

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/users"
)

const (
	leaseKey      = "sluice:u:lease:"      // and the entry's key: who reads that user from the store
	leaseTime     = 2 * time.Second        // of one whose holder does not come back
	leasePatience = 200 * time.Millisecond // of those who wait for its holder
)

// A lessor is a level by which processes agree on who reads what is not there.
type lessor interface {
	// Lease is Find that takes the lease where it finds nothing that serves and
	// nobody has it: the mark says so. Whoever has a lease reads, and gives it back
	// with what it puts, or else returns it.
	Lease(ctx context.Context, id string) (*Entry, Mark, error)
	// Take takes the lease whatever is there; the mark is at with what came of it.
	Take(ctx context.Context, id string, at Mark) (Mark, error)
	// Return ends the lease of a mark; it does not wait for that.
	Return(id string, at Mark)
}

// look finds the entry of an ID, with the lease of what is not there where the
// caller can wait for what another reads.
func (s *Store) look(ctx context.Context, id string, waits bool) (*Entry, Mark, error) {
	if waits && s.leases != nil {
		return s.leases.Lease(ctx, id)
	}
	return s.cfg.Level.Find(ctx, id)
}

// alone reports whether no other process is to be waited for, and puts the lease
// into at.
func (s *Store) alone(ctx context.Context, id string, at *Mark) bool {
	if s.leases == nil {
		return true
	}
	next, err := s.leases.Take(ctx, id, *at)
	if err == nil {
		*at = next
	}
	return !at.busy
}

func (s *Store) giveBack(id string, at Mark) {
	if at.lease != "" {
		s.leases.Return(id, at)
	}
}

// lead reads from the store where no other process is at it, and else waits for
// what that one finds. A lease is only ever to save work: who has waited long
// enough reads without.
func (s *Store) lead(ctx context.Context, id string, at Mark, f *flight) (users.User, users.Source, error) {
	if at != noMark && at.lease == "" && !at.busy { // what is there cannot be read
		s.alone(ctx, id, &at)
	}
	if at.busy {
		e, next := s.await(ctx, id, at, f)
		if e != nil {
			s.keepLocal(ctx, id, e, time.Now())
			return e.answer()
		}
		at = next
	}
	if at.lease == "" {
		select {
		case at = <-f.lease:
		default:
		}
	}
	return s.read(ctx, id, "", at)
}

// await waits for an entry while another process reads it; nil: in vain. Where
// the other gives up, or somebody brings its lease here, the mark has it.
func (s *Store) await(ctx context.Context, id string, at Mark, f *flight) (*Entry, Mark) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 16*time.Millisecond) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, at
		case at := <-f.lease:
			timer.Stop()
			return nil, at
		case <-timer.C:
		}
		e, next, err := s.leases.Lease(ctx, id)
		if err != nil {
			return nil, at
		}
		if e.serves(0) {
			return e, next
		}
		if !next.busy {
			return nil, next
		}
	}
}

// Lease implements the agreement in Redis.
func (r *Redis) Lease(ctx context.Context, id string) (*Entry, Mark, error) {
	return r.look(ctx, &call{key: entryKey + id, want: true})
}

// Take takes a lease.
func (r *Redis) Take(ctx context.Context, id string, at Mark) (Mark, error) {
	if err := r.ready(ctx); err != nil {
		return at, err
	}
	c := &call{key: entryKey + id}
	token := randomGen()
	err := r.client.SetArgs(ctx, c.leaseKey(), token, redis.SetArgs{Mode: "NX", TTL: leaseTime}).Err()
	switch {
	case errors.Is(err, redis.Nil):
		at.busy = true
	case err != nil && ctx.Err() == nil:
		return at, r.failed(err)
	case err == nil:
		at.lease = token
	}
	return at, nil
}

// Return ends a lease. Where that fails it ends by itself.
func (r *Redis) Return(id string, at Mark) {
	r.abandoned(&call{key: entryKey + id, lease: at.lease})
}

// abandoned returns the lease of a look-up, if it has one, for whoever made it.
func (r *Redis) abandoned(c *call) {
	if c.lease != "" {
		r.puts.post(&call{key: c.key, lease: c.lease})
	}
}
