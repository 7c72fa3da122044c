package edgecache

import (
	"hash/maphash"
	"sync/atomic"
)

// The index leads from a key to its record: a hash table for each of its
// shards, with open addressing. Its slots are words without pointers:
//
//	tag of the hash (16 bits) | turn (8) | segment (20) | word in the segment (20)
//
// They are read without a lock; whoever holds Memory.mu writes them. A table is
// rebuilt when slots get scarce, a shard at a time, while readers go on with
// the one before.
const (
	shardBits = 8
	shards    = 1 << shardBits

	offsetBits  = 20
	segmentBits = 20
	turnBits    = 8
	turns       = 1 << turnBits // 0 is never used, so that no slot looks vacant
	maxSegments = 1 << segmentBits
	maxWords    = 1 << offsetBits // of a segment

	vacant  = 0
	removed = 1 // something was here; go on looking

	minSlots = 8
)

// A shard is one table; used counts its slots that are not vacant.
type shard struct {
	slots atomic.Pointer[[]uint64]
	used  int
	live  int
}

func hashOf(seed maphash.Seed, k *Key) uint64 { return maphash.Bytes(seed, k[:]) }

func tagOf(hash uint64) uint64 { return hash >> 40 & 0xffff }

// location is a slot's word without the tag.
func location(s *segment, off int) uint64 {
	return s.turn<<(offsetBits+segmentBits) | s.id<<offsetBits | uint64(off)
}

const locationMask = 1<<(offsetBits+segmentBits+turnBits) - 1

// A place is where the index has a key.
type place struct {
	segment *segment // nil: nowhere
	off     int
	slot    *uint64
	word    uint64 // of the slot
}

// find looks a key up. It takes no lock: a record that moves meanwhile is found
// where it goes to, and one that leaves is found or not.
func (m *Memory) find(hash uint64, k *Key) place {
	slots := *m.index[hash>>(64-shardBits)].slots.Load()
	mask := uint64(len(slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		for {
			word := atomic.LoadUint64(&slots[i])
			if word == vacant {
				return place{}
			}
			if word == removed || word>>(64-16) != tagOf(hash) {
				break
			}
			s, off := m.at(word)
			if s != nil {
				if s.holds(off, k) {
					return place{segment: s, off: off, slot: &slots[i], word: word}
				}
				break
			}
			if atomic.LoadUint64(&slots[i]) == word {
				break // its segment is on the way out, and it with it
			}
		}
	}
}

// at is where a slot's word leads; nil if the segment is no more. (A turn could
// only be mistaken if a segment's place changed hands 255 times, which is the
// whole cache several times over, between two instructions of find.)
func (m *Memory) at(word uint64) (*segment, int) {
	s := m.segments[word>>offsetBits&(maxSegments-1)].Load()
	if s == nil || s.turn != word>>(offsetBits+segmentBits)&(turns-1) {
		return nil, 0
	}
	return s, int(word & (maxWords - 1))
}

// widen makes sure that the index can take one more key of that hash, and the
// ghost all that are there. What they grow by has to be within the capacity too.
func (m *Memory) widen(hash uint64) {
	sh := &m.index[hash>>(64-shardBits)]
	if (sh.used+1)*4 > len(*sh.slots.Load())*3 {
		m.room(int64(sh.fitting()) * wordBytes)
		m.rebuild(sh)
	}
	if more := m.ghost.growth(int(m.resources.Load())); more > 0 && m.room(more) {
		m.ghost.grow()
		m.used.Add(more)
	}
}

// enter leads a key that the index does not have to a record. mu is held.
func (m *Memory) enter(hash uint64, s *segment, off int) {
	sh := &m.index[hash>>(64-shardBits)]
	slots := *sh.slots.Load()
	mask := uint64(len(slots) - 1)
	i := hash & mask
	for ; slots[i] > removed; i = (i + 1) & mask {
	}
	if slots[i] == vacant {
		sh.used++
	}
	sh.live++
	atomic.StoreUint64(&slots[i], tagOf(hash)<<(64-16)|location(s, off))
	m.resources.Add(1)
}

// redirect leads a key that the index has to another record of it.
func (m *Memory) redirect(p place, s *segment, off int) {
	atomic.StoreUint64(p.slot, p.word&^uint64(locationMask)|location(s, off))
}

// leave takes a key out of the index. mu is held.
func (m *Memory) leave(hash uint64, p place) {
	atomic.StoreUint64(p.slot, removed)
	m.index[hash>>(64-shardBits)].live--
	m.resources.Add(-1)
}

// fitting is how many slots a shard wants: its keys are to take at most 3/8, so
// that the table lasts.
func (sh *shard) fitting() int {
	n := minSlots
	for n*3 < (sh.live+1)*8 {
		n *= 2
	}
	return n
}

// rebuild gives a shard a table that fits it.
func (m *Memory) rebuild(sh *shard) {
	old := *sh.slots.Load()
	slots := make([]uint64, sh.fitting())
	mask := uint64(len(slots) - 1)
	for _, word := range old {
		if word <= removed {
			continue
		}
		s, off := m.at(word)
		k := s.key(off)
		i := hashOf(m.seed, &k) & mask
		for ; slots[i] != vacant; i = (i + 1) & mask {
		}
		slots[i] = word
	}
	sh.used = sh.live
	sh.slots.Store(&slots)
	m.used.Add(int64(len(slots)-len(old)) * wordBytes)
}
