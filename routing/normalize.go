package routing

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Paths says how paths are read into the normal form that routes are compared
// with. It never changes what is forwarded.
type Paths struct {
	EncodedSlash string `yaml:"encoded_slash" enum:"reject|keep" doc:"reject: 400 for %2F in a path; keep: %2F is a part of its segment, never a separator"`
	MergeSlashes bool   `yaml:"merge_slashes" doc:"read // as / when routes are compared"`
}

// The values of Paths.EncodedSlash; empty is EncodedSlashReject.
const (
	EncodedSlashReject = "reject"
	EncodedSlashKeep   = "keep"
)

// Validate reports a value that means nothing.
func (p Paths) Validate() error {
	switch p.EncodedSlash {
	case "", EncodedSlashReject, EncodedSlashKeep:
		return nil
	}
	return fmt.Errorf("encoded_slash: %q is neither %s nor %s", p.EncodedSlash, EncodedSlashReject, EncodedSlashKeep)
}

// A PathError says why a path has no normal form. Its text holds nothing of the
// path and may be shown to the client.
type PathError struct{ Reason string }

// Error returns the reason.
func (e *PathError) Error() string { return e.Reason }

// Every error is made once, so that refusing a path costs no allocation.
var (
	errNoSlash      = &PathError{"the path does not begin with a slash"}
	errByte         = &PathError{"the path holds a byte that must be percent-encoded"}
	errControl      = &PathError{"the path holds a control character"}
	errBackslash    = &PathError{"the path holds a backslash"}
	errPercent      = &PathError{"the path holds a broken percent-encoding"}
	errEncodedSlash = &PathError{"the path holds an encoded slash"}
	errUTF8         = &PathError{"the path is not valid UTF-8"}
	errDoubled      = &PathError{"the path holds a double percent-encoding"}
	errAboveRoot    = &PathError{"the path leads above its root"}
	errDots         = &PathError{"the path holds a dot segment that can be read in more than one way"}
)

// Normalize returns the normal form of raw, the path of a request target in
// origin form (RFC 9112, section 3.2.1) without its query. The asterisk form is
// the caller's to handle.
//
// In the normal form every percent-encoding (RFC 3986, section 2.1) is decoded
// once, to printable ASCII or UTF-8, but for two: %25 stays %25, so that a
// decoded percent sign is never taken for the start of an encoding, and %2F,
// where Paths keeps it, stays %2F (in upper case), so that it is never taken for
// a separator. Dot segments, encoded or not, are removed (RFC 3986, section
// 5.2.4). Runs of slashes are merged if Paths says so, and kept otherwise.
//
// The error is a *PathError for: a raw byte that no request target may hold
// (control, space, "#", "?", 0x80 and above), a backslash or control character
// raw or encoded, an encoded slash unless kept, an incomplete encoding, invalid
// UTF-8 (overlong forms are that), a ".." above the root, and a double encoding
// of any of those or of ".", "%", ";", "?" and "#". It is an error too if ".."
// would take away a segment that not everybody reads as one (an empty one, or
// one with ";", "?", "#" or %2F), or if a kept %2F stands beside a dot segment:
// what was removed could not be compared any more.
//
// It is ambiguous if the normal form holds "//", ";", "?", "#", %2F or a %25
// before two hexadecimal digits: servers differ in how they read those, see
// Table.Match.
//
// A path without any of this is returned as it is, without a copy. Otherwise
// the normal form is appended to buf, which must not overlap raw, and what was
// appended is returned: it is valid as long as buf is not written to.
func (p Paths) Normalize(buf, raw []byte) (normal []byte, ambiguous bool, err error) {
	if plain(raw) {
		return raw, false, nil
	}
	if len(raw) == 0 || raw[0] != '/' {
		return nil, false, errNoSlash
	}
	start := len(buf)
	for rest, more := raw[1:], true; more; {
		seg := rest
		i := bytes.IndexByte(rest, '/')
		if more = i >= 0; more {
			seg, rest = rest[:i], rest[i+1:]
		}
		var fault *PathError
		if buf, fault = p.appendSegment(buf, start, seg, !more); fault != nil {
			return nil, false, fault
		}
	}
	normal = buf[start:]
	if p.MergeSlashes {
		normal = mergeSlashes(normal)
	}
	return normal, notationsOf(normal) != 0, nil
}

const (
	ordinary = iota // stands for itself
	special         // to be looked at: / % ;
	refused         // never raw in a path
)

// class sorts the bytes of a raw path.
var class = func() (t [256]uint8) {
	for c := range t {
		if c <= ' ' || c >= 0x7f {
			t[c] = refused
		}
	}
	for _, c := range `#?\` {
		t[c] = refused
	}
	for _, c := range `/%;` {
		t[c] = special
	}
	return t
}()

// plain reports whether raw is its own normal form by any reading.
func plain(raw []byte) bool {
	if len(raw) == 0 || raw[0] != '/' {
		return false
	}
	for i, c := range raw {
		if class[c] == ordinary {
			continue
		}
		if c != '/' || emptyOrDots(raw[i+1:]) {
			return false
		}
	}
	return true
}

// emptyOrDots reports whether rest, what follows a slash, begins with a segment
// that is empty and not the last, or with a dot segment.
func emptyOrDots(rest []byte) bool {
	if len(rest) == 0 || rest[0] != '.' {
		return len(rest) > 0 && rest[0] == '/'
	}
	rest = rest[1:]
	if len(rest) > 0 && rest[0] == '.' {
		rest = rest[1:]
	}
	return len(rest) == 0 || rest[0] == '/'
}

// appendSegment appends a slash and seg, decoded, to the path that is
// out[start:], and resolves it if it is a dot segment.
func (p Paths) appendSegment(out []byte, start int, seg []byte, last bool) ([]byte, *PathError) {
	mark := len(out)
	out = append(out, '/')
	out, fault := p.decode(out, seg)
	if fault != nil {
		return out, fault
	}
	switch string(out[mark+1:]) {
	case ".":
		out = out[:mark]
	case "..":
		if out, fault = parent(out[:mark], start); fault != nil {
			return out, fault
		}
	default:
		return out, nil
	}
	if last {
		out = append(out, '/')
	}
	return out, nil
}

// parent takes the last segment from out[start:].
func parent(out []byte, start int) ([]byte, *PathError) {
	i := bytes.LastIndexByte(out[start:], '/')
	if i < 0 {
		return out, errAboveRoot
	}
	seg := out[start+i+1:]
	if len(seg) == 0 || bytes.ContainsAny(seg, ";?#") || bytes.Contains(seg, encodedSlash) {
		return out, errDots
	}
	return out[:start+i], nil
}

var (
	percent      = []byte("%25")
	encodedSlash = []byte("%2F")
	semicolon    = []byte(";")
	doubtful     = []byte(`/\.%;?#`) // never encoded twice
)

// decode appends seg, one segment, decoded once.
func (p Paths) decode(out, seg []byte) ([]byte, *PathError) {
	start, high := len(out), false
	for i := 0; i < len(seg); i++ {
		c := seg[i]
		if c != '%' {
			if class[c] == refused {
				return out, faultOf(c)
			}
			out = append(out, c)
			continue
		}
		v, ok := unhex(seg[i+1:])
		if !ok {
			return out, errPercent
		}
		i += 2
		switch {
		case v == '/' && p.EncodedSlash != EncodedSlashKeep:
			return out, errEncodedSlash
		case v == '/':
			out = append(out, encodedSlash...)
		case v == '%':
			out = append(out, percent...)
		case v < ' ' || v == 0x7f || v == '\\':
			return out, faultOf(v)
		default:
			high = high || v >= utf8.RuneSelf
			out = append(out, v)
		}
	}
	return out, inspect(out[start:], high)
}

// faultOf returns the error for a byte that is refused.
func faultOf(c byte) *PathError {
	switch {
	case c == '\\':
		return errBackslash
	case c < ' ' || c == 0x7f:
		return errControl
	}
	return errByte
}

// inspect looks for what shows only once a segment is decoded.
func inspect(seg []byte, high bool) *PathError {
	if high && !printable(seg) {
		return errUTF8
	}
	for i := 0; i < len(seg); {
		n := 1
		if seg[i] == '%' {
			if n = again(seg[i:]); n == 0 {
				return errDoubled
			}
		}
		i += n
	}
	for rest, more := seg, bytes.Contains(seg, encodedSlash); more; {
		var piece []byte
		piece, rest, more = bytes.Cut(rest, encodedSlash)
		piece, _, _ = bytes.Cut(piece, semicolon)
		if s := string(piece); s == "." || s == ".." {
			return errDots
		}
	}
	return nil
}

// printable reports whether s is UTF-8 without control characters (C1 among
// them).
func printable(s []byte) bool {
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		if r == utf8.RuneError && n == 1 || unicode.IsControl(r) {
			return false
		}
		s = s[n:]
	}
	return true
}

// again looks at what becomes of s, which begins with %25 or %2F, if somebody
// decodes it a second time. It returns the length of what it looked at, or 0 if
// the outcome is one that would not have been let through the first time.
func again(s []byte) int {
	if !bytes.HasPrefix(s, percent) {
		return len(encodedSlash)
	}
	v, ok := unhex(s[len(percent):])
	switch {
	case !ok && bytes.HasPrefix(s[len(percent):], percent):
		return 0
	case !ok:
		return len(percent)
	case v >= utf8.RuneSelf:
		return againUTF8(s)
	case v < ' ' || v == 0x7f || bytes.IndexByte(doubtful, v) >= 0:
		return 0
	}
	return len(percent) + 2
}

// againUTF8 is again for a character beyond ASCII, each of its bytes encoded
// twice.
func againUTF8(s []byte) int {
	var char [utf8.UTFMax]byte
	n := 0
	for ; n < len(char) && bytes.HasPrefix(s, percent); n++ {
		v, ok := unhex(s[len(percent):])
		if !ok || v < utf8.RuneSelf {
			break
		}
		char[n], s = v, s[len(percent)+2:]
	}
	r, size := utf8.DecodeRune(char[:n])
	if r == utf8.RuneError && size <= 1 || unicode.IsControl(r) {
		return 0
	}
	return size * (len(percent) + 2)
}

// unhex reads the two hexadecimal digits that s begins with.
func unhex[T string | []byte](s T) (v byte, ok bool) {
	if len(s) < 2 {
		return 0, false
	}
	hi, lo := digit(s[0]), digit(s[1])
	return hi<<4 | lo&0xf, hi|lo < 16
}

// digit returns the value of a hexadecimal digit, or 255.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// mergeSlashes merges runs of slashes in place.
func mergeSlashes(path []byte) []byte {
	out := path[:0]
	for i, c := range path {
		if c != '/' || i == 0 || path[i-1] != '/' {
			out = append(out, c)
		}
	}
	return out
}
