package routing

import (
	"cmp"
	"strings"
)

// A standing is what the precedence of a rule for one of its hosts depends on.
// The fields stand in the order in which they count; see Table.
type standing struct {
	priority   int
	host       int
	kind       kind
	literals   int
	segments   int
	shape      string
	conditions int
	exactness  int
	methods    int
	clients    int
	index      int
}

func standingOf(c *rule, host hostPattern) standing {
	s := standing{
		priority:   c.priority,
		host:       host.weight(),
		kind:       c.path.kind,
		conditions: len(c.headers) + len(c.query),
		methods:    len(c.methods),
		clients:    c.clients.width(),
		index:      c.index,
	}
	if s.kind == prefixPath || s.kind == paramPath {
		s.literals, s.segments, s.shape = c.path.literals(), len(c.path.segs), c.path.shape()
	}
	if len(c.methods) > 0 {
		s.conditions++
	}
	if len(c.clients) > 0 {
		s.conditions++
	}
	for _, list := range [][]condition{c.headers, c.query} {
		for i := range list {
			s.exactness += list[i].exactness()
		}
	}
	return s
}

// compare returns a negative number if s comes before o. It is zero only for
// two hosts of one rule.
func (s standing) compare(o standing) int {
	return cmp.Or(
		cmp.Compare(o.priority, s.priority),
		cmp.Compare(o.host, s.host),
		cmp.Compare(o.kind, s.kind),
		cmp.Compare(o.literals, s.literals),
		cmp.Compare(o.segments, s.segments),
		strings.Compare(s.shape, o.shape),
		cmp.Compare(o.conditions, s.conditions),
		cmp.Compare(o.exactness, s.exactness),
		cmp.Compare(s.methods, o.methods),
		cmp.Compare(s.clients, o.clients),
		cmp.Compare(s.index, o.index),
	)
}
