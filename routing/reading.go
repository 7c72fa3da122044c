package routing

import (
	"bytes"
	"math/bits"
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
	buf := make([]byte, 0, len(path)+1)
	for n := all; n != 0; n = (n - 1) & all {
		reading, ok := resolve(respell(buf, path, n), n)
		if !ok || string(reading) != path && !f(string(reading), n&slash != 0) {
			return false
		}
	}
	return true
}

// respell appends path with those of its characters decoded or cut off that a
// server does so to that knows the notations n.
func respell(out []byte, path string, n notation) []byte {
	if n&(delimiter|slash|twice) == 0 {
		return append(out, path...)
	}
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '?' || c == '#':
			if n&delimiter != 0 {
				return out
			}
		case c != '%':
		case n&slash != 0 && hasAt(path, i, "%2F"):
			c, i = '/', i+2
		case n&twice != 0:
			if v, ok := doubled(path, i); ok {
				c, i = v, i+4
			}
		}
		out = append(out, c)
	}
	return out
}

// resolve drops in place from path what n says of its segments, and then its dot
// segments. It returns false if they lead above the root.
func resolve(path []byte, n notation) ([]byte, bool) {
	out := path[:0] // never longer than what of path is behind us
	for start := 1; start <= len(path); {
		end := start
		for end < len(path) && path[end] != '/' {
			end++
		}
		seg, last := path[start:end], end == len(path)
		start = end + 1
		if n&parameter != 0 {
			seg, _, _ = bytes.Cut(seg, semicolon)
		}
		switch {
		case len(seg) == 0 && !last && n&doubleSlash != 0:
			continue
		case string(seg) == ".":
		case string(seg) == "..":
			i := bytes.LastIndexByte(out, '/')
			if i < 0 {
				return nil, false
			}
			out = out[:i]
		default:
			out = append(append(out, '/'), seg...)
			continue
		}
		if last {
			out = append(out, '/')
		}
	}
	return out, true
}
