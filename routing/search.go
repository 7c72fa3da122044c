package routing

import (
	"bytes"
	"strings"
)

// A site holds the rules for one host pattern.
type site struct {
	best    int32         // rank of the first rule
	exact   index[[]leaf] // by the whole path
	root    *node         // patterns with parameters, and prefixes
	regexes []leaf
	bare    []leaf // any path
}

// A leaf is a rule where a search finds it. It holds what most rules are decided
// on, so that a search rarely has to fetch the rule itself.
type leaf struct {
	rank    int32 // the lower wins
	index   int32 // of the rule
	methods methodSet
	simple  bool // no further conditions, no regular expression
	rule    *rule
}

// A node stands for the segments of a path that lead to it.
type node struct {
	best  int32 // lowest rank here and below: what a search need not enter for
	kids  index[*node]
	param *node
	ends  []leaf // paths that end here
	below []leaf // prefixes
}

// add puts a rule in its place. Ranks come in ascending order.
func (s *site) add(l leaf) {
	path := &l.rule.path
	switch path.kind {
	case noPath:
		s.bare = append(s.bare, l)
		return
	case regexPath:
		s.regexes = append(s.regexes, l)
		return
	case exactPath:
		s.exact.set(path.literal, append(s.exact.at(path.literal), l))
		return
	}
	if s.root == nil {
		s.root = &node{best: l.rank}
	}
	n := s.root
	for _, seg := range path.segs {
		n = n.child(seg, l.rank)
	}
	if path.kind == prefixPath {
		n.below = append(n.below, l)
	} else {
		n.ends = append(n.ends, l)
	}
}

// child returns the node for one more segment, made if there is none.
func (n *node) child(seg segment, rank int32) *node {
	if seg.param {
		if n.param == nil {
			n.param = &node{best: rank}
		}
		return n.param
	}
	kid := n.kids.at(seg.literal)
	if kid == nil {
		kid = &node{best: rank}
		n.kids.set(seg.literal, kid)
	}
	return kid
}

// A search goes through all that can match and keeps the best; what cannot beat
// the best it does not enter. Thus a priority or a host counts wherever it
// stands, at no cost to the order of the walk.
type search struct {
	r       *Request
	path    string
	method  methodSet
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
func (s *search) beats(rank int32) bool {
	return s.won.rule == nil || rank < s.won.rank
}

// find searches the sites that the host belongs to.
func (t *Table) find(s *search) {
	s.method = methodOf(s.r.Method)
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
	s.try(at.exact.at(s.path))
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
		// Segments are so short that a loop beats IndexByte.
		end := 1
		for end < len(rest) && rest[end] != '/' {
			end++
		}
		seg, tail := rest[1:end], rest[end:]
		if kid := n.kids.at(seg); kid != nil {
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
	for i := range leaves {
		l := &leaves[i]
		if !s.beats(l.rank) {
			return
		}
		if s.takes(l) {
			s.won = *l
			return
		}
	}
}

// takes reports whether l takes the request, of which its host and, but for
// regular expressions, its path are known to match.
func (s *search) takes(l *leaf) bool {
	c := l.rule
	if !l.simple && c.path.kind == regexPath && !strings.HasPrefix(s.path, c.path.literal) {
		return false
	}
	method := l.methods == 0 || l.methods&s.method != 0
	if method && s.method == otherMethod && l.methods != 0 {
		method = c.takesMethod(s.r.Method)
	}
	if !method && s.refused && !s.collect {
		return false
	}
	if !l.simple && (!c.holds(s.r) || c.path.kind == regexPath && !c.path.matches(s.path)) {
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
