package edgecache

import "strings"

// A Request is what the cache looks at in a request. Its strings and fields are
// the caller's, who keeps them for as long as the cache works on the request.
type Request struct {
	Method string // GET, HEAD or QUERY, or what is not answered from a cache
	Fields []Field
	// Text is what the key is made of, as Resource.Text has it.
	Text []byte
	Key  Key
	// Identified: the origin is told who asks, by more than fields of the request.
	Identified bool

	control                       Directives
	authorized, cookies           bool
	ifNoneMatch, ifModifiedSince  string
	ifRange, rangeField           string
	noneMatch, since, hasRange    bool
	preconditions, severalRanges  bool
	severalSince, severalIfRanges bool
}

// Read takes in the fields that count; Method, Fields and Identified are set
// before.
func (r *Request) Read() {
	*r = Request{Method: r.Method, Fields: r.Fields, Text: r.Text, Key: r.Key, Identified: r.Identified}
	r.control = newDirectives()
	r.authorized = r.Identified
	for i := range r.Fields {
		f := &r.Fields[i]
		switch n := f.Name; len(n) {
		case len("Range"):
			if equalFold(n, "Range") {
				r.severalRanges = r.severalRanges || r.hasRange
				r.rangeField, r.hasRange = view(f.Value), true
			}
		case len("Cookie"):
			r.cookies = r.cookies || equalFold(n, "Cookie")
		case len("If-Match"):
			switch {
			case equalFold(n, "If-Match"):
				r.preconditions = true
			case equalFold(n, "If-Range"):
				r.severalIfRanges = r.severalIfRanges || r.ifRange != ""
				r.ifRange = view(f.Value)
			}
		case len("Cache-Control"):
			switch {
			case equalFold(n, "Cache-Control"):
				r.control.add(view(f.Value))
			case equalFold(n, "Authorization"):
				r.authorized = true
			case equalFold(n, "If-None-Match"):
				if r.noneMatch { // a list over several lines (RFC 9110, section 5.3)
					r.ifNoneMatch += "," + view(f.Value)
				} else {
					r.ifNoneMatch, r.noneMatch = view(f.Value), true
				}
			}
		case len("If-Modified-Since"):
			if equalFold(n, "If-Modified-Since") {
				r.severalSince = r.severalSince || r.since
				r.ifModifiedSince, r.since = view(f.Value), true
			}
		case len("If-Unmodified-Since"):
			r.preconditions = r.preconditions || equalFold(n, "If-Unmodified-Since")
		}
	}
}

// Conditional reports whether the request is one that may be answered with 304.
func (r *Request) Conditional() bool { return r.noneMatch || r.since }

// HasRange reports whether a part is asked for, which only GET can (RFC 9110,
// section 14.2).
func (r *Request) HasRange() bool { return r.hasRange && r.Method == "GET" }

// Bypass says why a request is for the origin alone, whatever is stored; ""
// if it is not. Preconditions on the state of a resource are not a cache's to
// judge (RFC 9111, section 4.3.2).
func (r *Request) Bypass() string {
	switch r.Method {
	case "GET", "HEAD", "QUERY":
	default:
		return "method"
	}
	if r.preconditions {
		return "request"
	}
	return ""
}

// OnlyIfCached reports whether the client wants a stored response or none (RFC
// 9111, section 5.2.1.7).
func (r *Request) OnlyIfCached() bool { return r.control.OnlyIfCached }

// unkeyedCookie reports whether the request carries cookies that are not part of
// the key: a response may be made for the one who has them.
func (r *Request) unkeyed(k *KeyRule) bool {
	return r.cookies && len(k.Cookies) == 0 && !k.hasHeader("cookie")
}

// IsCondition reports whether a field is taken out of a request that is to bring
// the whole response.
func IsCondition(name []byte) bool {
	return len(name) > 3 && name[2] == '-' && (equalFold(name, "If-None-Match") || equalFold(name, "If-Modified-Since") || equalFold(name, "If-Range"))
}

// overrides are the fields by which some frameworks let a request say that it is
// about something else than its request line and Host. They are not in the key,
// so that they reach no origin whose answer will be stored for others.
var overrides = [...]string{
	"X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Original-Host", "X-Host", "X-HTTP-Host-Override",
	"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-HTTP-Path-Override", "X-Override-URL",
	"X-Rewrite-Path", "X-Original-Path", "X-Original-Method", "X-Backend-Host", "X-Proxy-Host", "X-URL-Scheme",
	"X-Scheme", "Front-End-Https", "X-Forwarded", "Base-URL", "X-Base-URL", "X-Wap-Profile", "Proxy-Host", "Request-URI",
}

// Overrides reports whether a field must not reach an origin whose answer may be
// stored.
func Overrides(name []byte) bool {
	if len(name) < 6 {
		return false
	}
	switch name[0] | 0x20 {
	case 'x', 'f', 'b', 'p', 'r':
	default:
		return false
	}
	for _, one := range overrides {
		if equalFold(name, one) {
			return true
		}
	}
	return false
}

// member reports whether a list of names has one, in any case.
func member(list, name string) bool {
	found := false
	eachOf(list, ",", func(one string) bool {
		found = strings.EqualFold(one, name)
		return !found
	})
	return found
}
