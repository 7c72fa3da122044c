package edgecache

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Memory is a Store within a bound in bytes that is never exceeded, however
// many put at once: what is new is let in when something else is out.
//
// It is a log: records without pointers in segments, which go in an order after
// S3-FIFO (Yang et al., SOSP 2023). A new resource is appended to the small
// queue, a twentieth of all. What was used by the time its segment is the
// oldest moves to the main queue; what was not is evicted, but remembered: if
// it comes back it is let into the main queue at once. So a scan, or a single
// large object, passes through the small queue and takes nothing else with it.
// The main queue is thinned out at its old end by how often records are used,
// with a memory that fades (as Segcache does, Yang et al., NSDI 2021).
//
// Hits take no lock and write one counter of the record. Changes share one
// lock, which is held for microseconds.
//
// # Why not maypok86/otter/v2
//
// See BENCH.md, which has the figures and how to get them: its entries are
// objects of Go's heap, which at a million of them cost half of the memory
// again; its maintenance comes after the put, so that bursts exceed the bound.
type Memory struct {
	capacity     int64 // bytes, for all that m.used counts
	largest      int64 // bytes of a resource
	segmentWords int

	seed     maphash.Seed
	index    [shards]shard
	segments []atomic.Pointer[segment]
	warm     []atomic.Pointer[warm]
	warmMask uint64

	used, resources  atomic.Int64
	evicted, refused atomic.Uint64

	mu          sync.Mutex
	turn        []uint8
	spare       ring
	small, main queue
	holes       []*segment // that are more dead than alive
	ghost       ghost
	scratch     []byte
}

const (
	minCapacity    = 1 << 20
	minSegmentSize = 16 << 10
	maxSegmentSize = maxWords * wordBytes
	// inSegment is which part of a segment a record may take; what is larger gets
	// a segment of its own, so that less than that part is wasted.
	inSegment = 8
	// largestShare is which part of the capacity one resource may take.
	largestShare = 4
)

// NewMemory is a store of that many bytes: of everything, keys, headers, bodies
// and what the store itself needs.
func NewMemory(capacity int64) (*Memory, error) {
	if capacity < minCapacity {
		return nil, fmt.Errorf("cache memory of %d bytes; it takes %d at least", capacity, minCapacity)
	}
	size := int64(1) << (bits.Len64(uint64(capacity)/4096) - 1)
	size = max(minSegmentSize, min(maxSegmentSize, size))
	n := min(maxSegments, capacity/(size/inSegment)+16)
	places := 1 << (bits.Len64(uint64(max(64, min(1<<16, capacity>>15)))) - 1)
	m := &Memory{
		capacity: capacity, largest: capacity / largestShare, segmentWords: int(size / wordBytes),
		seed: maphash.MakeSeed(), segments: make([]atomic.Pointer[segment], n),
		warm: make([]atomic.Pointer[warm], places), warmMask: uint64(places - 1),
		turn: make([]uint8, n), spare: newRing(int(n)), ghost: newGhost(),
	}
	for i := range m.index {
		slots := make([]uint64, minSlots)
		m.index[i].slots.Store(&slots)
	}
	m.used.Store(shards*(32+minSlots*wordBytes) + n*17 + int64(places)*warmCost + int64(len(m.ghost.slots))*wordBytes + size/inSegment)
	return m, nil
}

// Get is the resource of that key, nil for none.
func (m *Memory) Get(k Key) *Resource {
	hash := hashOf(m.seed, &k)
	p := m.find(hash, &k)
	if p.segment == nil {
		return nil
	}
	p.segment.hit(p.off)
	if r := p.segment.large.Load(); r != nil {
		return r
	}
	at := p.word & locationMask
	if r := m.warmed(hash, p.segment, at); r != nil {
		return r
	}
	r := p.segment.resource(p.off)
	if r != nil && p.segment.hits(p.off)&hitMask > 1 {
		m.keep(hash, &warm{location: at, segment: p.segment, resource: r})
	}
	return r
}

// Update puts what change returns in the place of what is there.
func (m *Memory) Update(k Key, change func(*Resource) *Resource) {
	hash := hashOf(m.seed, &k)
	m.mu.Lock()
	defer m.mu.Unlock()
	var old *Resource
	p := m.find(hash, &k)
	if p.segment != nil {
		old = p.segment.resource(p.off)
	}
	next := change(old)
	switch {
	case next == old:
	case next == nil:
		m.drop(hash, p)
	default:
		m.put(k, hash, p, next)
	}
}

// drop forgets a resource that is there.
func (m *Memory) drop(hash uint64, p place) {
	m.leave(hash, p)
	m.lose(p.segment, p.off)
}

// put appends a resource; p is where the index has the one before, if any. A
// new one counts as a use of it.
func (m *Memory) put(k Key, hash uint64, p place, r *Resource) {
	q, hits := &m.small, uint64(0)
	switch {
	case p.segment != nil:
		q, hits = p.segment.queue, p.segment.hits(p.off)
		hits = withScore(hits, score(hits)+scoreUnit)
	case m.ghost.recall(hash, int(m.resources.Load())):
		q = &m.main
	}
	m.widen(hash)
	s, off := m.write(k, q, hits, r)
	if p = m.find(hash, &k); s == nil { // making room may have moved it, or evicted it
		m.refused.Add(1)
		if p.segment != nil {
			m.drop(hash, p)
		}
		return
	}
	if p.segment == nil {
		m.enter(hash, s, off)
		return
	}
	m.redirect(p, s, off)
	m.lose(p.segment, p.off)
}

// write makes room and appends a record; nil if there is no room to be made.
func (m *Memory) write(k Key, q *queue, hits uint64, r *Resource) (*segment, int) {
	limit := m.segmentWords * wordBytes / inSegment
	if len(r.Variants) > encodedVariants || r.Size() > limit {
		return m.writeLarge(k, q, hits, r)
	}
	m.scratch = appendResource(m.scratch[:0], r)
	words := recordWords(len(m.scratch), len(r.Variants))
	if q.open == nil || q.open.used+words > len(q.open.words) {
		if !m.room(segmentCost + int64(m.segmentWords)*wordBytes) {
			return nil, 0
		}
	}
	s := m.opened(q, words)
	if s == nil {
		return nil, 0
	}
	stamps := make([]uint64, 0, 8)
	for _, e := range r.Variants {
		stamps = append(stamps, e.Purges)
	}
	return s, s.append(k, hits, stamps, m.scratch)
}

// writeLarge gives a resource a segment of its own, which takes its large
// slices over. It copies the small ones: they may be of another segment, which
// they would hold.
func (m *Memory) writeLarge(k Key, q *queue, hits uint64, r *Resource) (*segment, int) {
	r = detached(r, m.segmentWords*wordBytes/inSegment)
	s := newSegment(headerWords)
	s.cost += int64(r.Size())
	if !m.room(s.cost) {
		return nil, 0
	}
	s.large.Store(r)
	m.begin(s)
	q.push(s)
	return s, s.append(k, hits, nil, nil)
}

// detached is r with its slices of less than limit bytes copied.
func detached(r *Resource, limit int) *Resource {
	own := func(b []byte) []byte {
		if b == nil || len(b) > limit && cap(b)-len(b) <= len(b)/inSegment {
			return b
		}
		return append([]byte(nil), b...) // its capacity tells what the heap really gives
	}
	c := &Resource{Text: string(own([]byte(r.Text))), PassUntil: r.PassUntil, Variants: make([]*Entry, len(r.Variants))}
	for i, e := range r.Variants {
		d := *e
		d.Head, d.Body = own(e.Head), own(e.Body)
		d.Vary = string(own([]byte(e.Vary)))
		if e.Parts != nil {
			d.Parts = make([]Part, len(e.Parts))
		}
		for i, p := range e.Parts {
			d.Parts[i] = Part{Start: p.Start, Data: own(p.Data)}
		}
		c.Variants[i] = &d
	}
	return c
}

// Each calls yield for every resource, in no order, until it returns false. It
// is no use of them, and sees or does not see what changes meanwhile.
func (m *Memory) Each(yield func(Key, *Resource) bool) {
	m.records(func(s *segment, off int) bool {
		r := s.resource(off)
		return r == nil || yield(s.key(off), r)
	})
}

// records calls yield for every record that the index leads to.
func (m *Memory) records(yield func(*segment, int) bool) {
	for i := range m.index {
		slots := *m.index[i].slots.Load()
		for j := range slots {
			word := atomic.LoadUint64(&slots[j])
			if word <= removed {
				continue
			}
			if s, off := m.at(word); s != nil && !yield(s, off) {
				return
			}
		}
	}
}

// Stats is what the store holds now.
func (m *Memory) Stats() StoreStats {
	return StoreStats{
		Resources: int(m.resources.Load()), Bytes: m.used.Load(), Capacity: m.capacity,
		Evicted: m.evicted.Load(), Refused: m.refused.Load(),
	}
}
