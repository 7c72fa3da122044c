package edgecache

import (
	"sync/atomic"
	"unsafe"
)

// A segment is a stretch of memory that records are appended to. Nothing in it
// changes once it is there but hits and stamps, which are atomic; whoever reads
// a record keeps the whole segment, so evicting one cannot hurt him. Records
// have no pointers, so that a million of them cost the garbage collector
// nothing.
//
// A record is, in words: hits and mark; the key (2); its size; a stamp for each
// variant (Entry.Purges); the resource as appendResource writes it.
type segment struct {
	id   uint64 // where Memory.segments has it
	turn uint64 // how often that place has been taken, modulo turns

	words []uint64
	bytes []byte // the same memory

	// large is the only resource of a segment that was made for it: it is not
	// encoded, and the record is nothing but a header.
	large atomic.Pointer[Resource]

	// What follows belongs to whoever holds Memory.mu.
	queue      *queue
	next, prev *segment
	used, live int // words appended, and those of them that the index leads to
	cost       int64
	listed     bool // in Memory.holes
}

const (
	headerWords = 4
	wordBytes   = 8
	segmentCost = 160 // bytes of a segment itself

	// A record's first word has, from below: how often it was hit; that count as
	// it was when its score was reckoned last, modulo 2^16; the score, in
	// sixteenths of a hit.
	hitBits   = 36
	hitMask   = 1<<hitBits - 1
	markBits  = 16
	markMask  = 1<<markBits - 1
	scoreUnit = 16
	maxScore  = 1<<(64-hitBits-markBits) - 1
)

func newSegment(words int) *segment {
	s := &segment{words: make([]uint64, words)}
	s.bytes = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s.words))), words*wordBytes)
	s.cost = segmentCost + int64(words)*wordBytes
	return s
}

// holds reports whether the record at word off is of that key.
func (s *segment) holds(off int, k *Key) bool {
	if off+headerWords > len(s.words) {
		return false
	}
	at := (off + 1) * wordBytes
	return Key(s.bytes[at:at+len(k)]) == *k
}

func (s *segment) key(off int) Key {
	at := (off + 1) * wordBytes
	return Key(s.bytes[at : at+len(Key{})])
}

// size is how many bytes are encoded in a record and how many variants it has.
func (s *segment) size(off int) (bytes, variants int) {
	word := s.words[off+3]
	return int(word >> 8), int(word & 0xff)
}

// length is how many words the record takes.
func (s *segment) length(off int) int {
	bytes, variants := s.size(off)
	return recordWords(bytes, variants)
}

func recordWords(bytes, variants int) int {
	return headerWords + variants + (bytes+wordBytes-1)/wordBytes
}

// append adds a record and returns where it is. There must be room for it.
func (s *segment) append(k Key, hits uint64, stamps []uint64, encoded []byte) int {
	off := s.used
	n := recordWords(len(encoded), len(stamps))
	s.used += n
	s.live += n
	s.words[off] = hits
	copy(s.bytes[(off+1)*wordBytes:], k[:])
	s.words[off+3] = uint64(len(encoded))<<8 | uint64(len(stamps))
	copy(s.words[off+headerWords:], stamps)
	copy(s.bytes[(off+headerWords+len(stamps))*wordBytes:], encoded)
	return off
}

// move appends the record at off of from as it is now.
func (s *segment) move(from *segment, off int, hits uint64) int {
	n := from.length(off)
	to := s.used
	s.used += n
	s.live += n
	_, variants := from.size(off)
	s.words[to] = hits
	copy(s.words[to+1:to+headerWords], from.words[off+1:])
	for i := headerWords; i < headerWords+variants; i++ {
		s.words[to+i] = atomic.LoadUint64(&from.words[off+i])
	}
	copy(s.words[to+headerWords+variants:to+n], from.words[off+headerWords+variants:])
	return to
}

// resource is the record as others know it.
func (s *segment) resource(off int) *Resource {
	if r := s.large.Load(); r != nil {
		return r
	}
	bytes, variants := s.size(off)
	at := (off + headerWords + variants) * wordBytes
	r, err := decodeResource(s.bytes[at : at+bytes : at+bytes])
	if err != nil { // what this process has encoded: only a fault of ours gets here
		return nil
	}
	for i, e := range r.Variants {
		e.Purges = atomic.LoadUint64(&s.words[off+headerWords+i])
	}
	return r
}

// hit counts a use of the record.
func (s *segment) hit(off int) { atomic.AddUint64(&s.words[off], 1) }

func (s *segment) hits(off int) uint64 { return atomic.LoadUint64(&s.words[off]) }

// score is what a record is worth: its hits since it was last looked at, and
// what was left then of those before.
func score(word uint64) int {
	lately := (word - word>>hitBits) & markMask
	return int(min(maxScore, word>>(hitBits+markBits)+lately*scoreUnit))
}

// withScore is the word looked at now.
func withScore(word uint64, score int) uint64 {
	return word&hitMask | word&markMask<<hitBits | uint64(min(maxScore, score))<<(hitBits+markBits)
}
