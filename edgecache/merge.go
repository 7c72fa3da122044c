package edgecache

import (
	"bytes"
	"strings"
)

// Freshened is e after a 304, or a HEAD's response, to req (RFC 9111, sections
// 4.3.4 and 4.3.5): the fields that came replace those that were stored, and the
// freshness is that of the new response. It is nil where the update says that
// nothing may be stored any more.
func (r *Rules) Freshened(e *Entry, req *Request, res *Response) *Entry {
	f := res.facts()
	head := e.merged(res.Fields, f.connection+","+f.control.Fields)
	// What counts is what is stored now: a 304 that says nothing of freshness
	// leaves what was said.
	all := Response{
		Status: int(e.Status), Fields: fieldsOf(head), Length: e.Length, RequestedAt: res.RequestedAt, ReceivedAt: res.ReceivedAt, Own: res.Own,
	}
	if f.age > 0 { // which the head does not keep
		for i := range res.Fields {
			if equalFold(res.Fields[i].Name, "Age") {
				all.Fields = append(all.Fields, res.Fields[i])
			}
		}
	}
	g := all.facts()
	if !f.hasDate {
		g.hasDate = false // the stored Date is not when this was made
	}
	next, why := r.judge(&Request{Method: "GET", Fields: req.Fields, control: req.control, authorized: req.authorized, hasRange: true}, &all, &g)
	if why != "" {
		return nil
	}
	next.Head, next.Body, next.Parts = head, e.Body, e.Parts
	return next
}

// Describes reports whether a 304 is about e: it has no entity tag or e's, and
// without one no other date (RFC 9111, section 4.3.4).
func (e *Entry) Describes(res *Response) bool {
	f := res.facts()
	have, _ := e.Lookup("ETag")
	if mine := entityTag(have); f.etag != "" && mine != "" {
		return strings.TrimPrefix(mine, "W/") == strings.TrimPrefix(f.etag, "W/")
	}
	return true
}

// Agrees reports whether the response to a HEAD is about what e holds (RFC 9111,
// section 4.3.5): validators and length are the same where they are there.
func (e *Entry) Agrees(res *Response) bool {
	for i := range res.Fields {
		name, value := res.Fields[i].Name, view(res.Fields[i].Value)
		switch {
		case equalFold(name, "Content-Length"):
			if n, ok := position(value); ok && e.Length >= 0 && n != e.Length {
				return false
			}
		case equalFold(name, "ETag"), equalFold(name, "Last-Modified"):
			if have, ok := e.Lookup(view(name)); ok && have != value {
				return false
			}
		}
	}
	return true
}

// A Span is a stretch of a content: from Start, and the length of the whole, -1
// for unknown. Where it is Alone, it is certain for a part by itself, but not how
// it fits others.
type Span struct {
	Start, Length, Whole int64
	Alone                bool
}

// span reads Content-Range of a 206 (RFC 9110, section 14.4).
func span(contentRange string) (s Span, ok bool) {
	unit, rest, found := strings.Cut(trim(contentRange), " ")
	if !found || !strings.EqualFold(unit, "bytes") {
		return s, false
	}
	positions, whole, found := strings.Cut(trim(rest), "/")
	first, last, dashed := strings.Cut(positions, "-")
	if !found || !dashed {
		return s, false
	}
	from, ok1 := position(first)
	to, ok2 := position(last)
	if !ok1 || !ok2 || to < from {
		return s, false
	}
	s = Span{Start: from, Length: to - from + 1, Whole: -1}
	if whole != "*" {
		n, ok := position(whole)
		if !ok || n <= to {
			return s, false
		}
		s.Whole = n
	}
	return s, true
}

func position(text string) (n int64, ok bool) {
	if text == "" || len(text) > 18 {
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(text[i]-'0')
	}
	return n, true
}

// Place is where the content of a 206 to r belongs. It must be as long as
// Content-Range says: what is shorter was cut, by whomever.
//
// There are origins that count one too many for the end of a content (where it
// ends, not its last byte). What they send is taken for what it must be if the
// last n bytes were asked for and n have come: then it ends where the content
// does, and begins where Content-Range says.
func (r *Request) Place(res *Response) (Span, bool) {
	text, seen := "", false
	for i := range res.Fields {
		switch name := res.Fields[i].Name; {
		case equalFold(name, "Content-Range"):
			if seen {
				return Span{}, false
			}
			text, seen = view(res.Fields[i].Value), true
		case equalFold(name, "Content-Type") && strings.HasPrefix(strings.ToLower(trim(view(res.Fields[i].Value))), "multipart/byteranges"):
			return Span{}, false // Content-Range is not of what is in there
		}
	}
	s, ok := span(text)
	if !ok || res.Length <= 0 {
		return Span{}, false
	}
	if s.Whole == s.Start+s.Length && s.Length == res.Length+1 && s.Start > 0 && r.asksLast(res.Length) {
		return Span{Start: s.Start, Length: s.Length - 1, Whole: s.Whole - 1, Alone: true}, true
	}
	return s, s.Length == res.Length
}

// asksLast reports whether r asks for the last n bytes and nothing else.
func (r *Request) asksLast(n int64) bool {
	unit, set, _ := strings.Cut(r.rangeField, "=")
	suffix, ok := strings.CutPrefix(trim(set), "-")
	last, number := position(suffix)
	return strings.EqualFold(trim(unit), "bytes") && ok && number && last == n && !r.severalRanges
}

// Partial makes e, which was judged for a 206, hold data at s.
func (e *Entry) Partial(s Span, data []byte) {
	e.Length, e.Parts = s.Whole, []Part{{s.Start, data}}
	if s.Start == 0 && s.Whole == int64(len(data)) {
		e.Status, e.Body, e.Parts = 200, data, nil
	}
}

// Combined is next, which has parts, with those of old added (RFC 9111, section
// 3.4): both are of one representation, as a strong validator says, and neither
// the length differs. It is next where that is not so.
func (next *Entry) Combined(old *Entry) *Entry {
	tag, date := next.strongTag(), next.strongDate()
	switch {
	case old == nil, old.Parts == nil, next.Parts == nil, next.Length < 0, next.Length != old.Length, next.Vary != old.Vary:
		return next
	case tag == "" && (date == "" || old.strongTag() != ""), tag != old.strongTag(), tag == "" && date != old.strongDate():
		return next
	}
	c := *next
	c.Parts = union(old.Parts, next.Parts)
	c.Head = old.merged(fieldsOf(next.Head), "")
	if len(c.Parts) == 1 && c.Parts[0].Start == 0 && int64(len(c.Parts[0].Data)) == c.Length {
		c.Status, c.Body, c.Parts = 200, c.Parts[0].Data, nil
	}
	return &c
}

// union is all parts of a and b, those that overlap or touch made one: they are of
// the same bytes.
func union(a, b []Part) []Part {
	out := make([]Part, 0, len(a)+len(b))
	out = append(append(out, a...), b...)
	for i := 1; i < len(out); i++ { // few, and nearly sorted
		for j := i; j > 0 && out[j].Start < out[j-1].Start; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	joined := out[:1]
	for _, p := range out[1:] {
		last := &joined[len(joined)-1]
		end := last.Start + int64(len(last.Data))
		if p.Start > end {
			joined = append(joined, p)
			continue
		}
		if rest := p.Start + int64(len(p.Data)) - end; rest > 0 {
			data := make([]byte, 0, int64(len(last.Data))+rest)
			data = append(data, last.Data...)
			last.Data = append(data, p.Data[int64(len(p.Data))-rest:]...)
		}
	}
	return joined
}

// Slice is the content from start on of that length, where all of it is there.
func (e *Entry) Slice(start, length int64) ([]byte, bool) {
	if e.Parts == nil {
		if start < 0 || length < 0 || start+length > int64(len(e.Body)) {
			return nil, false
		}
		return e.Body[start : start+length], true
	}
	for _, p := range e.Parts {
		if start >= p.Start && start+length <= p.Start+int64(len(p.Data)) {
			return p.Data[start-p.Start:][:length], true
		}
	}
	return nil, false
}

// trimmed is data in memory of its own size, if it has much more.
func trimmed(data []byte) []byte {
	if cap(data)-len(data) > 64+len(data)/16 {
		return bytes.Clone(data)
	}
	return data
}
