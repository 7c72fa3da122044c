package edgecache

import "sync"

// Interim is a store and purger until the real ones are here.
type Interim struct {
	mu     sync.Mutex
	m      map[Key]*Resource
	seq    uint64
	purged map[Purge]uint64
}

// NewInterim returns one.
func NewInterim() *Interim { return &Interim{m: map[Key]*Resource{}, purged: map[Purge]uint64{}} }

// Get implements Store.
func (s *Interim) Get(k Key) *Resource { s.mu.Lock(); defer s.mu.Unlock(); return s.m[k] }

// Update implements Store.
func (s *Interim) Update(k Key, change func(*Resource) *Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next := change(s.m[k]); next != nil {
		s.m[k] = next
	} else {
		delete(s.m, k)
	}
}

// Each implements Store.
func (s *Interim) Each(yield func(Key, *Resource) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, r := range s.m {
		if !yield(k, r) {
			return
		}
	}
}

// Stats implements Store.
func (s *Interim) Stats() StoreStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := StoreStats{Resources: len(s.m)}
	for _, r := range s.m {
		st.Bytes += int64(r.Size())
	}
	return st
}

// Sequence implements Purger.
func (s *Interim) Sequence() uint64 { s.mu.Lock(); defer s.mu.Unlock(); return s.seq }

// Verdict implements Purger.
func (s *Interim) Verdict(r *Resource, e *Entry) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.purged[Purge{Kind: PurgeURL, Value: r.URL()}]; n > e.Purges {
		return Purged
	}
	v := Valid
	e.Tags(func(tag string) bool {
		if s.purged[Purge{Kind: PurgeTag, Value: tag, Origin: r.Origin()}] > e.Purges || s.purged[Purge{Kind: PurgeTag, Value: tag}] > e.Purges {
			v = Purged
		}
		return v == Valid
	})
	return v
}

// Purge implements Purger.
func (s *Interim) Purge(p Purge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	s.purged[p] = s.seq
	return nil
}
