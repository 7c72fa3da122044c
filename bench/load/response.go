package load

import (
	"bytes"
	"errors"
)

var (
	errHead   = errors.New("the answer is no HTTP/1.1")
	errLength = errors.New("the answer has no Content-Length")
	errClose  = errors.New("the server closes a connection that is to be kept")
)

// A response is where in a buffer the parts of one are.
type response struct {
	status      int
	head, total int // bytes: with the blank line; with the body
}

var (
	blank  = []byte("\r\n\r\n")
	length = []byte("\r\ncontent-length:")
	closes = []byte("\r\nconnection: close")
)

// parse finds the response at the beginning of b; ok is false where more bytes
// are needed. It takes what servers under test send and no more: HTTP/1.1 with
// Content-Length, or 204 or 304.
func parse(b []byte) (r response, ok bool, err error) {
	end := bytes.Index(b, blank)
	if end < 0 {
		if len(b) >= 9 && string(b[:9]) != "HTTP/1.1 " || len(b) > 64<<10 {
			return r, false, errHead
		}
		return r, false, nil
	}
	r.head = end + len(blank)
	if end < 12 || string(b[:9]) != "HTTP/1.1 " {
		return r, false, errHead
	}
	for _, c := range b[9:12] {
		if c < '0' || c > '9' {
			return r, false, errHead
		}
		r.status = r.status*10 + int(c-'0')
	}
	head := b[:end+2]
	if field(head, closes) >= 0 {
		return r, false, errClose
	}
	r.total = r.head
	if r.status == 204 || r.status == 304 {
		return r, len(b) >= r.total, nil
	}
	at := field(head, length)
	if at < 0 {
		return r, false, errLength
	}
	n := 0
	for _, c := range bytes.TrimLeft(head[at:], " ") {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	r.total += n
	return r, len(b) >= r.total, nil
}

// field is where the value begins behind name, which is a line's start in lower
// case; -1 if there is none.
func field(head, name []byte) int {
	first := name[2]
	for i := 0; ; {
		j := bytes.IndexByte(head[i:], '\n')
		if j < 0 || i+j+1 >= len(head) {
			return -1
		}
		i += j + 1
		if head[i]|0x20 == first && len(head)-i >= len(name)-2 && bytes.EqualFold(head[i:i+len(name)-2], name[2:]) {
			return i + len(name) - 2
		}
	}
}
