package limiter

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	rateBeat     = time.Second            // between two words that this node lives
	rateAlive    = 3 * rateBeat           // how long one of them is good for
	rateProbe    = 100 * time.Millisecond // at first between two attempts to reach Redis
	rateProbeMax = 250 * time.Millisecond
	rateResume   = 400 * time.Millisecond // and two timeouts, for all gateways to have found it again
	rateBatch    = 512                    // commands in a pipeline
)

var errRateDown = errors.New("limiter: Redis is not asked while it does not answer")

// A RateRedis is the part of Redis in the limits of scope global: the connection,
// a breaker before it, and one goroutine that leases tokens in pipelines. It is
// there once in a process, and outlives reloads.
//
// The breaker opens with the first failure. While it is open no request waits
// for Redis; the goroutine asks by itself, and closes it with the first answer.
type RateRedis struct {
	node    string // this process, anew with every start
	failed  func(error)
	scripts *rateScripts
	now     func() int64 // the clock of all leases: ns, monotonic, never 0

	server atomic.Pointer[rateServer]
	open   atomic.Bool  // the breaker
	nodes  atomic.Int64 // that lived when Redis was last asked
	seq    atomic.Uint64
	resume atomic.Int64 // when the breaker closes, while this node waits for the others; else 0
	closed atomic.Int64 // when it last did

	mu    sync.Mutex
	queue []rateOp
	spare []rateOp
	kick  chan struct{}
	held  map[*RateLimiter]struct{} // whose requests under way are to be told of again
	owing map[*RateLimiter]struct{} // that have admitted something without Redis
}

type rateServer struct {
	redis.UniversalClient
	timeout time.Duration // for a request to wait for an answer, and for each pipeline
}

// A rateOp is a command that the goroutine sends.
type rateOp interface {
	// command is nil where there is nothing to send any more.
	command(r *RateRedis) (script *redis.Script, key string, args []any)
	// answered takes the answer; it has the error where there is none.
	answered(r *RateRedis, values []int64, err error)
}

// NewRateRedis returns a RateRedis without a connection. failed, unless nil, is
// called for each command that fails, and must not block.
func NewRateRedis(failed func(error)) *RateRedis {
	id := make([]byte, 9)
	rand.Read(id)
	if failed == nil {
		failed = func(error) {}
	}
	r := &RateRedis{
		node: "n" + hex.EncodeToString(id), failed: failed, scripts: newRateScripts(),
		kick: make(chan struct{}, 1), held: make(map[*RateLimiter]struct{}), owing: make(map[*RateLimiter]struct{}),
	}
	begin := time.Now().Add(-time.Hour)
	r.now = func() int64 { return int64(time.Since(begin)) }
	r.nodes.Store(1)
	return r
}

// Use has the limits of scope global ask client from now on; nil: each process
// counts for itself. No request waits for it longer than timeout.
func (r *RateRedis) Use(client redis.UniversalClient, timeout time.Duration) {
	if client == nil {
		r.server.Store(nil)
		r.open.Store(false)
		return
	}
	if old := r.server.Load(); old != nil && old.UniversalClient == client {
		return
	}
	r.server.Store(&rateServer{client, timeout})
	r.open.Store(false)
	r.wake()
}

// Down reports whether Redis does not answer.
func (r *RateRedis) Down() bool { return r.open.Load() }

// Nodes is how many gateways shared limits when Redis last answered.
func (r *RateRedis) Nodes() int { return int(r.nodes.Load()) }

func (r *RateRedis) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// post has the goroutine send op.
func (r *RateRedis) post(op rateOp) {
	r.mu.Lock()
	r.queue = append(r.queue, op)
	first := len(r.queue) == 1
	r.mu.Unlock()
	if first {
		r.wake()
	}
}

// Run leases tokens and looks after the breaker until ctx ends. While it does
// not run, limits of scope global are decided by on_error.
func (r *RateRedis) Run(ctx context.Context) error {
	beat := time.NewTimer(0)
	defer beat.Stop()
	pause := time.Duration(0) // between two attempts to reach Redis; 0: it answers
	back := false             // it does again; the breaker stays open until all know
	for {
		select {
		case <-ctx.Done():
			r.fail(r.take(), ctx.Err())
			return nil
		case <-beat.C:
			// After a moment that others may not have noticed there is nobody to wait for.
			returning := r.open.Load() && !back && pause > rateProbe
			if wait, ok := r.alive(ctx, returning); ok && wait > 0 {
				back = true
				r.resume.Store(r.now() + int64(wait))
				r.settle(ctx)
				beat.Reset(max(time.Duration(r.resume.Load()-r.now()), time.Millisecond))
				continue
			} else if ok {
				back, pause = false, 0
				r.close(ctx)
				beat.Reset(rateBeat)
				continue
			}
			back = false
			r.resume.Store(0)
			pause = min(max(2*pause, rateProbe), rateProbeMax)
			beat.Reset(pause)
		case <-r.kick:
			r.flush(ctx)
			if pause == 0 && r.open.Load() {
				pause = rateProbe
				beat.Reset(pause)
			}
		}
	}
}

// close closes the breaker.
func (r *RateRedis) close(ctx context.Context) {
	r.resume.Store(0)
	if r.open.Load() {
		r.closed.Store(r.now())
		r.open.Store(false)
		r.settle(ctx)
	}
	r.remind()
}

// alive says that this node lives and learns how many others do. It is also how
// Redis is found again: returning has it say how long to wait for the others.
func (r *RateRedis) alive(ctx context.Context, returning bool) (wait time.Duration, ok bool) {
	server := r.server.Load()
	if server == nil {
		return 0, true
	}
	resume := time.Duration(0)
	if returning {
		resume = min(rateResume+2*server.timeout, 2*rateTerm)
	}
	ctx, cancel := context.WithTimeout(ctx, server.timeout)
	defer cancel()
	keys := []string{"sluice:limit:{nodes}", "sluice:limit:{nodes}:resume"}
	v, err := r.scripts.nodes.Run(ctx, server, keys, r.node, rateAlive.Microseconds(), resume.Milliseconds()).Int64Slice()
	if err != nil || len(v) < 2 {
		r.broken(err)
		return 0, false
	}
	if returning { // the others may not have come yet
		v[0] = max(v[0], r.nodes.Load())
	}
	r.nodes.Store(max(v[0], 1))
	return time.Duration(v[1]) * time.Millisecond, true
}

// broken opens the breaker.
func (r *RateRedis) broken(err error) {
	r.failed(err)
	r.open.Store(true)
}

// take takes what is to be sent.
func (r *RateRedis) take() []rateOp {
	r.mu.Lock()
	defer r.mu.Unlock()
	ops := r.queue
	r.queue, r.spare = r.spare[:0], ops
	return ops
}

// flush sends all there is, in one pipeline after the other.
func (r *RateRedis) flush(ctx context.Context) {
	ops := r.take()
	for len(ops) > 0 {
		n := min(len(ops), rateBatch)
		server := r.server.Load()
		if server == nil || r.open.Load() && r.resume.Load() == 0 {
			r.fail(ops, errRateDown)
			break
		}
		err := r.send(ctx, server, ops[:n])
		ops = ops[n:]
		if err != nil { // no time-out after another
			r.fail(ops, err)
			break
		}
	}
}

func (r *RateRedis) fail(ops []rateOp, err error) {
	for _, op := range ops {
		op.answered(r, nil, err)
	}
	clear(ops)
}

// send sends ops in one pipeline. Scripts that Redis does not know, as after a
// restart, are sent whole; nothing else is sent twice. It returns what the last of
// them failed by.
func (r *RateRedis) send(ctx context.Context, server *rateServer, ops []rateOp) (failed error) {
	ctx, cancel := context.WithTimeout(ctx, server.timeout)
	defer cancel()
	defer clear(ops)
	type sent struct {
		op     rateOp
		script *redis.Script
		key    []string
		args   []any
		cmd    *redis.Cmd
	}
	all := make([]sent, 0, len(ops))
	pipe := server.Pipeline()
	for _, op := range ops {
		script, key, args := op.command(r)
		if script == nil {
			continue
		}
		s := sent{op: op, script: script, key: []string{key}, args: args}
		s.cmd = script.EvalSha(ctx, pipe, s.key, args...)
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	missing := false
	for i := range all {
		missing = missing || unknownScript(all[i].cmd.Err())
	}
	if missing {
		pipe = server.Pipeline()
		for i := range all {
			if s := &all[i]; unknownScript(s.cmd.Err()) {
				s.cmd = s.script.Eval(ctx, pipe, s.key, s.args...)
			}
		}
		_, _ = pipe.Exec(ctx)
	}
	for i := range all {
		values, err := all[i].cmd.Int64Slice()
		if err != nil {
			failed = err
			r.broken(err)
		}
		all[i].op.answered(r, values, err)
	}
	return failed
}

func unknownScript(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT")
}

// call runs a script for a request that waits for it.
func (r *RateRedis) call(script *redis.Script, key string, args ...any) ([]int64, error) {
	server := r.server.Load()
	if server == nil || r.open.Load() {
		return nil, errRateDown
	}
	ctx, cancel := context.WithTimeout(context.Background(), server.timeout)
	defer cancel()
	values, err := script.Run(ctx, server, []string{key}, args...).Int64Slice()
	if err != nil {
		r.broken(err)
		r.wake() // to have the pause begin
		return nil, err
	}
	return values, nil
}
