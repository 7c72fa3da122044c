package edgecache

import (
	"strings"
	"time"
)

// A Response is what an origin answered, before its content.
type Response struct {
	Status                  int
	Fields                  []Field
	Length                  int64 // of the content in bytes; -1 unknown
	RequestedAt, ReceivedAt time.Time
	// Own are the names that the gateway itself puts into requests: a response
	// that varies by one of them varies by what no client can repeat.
	Own func(name string) bool
}

// facts are what the fields of a response say.
type facts struct {
	control              Directives
	targeted             bool // control is CDN-Cache-Control's
	date                 time.Time
	age                  int64
	expires              time.Time
	hasExpires, hasDate  bool
	modified             time.Time
	etag                 string
	vary                 []string // lower case
	varyStar             bool
	setCookie, tags      bool
	contentRange         string
	location, contentLoc string
	connection           string
	groups               []string // of Cache-Group-Invalidation
}

func (r *Response) facts() (f facts) {
	f.control = newDirectives()
	cdn, hasCDN, aged := "", false, false
	for i := range r.Fields {
		name, value := r.Fields[i].Name, view(r.Fields[i].Value)
		switch len(name) {
		case len("Age"):
			if equalFold(name, "Age") && !aged {
				f.age, aged = parseAge(value), true
			}
		case len("ETag"):
			switch {
			case equalFold(name, "ETag"):
				f.etag = entityTag(value)
			case equalFold(name, "Date"):
				if at, ok := parseDate(value, r.ReceivedAt); ok && !f.hasDate {
					f.date, f.hasDate = at, true
				}
			case equalFold(name, "Vary"):
				f.addVary(value)
			}
		case len("Expires"):
			if equalFold(name, "Expires") {
				f.addExpires(value, r.ReceivedAt)
			}
		case len("Location"):
			if equalFold(name, "Location") {
				f.location = value
			}
		case len("Connection"):
			switch {
			case equalFold(name, "Connection"):
				f.connection += "," + value
			case equalFold(name, "Set-Cookie"):
				f.setCookie = true
			}
		case len("Cache-Control"):
			switch {
			case equalFold(name, "Cache-Control"):
				f.control.add(value)
			case equalFold(name, "Last-Modified"):
				f.modified, _ = parseDate(value, r.ReceivedAt)
			case equalFold(name, "Content-Range"):
				f.contentRange = value
			case equalFold(name, "Surrogate-Key"):
				f.tags = true
			}
		case len("Cache-Groups"):
			f.tags = f.tags || equalFold(name, "Cache-Groups")
		case len("Set-Cookie2"):
			f.setCookie = f.setCookie || equalFold(name, "Set-Cookie2")
		case len("Cache-Tag"):
			f.tags = f.tags || equalFold(name, "Cache-Tag")
		case len("Content-Location"):
			if equalFold(name, "Content-Location") {
				f.contentLoc = value
			}
		case len("CDN-Cache-Control"):
			if equalFold(name, "CDN-Cache-Control") {
				if hasCDN {
					cdn += ","
				}
				cdn, hasCDN = cdn+value, true
			}
		case len("Cache-Group-Invalidation"):
			if equalFold(name, "Cache-Group-Invalidation") {
				sfStrings(value, func(group string) bool { f.groups = append(f.groups, group); return true })
			}
		}
	}
	if hasCDN { // it stands for Cache-Control and Expires (RFC 9213, section 2.2)
		if d, ok := targeted(cdn); ok {
			f.control, f.targeted, f.hasExpires = d, true, false
		}
	}
	return f
}

// addExpires reads Expires (RFC 9111, section 5.3). What cannot be read, and
// several that differ, are in the past.
func (f *facts) addExpires(value string, now time.Time) {
	at, ok := parseDate(value, now)
	if !ok {
		at = time.Time{}
	}
	if f.hasExpires && !at.Equal(f.expires) {
		at = time.Time{}
	}
	f.expires, f.hasExpires = at, true
}

func (f *facts) addVary(list string) {
	eachOf(list, ",", func(name string) bool {
		if name == "*" {
			f.varyStar = true
		} else {
			f.vary = append(f.vary, strings.ToLower(name))
		}
		return true
	})
}

// parseAge reads Age: the first value counts, and one that is no number is none
// (RFC 9111, section 5.1).
func parseAge(value string) int64 {
	value, _, _ = strings.Cut(value, ",")
	n, ok := deltaSeconds(trim(value))
	if !ok {
		return 0
	}
	return n
}

// entityTag is value if it is an entity tag (RFC 9110, section 8.8.3), else "".
func entityTag(value string) string {
	if _, _, rest, ok := CutEntityTag(trim(value)); ok && rest == "" {
		return trim(value)
	}
	return ""
}

// CutEntityTag takes an entity tag from the start of s (RFC 9110, section 8.8.3);
// tag has its quotes and no W/.
func CutEntityTag(s string) (tag string, weak bool, rest string, ok bool) {
	s, weak = strings.CutPrefix(s, "W/")
	if len(s) < 2 || s[0] != '"' {
		return "", false, "", false
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[:i+1], weak, s[i+1:], true
		case c < '!' || c == 0x7f:
			return "", false, "", false
		}
	}
	return "", false, "", false
}
