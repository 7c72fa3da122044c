package upstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

const (
	maxHead     = 64 << 10 // bytes of one head, interim or final
	maxFields   = 200      // of one head
	maxInterims = 16       // 1xx heads before the final one
)

// What a response head is refused for. All of them but errHeadSize are
// http_protocol_error.
var (
	errHeadSize     = errors.New("response head larger than 64 KiB")
	errStatusLine   = errors.New("malformed status line")
	errLineEnd      = errors.New("line does not end with CRLF")
	errFieldName    = errors.New("malformed field name")
	errFieldValue   = errors.New("control character in a field value")
	errFieldCount   = errors.New("more than 200 fields")
	errLength       = errors.New("malformed Content-Length")
	errLengthTwice  = errors.New("more than one Content-Length")
	errCoding       = errors.New("Transfer-Encoding other than one chunked")
	errCodingTwice  = errors.New("more than one Transfer-Encoding")
	errCoding10     = errors.New("Transfer-Encoding in an HTTP/1.0 response")
	errBothFramings = errors.New("both Content-Length and Transfer-Encoding")
	errInterims     = errors.New("more than 16 interim responses")
	errUnasked      = errors.New("unasked 101 response")
	errOtherUpgrade = errors.New("101 response for another protocol than asked for")
)

// A head is a response head while it is read. Its slices point into the buffer
// that was parsed.
type head struct {
	status     int
	http10     bool
	length     int64 // of the Content-Length field; -1: there is none
	chunked    bool
	alien      bool // a transfer coding that nobody knows, which alienTaken lets pass
	alienTaken bool
	close      bool // Connection: close
	keepAlive  bool // Connection: keep-alive
	upgrade    []byte
	fields     []Field
	options    [][]byte // Connection's other options, the names of fields to drop
	lines      int
}

// reset prepares h for the next head, keeping its room.
func (h *head) reset() {
	*h = head{length: -1, fields: h.fields[:0], options: h.options[:0], alienTaken: h.alienTaken}
}

// parse takes the lines that are complete in b, says how many bytes they were,
// and whether the head is over with them. What it did not take must come
// again, with more behind it.
func (h *head) parse(b []byte) (n int, done bool, err error) {
	for {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			if h.lines == 0 && !maybeStatusLine(b[n:]) {
				return n, false, errStatusLine
			}
			return n, false, nil
		}
		if i == 0 || b[n+i-1] != '\r' {
			return n, false, errLineEnd
		}
		line := b[n : n+i-1]
		n += i + 1
		switch {
		case h.lines == 0:
			err = h.statusLine(line)
		case len(line) == 0:
			return n, true, h.finish()
		default:
			err = h.field(line)
		}
		if err != nil {
			return n, false, err
		}
		h.lines++
	}
}

const versionPrefix = "HTTP/1."

// maybeStatusLine reports whether b can still become a status line, so that
// garbage without a line end is refused at once, not when time runs out.
func maybeStatusLine(b []byte) bool {
	n := min(len(b), len(versionPrefix))
	return string(b[:n]) == versionPrefix[:n]
}

func (h *head) statusLine(b []byte) error {
	const statusEnd = len("HTTP/1.1 200")
	if len(b) < statusEnd || string(b[:len(versionPrefix)]) != versionPrefix || b[8] != ' ' {
		return errStatusLine
	}
	switch b[7] {
	case '0':
		h.http10 = true
	case '1':
	default:
		return errStatusLine
	}
	for _, c := range b[9:statusEnd] {
		if c < '0' || c > '9' {
			return errStatusLine
		}
		h.status = h.status*10 + int(c-'0')
	}
	if h.status < 100 || h.status > 599 {
		return errStatusLine
	}
	if reason := b[statusEnd:]; len(reason) > 0 && (reason[0] != ' ' || !validValue(reason)) {
		return errStatusLine
	}
	return nil
}

func (h *head) field(line []byte) error {
	f, err := parseField(line)
	if err != nil {
		return err
	}
	if h.lines > maxFields {
		return errFieldCount
	}
	switch len(f.Name) {
	case len("upgrade"):
		if equalFold(f.Name, "upgrade") {
			return h.upgradeField(f)
		}
	case len("connection"):
		if equalFold(f.Name, "connection") {
			h.connectionField(f.Value)
			return nil
		}
		if equalFold(f.Name, "keep-alive") {
			return nil
		}
	case len("content-length"):
		if equalFold(f.Name, "content-length") {
			if err := h.lengthField(f.Value); err != nil {
				return err
			}
		}
	case len("proxy-connection"):
		if equalFold(f.Name, "proxy-connection") {
			return nil
		}
	case len("transfer-encoding"):
		if equalFold(f.Name, "transfer-encoding") {
			return h.codingField(f.Value)
		}
	}
	h.fields = append(h.fields, f)
	return nil
}

func (h *head) upgradeField(f Field) error {
	if h.status != 101 {
		return nil
	}
	if h.upgrade != nil {
		return errOtherUpgrade
	}
	h.upgrade = f.Value
	h.fields = append(h.fields, f)
	return nil
}

func (h *head) lengthField(v []byte) error {
	if h.length >= 0 {
		return errLengthTwice
	}
	n, ok := parseLength(v)
	if !ok {
		return errLength
	}
	h.length = n
	return nil
}

func (h *head) codingField(v []byte) error {
	switch {
	case h.chunked, h.alien:
		return errCodingTwice
	case equalFold(v, "chunked"):
		h.chunked = true
	case h.alienTaken && isAlien(v):
		h.alien = true
	default:
		return errCoding
	}
	return nil
}

// isAlien reports whether v is a single transfer coding that is registered
// nowhere (RFC 9112, section 7), nor looks like one that is.
func isAlien(v []byte) bool {
	for _, c := range v {
		if !tokenByte[c] {
			return false
		}
	}
	for _, known := range []string{"chunked", "gzip", "compress", "deflate", "identity", "br", "zstd"} {
		if bytes.Contains(bytes.ToLower(v), []byte(known)) {
			return false
		}
	}
	return len(v) > 0
}

func (h *head) connectionField(v []byte) {
	for len(v) > 0 {
		var option []byte
		if i := bytes.IndexByte(v, ','); i >= 0 {
			option, v = v[:i], v[i+1:]
		} else {
			option, v = v, nil
		}
		option = trim(option)
		switch {
		case len(option) == 0 || equalFold(option, "upgrade"):
		case equalFold(option, "close"):
			h.close = true
		case equalFold(option, "keep-alive"):
			h.keepAlive = true
		default:
			h.options = append(h.options, option)
		}
	}
}

// finish checks what only the whole head can tell and drops the fields that
// Connection names.
func (h *head) finish() error {
	coded := h.chunked || h.alien
	if coded && h.http10 {
		return errCoding10
	}
	if coded && h.length >= 0 {
		return errBothFramings
	}
	noLength := h.status < 200 || h.status == 204
	if len(h.options) == 0 && !(noLength && h.length >= 0) {
		return nil
	}
	kept := h.fields[:0]
	for _, f := range h.fields {
		if equalFold(f.Name, "content-length") {
			if noLength {
				continue
			}
		} else if h.named(f.Name) {
			continue
		}
		kept = append(kept, f)
	}
	h.fields = kept
	return nil
}

// named reports whether Connection names the field. It may not name the
// length, which is framing and not its to take away.
func (h *head) named(name []byte) bool {
	for _, o := range h.options {
		if equalFoldBytes(o, name) {
			return true
		}
	}
	return false
}

// unnamed takes the trailer fields away that Connection names (RFC 9110, section
// 7.6.1).
func (h *head) unnamed(trailer []Field) []Field {
	if len(h.options) == 0 {
		return trailer
	}
	return slices.DeleteFunc(trailer, func(f Field) bool { return h.named(f.Name) })
}

// parseField takes one field line without its CRLF apart.
func parseField(line []byte) (Field, error) {
	i := 0
	for i < len(line) && tokenByte[line[i]] {
		i++
	}
	if i == 0 || i == len(line) || line[i] != ':' {
		return Field{}, errFieldName
	}
	v := trim(line[i+1:])
	if !validValue(v) {
		return Field{}, errFieldValue
	}
	return Field{Name: line[:i:i], Value: v}, nil
}

// parseLength accepts 1*DIGIT up to 2^63-1 without a leading zero.
func parseLength(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 19 || (v[0] == '0' && len(v) > 1) {
		return 0, false
	}
	var n uint64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return int64(n), n <= 1<<63-1
}

// trim takes optional white space off both ends.
func trim(v []byte) []byte {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	return v[:len(v):len(v)]
}

// validValue reports whether v is free of control characters other than HTAB.
// It looks at eight bytes at a time, and at single ones only where those eight
// hold something suspicious.
func validValue(v []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(v) >= 8 {
		w := binary.LittleEndian.Uint64(v)
		control := (w - ones*0x20) & ^w // below 0x20
		del := w ^ ones*0x7f            // zero where 0x7f
		del = (del - ones) & ^del       // high bit where zero
		if (control|del)&highs != 0 && !validBytes(v[:8]) {
			return false
		}
		v = v[8:]
	}
	return validBytes(v)
}

func validBytes(v []byte) bool {
	for _, c := range v {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// equalFold reports whether b is lower, which is in lower case already.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// equalFoldBytes reports whether a and b differ in ASCII case at most.
func equalFoldBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// tokenByte tells the bytes of a token (RFC 9110, section 5.6.2).
var tokenByte = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-0x20] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()
