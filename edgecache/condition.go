package edgecache

import (
	"strings"
	"time"
)

// NotModified reports whether the client has what e holds already, and so is to
// be told 304 (RFC 9110, section 13.2.2; RFC 9111, section 4.3.2).
func (e *Entry) NotModified(r *Request) bool {
	if e.Status != 200 && e.Status != 206 {
		return false
	}
	if r.noneMatch {
		tag, _ := e.Lookup("ETag")
		return listsTag(r.ifNoneMatch, entityTag(tag))
	}
	if !r.since || r.severalSince {
		return false
	}
	since, ok := parseDate(r.ifModifiedSince, time.Unix(0, e.ReceivedAt))
	return ok && e.changed() <= since.Unix()
}

// changed is when the content changed last, as far as is known: Last-Modified,
// or else Date, or else when it came (RFC 9111, section 4.3.2). Unix seconds.
func (e *Entry) changed() int64 {
	if e.Modified != 0 {
		return e.Modified / int64(time.Second)
	}
	received := time.Unix(0, e.ReceivedAt)
	if text, ok := e.Lookup("Date"); ok {
		if at, ok := parseDate(text, received); ok {
			return at.Unix()
		}
	}
	return received.Unix()
}

// listsTag reports whether a list of entity tags names tag, by the weak
// comparison (RFC 9110, section 8.8.3.2). A list is read up to where it is
// malformed.
func listsTag(list, tag string) bool {
	if trim(list) == "*" {
		return true
	}
	if tag == "" {
		return false
	}
	opaque := strings.TrimPrefix(tag, "W/")
	for {
		list = strings.TrimLeft(list, " \t,")
		one, _, rest, ok := CutEntityTag(list)
		if !ok {
			return false
		}
		if one == opaque {
			return true
		}
		if list = strings.TrimLeft(rest, " \t"); list != "" && list[0] != ',' {
			return false
		}
	}
}

// strongTag is e's entity tag where it identifies the very bytes (RFC 9110,
// section 8.8.1), else "".
func (e *Entry) strongTag() string {
	text, _ := e.Lookup("ETag")
	if tag := entityTag(text); !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return ""
}

// strongDate is Last-Modified where it does: where the origin's clock was further
// by a second or more when it answered (RFC 9110, section 8.8.2.2). Else "".
func (e *Entry) strongDate() string {
	modified, ok := e.Lookup("Last-Modified")
	text, dated := e.Lookup("Date")
	if !ok || !dated || e.Modified == 0 {
		return ""
	}
	if at, ok := parseDate(text, e.Received()); ok && at.Unix()-e.Modified/int64(time.Second) >= 1 {
		return modified
	}
	return ""
}

// RangeApplies reports whether If-Range, if there is one, lets a part of e be
// sent (RFC 9110, section 13.1.5), and there is just one Range.
func (e *Entry) RangeApplies(r *Request) bool {
	switch {
	case r.severalRanges || r.severalIfRanges:
		return false
	case r.ifRange == "":
		return true
	case strings.HasPrefix(r.ifRange, `"`):
		return r.ifRange == e.strongTag()
	}
	date := e.strongDate()
	return date != "" && r.ifRange == date
}

// Conditions appends the fields by which e is validated (RFC 9111, section
// 4.3.1).
func (e *Entry) Conditions(fields []Field) []Field {
	if text, ok := e.Lookup("ETag"); ok {
		if tag := entityTag(text); tag != "" {
			fields = append(fields, Field{[]byte("If-None-Match"), []byte(tag)})
		}
	}
	if e.Modified != 0 {
		if text, ok := e.Lookup("Last-Modified"); ok {
			fields = append(fields, Field{[]byte("If-Modified-Since"), []byte(text)})
		}
	}
	return fields
}

// Validatable reports whether e has a validator.
func (e *Entry) Validatable() bool {
	if e.Modified != 0 {
		return true
	}
	text, ok := e.Lookup("ETag")
	return ok && entityTag(text) != ""
}
