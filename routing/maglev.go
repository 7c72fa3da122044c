package routing

// maglevSlots is the size of the table, a prime, the same for any number of
// members: another size would move nearly all keys.
const maglevSlots = 65537

// maglevRehashes is how often a key whose member is missing looks for another
// slot at random, so that the keys of one fall to all others alike.
const maglevRehashes = 16

// newMaglev returns who owns each slot (Eisenbud et al., Maglev: A Fast and
// Reliable Software Network Load Balancer, NSDI 2016, section 3.4). Members take
// turns in choosing the first free slot of an order of their own; one of half
// the greatest weight takes every other turn, but all take the first.
func newMaglev(seats []Seat) []uint16 {
	type chooser struct {
		at, skip uint32
		due      int
	}
	all, greatest := make([]chooser, len(seats)), 1
	for i, s := range seats {
		all[i].at = uint32(scatter(s.Member.id) % maglevSlots)
		all[i].skip = uint32(scatter(s.Member.id+golden)%(maglevSlots-1)) + 1
		greatest = max(greatest, s.Weight)
	}
	owners, taken := make([]uint16, maglevSlots), make([]bool, maglevSlots)
	for turn, left := 1, maglevSlots; ; turn++ {
		for i := range all {
			c := &all[i]
			if turn*seats[i].Weight < c.due {
				continue
			}
			c.due += greatest
			for taken[c.at] {
				if c.at += c.skip; c.at >= maglevSlots {
					c.at -= maglevSlots
				}
			}
			owners[c.at], taken[c.at] = uint16(i), true
			if left--; left == 0 {
				return owners
			}
		}
	}
}
