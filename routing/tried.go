package routing

// Tried holds the last few targets that an exchange was sent to, so that a retry
// takes another. The zero value and nil hold none.
type Tried struct {
	members [8]*Member
	n       int
}

// Add notes m. Of more than eight the oldest is forgotten.
func (t *Tried) Add(m *Member) {
	t.members[t.n%len(t.members)] = m
	t.n++
}

// Has reports whether m is among them.
func (t *Tried) Has(m *Member) bool {
	if t == nil || t.n == 0 {
		return false
	}
	for _, o := range t.members[:min(t.n, len(t.members))] {
		if o == m {
			return true
		}
	}
	return false
}

// Len returns how many there are.
func (t *Tried) Len() int {
	if t == nil {
		return 0
	}
	return min(t.n, len(t.members))
}

// Reset forgets them.
func (t *Tried) Reset() { *t = Tried{} }
