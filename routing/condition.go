package routing

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// A condition asks for one value: of a header field or of a query parameter.
type condition struct {
	name string
	text string         // as in the file
	re   *regexp.Regexp // re:…
	any  bool           // present
}

func parseCondition(name, text string) (condition, error) {
	c := condition{name: name, text: text, any: text == "present"}
	for i := range len(text) {
		if text[i] < ' ' && text[i] != '\t' || text[i] == 0x7f {
			return c, fmt.Errorf("%q holds a control character, which no request can hold", text)
		}
	}
	expr, ok := strings.CutPrefix(text, "re:")
	if !ok {
		return c, nil
	}
	var err error
	c.re, _, err = parseRegexp(expr)
	return c, err
}

// exactness orders conditions: a value before an expression before presence.
func (c *condition) exactness() int {
	switch {
	case c.any:
		return 0
	case c.re != nil:
		return 1
	}
	return 2
}

// acceptsField asks a header field.
func (c *condition) acceptsField(f Fields) bool {
	if f == nil {
		return false
	}
	v, ok := f.Lookup(c.name)
	switch {
	case !ok || c.any:
		return ok
	case c.re != nil:
		return c.re.MatchString(v)
	}
	return v == c.text
}

// acceptsQuery asks the first parameter of the name in query.
func (c *condition) acceptsQuery(query string) bool {
	v, ok := parameterOf(query, c.name)
	switch {
	case !ok || c.any:
		return ok
	case c.re != nil:
		return c.re.MatchString(unescaped(v))
	}
	return equalUnescaped(v, c.text)
}

// parameterOf returns the value, still encoded, of the first parameter of that
// name in an application/x-www-form-urlencoded query.
func parameterOf(query, name string) (value string, ok bool) {
	for more := query != ""; more; {
		var pair string
		pair, query, more = strings.Cut(query, "&")
		k, v, _ := strings.Cut(pair, "=")
		if pair != "" && equalUnescaped(k, name) {
			return v, true
		}
	}
	return "", false
}

// nextUnescaped returns the first character of s and what follows it. A broken
// encoding stands for itself.
func nextUnescaped(s string) (byte, string) {
	switch s[0] {
	case '+':
		return ' ', s[1:]
	case '%':
		if v, ok := unhex(s[1:]); ok {
			return v, s[3:]
		}
	}
	return s[0], s[1:]
}

// equalUnescaped compares without decoding to anywhere.
func equalUnescaped(s, want string) bool {
	for ; s != "" && want != ""; want = want[1:] {
		var c byte
		if c, s = nextUnescaped(s); c != want[0] {
			return false
		}
	}
	return s == "" && want == ""
}

// unescaped decodes s. It allocates only where there is something to decode.
func unescaped(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if v, err := url.QueryUnescape(s); err == nil {
		return v
	}
	out := make([]byte, 0, len(s))
	for s != "" {
		var c byte
		c, s = nextUnescaped(s)
		out = append(out, c)
	}
	return string(out)
}

// ranges are client addresses, sorted and disjoint.
type ranges []netip.Prefix

// contains reports whether addr is in one of them.
func (r ranges) contains(addr netip.Addr) bool {
	addr = addr.Unmap()
	i, found := slices.BinarySearchFunc(r, addr, func(p netip.Prefix, a netip.Addr) int {
		return p.Addr().Compare(a)
	})
	if found {
		return true
	}
	return i > 0 && r[i-1].Contains(addr)
}

// width is the size of the widest range, as a power of two.
func (r ranges) width() (bits int) {
	for _, p := range r {
		bits = max(bits, p.Addr().BitLen()-p.Bits())
	}
	return bits
}

// newRanges sorts r and drops what lies within another.
func newRanges(r []netip.Prefix) ranges {
	slices.SortFunc(r, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out ranges
	for _, p := range r {
		if n := len(out); n == 0 || !out[n-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}

// parseRange reads an address or a CIDR range (RFC 4632, section 3.1; RFC 4291,
// section 2.3). IPv4 in IPv6 is taken for the IPv4 that it is.
func parseRange(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a range", s)
		}
		if addr.Zone() != "" {
			return netip.Prefix{}, errors.New("an address with a zone is no range of clients")
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a range", s)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, fmt.Errorf("%q is wider than all of IPv4", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}
