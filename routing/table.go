package routing

import (
	"slices"
	"strings"
)

// A Table picks the rule for a request. It is immutable and safe for concurrent
// use.
//
// Of the rules whose parts all match, the first in this order wins:
//
//  1. the higher priority;
//  2. host: an exact name, the longer wildcard, the shorter, no host;
//  3. path: exact (/x), with parameters (/u/{id}), regular expression (re:…),
//     prefix (/x/*, /u/{id}/*), no path;
//  4. among parameters and among prefixes: more literal segments, then more
//     segments, then a literal where the other first has a parameter. Of two
//     plain prefixes that is the longer;
//  5. more further conditions: each header and each query parameter is one, so
//     are methods and client_ips as a whole;
//  6. more exact ones: an exact value counts 2, re: 1, present 0;
//  7. fewer methods (GET is two, for it takes HEAD), if both name any;
//  8. the smaller widest range of client addresses, if both name any;
//  9. the order of the rules.
//
// A rule with several hosts stands in the order once for each.
//
// Match costs a look-up for the host, one for each label that a wildcard of the
// table has, and a walk along the segments of the path (along both, where one
// rule has a literal and another a parameter). Only these grow with the number
// of rules: rules with the same host and path are tried in turn, and so are the
// regular expressions of one host that rank before the best match otherwise
// found (those that begin with ^ and a literal are run only on paths that begin
// with it).
type Table struct {
	rules     []*rule
	variants  []variant // in order of precedence
	exact     map[string]*site
	wild      map[string]*site // by the name without "*."
	anywhere  *site
	wildDepth int // labels in the longest wildcard
}

// A variant is a rule under one of its hosts.
type variant struct {
	standing
	host hostPattern
	rule *rule
}

// NewTable reads the rules. The error joins a *RuleError for every fault.
func NewTable(rules []Rule) (*Table, error) {
	t := &Table{exact: map[string]*site{}, wild: map[string]*site{}}
	var f faults
	for i, r := range rules {
		c := parseRule(i, r, f.in(i))
		t.rules = append(t.rules, c)
		for _, h := range c.hosts {
			t.variants = append(t.variants, variant{standing: standingOf(c, h), host: h, rule: c})
		}
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	slices.SortFunc(t.variants, func(a, b variant) int { return a.compare(b.standing) })
	for i, v := range t.variants {
		t.site(v.host, int32(i)).add(leaf{
			rank:    int32(i),
			index:   int32(v.rule.index),
			methods: methodsOf(v.rule.methods),
			simple:  v.rule.path.kind != regexPath && v.conditions == min(1, len(v.rule.methods)),
			rule:    v.rule,
		})
	}
	return t, nil
}

// site returns what holds the rules for a host, made if there is none. Ranks
// come in ascending order, so the first is the best.
func (t *Table) site(h hostPattern, rank int32) *site {
	if h.name == "" {
		if t.anywhere == nil {
			t.anywhere = &site{best: rank}
		}
		return t.anywhere
	}
	among := t.exact
	if h.wild {
		among = t.wild
		t.wildDepth = max(t.wildDepth, strings.Count(h.name, ".")+1)
	}
	if among[h.name] == nil {
		among[h.name] = &site{best: rank}
	}
	return among[h.name]
}

// Match picks the rule for r. It does not allocate, but for the methods of
// MethodNotAllowed, for an ambiguous path, for a query value that re: has to
// decode, and for a host longer than a name can be.
//
// MethodNotAllowed means that no rule matches, but one does in everything but
// the method (RFC 9110, section 15.5.6); Allow has the methods of all such
// rules.
//
// If r.Ambiguous, the other common readings of the path are matched as well:
// runs of slashes merged; what follows ";" dropped from each segment; the path
// ended at a "?" or "#" that was encoded; a %25 and two digits decoded once
// more; a kept %2F as a separator; and all combinations of these, dot segments
// removed at the end. If one of them has another outcome or takes another rule,
// so that a server behind the gateway could see a request that the rule in
// force there never saw, the outcome is Ambiguous. Of the readings with %2F as a
// separator only those count that take a rule of higher precedence: who keeps
// %2F says that it is none, but not to get around a stricter rule. The outcome
// is Ambiguous too if a reading leads above the root, or if the path mixes more
// than three of the five notations.
func (t *Table) Match(r *Request) Result {
	s := search{r: r, path: r.Path}
	t.find(&s)
	if r.Ambiguous {
		if _, clear := t.dissent(r, &s); !clear {
			return Result{Outcome: Ambiguous}
		}
	}
	switch s.outcome() {
	case Found:
		return Result{Outcome: Found, Route: int(s.won.index)}
	case MethodNotAllowed:
		return Result{Outcome: MethodNotAllowed, Allow: t.allow(r)}
	}
	return Result{}
}

// allow collects the methods of the rules that refuse r for its method alone.
func (t *Table) allow(r *Request) []string {
	s := search{r: r, path: r.Path, collect: true}
	t.find(&s)
	slices.Sort(s.allow)
	return slices.Compact(s.allow)
}

// A conflict is a reading of a path that leads elsewhere.
type conflict struct {
	path string
	rule *rule // that takes the reading, or nil
}

// dissent looks for a reading of r's path with an end other than that of s. It
// returns true if there is none.
func (t *Table) dissent(r *Request, s *search) (c conflict, clear bool) {
	clear = readings(r.Path, func(path string, bySlash bool) bool {
		o := search{r: r, path: path}
		t.find(&o)
		same := o.outcome() == s.outcome() && o.won.rule == s.won.rule
		if !same && bySlash {
			same = o.outcome() != Found || s.outcome() == Found && s.won.rank < o.won.rank
		}
		if !same {
			c = conflict{path: path, rule: o.won.rule}
		}
		return same
	})
	return c, clear
}
