package routing

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Key says which part of a request something goes by, or which parts together:
// balancing by hash, limits, caching. In YAML it is one part or a list of them.
type Key []Part

// UnmarshalText reads the short form, one part.
func (k *Key) UnmarshalText(text []byte) error {
	var p Part
	if err := p.UnmarshalText(text); err != nil {
		return err
	}
	*k = Key{p}
	return nil
}

// Validate refuses a list without parts, and a part that stands there twice.
func (k Key) Validate() error {
	if len(k) == 0 {
		return errors.New("at least one part of the request is needed")
	}
	var all []error
	for i, p := range k {
		if slices.Contains(k[:i], p) {
			all = append(all, &keyError{fmt.Sprintf("[%d]", i), fmt.Errorf("%s is listed twice", p)})
		}
	}
	return errors.Join(all...)
}

// String writes the parts as in the file, with commas.
func (k Key) String() string { return join(k, Part.String) }

// A Part is one part of a request.
//
//	ip           the client's address; of IPv6 the first 64 bits, which is what one client has
//	host         in lower case, without a port
//	path         the normal form
//	route        the name of the route
//	header:NAME  the first field of that name, in any case
//	cookie:NAME  the first cookie of that name
//	query:NAME   the first parameter of that name, decoded
//	jwt:CLAIM    a claim of the token that the client was let in with
//	tls:subject  the subject of the client's certificate
//	tls:san      the first alternative name of the client's certificate
type Part struct {
	kind partKind
	name string
}

type partKind uint8

const (
	byIP partKind = iota + 1
	byHost
	byPath
	byRoute
	byHeader
	byCookie
	byQuery
	byClaim
	byTLSSubject
	byTLSName
)

// partNames are the ways to write a part; those that end in a colon take a name.
var partNames = [...]string{
	byIP: "ip", byHost: "host", byPath: "path", byRoute: "route",
	byHeader: "header:", byCookie: "cookie:", byQuery: "query:", byClaim: "jwt:",
	byTLSSubject: "tls:subject", byTLSName: "tls:san",
}

const partForms = "ip, host, path, route, header:NAME, cookie:NAME, query:NAME, jwt:CLAIM, tls:subject or tls:san"

// String writes the part as in the file.
func (p Part) String() string { return partNames[p.kind] + p.name }

// UnmarshalText reads one part.
func (p *Part) UnmarshalText(text []byte) error {
	s := string(text)
	*p = Part{}
	for kind, form := range partNames {
		switch {
		case form == "":
		case s == form && !strings.HasSuffix(form, ":"):
			*p = Part{kind: partKind(kind)}
			return nil
		case strings.HasPrefix(s, form) && strings.HasSuffix(form, ":"):
			*p = Part{kind: partKind(kind), name: s[len(form):]}
			return p.check()
		}
	}
	if name := strings.ToLower(strings.TrimSpace(s)); name != s && (&Part{}).UnmarshalText([]byte(name)) == nil {
		return fmt.Errorf("%q is no part of a request; did you mean %q?", s, name)
	}
	if slices.Contains(partNames[:], s+":") {
		return fmt.Errorf("%s needs a name: %s:NAME", s, s)
	}
	return fmt.Errorf("%q is no part of a request: it is one of %s", s, partForms)
}

func (p *Part) check() error {
	switch {
	case p.name == "":
		return fmt.Errorf("%s needs a name behind the colon", p)
	case (p.kind == byHeader || p.kind == byCookie) && !isToken(p.name):
		return fmt.Errorf("%q is not the name of a %s", p.name, strings.TrimSuffix(partNames[p.kind], ":"))
	}
	if p.kind == byHeader {
		p.name = strings.ToLower(p.name) // so that equal parts are equal
	}
	return nil
}
