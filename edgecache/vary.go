package edgecache

import (
	"slices"
	"strconv"
	"strings"
)

// selectionOf is Entry.Vary for a response that varies by names, in lower case,
// to a request with fields (RFC 9111, section 4.1).
func selectionOf(names []string, fields []Field) string {
	if len(names) == 0 {
		return ""
	}
	names = slices.Clone(names)
	slices.Sort(names)
	var b []byte
	for _, name := range slices.Compact(names) {
		b = append(append(b, name...), 0)
		b = appendNormal(b, name, fields)
		b = append(b, '\n')
	}
	return string(b)
}

// Selected reports whether a request with fields selects e. scratch is memory
// that may be used.
func (e *Entry) selected(fields []Field, scratch []byte) bool {
	for rest := e.Vary; rest != ""; {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		name, value, _ := strings.Cut(line, "\x00")
		if view(appendNormal(scratch[:0], name, fields)) == value {
			continue
		}
		if name == "accept-language" && e.speaks(fields) {
			continue
		}
		return false
	}
	return true
}

// whole are fields that are no lists: white space beside their commas counts.
func whole(name string) bool {
	switch name {
	case "cookie", "user-agent", "authorization", "referer", "origin", "from", "date", "sec-ch-ua":
		return true
	}
	return strings.HasPrefix(name, "if-")
}

// appendNormal appends what a request says in a field, in a form that is the same
// for requests that say the same (RFC 9111, section 4.1): several lines are one
// list, white space around members is nothing; languages and codings have no case
// and, with their weights, no order. Nothing is appended where there is none.
func appendNormal(b []byte, name string, fields []Field) []byte {
	first, start := true, len(b)
	for i := range fields {
		if !equalFold(fields[i].Name, name) {
			continue
		}
		value := trim(view(fields[i].Value))
		if first {
			b = append(b, '=')
		} else {
			b = append(b, ',')
		}
		first = false
		if whole(name) {
			b = append(b, value...)
			continue
		}
		for more := false; value != ""; more = true {
			var one string
			one, value = cutMember(value)
			if more {
				b = append(b, ',')
			}
			b = append(b, one...)
		}
	}
	if !first && (name == "accept-language" || name == "accept-encoding") {
		return orderPreferences(b, start)
	}
	return b
}

// A preference is one member of a list with weights (RFC 9110, section 12.4.2).
type preference struct {
	name   string
	weight int // thousandths
}

// maxPreferences is how many are ordered; a longer list is taken as it is.
const maxPreferences = 32

// preferences reads a list, the most wanted first, in alphabetical order where
// they are wanted as much. ok is false for what cannot be read.
func preferences(into []preference, list string) (out []preference, ok bool) {
	out = into[:0]
	for list != "" {
		var one string
		if one, list = cutMember(list); one == "" {
			continue
		}
		if len(out) == maxPreferences {
			return nil, false
		}
		name, parameter, weighted := strings.Cut(one, ";")
		p := preference{strings.ToLower(trim(name)), 1000}
		if weighted {
			q, value, _ := strings.Cut(parameter, "=")
			w, err := strconv.ParseFloat(trim(value), 64)
			if !strings.EqualFold(trim(q), "q") || err != nil || !(w >= 0 && w <= 1) {
				return nil, false
			}
			p.weight = int(w * 1000)
		}
		out = append(out, p)
	}
	slices.SortStableFunc(out, func(a, b preference) int {
		if a.weight != b.weight {
			return b.weight - a.weight
		}
		return strings.Compare(a.name, b.name)
	})
	return out, true
}

// orderPreferences puts the list that b has behind start and an equals sign into
// the order of preferences.
func orderPreferences(b []byte, start int) []byte {
	n := len(b)
	var room [maxPreferences]preference
	wanted, ok := preferences(room[:0], view(b[start+1:]))
	if !ok {
		return b
	}
	b = append(b, '=')
	for i, p := range wanted {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, p.name...)
		if p.weight < 1000 {
			b = append(b, ';')
			b = strconv.AppendInt(b, int64(p.weight), 10)
		}
	}
	return append(b[:start], b[n:]...)
}

// speaks reports whether e is in the one language that the request wants most, so
// that an origin could not do better (RFC 9110, section 12.5.4).
func (e *Entry) speaks(fields []Field) bool {
	language, ok := e.Lookup("Content-Language")
	if !ok || strings.IndexByte(language, ',') >= 0 {
		return false
	}
	list, seen := "", false
	for i := range fields {
		if equalFold(fields[i].Name, "Accept-Language") {
			if seen {
				return false
			}
			list, seen = view(fields[i].Value), true
		}
	}
	var room [maxPreferences]preference
	wanted, ok := preferences(room[:0], list)
	if !ok || len(wanted) == 0 || wanted[0].weight == 0 || !strings.EqualFold(wanted[0].name, trim(language)) {
		return false
	}
	return len(wanted) == 1 || wanted[1].weight < wanted[0].weight
}

// Select is the stored response that a request with fields selects, the latest
// where there are several (RFC 9111, section 4.1); nil for none.
func (r *Resource) Select(fields []Field, scratch []byte) *Entry {
	for _, e := range r.Variants {
		if e.Vary == "" || e.selected(fields, scratch) {
			return e
		}
	}
	return nil
}
