package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// A Why says of one rule what became of it.
type Why struct {
	Route  int    // index of the rule
	Taken  bool   // the request goes here
	Reason string // if not: the first reason, as in "method: POST is not one of GET, HEAD"
}

// Explain says of every rule, in order of precedence for r, whether it takes r
// and if not, why. A rule with several hosts is listed once, under the one that
// ranks highest of those that match. The method is looked at last: it is the
// reason only if nothing else is. Explain agrees with Match, but costs in
// proportion to the number of rules.
func (t *Table) Explain(r *Request) []Why {
	host := string(appendHost(nil, r.Host))
	s := search{r: r, path: r.Path}
	t.find(&s)
	var c conflict
	clear := true
	if r.Ambiguous {
		c, clear = t.dissent(r, &s)
	}
	var all []Why
	for _, v := range t.ordered(host) {
		w := Why{Route: v.rule.index, Reason: v.rule.refusal(r, host)}
		switch {
		case w.Reason == "" && v.rule != s.won.rule:
			w.Reason = fmt.Sprintf("precedence: route %s comes first", s.won.rule.label())
		case w.Reason == "" && !clear:
			w.Reason = c.String()
		case w.Reason == "":
			w.Taken = true
		}
		if !clear && v.rule == c.rule {
			w.Reason += fmt.Sprintf("; but with the path read as %s, this route comes first", c.path)
		}
		all = append(all, w)
	}
	return all
}

// ordered returns the rules in order of precedence, each under the best of its
// hosts that match, or under the best of all.
func (t *Table) ordered(host string) []variant {
	best := make([]variant, len(t.rules))
	for _, v := range t.variants {
		b := &best[v.rule.index]
		if b.rule == nil || !b.host.matches(host) && v.host.matches(host) {
			*b = v
		}
	}
	slices.SortFunc(best, func(a, b variant) int {
		return cmp.Or(a.compare(b.standing), cmp.Compare(a.index, b.index))
	})
	return best
}

// String says what is wrong with the path.
func (c conflict) String() string {
	switch {
	case c.path == "":
		return "path: ambiguous, some servers read it as leading above the root, or it mixes too many notations"
	case c.rule == nil:
		return fmt.Sprintf("path: ambiguous, some servers read it as %s, which does not go here", c.path)
	}
	return fmt.Sprintf("path: ambiguous, some servers read it as %s, which goes to route %s", c.path, c.rule.label())
}

// label names a rule to a person.
func (c *rule) label() string {
	if c.name != "" {
		return c.name
	}
	return fmt.Sprintf("#%d", c.index)
}

// refusal returns the first reason why c does not take r, or "".
func (c *rule) refusal(r *Request, host string) string {
	if !slices.ContainsFunc(c.hosts, func(h hostPattern) bool { return h.matches(host) }) {
		return fmt.Sprintf("host: %s is not %s", cmp.Or(host, "no host"), oneOf(c.hosts, hostPattern.String))
	}
	if !c.path.matches(r.Path) {
		return c.path.refusal(r.Path)
	}
	for i := range c.headers {
		if !c.headers[i].acceptsField(r.Fields) {
			return c.headers[i].refusal("header", func(name string) (string, bool) {
				if r.Fields == nil {
					return "", false
				}
				return r.Fields.Lookup(name)
			})
		}
	}
	for i := range c.query {
		if !c.query[i].acceptsQuery(r.Query) {
			return c.query[i].refusal("query", func(name string) (string, bool) {
				v, ok := parameterOf(r.Query, name)
				return unescaped(v), ok
			})
		}
	}
	if len(c.clients) > 0 && !c.clients.contains(r.ClientIP) {
		return fmt.Sprintf("client_ips: %v is not in %s", r.ClientIP, oneOf(c.clients, netip.Prefix.String))
	}
	if !c.takesMethod(r.Method) {
		return fmt.Sprintf("method: %s is not %s", r.Method, oneOf(c.methods, func(s string) string { return s }))
	}
	return ""
}

func (p *pattern) refusal(path string) string {
	switch p.kind {
	case prefixPath:
		return fmt.Sprintf("path: %s is not below %s", path, p.text)
	case exactPath:
		return fmt.Sprintf("path: %s is not %s", path, p.text)
	}
	return fmt.Sprintf("path: %s does not match %s", path, p.text)
}

func (c *condition) refusal(what string, value func(name string) (string, bool)) string {
	v, ok := value(c.name)
	switch {
	case !ok:
		return fmt.Sprintf("%s %s: is absent", what, c.name)
	case c.re != nil:
		return fmt.Sprintf("%s %s: %q does not match %s", what, c.name, v, c.text)
	}
	return fmt.Sprintf("%s %s: %q is not %q", what, c.name, v, c.text)
}

// oneOf writes a list as what a thing should have been.
func oneOf[T any](list []T, text func(T) string) string {
	if len(list) == 1 {
		return text(list[0])
	}
	return "one of " + join(list, text)
}
