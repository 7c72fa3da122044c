package routing

import (
	"fmt"
	"slices"
	"strings"
)

// A methodSet has a bit for each method that it knows, and one for all others.
// The set of a rule that takes every method is empty.
type methodSet uint16

// known are the methods of RFC 9110, section 9, RFC 5789 and RFC 10008.
var known = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}

const otherMethod methodSet = 1 << len(known)

// methodOf returns the set of one method.
func methodOf(name string) methodSet {
	for i := range known {
		if known[i] == name {
			return 1 << i
		}
	}
	return otherMethod
}

func methodsOf(names []string) (set methodSet) {
	for _, name := range names {
		set |= methodOf(name)
	}
	return set
}

func checkMethod(name string) error {
	if !isToken(name) {
		return fmt.Errorf("%q is not a method", name)
	}
	if upper := strings.ToUpper(name); upper != name && methodOf(upper) != otherMethod {
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

// takesMethod reports whether the rule takes the method.
func (c *rule) takesMethod(method string) bool {
	return len(c.methods) == 0 || slices.Contains(c.methods, method)
}
