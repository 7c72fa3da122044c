package cache

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/users"
)

const (
	leaseKey      = "sluice:u:lease:"      // and the ID: who reads that user from the store
	leaseTime     = 2 * time.Second        // of one whose holder does not come back
	leasePatience = 200 * time.Millisecond // of those who wait for its holder
)

// A lessor is a level by which processes agree on who reads what is not there.
type lessor interface {
	// Lease reports whether the caller is the one who reads; it then gives back
	// the lease, with the token, once what it has read is there.
	Lease(ctx context.Context, id string) (token string, mine bool, err error)
	Leased(ctx context.Context, id string) (bool, error)
	Return(ctx context.Context, id, token string)
}

// lead reads from the store where no other process is at it, and else waits for
// what that one finds. A lease is only ever to save work: who has waited long
// enough, or finds that the other has failed, reads as well.
func (s *Store) lead(ctx context.Context, id string, at Mark) (users.User, users.Source, error) {
	if s.leases == nil || at == noMark {
		return s.read(ctx, id, "", at)
	}
	token, mine, err := s.leases.Lease(ctx, id)
	if err == nil && mine {
		defer s.leases.Return(context.WithoutCancel(ctx), id, token)
	} else if err == nil {
		if e := s.await(ctx, id); e != nil {
			s.keepLocal(ctx, id, e, time.Now())
			return e.answer()
		}
	}
	return s.read(ctx, id, "", at)
}

// await waits for an entry while another process reads it; nil: in vain.
func (s *Store) await(ctx context.Context, id string) *Entry {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 16*time.Millisecond) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		// In this order: the holder gives the lease back when the entry is there.
		leased, err := s.leases.Leased(ctx, id)
		if err != nil {
			return nil
		}
		e, _, err := s.cfg.Level.Find(ctx, id)
		if err == nil && e.serves(0) {
			return e
		}
		if err != nil || !leased {
			return nil
		}
	}
}

// Lease implements the agreement in Redis.
func (r *Redis) Lease(ctx context.Context, id string) (token string, mine bool, err error) {
	if err := r.ready(ctx); err != nil {
		return "", false, err
	}
	token = randomGen()
	err = r.client.SetArgs(ctx, leaseKey+id, token, redis.SetArgs{Mode: "NX", TTL: leaseTime}).Err()
	if errors.Is(err, redis.Nil) {
		return "", false, nil
	}
	if err != nil {
		return "", false, r.failed(err)
	}
	return token, true, nil
}

// Leased reports whether somebody has the lease.
func (r *Redis) Leased(ctx context.Context, id string) (bool, error) {
	n, err := r.client.Exists(ctx, leaseKey+id).Result()
	return n > 0, err
}

// returnScript deletes the lease if it is still the caller's: it may have ended,
// and be another's.
var returnScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0`)

// Return ends a lease. Where that fails it ends by itself.
func (r *Redis) Return(ctx context.Context, id, token string) {
	_ = returnScript.Run(ctx, r.client, []string{leaseKey + id}, token).Err()
}
