package edgecache

import "sync/atomic"

// sweep removes entries that are purged. If stamp is not 0, those that are valid
// get it as their number (Entry.Purges).
func (m *Memory) sweep(judge func(*Resource, *Entry) Verdict, stamp uint64) {
	m.records(func(s *segment, off int) bool {
		r := s.resource(off)
		if r == nil {
			return true
		}
		purged, valid := false, true
		for _, e := range r.Variants {
			v := judge(r, e)
			purged = purged || v == Purged
			valid = valid && v == Valid
		}
		switch k := s.key(off); {
		case purged:
			m.Update(k, func(now *Resource) *Resource { return unpurged(now, judge) })
		case valid && stamp > 0 && len(r.Variants) > 0:
			m.stamp(k, s, off, r, stamp)
		}
		return true
	})
}

// unpurged is r without the entries that are purged.
func unpurged(r *Resource, judge func(*Resource, *Entry) Verdict) *Resource {
	if r == nil {
		return nil
	}
	left := &Resource{Text: r.Text, PassUntil: r.PassUntil}
	for _, e := range r.Variants {
		if judge(r, e) != Purged {
			left.Variants = append(left.Variants, e)
		}
	}
	switch {
	case len(left.Variants) == len(r.Variants):
		return r
	case len(left.Variants) == 0 && left.PassUntil == 0:
		return nil
	}
	return left
}

// stamp gives the entries of a record another number, unless it has left.
func (m *Memory) stamp(k Key, s *segment, off int, r *Resource, stamp uint64) {
	hash := hashOf(m.seed, &k)
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.find(hash, &k); p.segment != s || p.off != off {
		return
	}
	if s.large.Load() != nil {
		s.large.Store(stamped(r, stamp))
		return
	}
	for i, e := range r.Variants {
		atomic.StoreUint64(&s.words[off+headerWords+i], max(stamp, e.Purges))
	}
	for _, i := range [...]uint64{hash & m.warmMask, hash&m.warmMask ^ 1} {
		if w := m.warm[i].Load(); w != nil && w.segment == s && w.location&(maxWords-1) == uint64(off) {
			m.warm[i].CompareAndSwap(w, nil)
		}
	}
}

func stamped(r *Resource, stamp uint64) *Resource {
	c := *r
	c.Variants = make([]*Entry, len(r.Variants))
	for i, e := range r.Variants {
		d := *e
		d.Purges = max(stamp, d.Purges)
		c.Variants[i] = &d
	}
	return &c
}
