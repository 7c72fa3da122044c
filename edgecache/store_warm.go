package edgecache

// The warm table has resources that were decoded lately, so that serving what
// is asked for often allocates nothing. It refers to segments, and so must let
// go of those that are cleared.
type warm struct {
	location uint64
	segment  *segment
	resource *Resource
}

// warmCost is what a place in the table needs, a decoded resource included.
const warmCost = 8 + 32 + 272

// warmed is the decoded resource of a record, if it is in the table.
func (m *Memory) warmed(hash uint64, s *segment, at uint64) *Resource {
	i := hash & m.warmMask
	for _, way := range [...]uint64{i, i ^ 1} {
		if w := m.warm[way].Load(); w != nil && w.location == at && w.segment == s {
			return w.resource
		}
	}
	return nil
}

// keep puts a decoded resource into the table. The segment may be cleared
// meanwhile: then either cool finds this, or this finds that it is no more.
func (m *Memory) keep(hash uint64, w *warm) {
	i := hash & m.warmMask
	if first := m.warm[i].Load(); first != nil {
		m.warm[i^1].Store(first)
	}
	m.warm[i].Store(w)
	m.expel(i)
	m.expel(i ^ 1)
}

func (m *Memory) expel(i uint64) {
	if w := m.warm[i].Load(); w != nil && m.segments[w.segment.id].Load() != w.segment {
		m.warm[i].CompareAndSwap(w, nil)
	}
}

// cool takes what is of a cleared segment out of the table.
func (m *Memory) cool(s *segment) {
	for off := 0; off < s.used; off += s.length(off) {
		k := s.key(off)
		i := hashOf(m.seed, &k) & m.warmMask
		m.expel(i)
		m.expel(i ^ 1)
	}
}
