package load

import "math/rand/v2"

// A Population is whom requests are about, by index.
type Population interface {
	Len() int
	// AppendRead appends a whole request that reads user i, and AppendWrite one
	// that writes to it; value is another one for each write.
	AppendRead(b []byte, i int) []byte
	AppendWrite(b []byte, i int, value uint64) []byte
	// Check says what is wrong with the answer to a request about user i; "" if
	// nothing. It keeps neither head nor body.
	Check(i int, write bool, status int, head, body []byte) string
}

// A Mix is what is asked for.
type Mix struct {
	Writes float64 // share of all requests, 0 to 1
	Skew   float64 // exponent of the zipf distribution over users
	Seed   uint64
}

// A Sequence is what one connection asks for, in turn.
type Sequence struct {
	pcg    *rand.PCG
	zipf   *Zipf
	writes uint64 // of 2^53
	n      uint64
	step   uint64 // ranks are spread over users by multiplying with it

	left, stride uint64 // of a walk: ranks that are still to come, in steps
}

// NewSequence is the sequence of one connection over n users.
func NewSequence(m Mix, n int, connection uint64) *Sequence {
	return &Sequence{
		pcg:    rand.NewPCG(m.Seed, connection),
		zipf:   NewZipf(uint64(n), m.Skew),
		writes: uint64(m.Writes * (1 << 53)),
		n:      uint64(n),
		step:   coprime(uint64(n)),
	}
}

// Next is the user of the next request, and whether it writes.
func (s *Sequence) Next() (user int, write bool) {
	write = s.pcg.Uint64()>>11 < s.writes
	return s.User(s.zipf.Rank(s.pcg)), write
}

// walk begins a walk over every stride-th user, the most popular ones last.
func (s *Sequence) walk(skip, stride int) {
	s.left, s.stride = s.n-min(uint64(skip), s.n), uint64(stride)
}

// stepOn is the next user of a walk, who is read.
func (s *Sequence) stepOn() (user int, more bool) {
	if s.left == 0 {
		return 0, false
	}
	rank := s.left
	s.left -= min(s.stride, s.left)
	return s.User(rank), true
}

// User is who has a rank. Neighbours in rank are far apart, or the most popular
// ones would share a page of the table, which no real population does.
func (s *Sequence) User(rank uint64) int { return int((rank - 1) * s.step % s.n) }

// coprime is a number near the golden section of n that has no divisor in common
// with it, so that multiplying by it permutes 0 to n-1.
func coprime(n uint64) uint64 {
	c := uint64(float64(n)*0.6180339887498949) | 1
	for gcd(c, n) != 1 {
		c++
	}
	return c
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
