package limiter

import "github.com/redis/go-redis/v9"

// rateLeaseLua is the account of one bucket that gateways lease tokens from. It
// holds
//
//	t     the theoretical arrival time of the bucket, µs of Redis' clock: the
//	      bucket is full then, and has capacity − (t − now) / interval before
//	NODE  "out until seq": tokens that the node may still spend, the time when it
//	      may no longer, and the number of its last request
//
// What is out at all nodes together stays within ARGV cap: that is the line that
// the bound stands on (see RateLimiter). A request says what the node still
// holds, so that what it has spent, or never got, is out no longer; one that is
// not newer than the last does nothing. Where there are nodes that have not come
// yet, half of what may be out stays for them.
//
// What nodes admitted without Redis is a debt: the bucket may be that much below
// empty, or the next outage could add to it.
const rateLeaseLua = `
local node, seq, hold, want = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local interval, capacity, cap = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local term, debt, used, nodes = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local all = redis.call('HGETALL', KEYS[1])
local full, out, others = nil, 0, 0
local mine, last = 0, -1
for i = 1, #all, 2 do
	if all[i] == 't' then
		full = tonumber(all[i+1])
	else
		local o, u, s = string.match(all[i+1], '^(%d+) (%d+) (%d+)$')
		o, u = tonumber(o), math.min(tonumber(u), now + term)
		if all[i] == node then
			last = tonumber(s)
			if u > now then mine = o end
		elseif u > now then
			out, others = out + o, others + 1
		else
			redis.call('HDEL', KEYS[1], all[i])
		end
	end
end
if seq <= last then return {0, 0, 0, 0, others + 1} end
hold = math.min(hold, mine)
local span = capacity * interval / 1000
full = math.max(full or (now + math.ceil(used * interval / 1000)), now)
full = math.max(math.min(full + math.ceil(debt * interval / 1000), now + math.floor(2 * span) + 2 * term), now)
local level = math.floor((span - (full - now)) * 1000 / interval + 0.000001)
local give = math.min(want, level)
give = math.min(give, math.max(math.floor(cap / (others + 1)), 1) - hold)
local free = cap - out - hold
if others + 1 < nodes then free = math.ceil(free / 2) end
give = math.max(math.min(give, free), 0)
full = full + math.ceil(give * interval / 1000)
local until_ = now + term
redis.call('HSET', KEYS[1], 't', string.format('%.0f', full),
	node, string.format('%.0f %.0f %.0f', hold + give, until_, seq))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(math.max(full - now, term) / 1000) + 1000))
local gap = 0
if level - give < 1 then gap = math.max(math.ceil((full - now) - span + interval / 1000), 0) end
return {give, hold, full - now, gap, others + 1}
`

// rateGCRALua is GCRA for limits that are too small to lease: one time, in µs of
// Redis' clock. A negative cost gives back. What a node admitted without Redis
// (ARGV debt) is charged whatever the limit, as in rateLeaseLua; used is what it
// knew of a bucket that Redis has lost.
const rateGCRALua = `
local interval, tolerance, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local debt, used = tonumber(ARGV[4] or 0), tonumber(ARGV[5] or 0)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now + used * interval), now)
arrival = math.max(math.min(arrival + debt * interval, now + 2 * tolerance + 2000000), now)
local following = math.max(arrival + interval * cost, now)
local late = following - now - tolerance
if cost > 0 and late > 0 then return {0, math.floor((tolerance - (arrival - now)) / interval), arrival - now, late} end
redis.call('SET', KEYS[1], string.format('%.0f', following), 'PX', string.format('%.0f', math.ceil((following - now) / 1000) + 1000))
return {1, math.floor((tolerance - (following - now)) / interval), following - now, 0}
`

// rateFixedLua is INCR and EXPIRE in one, so that no counter is left without an
// end: "begin count", in µs of Redis' clock. A negative cost gives back what was
// taken ARGV age µs ago, unless that was in a window that is over. What a node
// admitted without Redis (ARGV debt) is charged whatever the limit; its window
// began that long ago, and the later of both begins counts, or this one could end
// before all that is charged to it is a window old.
const rateFixedLua = `
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local age, debt = tonumber(ARGV[4] or 0), tonumber(ARGV[5] or 0)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local begin, count = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
begin, count = tonumber(begin or now), tonumber(count or 0)
if now - begin >= window or begin > now then begin, count = now, 0 end
if debt > 0 then
	begin = count == 0 and now - age or math.max(begin, now - age)
elseif cost < 0 and begin > now - age then
	cost = 0
end
local left = begin + window - now
if cost > 0 and count + cost > limit then return {0, math.max(limit - count, 0), left, left} end
count = math.max(count + cost + debt, 0)
redis.call('SET', KEYS[1], string.format('%.0f %.0f', begin, count), 'PX', string.format('%.0f', math.ceil(left / 1000)))
return {1, math.max(limit - count, 0), left, 0}
`

// rateSlidingLua is two fixed windows: "begin current before". A negative cost
// gives back, and a debt is charged, as in rateFixedLua.
const rateSlidingLua = `
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local age, debt = tonumber(ARGV[4] or 0), tonumber(ARGV[5] or 0)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local begin, current, before = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+) (%d+)$')
begin, current, before = tonumber(begin or now), tonumber(current or 0), tonumber(before or 0)
if now - begin >= 2 * window or begin > now then
	begin, current, before = now, 0, 0
elseif now - begin >= window then
	begin, current, before = begin + window, 0, current
end
if debt > 0 then
	begin = current + before == 0 and now - age or math.max(begin, now - age)
elseif cost < 0 and begin > now - age then
	if begin - window <= now - age then before = math.max(before + cost, 0) end
	cost = 0
end
local left = begin + window - now
local old = math.ceil(before * left / window)
if cost > 0 and old + current + cost > limit then
	local free, wait = limit - current - cost, 0
	if free >= 0 then
		wait = left - math.floor(free * window / math.max(before, 1))
	else
		wait = left + window - math.floor(math.min((limit - cost) / math.max(current, 1), 1) * window)
	end
	return {0, math.max(limit - old - current, 0), left, math.max(wait, 1)}
end
current = math.max(current + cost + debt, 0)
redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f', begin, current, before), 'PX', string.format('%.0f', math.ceil((left + window) / 1000)))
return {1, math.max(limit - old - current, 0), left, 0}
`

// rateInFlightLua is how many requests are under way at each node: "count until
// seq". A node says its own count, the newest word counts, and what it says is
// good for ARGV term µs: a node that dies frees its places by that. A node that
// only tells (ARGV 4 is 0) is never refused.
const rateInFlightLua = `
local node, seq, count, asks = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local limit, term = tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local all = redis.call('HGETALL', KEYS[1])
local others, last, mine = 0, -1, 0
for i = 1, #all, 2 do
	local c, u, s = string.match(all[i+1], '^(%d+) (%d+) (%d+)$')
	if all[i] == node then
		mine, last = tonumber(c), tonumber(s)
	elseif math.min(tonumber(u), now + term) > now then
		others = others + tonumber(c)
	else
		redis.call('HDEL', KEYS[1], all[i])
	end
end
local newest = seq > last
if newest then mine, last = count, seq end
local allowed = 1
if others + mine > limit and asks > 0 then
	allowed = 0
	mine = math.max(mine - asks, 0)
end
if mine > 0 then
	redis.call('HSET', KEYS[1], node, string.format('%.0f %.0f %.0f', mine, now + term, last))
	redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(term / 1000)))
elseif newest then
	redis.call('HSET', KEYS[1], node, string.format('0 %.0f %.0f', now + term, last))
	redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(term / 1000)))
end
return {allowed, math.max(limit - others - mine, 0), 0, 0}
`

// rateNodesLua tells that a node lives, and counts those that do. One that has
// found Redis again (ARGV 3 is not 0) learns how long it is, in ms, until all who
// have go back to it together: while some already did and others had their share
// beside, more than the limit would be admitted.
const rateNodesLua = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - tonumber(ARGV[2])))
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + 1000000), '+inf')
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', tonumber(ARGV[2]) / 1000))
local wait = 0
if tonumber(ARGV[3]) > 0 then
	redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[3])
	wait = redis.call('PTTL', KEYS[2])
end
return {redis.call('ZCARD', KEYS[1]), math.max(wait, 0)}
`

// rateScripts are the scripts of one connection to Redis; a test puts others in
// their place.
type rateScripts struct {
	lease, gcra, fixed, sliding, inFlight, nodes *redis.Script
}

func newRateScripts() *rateScripts {
	return &rateScripts{
		lease: redis.NewScript(rateLeaseLua), gcra: redis.NewScript(rateGCRALua),
		fixed: redis.NewScript(rateFixedLua), sliding: redis.NewScript(rateSlidingLua),
		inFlight: redis.NewScript(rateInFlightLua), nodes: redis.NewScript(rateNodesLua),
	}
}
