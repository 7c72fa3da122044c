package edgecache

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"
)

// A job is a write that waits.
type job struct {
	what  jobKind
	key   Key
	text  string
	entry *Entry

	field, value string // of deleteField: what is there, and is to go
}

type jobKind uint8

const (
	store jobKind = iota
	deleteAll
	deleteField
)

const (
	maxJobs     = 4096
	maxStores   = 512
	maxJobBytes = 32 << 20 // of contents that wait
	jobsAtOnce  = 32
)

// A sharedQueue has the writes in their order.
type sharedQueue struct {
	kick chan struct{}

	mu     sync.Mutex
	jobs   []job
	stores int
	bytes  int
}

// add reports whether there was room.
func (q *sharedQueue) add(j job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) >= maxJobs || j.what == store && (q.stores >= maxStores || q.bytes+len(j.entry.Body) > maxJobBytes) {
		return false
	}
	if j.what == store {
		q.stores++
		q.bytes += len(j.entry.Body)
	}
	q.jobs = append(q.jobs, j)
	select {
	case q.kick <- struct{}{}:
	default:
	}
	return true
}

func (q *sharedQueue) take(n int) []job {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.jobs))
	list := append([]job(nil), q.jobs[:n]...)
	clear(q.jobs[:n])
	if q.jobs = q.jobs[n:]; len(q.jobs) == 0 {
		q.jobs = nil
	}
	for _, j := range list {
		if j.what == store {
			q.stores--
			q.bytes -= len(j.entry.Body)
		}
	}
	return list
}

// Run writes until ctx is done.
func (s *Shared) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.queue.kick:
		}
		for ctx.Err() == nil {
			list := s.queue.take(jobsAtOnce)
			if len(list) == 0 {
				break
			}
			s.write(ctx, list)
		}
	}
}

// writeTimes is how many time-outs a batch of writes may take: nobody waits.
const writeTimes = 10

// write does some jobs, or drops them where Redis does not take them.
func (s *Shared) write(ctx context.Context, list []job) {
	if !s.breaker.allow(time.Now()) {
		s.counts.dropped.Add(uint64(len(list)))
		return
	}
	bounded, cancel := context.WithTimeout(ctx, writeTimes*s.cfg.Timeout)
	defer cancel()
	pipe := s.cfg.Redis.Pipeline()
	for _, j := range list {
		s.append(bounded, pipe, j)
	}
	if pipe.Len() == 0 {
		s.breaker.leave()
		return
	}
	_, err := pipe.Exec(bounded)
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	if ctx.Err() != nil {
		s.breaker.leave()
		return
	}
	s.breaker.done(err == nil, time.Now())
	if err != nil {
		s.counts.failed.Add(1)
	}
}

// storeScript sets a field, in a hash of at most ARGV[4] of them, which lives as
// long as any of them.
const storeScript = `
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1`

// deleteScript deletes a field if it still has that value.
const deleteScript = `
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 1`

// sharedVariants is how many variants a resource has in Redis at most.
const sharedVariants = 8

func (s *Shared) append(ctx context.Context, pipe redis.Pipeliner, j job) {
	keys := []string{s.key(j.key)}
	switch j.what {
	case deleteAll:
		pipe.Del(ctx, keys[0])
	case deleteField:
		pipe.Eval(ctx, deleteScript, keys, j.field, j.value)
	case store:
		now := time.Now()
		log, position, ok := s.cfg.Purges.log.knew(j.entry.Purges)
		left := j.entry.useful(now)
		if !ok || left <= 0 {
			return
		}
		value := appendShared(nil, &sharedValue{
			log: xxhash.Sum64String(log), position: position, expires: now.Add(left).UnixMilli(),
			resource: &Resource{Text: j.text, Variants: []*Entry{j.entry}},
		})
		if int64(len(value)) <= s.cfg.MaxObject {
			pipe.Eval(ctx, storeScript, keys, field(j.entry.Vary), value, left.Milliseconds(), sharedVariants)
		}
	}
}

// useful is for how long an entry may be used from now on, at least when its
// origin fails or while it is validated.
func (e *Entry) useful(now time.Time) time.Duration {
	left := int64(e.Lifetime) - e.Age(now.UnixNano()) + int64(max(e.StaleRevalidate, e.StaleError))
	return time.Duration(min(left, maxSeconds)) * time.Second
}
