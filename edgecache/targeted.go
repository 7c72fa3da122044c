package edgecache

import "strings"

// targeted reads CDN-Cache-Control (RFC 9213, section 3): a dictionary of
// structured fields. Where it breaks their syntax, or a directive has a value of
// another type than its own, the field is as if it were not there (section 2.1).
func targeted(field string) (d Directives, ok bool) {
	d = newDirectives()
	rest := trim(field)
	if rest == "" {
		return d, false
	}
	for {
		var name string
		if name, rest, ok = sfKey(rest); !ok {
			return d, false
		}
		kind, value := byte('?'), "1"
		if strings.HasPrefix(rest, "=") {
			if kind, value, rest, ok = sfItem(rest[1:]); !ok {
				return d, false
			}
		}
		if rest, ok = sfParameters(rest); !ok {
			return d, false
		}
		if !d.target(name, kind, value) {
			return d, false
		}
		if rest = trim(rest); rest == "" {
			return d, true
		}
		if rest[0] != ',' {
			return d, false
		}
		if rest = trim(rest[1:]); rest == "" {
			return d, false // a trailing comma
		}
	}
}

// target notes one member. Of several of one name the last counts (RFC 9651,
// section 3.2).
func (d *Directives) target(name string, kind byte, value string) bool {
	switch name {
	case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
		if kind != '0' {
			return false
		}
		n, ok := deltaSeconds(value)
		if !ok {
			n = 0 // negative: over
		}
		switch name {
		case "max-age":
			d.MaxAge = n
		case "s-maxage":
			d.SMaxAge = n
		case "stale-while-revalidate":
			d.StaleRevalidate = n
		default:
			d.StaleError = n
		}
	case "no-store", "no-cache", "private", "public", "must-revalidate", "proxy-revalidate", "must-understand":
		switch {
		case kind == '"' && (name == "no-cache" || name == "private"):
			d.set(name, value, true, false)
		case kind != '?':
			return false
		case value == "1":
			d.set(name, "", false, false)
		}
	}
	d.Present = true
	return true
}

// sfKey takes a key (RFC 9651, section 4.2.3.3).
func sfKey(s string) (key, rest string, ok bool) {
	n := 0
	for n < len(s) {
		c := s[n]
		first := c >= 'a' && c <= 'z' || c == '*'
		if !first && (n == 0 || !(c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.')) {
			break
		}
		n++
	}
	return s[:n], s[n:], n > 0
}

// sfItem takes a bare item (RFC 9651, section 4.2.3.1). kind is '0' for an
// integer, '?' for a boolean (value is 0 or 1), '"' for a string, 'x' for what no
// directive has.
func sfItem(s string) (kind byte, value, rest string, ok bool) {
	if s == "" {
		return 0, "", "", false
	}
	switch c := s[0]; {
	case c == '"':
		value, rest, ok = sfString(s)
		return '"', value, rest, ok
	case c == '?':
		if len(s) < 2 || s[1] != '0' && s[1] != '1' {
			return 0, "", "", false
		}
		return '?', s[1:2], s[2:], true
	case c == '-' || c >= '0' && c <= '9':
		return sfNumber(s)
	case c == ':':
		end := strings.IndexByte(s[1:], ':')
		if end < 0 {
			return 0, "", "", false
		}
		return 'x', "", s[end+2:], true
	case c == '*' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		n := 1
		for n < len(s) && (isTokenByte(s[n]) || s[n] == ':' || s[n] == '/') {
			n++
		}
		return 'x', s[:n], s[n:], true
	}
	return 0, "", "", false
}

func sfNumber(s string) (kind byte, value, rest string, ok bool) {
	n, digits, dot := 0, 0, false
	if s[0] == '-' {
		n = 1
	}
	for n < len(s) && (s[n] >= '0' && s[n] <= '9' || s[n] == '.' && !dot && digits > 0) {
		if s[n] == '.' {
			dot = true
		} else {
			digits++
		}
		n++
	}
	if digits == 0 || digits > 15 || s[n-1] == '.' {
		return 0, "", "", false
	}
	if dot {
		return 'x', "", s[n:], true
	}
	return '0', s[:n], s[n:], true
}

// sfParameters skips parameters (RFC 9651, section 4.2.3.2).
func sfParameters(s string) (rest string, ok bool) {
	for strings.HasPrefix(s, ";") {
		if _, s, ok = sfKey(strings.TrimLeft(s[1:], " ")); !ok {
			return "", false
		}
		if strings.HasPrefix(s, "=") {
			if _, _, s, ok = sfItem(s[1:]); !ok {
				return "", false
			}
		}
	}
	return s, true
}

func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
