package edgecache

import (
	"bytes"
	"crypto/sha256"
	"strings"
)

// A KeyRule says what of a request is in its key beside method class, scheme,
// host and path.
type KeyRule struct {
	// Route is the route's name: another route may answer the same URL otherwise.
	Route string
	// Query is all, none, or Names: the names that count.
	Query string
	Names []string
	// Headers and Cookies are names whose values count.
	Headers, Cookies []string
}

// The values of KeyRule.Query.
const (
	QueryAll   = "all"
	QueryNone  = "none"
	QueryNames = "names"
)

func (k *KeyRule) hasHeader(name string) bool { return hasName(k.Headers, name) }

// A Target is what a request asks for.
type Target struct {
	Method string // GET for HEAD as well
	Scheme string
	Host   []byte // as AppendHost has it
	Path   []byte // as AppendPath has it
	Query  []byte // as AppendQuery has it
}

// AppendText appends what the key of a request is made of. Parts cannot run into
// each other: of a URL every part ends where the next begins, as none holds the
// byte that does so, and what follows stands behind NULs, which no field holds.
func (k *KeyRule) AppendText(b []byte, t *Target, fields []Field) []byte {
	b = append(b, t.Method...)
	b = append(b, ' ')
	b = append(b, t.Scheme...)
	b = append(b, "://"...)
	b = append(b, t.Host...)
	b = append(b, t.Path...)
	if len(t.Query) > 0 {
		b = append(append(b, '?'), t.Query...)
	}
	b = append(append(b, 0), k.Route...)
	for _, name := range k.Headers {
		b = append(append(append(b, 0, 'h'), name...), ':')
		for i := range fields {
			if equalFold(fields[i].Name, name) {
				b = append(append(b, 1), fields[i].Value...) // 1 is in no field either
			}
		}
	}
	for _, name := range k.Cookies {
		b = append(append(append(b, 0, 'c'), name...), '=')
		for i := range fields {
			if equalFold(fields[i].Name, "Cookie") {
				b = appendCookie(b, view(fields[i].Value), name)
			}
		}
	}
	return b
}

// AppendContent appends what the key of a QUERY holds beside (RFC 10008, section
// 2.7): its content, and what that is.
func AppendContent(b []byte, fields []Field, content []byte) []byte {
	for _, name := range [...]string{"Content-Type", "Content-Encoding", "Content-Language"} {
		b = append(b, 0, 't')
		for i := range fields {
			if equalFold(fields[i].Name, name) {
				b = append(append(b, 1), fields[i].Value...)
			}
		}
	}
	sum := sha256.Sum256(content)
	const hex = "0123456789abcdef"
	b = append(b, 0, 'b')
	for _, c := range sum {
		b = append(b, hex[c>>4], hex[c&15])
	}
	return b
}

func appendCookie(b []byte, list, name string) []byte {
	for list != "" {
		var one string
		one, list, _ = strings.Cut(list, ";")
		if n, value, ok := strings.Cut(trim(one), "="); ok && n == name {
			b = append(append(b, 1), value...)
		}
	}
	return b
}

// AppendHost appends a Host in lower case, without the port that the scheme has
// by itself (RFC 9110, section 4.2.3).
func AppendHost(b, host []byte, scheme string) []byte {
	if port := ":80"; scheme == "http" || scheme == "https" {
		if scheme == "https" {
			port = ":443"
		}
		host = bytes.TrimSuffix(host, []byte(port))
	}
	for _, c := range host {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	return b
}

// AppendPath appends the path of a target with only those differences taken out
// that no server may see (RFC 3986, section 6.2.2): encoded letters, digits and
// -._~ are written out, hexadecimal digits in upper case. What else is encoded
// stays apart from what is not.
func AppendPath(b, path []byte) []byte {
	if bytes.IndexByte(path, '%') < 0 {
		return append(b, path...)
	}
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c != '%' || i+2 >= len(path) {
			b = append(b, c)
			continue
		}
		high, ok1 := unhex(path[i+1])
		low, ok2 := unhex(path[i+2])
		if !ok1 || !ok2 {
			b = append(b, c)
			continue
		}
		i += 2
		if c = high<<4 | low; unreserved(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[high], hex[low])
		}
	}
	return b
}

// AppendQuery appends those parameters of a query that count, in their order.
// Only & separates them, and names are compared as they are written: whatever
// else an origin takes for a separator or a name, it is given only what is in
// the key.
func (k *KeyRule) AppendQuery(b, query []byte) []byte {
	switch k.Query {
	case QueryNone:
		return b
	case QueryNames:
	default:
		return append(b, query...)
	}
	start := len(b)
	for len(query) > 0 {
		one := query
		if i := bytes.IndexByte(query, '&'); i >= 0 {
			one, query = query[:i], query[i+1:]
		} else {
			query = nil
		}
		name, _, _ := bytes.Cut(one, []byte{'='})
		for _, wanted := range k.Names {
			if string(name) == wanted {
				if len(b) > start {
					b = append(b, '&')
				}
				b = append(b, one...)
				break
			}
		}
	}
	return b
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}
