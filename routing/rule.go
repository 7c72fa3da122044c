package routing

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// A rule is a Rule, read.
type rule struct {
	index    int
	name     string
	priority int
	hosts    []hostPattern // at least one
	path     pattern
	methods  []string // empty: all; HEAD stands beside GET
	headers  []condition
	query    []condition
	clients  ranges // empty: all
}

// parseRule reads r and tells bad of every fault.
func parseRule(index int, r Rule, bad func(field string, err error)) *rule {
	m := r.Match
	c := &rule{index: index, name: r.Name, priority: r.Priority}
	check := func(err error, format string, args ...any) bool {
		if err != nil {
			bad(fmt.Sprintf("match."+format, args...), err)
		}
		return err == nil
	}
	for i, text := range m.Hosts {
		h, err := parseHost(text)
		if check(err, "hosts[%d]", i) && !slices.Contains(c.hosts, h) {
			c.hosts = append(c.hosts, h)
		}
	}
	if len(m.Hosts) == 0 {
		c.hosts = []hostPattern{{}}
	}
	var err error
	c.path, err = parsePattern(m.Path)
	check(err, "path")
	for i, name := range m.Methods {
		check(checkMethod(name), "methods[%d]", i)
	}
	c.methods = withHead(m.Methods)
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		if !isToken(name) {
			check(fmt.Errorf("%q is not the name of a field", name), "headers.%s", name)
		}
	}
	c.headers = parseConditions(m.Headers, func(name string, err error) { check(err, "headers.%s", name) })
	c.query = parseConditions(m.Query, func(name string, err error) { check(err, "query.%s", name) })
	var clients []netip.Prefix
	for i, text := range m.ClientIPs {
		p, err := parseRange(text)
		if check(err, "client_ips[%d]", i) {
			clients = append(clients, p)
		}
	}
	c.clients = newRanges(clients)
	return c
}

// parseConditions reads values by name, in the order of the names, and tells
// check how each went.
func parseConditions(values map[string]string, check func(name string, err error)) (list []condition) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		c, err := parseCondition(name, values[name])
		check(name, err)
		list = append(list, c)
	}
	return list
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// holds reports whether all conditions hold but those on host, path and method.
func (c *rule) holds(r *Request) bool {
	for i := range c.headers {
		if !c.headers[i].acceptsField(r.Fields) {
			return false
		}
	}
	for i := range c.query {
		if !c.query[i].acceptsQuery(r.Query) {
			return false
		}
	}
	return len(c.clients) == 0 || c.clients.contains(r.ClientIP)
}

// faults collects what NewTable reports.
type faults []error

func (f *faults) in(index int) func(string, error) {
	return func(field string, err error) {
		*f = append(*f, &RuleError{Rule: index, Field: field, Err: err})
	}
}

func (f faults) err() error { return errors.Join(f...) }

// join writes a list as a sentence holds it.
func join[T any](list []T, text func(T) string) string {
	var b strings.Builder
	for i, v := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(text(v))
	}
	return b.String()
}
