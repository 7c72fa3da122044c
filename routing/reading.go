package routing

import (
	"bytes"
	"math/bits"
	"strings"
)

// A notation is something in a normal form that servers read differently.
type notation uint8

const (
	doubleSlash notation = 1 << iota // "//": one separator or two
	parameter                        // ";": the end of the segment, as Tomcat reads it, or a part of it
	delimiter                        // "?" and "#", once encoded: the end of the path, or a part of it
	twice                            // %25 before two digits: decoded once more, or not
	slash                            // %2F: a separator, or a part of its segment
)

// maxNotations is how many kinds of notation one path may mix before it is
// ambiguous without a look at its readings. It bounds their number by 2^3.
const maxNotations = 3

// notationsOf returns the notations in path, a normal form.
func notationsOf[T string | []byte](path T) (n notation) {
	for i := range len(path) {
		switch path[i] {
		case '/':
			if i+1 < len(path) && path[i+1] == '/' {
				n |= doubleSlash
			}
		case ';':
			n |= parameter
		case '?', '#':
			n |= delimiter
		case '%':
			if hasAt(path, i, "%2F") {
				n |= slash
			} else if _, ok := doubled(path, i); ok {
				n |= twice
			}
		}
	}
	return n
}

func hasAt[T string | []byte](s T, i int, want string) bool {
	return len(s)-i >= len(want) && string(s[i:i+len(want)]) == want
}

// doubled returns what a %25 at s[i] and the digits after it mean to those who
// decode twice.
func doubled[T string | []byte](s T, i int) (byte, bool) {
	if !hasAt(s, i, "%25") {
		return 0, false
	}
	return unhex(s[i+3:])
}

// readings calls f with each common reading of path other than path itself, as
// long as f returns true. It returns false if f did, or if there is a reading
// that no path can stand for: one that leads above the root, or too many.
// bySlash says that the reading takes %2F for a separator.
func readings(path string, f func(reading string, bySlash bool) bool) bool {
	if path == "" || path[0] != '/' {
		return true
	}
	all := notationsOf(path)
	if bits.OnesCount8(uint8(all)) > maxNotations {
		return false
	}
	if all&(parameter|slash) != 0 {
		all |= doubleSlash // /a/;/b is /a//b without its parameters
	}
	for n := all; n != 0; n = (n - 1) & all {
		reading, ok := read(path, n)
		if !ok || reading != path && !f(reading, n&slash != 0) {
			return false
		}
	}
	return true
}

// read returns path as a server reads it that knows the notations n. It returns
// false if that leads above the root.
func read(path string, n notation) (string, bool) {
	path = decodeAgain(path, n)
	out := make([]byte, 0, len(path))
	for rest, more := path[1:], true; more; {
		var seg string
		seg, rest, more = strings.Cut(rest, "/")
		if n&parameter != 0 {
			seg, _, _ = strings.Cut(seg, ";")
		}
		switch {
		case seg == "" && more && n&doubleSlash != 0:
		case seg == ".":
		case seg == "..":
			i := bytes.LastIndexByte(out, '/')
			if i < 0 {
				return "", false
			}
			out = out[:i]
		default:
			out = append(append(out, '/'), seg...)
			continue
		}
		if !more {
			out = append(out, '/')
		}
	}
	return string(out), true
}

// decodeAgain undoes what n says of single characters.
func decodeAgain(path string, n notation) string {
	var out strings.Builder
	out.Grow(len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case n&delimiter != 0 && (c == '?' || c == '#'):
			return out.String()
		case n&slash != 0 && hasAt(path, i, "%2F"):
			c, i = '/', i+2
		case n&twice != 0 && c == '%':
			if v, ok := doubled(path, i); ok {
				c, i = v, i+4
			}
		}
		out.WriteByte(c)
	}
	return out.String()
}
