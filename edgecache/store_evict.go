package edgecache

import "sync/atomic"

// A queue is segments in the order in which they were begun.
type queue struct {
	newest, oldest *segment
	open           *segment // where records are appended; nil: there is none
	bytes          int64
}

func (q *queue) push(s *segment) {
	s.queue, s.next = q, q.newest
	if q.newest != nil {
		q.newest.prev = s
	} else {
		q.oldest = s
	}
	q.newest = s
	q.bytes += s.cost
}

func (q *queue) remove(s *segment) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		q.newest = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		q.oldest = s.prev
	}
	if q.open == s {
		q.open = nil
	}
	s.queue, s.next, s.prev = nil, nil, nil
	q.bytes -= s.cost
}

const (
	// smallShare is which part of the capacity is for what nobody has asked for again.
	smallShare = 20
	// thinned is how many segments of the main queue are cleared together. One
	// of them is gained.
	thinned = 8
)

// room evicts until cost bytes more are within the capacity; false if that
// cannot be.
func (m *Memory) room(cost int64) bool {
	if cost > m.largest+segmentCost {
		return false
	}
	for m.used.Load()+cost > m.capacity || m.spare.empty() {
		if !m.evict() {
			return false
		}
	}
	return true
}

// evict frees a segment, and moves what is worth it to others.
func (m *Memory) evict() bool {
	for len(m.holes) > 0 {
		s := m.holes[len(m.holes)-1]
		m.holes = m.holes[:len(m.holes)-1]
		s.listed = false
		if q := s.queue; q != nil && q.open != s {
			m.clear(s, func(word uint64, _ int) (*queue, uint64) { return q, word })
			return true
		}
	}
	switch {
	case m.small.oldest != nil && (m.main.oldest == nil || m.small.bytes*smallShare >= m.capacity):
		m.clear(m.small.oldest, m.promote)
	case m.main.oldest != nil:
		m.thin()
	default:
		return false
	}
	return true
}

// A destiny says where a record of so many words goes from a segment that is
// cleared, and with which first word; to no queue if it is not worth it.
type destiny func(word uint64, words int) (*queue, uint64)

// promote is the destiny of what is in the small queue.
func (m *Memory) promote(word uint64, _ int) (*queue, uint64) {
	if n := score(word); n >= scoreUnit {
		return &m.main, withScore(word, n)
	}
	return nil, 0
}

// thin clears the oldest segments of the main queue and saves, in as much room
// as leaves one of them, those records that have the highest score. They keep two thirds of it.
func (m *Memory) thin() {
	var these [thinned]*segment
	var words [maxScore + 1]int
	all, n := 0, 0
	for s := m.main.oldest; s != nil && n < thinned; s = s.prev {
		these[n] = s
		n++
		all += int(s.cost / wordBytes)
		m.living(s, func(off, length int) { words[score(s.hits(off))] += length })
	}
	bar, left := maxScore, all*(thinned-1)/thinned
	for ; bar > 0 && words[bar] <= left; bar-- {
		left -= words[bar]
	}
	for _, s := range these[:n] {
		m.clear(s, func(word uint64, length int) (*queue, uint64) {
			switch n := score(word); {
			case n < bar, n == bar && length > left:
				return nil, 0
			case n == bar:
				left -= length
				fallthrough
			default:
				return &m.main, withScore(word, n*2/3)
			}
		})
	}
}

// living calls yield with where the records of a segment are that the index
// leads to, and how many words they take.
func (m *Memory) living(s *segment, yield func(off, length int)) {
	if s.large.Load() != nil {
		if s.live > 0 {
			yield(0, int(s.cost/wordBytes))
		}
		return
	}
	for off := 0; off < s.used; {
		n := s.length(off)
		k := s.key(off)
		if p := m.find(hashOf(m.seed, &k), &k); p.segment == s && p.off == off {
			yield(off, n)
		}
		off += n
	}
}

// clear takes a segment out of its queue, and its records with it or elsewhere.
func (m *Memory) clear(s *segment, where destiny) {
	q := s.queue
	q.remove(s)
	m.used.Add(-s.cost)
	if s.large.Load() != nil {
		if m.keepLarge(q, s, where) {
			return
		}
	} else {
		m.living(s, func(off, length int) {
			word := s.hits(off)
			to, word := where(word, length)
			if to == nil || !m.save(s, off, length, to, word) {
				m.lost(q, s, off)
			}
		})
	}
	m.segments[s.id].Store(nil)
	m.spare.put(s.id)
	m.cool(s)
}

// keepLarge puts the segment of a large resource into another queue as it is.
func (m *Memory) keepLarge(q *queue, s *segment, where destiny) bool {
	if s.live == 0 {
		return false
	}
	to, word := where(s.hits(0), int(s.cost/wordBytes))
	if to == nil {
		m.lost(q, s, 0)
		return false
	}
	atomic.StoreUint64(&s.words[0], word)
	to.push(s)
	m.used.Add(s.cost)
	return true
}

// save copies a record to where it goes on.
func (m *Memory) save(s *segment, off, length int, to *queue, word uint64) bool {
	into := m.opened(to, length)
	if into == nil {
		return false
	}
	k := s.key(off)
	m.redirect(m.find(hashOf(m.seed, &k), &k), into, into.move(s, off, word))
	return true
}

// lost takes a record out of the index for want of room.
func (m *Memory) lost(q *queue, s *segment, off int) {
	k := s.key(off)
	hash := hashOf(m.seed, &k)
	m.leave(hash, m.find(hash, &k))
	m.evicted.Add(1)
	if q == &m.small {
		m.ghost.add(hash)
	}
}

// opened is a segment of the queue with room for so many words; nil if there
// can be none.
func (m *Memory) opened(q *queue, words int) *segment {
	if q.open != nil && q.open.used+words <= len(q.open.words) {
		return q.open
	}
	if m.spare.empty() {
		return nil
	}
	if q.open != nil {
		m.hollow(q.open)
	}
	s := m.begin(newSegment(m.segmentWords))
	q.push(s)
	q.open = s
	return s
}

// begin gives a segment its place.
func (m *Memory) begin(s *segment) *segment {
	s.id = m.spare.take()
	m.turn[s.id] = m.turn[s.id]%(turns-1) + 1
	s.turn = uint64(m.turn[s.id])
	m.used.Add(s.cost)
	m.segments[s.id].Store(s)
	return s
}

// lose notes that the index no longer leads to a record.
func (m *Memory) lose(s *segment, off int) {
	s.live -= s.length(off)
	switch {
	case s.queue == nil:
	case s.live == 0 && s.queue.open != s:
		m.clear(s, m.promote)
	case s.queue.open != s:
		m.hollow(s)
	}
}

// hollow lists a full segment that has more dead records than living ones.
func (m *Memory) hollow(s *segment) {
	if s.live*2 < s.used && !s.listed && s.large.Load() == nil {
		s.listed = true
		m.holes = append(m.holes, s)
	}
}

// A ring hands out numbers of segments, the one that was given back first first.
type ring struct {
	ids        []uint64
	head, left int
}

func newRing(n int) ring {
	r := ring{ids: make([]uint64, n), left: n}
	for i := range r.ids {
		r.ids[i] = uint64(i)
	}
	return r
}

func (r *ring) empty() bool { return r.left == 0 }

func (r *ring) take() uint64 {
	id := r.ids[r.head]
	r.head = (r.head + 1) % len(r.ids)
	r.left--
	return id
}

func (r *ring) put(id uint64) {
	r.ids[(r.head+r.left)%len(r.ids)] = id
	r.left++
}
