package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// A hostPattern is one of a rule's hosts. The zero value takes every host.
type hostPattern struct {
	name string // lower case, without a trailing dot; an IPv6 address in brackets
	wild bool   // name and all below it, but not name itself
}

// matches reports whether the pattern takes host, as appendHost returns it.
func (p hostPattern) matches(host string) bool {
	if !p.wild {
		return p.name == "" || p.name == host
	}
	above, ok := strings.CutSuffix(host, p.name)
	return ok && len(above) > 1 && above[len(above)-1] == '.'
}

// weight orders patterns: exact before wildcard, the longer wildcard before the
// shorter, none last.
func (p hostPattern) weight() int {
	switch {
	case p.name == "":
		return 0
	case p.wild:
		return len(p.name)
	}
	return maxHost + 1
}

func (p hostPattern) String() string {
	if p.wild {
		return "*." + p.name
	}
	return p.name
}

// maxHost is the length of the longest name there is (RFC 1035, section 2.3.4).
const maxHost = 253

// appendHost appends what hosts are compared by: host in lower case, without
// the port, without a trailing dot, an IPv6 address in brackets and in its
// canonical form (RFC 5952).
func appendHost(out []byte, host string) []byte {
	if strings.HasPrefix(host, "[") {
		if i := strings.IndexByte(host, ']'); i > 0 {
			if addr, err := netip.ParseAddr(host[1:i]); err == nil && addr.Zone() == "" {
				return append(addr.AppendTo(append(out, '[')), ']')
			}
			host = host[:i+1]
		}
	} else if i := strings.IndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	start := len(out)
	out = append(out, host...)
	for i, c := range out[start:] {
		if 'A' <= c && c <= 'Z' {
			out[start+i] = c + 'a' - 'A'
		}
	}
	return out
}

// parseHost reads one of a rule's hosts.
func parseHost(s string) (hostPattern, error) {
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil && addr.Is6() {
		if addr.Zone() != "" {
			return hostPattern{}, errors.New("a zone means nothing in a Host field")
		}
		return hostPattern{name: "[" + addr.String() + "]"}, nil
	}
	p := hostPattern{name: s}
	p.name, p.wild = strings.CutPrefix(s, "*.")
	p.name = strings.ToLower(strings.TrimSuffix(p.name, "."))
	switch {
	case s == "":
		return p, errors.New("empty")
	case s == "*":
		return p, errors.New("to take every host, leave hosts out")
	case strings.ContainsAny(p.name, ":/"):
		return p, errors.New("a name alone, please: ports are never compared, and schemes and paths are not part of a host")
	case strings.Contains(p.name, "*"):
		return p, errors.New("an asterisk stands only in front: *.example.com")
	case len(p.name) > maxHost:
		return p, fmt.Errorf("longer than %d bytes", maxHost)
	}
	for label := range strings.SplitSeq(p.name, ".") {
		if err := checkLabel(label); err != nil {
			return p, err
		}
	}
	return p, nil
}

func checkLabel(label string) error {
	if label == "" || len(label) > 63 {
		return errors.New("between dots there are 1 to 63 bytes")
	}
	for _, c := range label {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		case c > 0x7f:
			return fmt.Errorf("%q is not ASCII: write the name as it is sent, in its xn-- form", c)
		default:
			return fmt.Errorf("%q is not part of a host name", c)
		}
	}
	return nil
}
