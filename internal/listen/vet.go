package listen

import (
	"net/http"
	"strings"
)

// vet is for requests that did not come as HTTP/1 what the guard is for those
// that did: what it lets through can be written as an HTTP/1.1 head without
// meaning anything else there (RFC 9113, section 8.2.1 and 10.3). It takes Host
// off the fields: the authority says it.
func vet(st *Stream) *Violation {
	if st.large {
		return errHeadLarge
	}
	if v := vetMethod(st); v != nil {
		return v
	}
	if len(st.fields) > maxFields {
		return errFieldCount
	}
	var seen h2Seen
	kept := st.fields[:0]
	for _, f := range st.fields {
		if v := seen.vet(st, f); v != nil {
			return v
		}
		if f.Name != "host" {
			kept = append(kept, f)
		}
	}
	st.fields = kept
	if _, _, ok := splitAuthority(viewOf(st.authority)); !ok {
		return errHost
	}
	return nil
}

// vetMethod examines the pseudo-header fields but for the authority.
func vetMethod(st *Stream) *Violation {
	if st.method == "" || len(st.method) > maxMethod || !allOf(viewOf(st.method), clsToken) {
		return errMethod
	}
	switch len(st.method) {
	case len(http.MethodTrace):
		if strings.EqualFold(st.method, http.MethodTrace) {
			return errTrace
		}
	case len(http.MethodConnect):
		if strings.EqualFold(st.method, http.MethodConnect) {
			return errConnect
		}
	}
	switch target := st.target; {
	case len(target) > maxTarget:
		return errTargetLong
	case target == "", !allOf(viewOf(target), clsTarget):
		return errTarget
	case target[0] == '/', target == "*" && st.method == http.MethodOptions:
		return nil
	}
	return errTarget
}

// h2Seen are the fields that may come once.
type h2Seen struct{ te, host, length, expect bool }

// once reports whether *seen was not set.
func once(seen *bool) bool {
	was := *seen
	*seen = true
	return !was
}

func (s *h2Seen) vet(st *Stream, f h2Field) *Violation {
	if v := vetName(f.Name); v != nil {
		return v
	}
	switch f.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return errHop
	case "te":
		if !once(&s.te) || f.Value != "trailers" {
			return errHop
		}
	case "host": // RFC 9113, section 8.3.1
		if st.authority == "" && !s.host {
			st.authority = f.Value
		}
		if !once(&s.host) || f.Value != st.authority {
			return errHostCount
		}
	case "content-length":
		if !once(&s.length) {
			return errLengthTwice
		}
		g := guard{length: -1}
		if v := g.contentLength(viewOf(f.Value)); v != nil {
			return v
		}
	case "expect":
		if !once(&s.expect) || !strings.EqualFold(f.Value, "100-continue") {
			return errExpect
		}
	}
	if len(f.Value) > maxField {
		return errHeadLarge
	}
	if !vetValue(f.Value) {
		return errFieldValue
	}
	return nil
}

func vetName(name string) *Violation {
	cls := uint8(0)
	for i := range len(name) {
		c := class[name[i]]
		if c&clsToken == 0 {
			return errFieldName
		}
		cls |= c
	}
	if name == "" {
		return errFieldName
	}
	if cls&clsUnder != 0 && imitates(viewOf(name)) {
		return errFieldAlias
	}
	return nil
}

// vetValue reports whether s is visible ASCII, with spaces and tabs inside.
func vetValue(s string) bool {
	if !clean(viewOf(s), clsValue, ' ') {
		return false
	}
	return s == "" || s[0] > ' ' && s[len(s)-1] > ' '
}
