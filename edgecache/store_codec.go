package edgecache

import (
	"encoding/binary"
	"errors"
)

// errCorrupt is what decoding anything says that no encoder has written.
var errCorrupt = errors.New("edgecache: not an encoded entry")

// encodedVariants is how many variants an encoded resource has at most.
const encodedVariants = 255

// appendResource writes r but for Purges of its entries, which the two stores
// keep in their own ways. The form is for both; its version is the second
// level's (sharedVersion).
func appendResource(dst []byte, r *Resource) []byte {
	dst = appendText(dst, r.Text)
	dst = binary.AppendVarint(dst, r.PassUntil)
	dst = append(dst, byte(len(r.Variants)))
	for _, e := range r.Variants {
		dst = appendEntry(dst, e)
	}
	return dst
}

func appendEntry(dst []byte, e *Entry) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, e.Status)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(e.Flags))
	dst = append(dst, byte(e.Reason))
	dst = binary.AppendVarint(dst, e.RequestedAt)
	dst = binary.AppendVarint(dst, e.ReceivedAt-e.RequestedAt)
	dst = binary.AppendVarint(dst, e.Modified)
	dst = binary.AppendVarint(dst, e.Length)
	for _, n := range [...]uint32{e.InitialAge, e.Lifetime, e.StaleRevalidate, e.StaleError} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	dst = appendText(dst, e.Vary)
	dst = appendText(dst, e.Head)
	if e.Parts == nil {
		dst = binary.AppendUvarint(dst, 0)
		return appendText(dst, e.Body)
	}
	dst = binary.AppendUvarint(dst, 1+uint64(len(e.Parts)))
	for _, p := range e.Parts {
		dst = binary.AppendVarint(dst, p.Start)
		dst = appendText(dst, p.Data)
	}
	return dst
}

func appendText[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// A decoded is a resource of one variant in one piece, as most are.
type decoded struct {
	resource Resource
	entry    Entry
	variants [1]*Entry
}

// decodeResource reads what appendResource has written. The resource refers to
// src, which may not change any more.
func decodeResource(src []byte) (*Resource, error) {
	d := decoder{rest: src}
	text, pass, n := view(d.text()), d.varint(), int(d.byte())
	if d.bad {
		return nil, errCorrupt
	}
	var all decoded
	r := &all.resource
	r.Text, r.PassUntil = text, pass
	if n > 0 {
		r.Variants = all.variants[:]
		all.variants[0] = &all.entry
	}
	if n > 1 {
		r.Variants = make([]*Entry, n)
		for i, rest := 0, make([]Entry, n); i < n; i++ {
			r.Variants[i] = &rest[i]
		}
	}
	for _, e := range r.Variants {
		d.entry(e)
	}
	if d.bad || len(d.rest) > 0 {
		return nil, errCorrupt
	}
	return r, nil
}

// A decoder takes values off its rest; once one is not there it is bad, and all
// further ones are zero.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) entry(e *Entry) {
	e.Status, e.Flags, e.Reason = d.uint16(), Flags(d.uint16()), Reason(d.byte())
	e.RequestedAt = d.varint()
	e.ReceivedAt = e.RequestedAt + d.varint()
	e.Modified, e.Length = d.varint(), d.varint()
	for _, n := range [...]*uint32{&e.InitialAge, &e.Lifetime, &e.StaleRevalidate, &e.StaleError} {
		v := d.uvarint()
		d.bad = d.bad || v > 1<<32-1
		*n = uint32(v)
	}
	e.Vary, e.Head = view(d.text()), d.text()
	parts := d.uvarint()
	if parts == 0 {
		e.Body = d.text()
		return
	}
	parts--
	if parts > uint64(len(d.rest))/2 { // each has two bytes at least
		d.bad = true
		return
	}
	e.Parts = make([]Part, parts)
	for i := range e.Parts {
		e.Parts[i] = Part{Start: d.varint(), Data: d.text()}
	}
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.bad = true
	}
	if d.bad {
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) text() []byte { return d.take(d.uvarint()) }

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	return number(d, v, n)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	return number(d, v, n)
}

func number[T int64 | uint64](d *decoder, v T, n int) T {
	if n <= 0 || d.bad {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}
