package edgecache

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// A value in Redis is, with numbers in little endian: sharedMagic, which has the
// version of the form; xxhash64 of all that follows; xxhash64 of the log's name;
// the position in the log; when it expires, in Unix milliseconds; the resource
// with its one variant as appendResource has it.
const (
	sharedMagic  = "slc\x01"
	sharedHeader = len(sharedMagic) + 4*8
)

// A sharedValue is a value in Redis.
type sharedValue struct {
	log, position uint64
	expires       int64
	resource      *Resource
}

func appendShared(dst []byte, v *sharedValue) []byte {
	start := len(dst)
	dst = append(dst, sharedMagic...)
	dst = append(dst, make([]byte, 8)...)
	dst = binary.LittleEndian.AppendUint64(dst, v.log)
	dst = binary.LittleEndian.AppendUint64(dst, v.position)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(v.expires))
	dst = appendResource(dst, v.resource)
	sum := dst[start+len(sharedMagic):]
	binary.LittleEndian.PutUint64(sum, xxhash.Sum64(sum[8:]))
	return dst
}

// decodeShared reads what appendShared has written, and nothing else: also what
// has the right sum has to be an entry as others rely on it.
func decodeShared(value string) (v sharedValue, err error) {
	if len(value) < sharedHeader || value[:len(sharedMagic)] != sharedMagic {
		return v, errCorrupt
	}
	b := unsafe.Slice(unsafe.StringData(value), len(value))[len(sharedMagic):]
	if binary.LittleEndian.Uint64(b) != xxhash.Sum64(b[8:]) {
		return v, errCorrupt
	}
	v.log = binary.LittleEndian.Uint64(b[8:])
	v.position = binary.LittleEndian.Uint64(b[16:])
	v.expires = int64(binary.LittleEndian.Uint64(b[24:]))
	v.resource, err = decodeResource(b[32:])
	if err == nil && !sharable(v.resource) {
		err = errCorrupt
	}
	return v, err
}

// sharable reports whether a resource has one variant, which is whole.
func sharable(r *Resource) bool {
	if len(r.Variants) != 1 || r.PassUntil != 0 {
		return false
	}
	e := r.Variants[0]
	return e.Complete() && e.Length == int64(len(e.Body)) && e.Status >= 200 && e.Status <= 999 && wellFormed(e.Head) &&
		e.ReceivedAt >= e.RequestedAt
}

// wellFormed reports whether each line of a head is name, colon, space, value,
// as Entry.Each takes for granted.
func wellFormed(head []byte) bool {
	for len(head) > 0 {
		line, rest, ok := bytes.Cut(head, []byte("\r\n"))
		name, value, colon := bytes.Cut(line, []byte(": "))
		if !ok || !colon || len(name) == 0 || bytes.ContainsAny(name, ": \t\r\n\x00") || bytes.ContainsAny(value, "\r\n\x00") {
			return false
		}
		head = rest
	}
	return true
}
