package edgecache

import (
	"errors"
	"net/url"
)

// Invalidate has the stored responses for a URL be used no more after a request
// with an unsafe method that was not answered with an error, and those of its
// Location and Content-Location where they are of the same origin (RFC 9111,
// section 4.4), and of the groups that the answer names (RFC 9875, section 3).
// unsafe methods are all that are not known to be safe. It returns by how much that
// moves Sequence on.
func (c *Cache) Invalidate(target string, status int, fields []Field) (n uint64) {
	if c.purger == nil || status < 200 || status > 399 {
		return 0
	}
	f := (&Response{Fields: fields}).facts()
	origin := originOf(target)
	c.purger.Invalidate(Purge{Kind: PurgeURL, Value: target})
	n++
	for _, reference := range [...]string{f.location, f.contentLoc} {
		if other := resolve(target, reference); other != "" && other != target && originOf(other) == origin {
			c.purger.Invalidate(Purge{Kind: PurgeURL, Value: other})
			n++
		}
	}
	for _, group := range f.groups {
		c.purger.Invalidate(Purge{Kind: PurgeTag, Value: group, Origin: origin})
		n++
	}
	return n
}

// Names reports whether the Content-Location of a response is target itself, so
// that it is what a GET would bring (RFC 9110, section 9.3.3).
func Names(target string, fields []Field) bool {
	f := (&Response{Fields: fields}).facts()
	return f.contentLoc != "" && resolve(target, f.contentLoc) == target
}

// resolve is a reference from target in the form that keys have; "" for none.
func resolve(target, reference string) string {
	if reference == "" {
		return ""
	}
	base, err := url.Parse(target)
	if err != nil {
		return ""
	}
	to, err := base.Parse(reference)
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Host == "" {
		return ""
	}
	return canonical(to)
}

// URL is text in the form that keys have, for who names a stored response from
// outside.
func URL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", errors.New("a URL has a scheme, http or https, and a host")
	}
	return canonical(u), nil
}

func canonical(u *url.URL) string {
	b := append([]byte(u.Scheme), "://"...)
	b = AppendHost(b, []byte(u.Host), u.Scheme)
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	b = AppendPath(b, []byte(path))
	if u.RawQuery != "" {
		b = append(append(b, '?'), u.RawQuery...)
	}
	return string(b)
}

// Safe reports whether a method changes nothing at the origin (RFC 9110, section
// 9.2.1; RFC 10008; RFC 4918 and others where they are registered as such).
func Safe(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH":
		return true
	}
	return false
}
