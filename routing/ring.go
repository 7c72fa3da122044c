package routing

import "math/bits"

// ringPoints is how many points a member has if its weight is a power of two and
// none is above it. The shares of the keys vary by its square root, 3 %.
const ringPoints = 1024

// ringBits is how many bits of a key say where on the ring it is.
const ringBits = 18

// newRing returns who owns each of the 2^ringBits places where a key can be on
// the circle of 64-bit numbers: the member with the first point at or after it
// (Karger et al., Consistent Hashing and Random Trees, 1997; ketama). Places
// instead of the points themselves cost one look-up instead of a search.
//
// How many points a member has depends on nothing but its weight and the power
// of two that the greatest weight lies under, so that a member that is added or
// removed leaves the points of the others where they are.
func newRing(seats []Seat) []uint16 {
	greatest := 1
	for _, s := range seats {
		greatest = max(greatest, s.Weight)
	}
	unit := ringPoints / float64(uint(1)<<bits.Len(uint(greatest-1)))
	type point struct {
		at    uint64
		owner uint16
		there bool
	}
	first := make([]point, 1<<ringBits) // of all from one place up to the next
	for i, s := range seats {
		at := s.Member.id
		for range max(1, int(float64(s.Weight)*unit+0.5)) {
			at += golden
			p := point{scatter(at), uint16(i), true}
			if old := &first[p.at>>(64-ringBits)]; !old.there || p.at < old.at {
				*old = p
			}
		}
	}
	owners := make([]uint16, len(first))
	next := uint16(0)
	for range 2 { // the second time round, the last places know the first point
		for i := len(first) - 1; i >= 0; i-- {
			if first[i].there {
				next = first[i].owner
			}
			owners[i] = next
		}
	}
	return owners
}
