package edgecache

import (
	"strings"
	"unsafe"
)

// view is b as a string, without copying: valid as long as b is unchanged.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// equalFold compares a field name with one, ASCII letters in any case.
func equalFold(name []byte, other string) bool {
	return len(name) == len(other) && strings.EqualFold(view(name), other)
}

// trim takes the optional white space off both ends (RFC 9110, section 5.6.3).
func trim(s string) string { return strings.Trim(s, " \t") }

// tagsOf calls yield for the tags in one field: members of Cache-Groups are
// strings of structured fields (RFC 9875, section 2), those of Cache-Tag are
// separated by commas, those of Surrogate-Key by spaces.
func tagsOf(name []byte, value string, yield func(string) bool) bool {
	switch {
	case equalFold(name, "Cache-Groups"):
		return sfStrings(value, yield)
	case equalFold(name, "Cache-Tag"):
		return eachOf(value, ",", yield)
	case equalFold(name, "Surrogate-Key"):
		return eachOf(value, " ", yield)
	}
	return true
}

func eachOf(list, separator string, yield func(string) bool) bool {
	for list != "" {
		var one string
		one, list, _ = strings.Cut(list, separator)
		if one = trim(one); one != "" && !yield(one) {
			return false
		}
	}
	return true
}

// sfStrings calls yield for the members of a list of strings (RFC 9651, section
// 3.1); a list that is malformed has none, as section 4.2 has it.
func sfStrings(list string, yield func(string) bool) bool {
	var members []string
	for rest := trim(list); rest != ""; {
		one, after, ok := sfString(rest)
		if !ok {
			return true
		}
		members = append(members, one)
		after = trim(after)
		if after != "" && after[0] == ';' { // parameters say nothing here
			if i := strings.IndexByte(after, ','); i >= 0 {
				after = after[i:]
			} else {
				after = ""
			}
		}
		if after == "" {
			break
		}
		if after[0] != ',' {
			return true
		}
		if rest = trim(after[1:]); rest == "" {
			return true // a trailing comma
		}
	}
	for _, m := range members {
		if !yield(m) {
			return false
		}
	}
	return true
}

// sfString takes a string from the start of s (RFC 9651, section 4.2.5).
func sfString(s string) (text, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", "", false
	}
	var b []byte
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return string(b), s[i+1:], true
		case c == '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", "", false
			}
			b = append(b, s[i])
		case c < ' ' || c > '~':
			return "", "", false
		default:
			b = append(b, c)
		}
	}
	return "", "", false
}
