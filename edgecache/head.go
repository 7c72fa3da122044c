package edgecache

import (
	"bytes"
	"net/http"
	"slices"
)

// ends reports whether a field belongs to one hop or one message, and so is not
// stored (RFC 9111, section 3.1; RFC 9110, section 7.6.1), or is made anew when a
// stored response is served.
func ends(name []byte) bool {
	switch len(name) {
	case 2:
		return equalFold(name, "TE")
	case 3:
		return equalFold(name, "Age")
	case 7:
		return equalFold(name, "Upgrade") || equalFold(name, "Trailer")
	case 10:
		return equalFold(name, "Connection") || equalFold(name, "Keep-Alive")
	case 12:
		return equalFold(name, "X-Request-Id")
	case 14:
		return equalFold(name, "Content-Length")
	case 16:
		return equalFold(name, "Proxy-Connection")
	case 17:
		return equalFold(name, "Transfer-Encoding")
	case 18:
		return equalFold(name, "Proxy-Authenticate")
	case 19:
		return equalFold(name, "Proxy-Authorization")
	case 25:
		return equalFold(name, "Proxy-Authentication-Info")
	}
	return false
}

// headOf makes Entry.Head of a response's fields. without is a list of names that
// are left out.
func headOf(fields []Field, without string) []byte {
	n := 0
	for i := range fields {
		n += len(fields[i].Name) + len(fields[i].Value) + 4
	}
	b := make([]byte, 0, n)
	for i := range fields {
		f := &fields[i]
		if len(f.Name) == 0 || ends(f.Name) || without != "" && member(without, view(f.Name)) {
			continue
		}
		b = appendField(b, f.Name, f.Value)
	}
	if cap(b)-len(b) > 32 {
		b = bytes.Clone(b)
	}
	return b
}

// appendField appends a field line. A value holds no line ends, as the connection
// that it came by has made sure; were there any, they would end here.
func appendField(b, name, value []byte) []byte {
	b = append(append(b, name...), ": "...)
	for len(value) > 0 {
		i := bytes.IndexAny(value, "\r\n")
		if i < 0 {
			b = append(b, value...)
			break
		}
		b = append(append(b, value[:i]...), ' ')
		value = value[i+1:]
	}
	return append(b, "\r\n"...)
}

// SetHead has e keep the fields of the response that it was judged by.
func (e *Entry) SetHead(res *Response) {
	f := res.facts()
	without := f.connection + "," + f.control.Fields
	if res.Status == 206 {
		without += ",Content-Range" // Parts have it
	}
	fields := res.Fields
	if !slices.ContainsFunc(fields, func(f Field) bool { return equalFold(f.Name, "Date") }) {
		// Who stores a response without Date adds it (RFC 9110, section 6.6.1).
		date := res.ReceivedAt.UTC().Format(http.TimeFormat)
		fields = append(slices.Clone(fields), Field{[]byte("Date"), []byte(date)})
	}
	e.Head = headOf(fields, without)
}

// merged is e's head with the fields of a later response in place of its own of
// these names (RFC 9111, section 3.2): a 304's, a HEAD's or a part's. What belongs
// to the content that e has, stays.
func (e *Entry) merged(fields []Field, without string) []byte {
	takes := func(name []byte) bool {
		return len(name) > 0 && !ends(name) && !equalFold(name, "Content-Range") && !equalFold(name, "Content-Encoding") &&
			!(without != "" && member(without, view(name)))
	}
	replaced := func(name []byte) bool {
		for i := range fields {
			if equalFold(fields[i].Name, view(name)) && takes(fields[i].Name) {
				return true
			}
		}
		return false
	}
	b := make([]byte, 0, len(e.Head)+64)
	for head := e.Head; len(head) > 0; {
		var name, value []byte
		if name, value, head = cutField(head); !replaced(name) {
			b = appendField(b, name, value)
		}
	}
	for i := range fields {
		if takes(fields[i].Name) {
			b = appendField(b, fields[i].Name, fields[i].Value)
		}
	}
	return bytes.Clone(b)
}

// fieldsOf are the fields of a head.
func fieldsOf(head []byte) []Field { return (&Entry{Head: head}).AppendFields(nil) }
