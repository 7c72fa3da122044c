package edgecache

// A ghost remembers keys that were evicted after a single use, by 32 bits of
// their hash each: who comes back soon was worth more. It has buckets of four,
// in which the oldest gives way.
type ghost struct {
	slots []uint64 // part of the hash << 32 | when
	clock uint32   // keys added so far
}

const ghostWays = 4

func newGhost() ghost { return ghost{slots: make([]uint64, 64)} }

func (g *ghost) bucket(part uint32) []uint64 {
	i := int(part) & (len(g.slots)/ghostWays - 1) * ghostWays
	return g.slots[i : i+ghostWays]
}

// add remembers a key.
func (g *ghost) add(hash uint64) {
	g.clock++
	g.put(uint32(hash>>24), g.clock)
}

func (g *ghost) put(part, when uint32) {
	b := g.bucket(part)
	oldest := 0
	for i, slot := range b {
		if slot == 0 || uint32(slot>>32) == part {
			oldest = i
			break
		}
		if g.clock-uint32(slot) > g.clock-uint32(b[oldest]) {
			oldest = i
		}
	}
	b[oldest] = uint64(part)<<32 | uint64(when)
}

// recall reports whether the key is among the last `keep` that were added, and
// forgets it.
func (g *ghost) recall(hash uint64, keep int) bool {
	part := uint32(hash >> 24)
	for i, slot := range g.bucket(part) {
		if slot != 0 && uint32(slot>>32) == part {
			g.bucket(part)[i] = 0
			return int(g.clock-uint32(slot)) <= keep
		}
	}
	return false
}

// growth is by how many bytes the ghost has to grow to remember as many keys as
// there are in the cache.
func (g *ghost) growth(keys int) int64 {
	if keys <= len(g.slots) {
		return 0
	}
	return int64(len(g.slots)) * wordBytes
}

func (g *ghost) grow() {
	old := g.slots
	g.slots = make([]uint64, 2*len(old))
	for _, slot := range old {
		if slot != 0 {
			g.put(uint32(slot>>32), uint32(slot))
		}
	}
}
