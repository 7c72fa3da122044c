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
		h, err := parseCondition(name, m.Headers[name])
		check(err, "headers.%s", name)
		c.headers = append(c.headers, h)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Query)) {
		q, err := parseCondition(name, m.Query[name])
		check(err, "query.%s", name)
		c.query = append(c.query, q)
	}
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

// known are the methods that somebody may have written in the wrong case.
var known = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}

func checkMethod(name string) error {
	if !isToken(name) {
		return fmt.Errorf("%q is not a method", name)
	}
	if upper := strings.ToUpper(name); upper != name && slices.Contains(known, upper) {
		return fmt.Errorf("methods are case-sensitive: %q is not %s", name, upper)
	}
	return nil
}

// withHead returns the methods sorted, HEAD added where GET is: a resource that
// can be got can be asked for its head (RFC 9110, section 9.3.2).
func withHead(methods []string) []string {
	if len(methods) == 0 {
		return nil
	}
	out := slices.Clone(methods)
	if slices.Contains(out, "GET") {
		out = append(out, "HEAD")
	}
	slices.Sort(out)
	return slices.Compact(out)
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

// takesMethod reports whether the rule takes the method.
func (c *rule) takesMethod(method string) bool {
	if len(c.methods) == 0 {
		return true
	}
	for _, m := range c.methods {
		if m == method {
			return true
		}
	}
	return false
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
