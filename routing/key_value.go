package routing

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Claims looks up what the client's token says of it.
type Claims interface {
	// Claim returns the claim of that name as text.
	Claim(name string) (value string, ok bool)
}

// Append appends what the parts are in r, one after the other, in a form that is
// another for any two requests that differ in a part: each is its length plus
// one, as a varint, and its bytes; a missing part is a zero byte. complete
// reports whether none is missing. It does not allocate if dst has room.
func (k Key) Append(dst []byte, r *Request) (out []byte, complete bool) {
	complete = true
	for _, p := range k {
		var ok bool
		if dst, ok = p.append(dst, r); !ok {
			dst, complete = append(dst, 0), false
		}
	}
	return dst, complete
}

// Hash returns a hash (XXH64) of what the parts are in r, the same in every
// process. Where parts are missing, complete is false and the client address
// stands in for each. It does not allocate for parts of up to 256 bytes in all.
func (k Key) Hash(r *Request) (h uint64, complete bool) {
	var buf [256]byte
	dst := buf[:0]
	complete = true
	for _, p := range k {
		var ok bool
		if dst, ok = p.append(dst, r); !ok {
			complete = false
			dst = append(dst, 0)
			dst, _ = Part{kind: byIP}.append(dst, r)
		}
	}
	return xxhash.Sum64(dst), complete
}

// Missing returns the parts that r does not have, for a person to read.
func (k Key) Missing(r *Request) (missing []Part) {
	for _, p := range k {
		if _, ok := p.append(nil, r); !ok {
			missing = append(missing, p)
		}
	}
	return missing
}

// Describe writes what the parts are in r, for a person to read: each as PART
// "value", or as no PART. Of an IPv6 address it is the network that counts.
func (k Key) Describe(r *Request) string {
	return join(k, func(p Part) string {
		b, ok := p.append(nil, r)
		if !ok {
			return "no " + p.String()
		}
		if p.kind == byIP {
			return "ip " + ClientNetwork(r.ClientIP)
		}
		_, n := binary.Uvarint(b)
		return fmt.Sprintf("%s %q", p, b[n:])
	})
}

// ClientNetwork is what the part ip is for an address, as text.
func ClientNetwork(addr netip.Addr) string {
	if addr = addr.Unmap(); addr.Is4() {
		return addr.String()
	}
	network, _ := addr.WithZone("").Prefix(64) // no error: it has that many bits
	return network.String()
}

// append appends the part's length and bytes; ok is false, and nothing is
// appended, if r has no such part.
func (p Part) append(dst []byte, r *Request) (out []byte, ok bool) {
	switch p.kind {
	case byIP:
		return appendAddr(dst, r.ClientIP)
	case byHost:
		if r.Host == "" {
			return dst, false
		}
		var buf [maxHost + 1]byte
		return appendPart(dst, appendHost(buf[:0], r.Host)), true
	case byQuery:
		v, ok := parameterOf(r.Query, p.name)
		if !ok {
			return dst, false
		}
		return appendUnescaped(dst, v), true
	}
	v, ok := p.text(r)
	if !ok {
		return dst, false
	}
	return appendPart(dst, v), true
}

// text is the value of a part that needs no work.
func (p Part) text(r *Request) (value string, ok bool) {
	switch p.kind {
	case byPath:
		return r.Path, true
	case byRoute:
		return r.Route, r.Route != ""
	case byHeader:
		if r.Fields != nil {
			return r.Fields.Lookup(p.name)
		}
	case byCookie:
		return r.cookie(p.name)
	case byClaim:
		if r.Claims != nil {
			return r.Claims.Claim(p.name)
		}
	case byTLSSubject:
		return r.TLSSubject, r.TLSSubject != ""
	case byTLSName:
		return r.TLSName, r.TLSName != ""
	}
	return "", false
}

func appendPart[T string | []byte](dst []byte, v T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(v))+1), v...)
}

// appendAddr appends an address; of IPv6 its first 64 bits.
func appendAddr(dst []byte, addr netip.Addr) ([]byte, bool) {
	switch addr = addr.Unmap(); {
	case addr.Is4():
		b := addr.As4()
		return appendPart(dst, b[:]), true
	case addr.Is6():
		b := addr.As16()
		return appendPart(dst, b[:8]), true
	}
	return dst, false
}

// appendUnescaped appends a query value, decoded.
func appendUnescaped(dst []byte, s string) []byte {
	n := 0
	for rest := s; rest != ""; n++ {
		_, rest = nextUnescaped(rest)
	}
	dst = binary.AppendUvarint(dst, uint64(n)+1)
	for s != "" {
		var c byte
		c, s = nextUnescaped(s)
		dst = append(dst, c)
	}
	return dst
}

// cookie is the first cookie of that name. A client is to send one Cookie field,
// and origins read all that it sends.
func (r *Request) cookie(name string) (value string, ok bool) {
	for n := 0; r.Fields != nil && !ok; n++ {
		field, more := r.Fields.Nth("Cookie", n)
		if !more {
			break
		}
		value, _, ok = cookieOf(field, name)
	}
	return value, ok
}

// cookieOf returns the first cookie of that name in a Cookie field (RFC 6265,
// section 4.2.1), and what follows it. Names are compared case by case.
func cookieOf(field, name string) (value, rest string, ok bool) {
	for field != "" {
		var pair string
		pair, field, _ = strings.Cut(field, ";")
		k, v, found := strings.Cut(pair, "=")
		if found && strings.Trim(k, " \t") == name {
			return strings.Trim(v, " \t"), field, true
		}
	}
	return "", "", false
}
