package shard

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"
)

// An ID is a UUID. Those of NewID are version 7 (RFC 9562, section 5.7) with the
// bucket in rand_a.
type ID [16]byte

// ErrID says that a text is no UUID in canonical form.
var ErrID = errors.New("shard: not a UUID in lower case")

// NewID returns a new id of a row in bucket b: 48 bits of milliseconds, the
// bucket, and 62 random bits.
func NewID(b Bucket, now time.Time) ID {
	var id ID
	_, _ = rand.Read(id[8:]) // never fails (crypto/rand)
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = 0x70 | byte(b>>8)
	id[7] = byte(b)
	id[8] = 0x80 | id[8]&0x3f
	return id
}

// RandomID returns a UUID of version 4, which names something that has no
// bucket.
func RandomID() ID {
	var id ID
	_, _ = rand.Read(id[:])
	id[6], id[8] = 0x40|id[6]&0x0f, 0x80|id[8]&0x3f
	return id
}

// ParseID reads the canonical form; the error is ErrID.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, ErrID
	}
	at := 0
	for i := 0; i < 36; i += 2 {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			i++
		}
		hi, lo := digit(s[i]), digit(s[i+1])
		if hi > 15 || lo > 15 {
			return ID{}, ErrID
		}
		id[at] = hi<<4 | lo
		at++
	}
	return id, nil
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// String is the canonical form.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[:8], id[:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:], id[10:])
	return string(b[:])
}

// Bucket is where the row of id lives: what a version 7 carries, and a hash of
// others, which were made elsewhere.
func (id ID) Bucket() Bucket {
	if id[6]>>4 == 7 && id[8]>>6 == 2 {
		return Bucket(id[6]&0x0f)<<8 | Bucket(id[7])
	}
	return foreignBucket(id.String())
}
