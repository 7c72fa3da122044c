package h2

import (
	"bytes"
	"hash/maphash"

	"golang.org/x/net/http2/hpack"
)

const (
	tableSize = 4096 // bytes, the most that the dynamic table takes
	entrySize = 32   // bytes that an entry counts beside its name and value
	statics   = 61   // entries of the static table
	memory    = 64   // hashes of what was seen lately
)

// An Encoder compresses fields (RFC 7541) for one direction of a connection. A
// field enters the dynamic table when it is seen for the second time: what most
// responses repeat soon takes a byte, what is new each time neither takes room in
// the table nor drives others out. Only what enters the table is Huffman coded,
// as only there the work is done once for many. The zero value is ready.
type Encoder struct {
	entries []entry // a ring; the oldest is at first
	first   int
	n       int
	used    int // bytes of the table
	limit   int // bytes that may be used, less tableSize
	lowest  int // the least that limit has been since the last block, less tableSize
	told    int // what the other end knows, less tableSize

	seed  maphash.Seed
	ready bool
	seen  [memory]uint64
	name  []byte // in lower case
}

type entry struct {
	text []byte // name and value
	name int    // bytes of text
	pair uint64 // hash of both
	of   uint64 // hash of the name
}

func (e *entry) size() int     { return len(e.text) + entrySize }
func (e *entry) value() []byte { return e.text[e.name:] }

// SetLimit is told how many bytes the other end keeps of the dynamic table
// (SETTINGS_HEADER_TABLE_SIZE).
func (e *Encoder) SetLimit(n uint32) {
	e.limit = int(min(n, tableSize)) - tableSize
	e.lowest = min(e.lowest, e.limit)
	e.evict(tableSize + e.limit)
}

// Begin begins a block: what has changed of the table's size is said first (RFC
// 7541, section 4.2).
func (e *Encoder) Begin(b []byte) []byte {
	if !e.ready {
		e.ready, e.seed = true, maphash.MakeSeed()
	}
	if e.lowest < e.limit && e.lowest < e.told {
		e.evict(0) // all of it: golang.org/x/net takes two updates of an empty table alone
		b = append(b, 0x20)
		e.told = -tableSize
	}
	if e.limit != e.told {
		b = appendInt(b, 0x20, 5, tableSize+e.limit)
		e.told = e.limit
	}
	e.lowest = e.limit
	return b
}

// Status appends :status.
func (e *Encoder) Status(b []byte, status int) []byte {
	switch status {
	case 200:
		return append(b, 0x88)
	case 204:
		return append(b, 0x89)
	case 206:
		return append(b, 0x8a)
	case 304:
		return append(b, 0x8b)
	case 400:
		return append(b, 0x8c)
	case 404:
		return append(b, 0x8d)
	case 500:
		return append(b, 0x8e)
	}
	return append(b, 8, 3, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10))
}

// Field appends a field; its name is put into lower case.
func (e *Encoder) Field(b, name, value []byte) []byte {
	lower := e.name[:0]
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		lower = append(lower, c)
	}
	e.name = lower
	index := staticNames[string(lower)]
	if string(lower) == "set-cookie" || string(lower) == "authorization" {
		return appendLiteral(b, 0x10, 4, index, lower, value) // never indexed
	}
	of := maphash.Bytes(e.seed, lower)
	pair := of*31 + maphash.Bytes(e.seed, value)
	for i := range e.n {
		t := e.at(i)
		if t.pair == pair && bytes.Equal(t.text[:t.name], lower) && bytes.Equal(t.value(), value) {
			return appendInt(b, 0x80, 7, statics+1+i)
		}
		if index == 0 && t.of == of && bytes.Equal(t.text[:t.name], lower) {
			index = statics + 1 + i
		}
	}
	again := e.repeats(pair)
	if index == 0 {
		again = e.repeats(of) || again
	}
	if !again || len(lower)+len(value)+entrySize > (tableSize+e.limit)/2 {
		return appendLiteral(b, 0, 4, index, lower, value)
	}
	b = appendInt(b, 0x40, 6, index)
	if index == 0 {
		b = appendHuffman(b, lower)
	}
	b = appendHuffman(b, value)
	e.add(lower, value, pair, of)
	return b
}

// repeats reports whether hash was seen lately, and remembers it.
func (e *Encoder) repeats(hash uint64) bool {
	at := &e.seen[hash%memory]
	if *at == hash {
		return true
	}
	*at = hash
	return false
}

// at is the i-th entry, the newest first.
func (e *Encoder) at(i int) *entry {
	k := e.first + e.n - 1 - i
	if k >= len(e.entries) {
		k -= len(e.entries)
	}
	return &e.entries[k]
}

func (e *Encoder) add(name, value []byte, pair, of uint64) {
	size := len(name) + len(value) + entrySize
	e.evict(tableSize + e.limit - size)
	if e.n == len(e.entries) {
		grown := make([]entry, max(8, 2*e.n))
		for i := range e.n {
			grown[i] = *e.at(e.n - 1 - i)
		}
		e.entries, e.first = grown, 0
	}
	e.n++
	e.used += size
	t := e.at(0)
	t.text = append(append(t.text[:0], name...), value...)
	t.name, t.pair, t.of = len(name), pair, of
}

// evict drops the oldest entries until no more than most bytes are used.
func (e *Encoder) evict(most int) {
	for e.n > 0 && e.used > most {
		e.used -= e.entries[e.first].size()
		e.n--
		if e.first++; e.first == len(e.entries) {
			e.first = 0
		}
	}
}

func appendLiteral(b []byte, first byte, bits uint, index int, name, value []byte) []byte {
	b = appendInt(b, first, bits, index)
	if index == 0 {
		b = append(appendInt(b, 0, 7, len(name)), name...)
	}
	return append(appendInt(b, 0, 7, len(value)), value...)
}

// appendHuffman appends a string, coded where that is shorter.
func appendHuffman(b, s []byte) []byte {
	text := string(s)
	if n := int(hpack.HuffmanEncodeLength(text)); n < len(s) {
		return hpack.AppendHuffmanString(appendInt(b, 0x80, 7, n), text)
	}
	return append(appendInt(b, 0, 7, len(s)), s...)
}

// appendInt appends n with a prefix of so many bits, beside those of first (RFC
// 7541, section 5.1).
func appendInt(b []byte, first byte, bits uint, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// staticNames is the static table (RFC 7541, appendix A) as far as responses have
// use for it: of values only those of :status.
var staticNames = map[string]int{
	"accept-charset": 15, "accept-encoding": 16, "accept-language": 17, "accept-ranges": 18, "accept": 19,
	"access-control-allow-origin": 20, "age": 21, "allow": 22, "authorization": 23, "cache-control": 24,
	"content-disposition": 25, "content-encoding": 26, "content-language": 27, "content-length": 28,
	"content-location": 29, "content-range": 30, "content-type": 31, "cookie": 32, "date": 33, "etag": 34,
	"expect": 35, "expires": 36, "from": 37, "host": 38, "if-match": 39, "if-modified-since": 40,
	"if-none-match": 41, "if-range": 42, "if-unmodified-since": 43, "last-modified": 44, "link": 45,
	"location": 46, "max-forwards": 47, "proxy-authenticate": 48, "proxy-authorization": 49, "range": 50,
	"referer": 51, "refresh": 52, "retry-after": 53, "server": 54, "set-cookie": 55,
	"strict-transport-security": 56, "transfer-encoding": 57, "user-agent": 58, "vary": 59, "via": 60,
	"www-authenticate": 61,
}
