package listen

import (
	"encoding/binary"
	"unsafe"
)

const (
	clsToken  = 1 << iota // tchar (RFC 9110, section 5.6.2)
	clsUnder              // the underscore, which some upstreams read as a hyphen
	clsValue              // visible ASCII, SP and HTAB
	clsTarget             // visible ASCII without '#'
	clsHost               // letters, digits, '-', '.', '_'
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		alnum := b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z'
		if alnum || indexIn("!#$%&'*+-.^_`|~", b) {
			t[c] |= clsToken
		}
		if b >= ' ' && b < 0x7f || b == '\t' {
			t[c] |= clsValue
		}
		if b > ' ' && b < 0x7f && b != '#' {
			t[c] |= clsTarget
		}
		if alnum || indexIn("-._", b) {
			t[c] |= clsHost
		}
	}
	t['_'] |= clsUnder
	return t
}()

func indexIn(s string, b byte) bool {
	for i := range len(s) {
		if s[i] == b {
			return true
		}
	}
	return false
}

func allOf(b []byte, cls uint8) bool {
	for _, c := range b {
		if class[c]&cls == 0 {
			return false
		}
	}
	return true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// suspect is non-zero if a byte of x is below least, DEL or above. It may err
// towards suspicion (a neighbour's borrow), never away from it.
func suspect(x uint64, least uint64) uint64 {
	return ((x - ones*least) | (x + ones)) & highs
}

// clean reports whether every byte of b is in cls; least is a byte below which
// none of cls lies, but for exceptions that cls itself decides.
func clean(b []byte, cls uint8, least uint64) bool {
	if len(b) < 8 {
		return allOf(b, cls)
	}
	i := 0
	for ; i+8 <= len(b); i += 8 {
		if suspect(binary.LittleEndian.Uint64(b[i:]), least) != 0 && !allOf(b[i:i+8], cls) {
			return false
		}
	}
	last := b[len(b)-8:] // some of it for the second time
	return suspect(binary.LittleEndian.Uint64(last), least) == 0 || allOf(last, cls)
}

// viewOf is s as bytes, which must not be written to.
func viewOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// equalFold compares b with s, which must be lower-case ASCII.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// foldBuf holds a name as the most forgiving upstream would read it.
type foldBuf [40]byte

// fold lower-cases name and reads '_' as '-'; what exceeds the buffer is cut,
// which no protected name reaches.
func (f *foldBuf) fold(name []byte) []byte {
	n := copy(f[:], name)
	for i, c := range f[:n] {
		switch {
		case 'A' <= c && c <= 'Z':
			f[i] = c | 0x20
		case c == '_':
			f[i] = '-'
		}
	}
	return f[:n]
}
