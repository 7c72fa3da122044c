package proxy

import (
	"net/http"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/edgecache"
)

// validators tell versions of a representation apart (RFC 9110, section 8.8).
// Both are zero where the file has none.
type validators struct {
	tag      string // a strong entity tag with its quotes
	modified time.Time
}

// A conditionOutcome is how a request's preconditions turned out.
type conditionOutcome uint8

const (
	conditionMet         conditionOutcome = iota // or none was asked for
	conditionNotModified                         // 304
	conditionFailed                              // 412
)

// judge evaluates the preconditions of a GET or HEAD in the order of RFC 9110,
// section 13.2.2; its fifth step is rangeApplies.
func (v validators) judge(r *Request) conditionOutcome {
	if list, ok := fieldList(r, "If-Match"); ok {
		if !v.listed(list, false) {
			return conditionFailed
		}
	} else if since, ok := v.dateField(r, "If-Unmodified-Since"); ok && v.modified.Unix() > since.Unix() {
		return conditionFailed
	}
	if list, ok := fieldList(r, "If-None-Match"); ok {
		if v.listed(list, true) {
			return conditionNotModified
		}
	} else if since, ok := v.dateField(r, "If-Modified-Since"); ok && v.modified.Unix() <= since.Unix() {
		return conditionNotModified
	}
	return conditionMet
}

// rangeApplies says whether a Range field is to be obeyed: whether If-Range, if
// there is one, names this very version (RFC 9110, section 13.1.5). A date does
// not while the file may still change within the second that it names.
func (v validators) rangeApplies(r *Request, now time.Time) bool {
	value, ok := fieldList(r, "If-Range")
	if !ok {
		return true
	}
	if tag, weak, rest, ok := edgecache.CutEntityTag(value); ok {
		return !weak && rest == "" && tag == v.tag
	}
	date, err := http.ParseTime(value)
	return err == nil && !v.modified.IsZero() &&
		date.Unix() == v.modified.Unix() && v.modified.Unix() < now.Unix()
}

// dateField is the date of a condition, if it can be evaluated: one that is
// malformed, or has nothing to be compared with, is ignored (RFC 9110, sections
// 13.1.3 and 13.1.4).
func (v validators) dateField(r *Request, name string) (time.Time, bool) {
	value, ok := fieldList(r, name)
	if !ok || v.modified.IsZero() {
		return time.Time{}, false
	}
	date, err := http.ParseTime(value)
	return date, err == nil
}

// listed reports whether a list of entity tags, or the asterisk that stands for
// any, names v; weak is by the weak comparison (RFC 9110, section 8.8.3.2). A
// list is read up to where it is malformed.
func (v validators) listed(list string, weak bool) bool {
	if list == "*" {
		return true
	}
	for {
		list = strings.TrimLeft(list, " \t,")
		tag, isWeak, rest, ok := edgecache.CutEntityTag(list)
		if !ok {
			return false
		}
		if tag == v.tag && (weak || !isWeak) {
			return true
		}
		list = strings.TrimLeft(rest, " \t")
		if list != "" && list[0] != ',' {
			return false
		}
	}
}

// fieldList is the value of all fields of that name as one list (RFC 9110,
// section 5.3).
func fieldList(r *Request, name string) (list string, ok bool) {
	for i := range r.Fields {
		if !equalFold(r.Fields[i].Name, name) {
			continue
		}
		value := strings.Trim(view(r.Fields[i].Value), " \t")
		if ok {
			value = list + ", " + value
		}
		list, ok = value, true
	}
	return list, ok
}

// fieldCount is the number of fields of that name.
func fieldCount(r *Request, name string) (n int) {
	for i := range r.Fields {
		if equalFold(r.Fields[i].Name, name) {
			n++
		}
	}
	return n
}
