package routing

import (
	"bytes"
	"strings"
)

// A site holds the rules for one host pattern.
type site struct {
	best    int // rank of the first rule
	root    *node
	regexes []leaf // paths by regular expression
	bare    []leaf // any path
}

// A leaf is a rule where a search finds it; the lower rank wins.
type leaf struct {
	rank int
	rule *rule
}

// A node stands for the segments of a path that lead to it.
type node struct {
	best  int // lowest rank here and below: what a search need not enter for
	kids  map[string]*node
	param *node
	ends  []leaf // paths that end here
	below []leaf // prefixes
}

// add puts a rule in its place. Ranks come in ascending order.
func (s *site) add(l leaf) {
	switch l.rule.path.kind {
	case noPath:
		s.bare = append(s.bare, l)
		return
	case regexPath:
		s.regexes = append(s.regexes, l)
		return
	}
	if s.root == nil {
		s.root = &node{best: l.rank}
	}
	n := s.root
	for _, seg := range l.rule.path.segs {
		n = n.child(seg, l.rank)
	}
	if l.rule.path.kind == prefixPath {
		n.below = append(n.below, l)
	} else {
		n.ends = append(n.ends, l)
	}
}

func (n *node) child(seg segment, rank int) *node {
	if seg.param {
		if n.param == nil {
			n.param = &node{best: rank}
		}
		return n.param
	}
	kid := n.kids[seg.literal]
	if kid == nil {
		kid = &node{best: rank}
		if n.kids == nil {
			n.kids = map[string]*node{}
		}
		n.kids[seg.literal] = kid
	}
	return kid
}

// A search goes through all that can match and keeps the best; what cannot beat
// the best it does not enter. Thus a priority or a host counts wherever it
// stands, at no cost to the order of the walk.
type search struct {
	r       *Request
	path    string
	won     leaf     // its rule is nil: none yet
	refused bool     // some rule matches in all but the method
	collect bool     // note the methods of those
	allow   []string // what was noted
}

func (s *search) outcome() Outcome {
	switch {
	case s.won.rule != nil:
		return Found
	case s.refused:
		return MethodNotAllowed
	}
	return NoRoute
}

// beats reports whether a rule of that rank would win over the best so far.
func (s *search) beats(rank int) bool {
	return s.won.rule == nil || rank < s.won.rank
}

// find searches the sites that the host belongs to.
func (t *Table) find(s *search) {
	var buf [maxHost + 3]byte
	host := appendHost(buf[:0], s.r.Host)
	s.visit(t.exact[string(host)])
	end := len(host)
	for range t.wildDepth {
		if end = bytes.LastIndexByte(host[:end], '.'); end <= 0 {
			break
		}
		s.visit(t.wild[string(host[end+1:])])
	}
	s.visit(t.anywhere)
}

func (s *search) visit(at *site) {
	if at == nil || !s.beats(at.best) {
		return
	}
	if at.root != nil && strings.HasPrefix(s.path, "/") {
		s.walk(at.root, s.path)
	}
	s.try(at.regexes)
	s.try(at.bare)
}

// walk searches below n; rest is what follows n's segments, empty or with its
// slash.
func (s *search) walk(n *node, rest string) {
	if !s.beats(n.best) {
		return
	}
	if rest == "" {
		s.try(n.ends)
	} else {
		seg, tail := rest[1:], ""
		if i := strings.IndexByte(seg, '/'); i >= 0 {
			seg, tail = seg[:i], seg[i:]
		}
		if kid := n.kids[seg]; kid != nil {
			s.walk(kid, tail)
		}
		if n.param != nil && seg != "" {
			s.walk(n.param, tail)
		}
	}
	s.try(n.below)
}

// try takes the first of the leaves that matches, if it is better than the best.
func (s *search) try(leaves []leaf) {
	for _, l := range leaves {
		if !s.beats(l.rank) {
			return
		}
		if s.takes(l.rule) {
			s.won = l
			return
		}
	}
}

// takes reports whether c takes the request, of which its host and, but for
// regular expressions, its path are known to match.
func (s *search) takes(c *rule) bool {
	if c.path.re != nil && !strings.HasPrefix(s.path, c.path.literal) {
		return false
	}
	method := c.takesMethod(s.r.Method)
	if !method && s.refused && !s.collect {
		return false
	}
	if !c.holds(s.r) || c.path.re != nil && !c.path.re.MatchString(s.path) {
		return false
	}
	if method {
		return true
	}
	s.refused = true
	if s.collect {
		s.allow = append(s.allow, c.methods...)
	}
	return false
}
