package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/users"
)

const (
	tellTries = 2
	failures  = 3           // in a row, and Redis is left alone
	openFor   = time.Second // then one asks again
	genKey    = "sluice:u:gen"
	entryKey  = "sluice:u:" // and the ID
	checkKey  = "sluice:u:check"
)

// Redis is a Level that all processes share.
//
// Entries carry the generation of the cache. Whoever could not tell the cache of
// a write makes a new generation before it reads from the cache again, and so
// everybody is rid of what may be old. Until then it does not read from it.
type Redis struct {
	client redis.UniversalClient
	single bool         // one server: a script may have keys of any slot
	gen    atomic.Value // string: the newest generation that was seen
	finds  batches
	puts   batches
	errors *metrics.Counter
	broken atomic.Bool  // a write was not told
	fails  atomic.Int32 // in a row
	until  atomic.Int64 // unix nanoseconds: Redis is left alone until then
	probe  sync.Mutex   // held by who asks whether Redis is back
}

// NewRedis returns a level in client's database. The client's own time-outs bound
// how long it is waited for.
func NewRedis(client redis.UniversalClient, set *metrics.Set) *Redis {
	if set == nil {
		set = metrics.NewSet()
	}
	_, single := client.(*redis.Client)
	r := &Redis{client: client, single: single, errors: set.GetOrCreateCounter(`sluice_redis_errors_total{use="users_cache"}`)}
	r.gen.Store("")
	r.finds.send, r.puts.send = r.findAll, r.putAll
	r.finds.left = r.abandoned
	return r
}

var errOpen = errors.New("redis is left alone after failures")

// ready reports whether Redis is to be asked. One caller at a time finds out
// whether it is back, and makes the new generation that is due.
func (r *Redis) ready(ctx context.Context) error {
	until := r.until.Load()
	if until == 0 && !r.broken.Load() {
		return nil
	}
	if time.Now().UnixNano() < until || !r.probe.TryLock() {
		return errOpen
	}
	defer r.probe.Unlock()
	// Only a write that is lost from now on makes it broken again. Where none was,
	// Redis may still have come back with less than it was told.
	r.broken.Store(false)
	if err := r.Renew(ctx); err != nil {
		r.broken.Store(true)
		return r.failed(err)
	}
	r.until.Store(0)
	r.fails.Store(0)
	return nil
}

// Renew begins a new generation: whatever is cached is for nobody any more.
func (r *Redis) Renew(ctx context.Context) error {
	gen := randomGen()
	err := r.client.Set(ctx, genKey, gen, 0).Err()
	if err == nil {
		r.gen.Store(gen)
	}
	return err
}

func randomGen() string {
	b := make([]byte, 8)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// failed counts a failure.
func (r *Redis) failed(err error) error {
	r.errors.Inc()
	if errors.Is(err, syscall.ECONNREFUSED) { // it is down, and may come back with less than it was told
		r.broken.Store(true)
	}
	if r.fails.Add(1) >= failures || r.until.Load() != 0 {
		r.until.Store(time.Now().Add(openFor).UnixNano())
	}
	return err
}

// Find returns the entry of an ID, where it is of the generation.
func (r *Redis) Find(ctx context.Context, id string) (*Entry, Mark, error) {
	return r.look(ctx, &call{key: entryKey + id})
}

// look finds the entry of a call, and takes the lease where the call wants that.
func (r *Redis) look(ctx context.Context, c *call) (*Entry, Mark, error) {
	if err := r.ready(ctx); err != nil {
		return nil, noMark, err
	}
	err := r.finds.do(ctx, c)
	switch {
	case err != nil && ctx.Err() != nil: // the client has gone, which says nothing of Redis
		return nil, noMark, ctx.Err()
	case err != nil:
		return nil, noMark, r.failed(err)
	}
	r.fails.Store(0)
	if r.broken.Load() { // meanwhile
		r.abandoned(c)
		return nil, noMark, errOpen
	}
	return decode(c.text, c.gen), Mark{c.gen, c.lease, c.busy}, nil
}

// Put keeps what was read, and gives back the lease of the mark.
func (r *Redis) Put(ctx context.Context, id string, e *Entry, at Mark) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	return r.put(ctx, id, e, at)
}

// Tell keeps what a write has left. Where that is lost, nobody here reads from
// Redis until there is a new generation.
func (r *Redis) Tell(ctx context.Context, id string, e *Entry) (err error) {
	for range tellTries {
		if err = r.tell(ctx, id, e); err == nil || errors.Is(err, errOpen) {
			break
		}
	}
	if err != nil {
		r.broken.Store(true)
	}
	return err
}

// Distrust begins a new generation before anything is read again.
func (r *Redis) Distrust() { r.broken.Store(true) }

func (r *Redis) tell(ctx context.Context, id string, e *Entry) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	return r.put(ctx, id, e, Mark{})
}

// put keeps an entry, where there is one, under the generation of a mark, if it
// has any, and gives back its lease.
func (r *Redis) put(ctx context.Context, id string, e *Entry, at Mark) error {
	err := r.puts.do(ctx, &call{key: entryKey + id, entry: e, gen: at.gen, lease: at.lease})
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return r.failed(err)
	}
	r.fails.Store(0)
	return nil
}

// Repair leaves, for that long, the tombstone of a version that a write could not
// leave, in this process or another: nothing older is found after that. Where it
// fails, nothing has changed.
func (r *Redis) Repair(ctx context.Context, id string, version int64, life time.Duration) error {
	return r.tell(ctx, id, &Entry{Version: version, Expires: time.Now().Add(life)})
}

// Check asks Redis whether it takes what it is told: one that is full, or a replica,
// answers questions and keeps no session.
func (r *Redis) Check(ctx context.Context) *users.Check {
	return &users.Check{Name: "redis", Err: r.client.Set(ctx, checkKey, "", time.Minute).Err()}
}

// kind is u for a user, t for a tombstone, n for none.
func (e *Entry) kind() string {
	switch {
	case e.User != nil:
		return "u"
	case e.Version > 0:
		return "t"
	}
	return "n"
}

// life is for how long e is good, in milliseconds.
func (e *Entry) life() int64 { return max(1, time.Until(e.Expires).Milliseconds()) }

// encode writes version, kind, generation, expiry (unix µs), cost (µs), user.
func encode(e *Entry, gen string) string {
	b := fmt.Appendf(nil, "%d %s %s %d %d ", e.Version, e.kind(), gen, e.Expires.UnixMicro(), e.Cost.Microseconds())
	if e.User != nil {
		b = e.User.AppendJSON(b)
	}
	return string(b)
}

// decode reads what encode wrote. What it cannot read is nothing.
func decode(text, gen string) *Entry {
	parts := strings.SplitN(text, " ", 6)
	if len(parts) != 6 || parts[2] != gen {
		return nil
	}
	var e Entry
	var err [3]error
	var expires, cost int64
	e.Version, err[0] = strconv.ParseInt(parts[0], 10, 64)
	expires, err[1] = strconv.ParseInt(parts[3], 10, 64)
	cost, err[2] = strconv.ParseInt(parts[4], 10, 64)
	if errors.Join(err[:]...) != nil {
		return nil
	}
	e.Expires, e.Cost = time.UnixMicro(expires), time.Duration(cost)*time.Microsecond
	if parts[1] == "u" {
		e.User = new(users.User)
		if json.Unmarshal([]byte(parts[5]), e.User) != nil || e.User.Version != e.Version {
			return nil
		}
	}
	return &e
}
