package cache

import (
	"context"
	"errors"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// findScript finds entries: KEYS are those whose lease is wanted where there is
// nothing that serves, so many as ARGV[3] says, then the others, then the leases.
// It answers with an entry, with 1 where the lease is now the caller's, and with 0
// where it is another's. What is of a generation other than ARGV[1] does not
// serve, nor does a tombstone.
var findScript = redis.NewScript(`
local wanted = tonumber(ARGV[3])
local found = redis.call('MGET', unpack(KEYS, 1, #KEYS - wanted))
for i = 1, wanted do
  local kind, gen
  if found[i] then
    kind, gen = string.match(found[i], '^%d+ (%a) (%x+) ')
  end
  if not kind or kind == 't' or gen ~= ARGV[1] then
    local took = redis.pcall('SET', KEYS[#KEYS - wanted + i], ARGV[2], 'NX', 'PX', ARGV[4])
    if not took then
      found[i] = 0
    elseif took.ok then
      found[i] = 1
    end
  end
end
return found`)

// putScript keeps entries, each where it beats what is there, and gives back
// leases. KEYS are pairs of an entry's and a lease's; ARGV of each pair are the
// version, what it is, how it is written, its life in ms ("0": nothing is put),
// and the token of the lease: it may have ended, and be another's. An entry begins
// with its version and what it is. Where Redis has no room for one, what it would
// have replaced goes all the same, since it is older.
var putScript = redis.NewScript(`
local failed
for i = 1, #KEYS, 2 do
  local at = (i - 1) / 2 * 5
  local old = ARGV[at + 4] ~= '0' and redis.pcall('GET', KEYS[i])
  local beaten = ARGV[at + 4] == '0'
  if type(old) == 'string' then
    local version, kind = string.match(old, '^(%d+) (%a)')
    version = tonumber(version)
    local new = tonumber(ARGV[at + 1])
    beaten = version and (version > new or version == new and kind == 'u' and ARGV[at + 2] ~= 'u')
  end
  if not beaten then
    local kept = redis.pcall('SET', KEYS[i], ARGV[at + 3], 'PX', ARGV[at + 4])
    if kept.err then
      redis.call('DEL', KEYS[i])
      failed = kept
    end
  end
  if ARGV[at + 5] ~= '' and redis.call('GET', KEYS[i + 1]) == ARGV[at + 5] then
    redis.call('DEL', KEYS[i + 1])
  end
end
return failed or 1`)

// An order is a script that does some calls.
type order struct {
	calls []*call
	keys  []string
	args  []any
	cmd   *redis.Cmd
}

// leaseKey is where the lease is: in a cluster, where the entry is.
func (c *call) leaseKey() string { return leaseKey + "{" + c.key + "}" }

// orders divides calls as the servers allow: a cluster has them one by one.
func (r *Redis) orders(calls []*call, write func(*order)) []*order {
	if r.single {
		o := &order{calls: calls}
		write(o)
		return []*order{o}
	}
	all := make([]*order, len(calls))
	for i := range calls {
		all[i] = &order{calls: calls[i : i+1]}
		write(all[i])
	}
	return all
}

// run has a script do orders, and looks at the generation before that. Servers
// that have started since forget scripts.
func (r *Redis) run(ctx context.Context, script *redis.Script, orders []*order) (gen string, err error) {
	pipe := r.client.Pipeline()
	now := pipe.Get(ctx, genKey)
	queue := func(o *order) { o.cmd = pipe.EvalSha(ctx, script.Hash(), o.keys, o.args...) }
	for _, o := range orders {
		queue(o)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	var again []*order
	for _, o := range orders {
		if redis.HasErrorPrefix(o.cmd.Err(), "NOSCRIPT") {
			again = append(again, o)
		}
	}
	if len(again) > 0 && script.Load(ctx, r.client).Err() == nil {
		pipe = r.client.Pipeline()
		for _, o := range again {
			queue(o)
		}
		_, _ = pipe.Exec(ctx)
	}
	if err = now.Err(); err == nil {
		r.gen.Store(now.Val())
	} else if errors.Is(err, redis.Nil) {
		err = nil
	}
	return now.Val(), err
}

// findAll finds entries, and the generation before them.
func (r *Redis) findAll(batch []*call) {
	ctx := context.Background()
	known, err := r.known(ctx)
	if err != nil {
		fail(batch, err)
		return
	}
	token, sorted := randomGen(), make([]*call, 0, len(batch))
	for _, want := range []bool{true, false} {
		for _, c := range batch {
			if c.want == want {
				sorted = append(sorted, c)
			}
		}
	}
	orders := r.orders(sorted, func(o *order) { o.find(known, token) })
	gen, err := r.run(ctx, findScript, orders)
	if err == nil && gen == "" { // it was flushed
		gen, err = r.begin(ctx)
	}
	for _, o := range orders {
		found, failed := o.cmd.Slice()
		if failed == nil {
			failed = err
		}
		for i, c := range o.calls {
			c.gen, c.err = gen, failed
			if i >= len(found) {
				continue
			}
			switch v := found[i].(type) {
			case string:
				c.text = v
			case int64:
				if c.busy = v == 0; v == 1 {
					c.lease = token
				}
			}
		}
	}
}

func (o *order) find(gen, token string) {
	var leases []string
	o.keys = make([]string, 0, 2*len(o.calls))
	for _, c := range o.calls {
		o.keys = append(o.keys, c.key)
		if c.want {
			leases = append(leases, c.leaseKey())
		}
	}
	o.keys = append(o.keys, leases...)
	o.args = []any{gen, token, len(leases), leaseTime.Milliseconds()}
}

// putAll puts entries, each where it beats what is there, and gives back leases.
// What a write has left is put under the generation that was seen last: should
// that be over, nobody finds it, but it beats what is older all the same.
func (r *Redis) putAll(batch []*call) {
	ctx := context.Background()
	known, err := r.known(ctx)
	if err != nil {
		fail(batch, err)
		return
	}
	for _, c := range batch {
		if c.gen == "" {
			c.gen = known
		}
	}
	orders := r.orders(batch, (*order).put)
	_, _ = r.run(ctx, putScript, orders)
	for _, o := range orders {
		fail(o.calls, o.cmd.Err())
	}
}

func (o *order) put() {
	o.keys = make([]string, 0, 2*len(o.calls))
	o.args = make([]any, 0, 5*len(o.calls))
	for _, c := range o.calls {
		o.keys = append(o.keys, c.key, c.leaseKey())
		if e := c.entry; e != nil {
			o.args = append(o.args, strconv.FormatInt(e.Version, 10), e.kind(), encode(e, c.gen), e.life(), c.lease)
		} else {
			o.args = append(o.args, "", "", "", "0", c.lease)
		}
	}
}

func fail(calls []*call, err error) {
	for _, c := range calls {
		c.err = err
	}
}

// known is the newest generation that was seen here, or the one that is now.
func (r *Redis) known(ctx context.Context) (string, error) {
	if gen, _ := r.gen.Load().(string); gen != "" {
		return gen, nil
	}
	return r.begin(ctx)
}

// begin is the generation that is now; the first to ask begins it.
func (r *Redis) begin(ctx context.Context) (string, error) {
	gen, err := r.client.Get(ctx, genKey).Result()
	if errors.Is(err, redis.Nil) {
		if err := r.client.SetNX(ctx, genKey, randomGen(), 0).Err(); err != nil {
			return "", err
		}
		gen, err = r.client.Get(ctx, genKey).Result()
	}
	if err == nil {
		r.gen.Store(gen)
	}
	return gen, err
}
