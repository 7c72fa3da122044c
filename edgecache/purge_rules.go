package edgecache

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// A moment is when something was purged: the number that this gateway gave it,
// and where the shared log has it (see logPosition). 0 is never.
type moment struct{ here, log atomic.Uint64 }

// A rule is what was last purged under one hash. Rules are found and read
// without a lock.
type rule struct {
	hash       uint64
	hard, soft moment
	next       *rule
}

// rules are what was purged, by hashes of what purges name: a rule more for two
// texts with one hash purges too much, and never too little.
//
// Each kind knows when it was used last, so that entries younger than that need
// no look at it.
type rules struct {
	seed maphash.Seed
	all  rule
	last [ruleKinds]moment

	table    atomic.Pointer[[]atomic.Pointer[rule]]
	prefixes atomic.Pointer[[]int] // lengths of the prefixes that were purged

	mu sync.Mutex
	n  int
}

type ruleKind uint8

const (
	ruleURL ruleKind = iota // with all queries
	ruleQuery
	rulePrefix
	ruleHost
	ruleTag
	ruleKinds
)

func newRules() *rules {
	r := &rules{seed: maphash.MakeSeed()}
	r.clear()
	return r
}

func (r *rules) clear() {
	table := make([]atomic.Pointer[rule], 1024)
	r.table.Store(&table)
	r.prefixes.Store(new([]int))
	r.n = 0
}

func (r *rules) hash(kind ruleKind, text string) uint64 {
	h := maphash.String(r.seed, text)
	return (h ^ uint64(kind+1)*0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
}

func (r *rules) find(hash uint64) *rule {
	table := *r.table.Load()
	for one := table[hash&uint64(len(table)-1)].Load(); one != nil; one = one.next {
		if one.hash == hash {
			return one
		}
	}
	return nil
}

// make returns the rule of that hash, and adds it if there is none. mu is held.
func (r *rules) make(hash uint64) *rule {
	if one := r.find(hash); one != nil {
		return one
	}
	if table := *r.table.Load(); r.n >= len(table) {
		r.widen(table)
	}
	one := &rule{hash: hash}
	r.link(*r.table.Load(), one)
	r.n++
	return one
}

func (r *rules) link(table []atomic.Pointer[rule], one *rule) {
	slot := &table[one.hash&uint64(len(table)-1)]
	one.next = slot.Load()
	slot.Store(one)
}

// widen doubles the table. Readers may be in the old chains, so rules are copied.
func (r *rules) widen(old []atomic.Pointer[rule]) {
	table := make([]atomic.Pointer[rule], 2*len(old))
	for i := range old {
		for one := old[i].Load(); one != nil; one = one.next {
			r.link(table, one.copy())
		}
	}
	r.table.Store(&table)
}

// set moves a moment forward, never back.
func (m *moment) set(here, log uint64) {
	m.here.Store(max(here, m.here.Load()))
	m.log.Store(max(log, m.log.Load()))
}

// since says what the rule has for an entry from that time on; of the log's
// positions if log, else of this gateway's numbers.
func (one *rule) since(at uint64, log bool) Verdict {
	switch {
	case one.hard.after(at, log):
		return Purged
	case one.soft.after(at, log):
		return Stale
	}
	return Valid
}

func (m *moment) after(at uint64, log bool) bool {
	if log {
		return m.log.Load() > at
	}
	return m.here.Load() > at
}

// add has a purge hold from a moment on.
func (r *rules) add(p Purge, here, log uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Kind == PurgeAll {
		r.all.moment(p.Soft).set(here, log)
		return
	}
	kind, hashes := r.named(p)
	if kind == rulePrefix {
		r.addLength(len(p.Value))
	}
	for _, hash := range hashes {
		r.make(hash).moment(p.Soft).set(here, log)
	}
	r.last[kind].set(here, log)
}

func (one *rule) moment(soft bool) *moment {
	if soft {
		return &one.soft
	}
	return &one.hard
}

func (r *rules) addLength(n int) {
	old := *r.prefixes.Load()
	for _, length := range old {
		if length == n {
			return
		}
	}
	lengths := append(append(make([]int, 0, len(old)+1), old...), n)
	r.prefixes.Store(&lengths)
}

// named is what a purge is found by.
func (r *rules) named(p Purge) (ruleKind, []uint64) {
	switch p.Kind {
	case PurgePrefix:
		return rulePrefix, []uint64{r.hash(rulePrefix, p.Value)}
	case PurgeHost:
		return ruleHost, []uint64{r.hash(ruleHost, strings.ToLower(p.Value))}
	case PurgeTag:
		return ruleTag, []uint64{r.hashTag(p.Value, p.Origin)}
	}
	path, query, some := strings.Cut(p.Value, "?")
	if !some {
		return ruleURL, []uint64{r.hash(ruleURL, path)}
	}
	return r.queries(path, query)
}

func (r *rules) hashTag(tag, origin string) uint64 {
	return r.hash(ruleTag, tag) + r.hash(ruleHost, origin)
}

// maxParameters is how many parameters a URL may have of which every subset is
// purged; one with more is purged with all its queries.
const maxParameters = 4

// queries is what a URL with a query is found by: a route may have put any of
// its parameters into its keys, so that every subset of them is purged.
func (r *rules) queries(path, query string) (ruleKind, []uint64) {
	var parameters []uint64
	for one := range strings.SplitSeq(query, "&") {
		parameters = append(parameters, r.hash(ruleQuery, one))
	}
	if len(parameters) > maxParameters {
		return ruleURL, []uint64{r.hash(ruleURL, path)}
	}
	sums := []uint64{r.hash(ruleURL, path)}
	for _, p := range parameters {
		for _, sum := range sums {
			sums = append(sums, sum+p)
		}
	}
	for i := range sums {
		sums[i] ^= 0x5851f42d4c957f2d // no rule of ruleURL
	}
	return ruleQuery, sums
}

// hashQuery is the hash of a resource among those that queries returns: the sum
// over its parameters, so that their order is none of it.
func (r *rules) hashQuery(path uint64, query string) uint64 {
	for rest := query; rest != ""; {
		var one string
		one, rest, _ = strings.Cut(rest, "&")
		path += r.hash(ruleQuery, one)
	}
	return path ^ 0x5851f42d4c957f2d
}

// judge is the worst that any rule has for an entry of res from that time on.
func (r *rules) judge(res *Resource, e *Entry, at uint64, log bool) Verdict {
	worst := r.all.since(at, log)
	see := func(hash uint64) {
		if one := r.find(hash); one != nil {
			worst = max(worst, one.since(at, log))
		}
	}
	url := res.URL()
	path, query, _ := strings.Cut(url, "?")
	if byURL, byQuery := r.last[ruleURL].after(at, log), r.last[ruleQuery].after(at, log); byURL || byQuery {
		hash := r.hash(ruleURL, path)
		see(hash)
		if byQuery {
			see(r.hashQuery(hash, query))
		}
	}
	if r.last[rulePrefix].after(at, log) {
		for _, n := range *r.prefixes.Load() {
			if n <= len(url) {
				see(r.hash(rulePrefix, url[:n]))
			}
		}
	}
	if r.last[ruleHost].after(at, log) {
		r.judgeHost(res.Host(), see)
	}
	if e.Flags&HasTags != 0 && r.last[ruleTag].after(at, log) {
		none, origin := r.hash(ruleHost, ""), r.hash(ruleHost, res.Origin())
		e.Tags(func(tag string) bool {
			hash := r.hash(ruleTag, tag)
			see(hash + none)
			see(hash + origin)
			return worst < Purged
		})
	}
	return worst
}

// judgeHost sees to a host with its port and, as people name it, without.
func (r *rules) judgeHost(host string, see func(uint64)) {
	see(r.hash(ruleHost, host))
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		see(r.hash(ruleHost, host[:i]))
	}
}

// forget drops the rules of that time and before, once it has told the last
// position in the log that one of them had.
func (r *rules) forget(here uint64, tell func(log uint64)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.table.Load()
	table := make([]atomic.Pointer[rule], len(old))
	r.n = 0
	log := uint64(0)
	for i := range old {
		for one := old[i].Load(); one != nil; one = one.next {
			if max(one.hard.here.Load(), one.soft.here.Load()) <= here {
				log = max(log, one.hard.log.Load(), one.soft.log.Load())
				continue
			}
			r.link(table, one.copy())
			r.n++
		}
	}
	tell(log)
	r.table.Store(&table)
}

func (one *rule) copy() *rule {
	c := &rule{hash: one.hash}
	c.hard.set(one.hard.here.Load(), one.hard.log.Load())
	c.soft.set(one.soft.here.Load(), one.soft.log.Load())
	return c
}

func (r *rules) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}
