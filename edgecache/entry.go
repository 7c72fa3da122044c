package edgecache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// A Field is one header field, name and value as they were on the wire.
type Field struct{ Name, Value []byte }

// A Key is the hash of a primary cache key (RFC 9111, section 2): the same in
// every gateway, and of a function for which nobody finds two texts alike.
type Key [16]byte

// KeyOf is the key of a text as Resource.Text has it.
func KeyOf(text []byte) Key {
	sum := sha256.Sum256(text)
	return Key(sum[:16])
}

func (k Key) String() string { return hex.EncodeToString(k[:]) }

// A Resource is all that is stored under one primary key. It is immutable.
type Resource struct {
	// Text is what the key was made of: method class, space, scheme://host/path,
	// the question mark and the query where it counts; then, each behind a NUL,
	// what else the route puts into the key. URL and Host read it.
	Text string
	// Variants are the stored responses, the latest first (RFC 9111, section 4.1).
	Variants []*Entry
	// PassUntil is when requests for this key are collapsed again, in Unix
	// nanoseconds: the last response could not be stored. 0: they are.
	PassUntil int64
}

// URL is scheme://host/path?query of the resource.
func (r *Resource) URL() string {
	_, url, _ := strings.Cut(r.Text, " ")
	url, _, _ = strings.Cut(url, "\x00")
	return url
}

// Origin is scheme://host of the resource, with the port where it has one that
// is not the scheme's.
func (r *Resource) Origin() string { return originOf(r.URL()) }

func originOf(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		return url[:len(url)-len(rest)+i]
	}
	return url
}

// Host is the resource's host, without scheme, with the port where Origin has it.
func (r *Resource) Host() string {
	_, host, _ := strings.Cut(r.Origin(), "://")
	return host
}

// An Entry is one stored response. It is immutable: fields are set by who makes
// it, before anybody else sees it.
type Entry struct {
	// Head is the header section as field lines, each ended by CRLF, without
	// the fields that are not stored (RFC 9111, section 3.1) and without
	// Content-Length and Age, which are made when it is served.
	Head []byte
	// Body is the whole content; of an incomplete response (RFC 9111, section
	// 3.3) nil, and Parts has what is there.
	Body  []byte
	Parts []Part
	// Length is the length of the whole content in bytes; -1 for an incomplete
	// response of unknown length.
	Length int64
	// Vary is the selection: for each field that Vary names, in lower case and
	// sorted, name, NUL, normalised value of the request that was answered, LF.
	// Empty without Vary.
	Vary string

	// RequestedAt and ReceivedAt are request_time and response_time of RFC 9111,
	// section 4.2.3, and Modified is Last-Modified; Unix nanoseconds, 0 for none.
	RequestedAt, ReceivedAt, Modified int64
	// Purges is the sequence number of the purge log when the request for it was
	// sent: what was purged later is not in here yet.
	Purges uint64

	// Seconds, at most maxSeconds.
	InitialAge, Lifetime, StaleRevalidate, StaleError uint32

	Status uint16
	Flags  Flags
	// Reason is what decided on Lifetime, for people.
	Reason Reason
}

// A Part is a stretch of an incomplete content; parts are sorted and neither
// overlap nor touch.
type Part struct {
	Start int64
	Data  []byte
}

// Flags are what a stored response is subject to.
type Flags uint16

const (
	// NoCache: each use needs a validation (RFC 9111, section 5.2.2.4).
	NoCache Flags = 1 << iota
	// MustRevalidate: once stale, never without validation (section 5.2.2.2).
	MustRevalidate
	// Heuristic: Lifetime was estimated (section 4.2.2).
	Heuristic
	// HasTags: some field names groups or tags; see Tags.
	HasTags
	// Shareable: may be used for requests with Authorization (section 3.5).
	Shareable
	// Invalidated: to be validated before the next use (section 4.4, soft purge).
	Invalidated
)

// A Reason says where a freshness lifetime comes from.
type Reason uint8

// same reports whether two entries are one stored response, wherever they are.
func (e *Entry) same(other *Entry) bool {
	return e == other || e.RequestedAt == other.RequestedAt && e.ReceivedAt == other.ReceivedAt &&
		e.Length == other.Length && e.Vary == other.Vary && bytes.Equal(e.Head, other.Head)
}

// Complete reports whether the whole content is there.
func (e *Entry) Complete() bool { return e.Parts == nil }

// Each calls yield for every field in order, until it returns false.
func (e *Entry) Each(yield func(name, value []byte) bool) {
	for head := e.Head; len(head) > 0; {
		var name, value []byte
		name, value, head = cutField(head)
		if !yield(name, value) {
			return
		}
	}
}

// Lookup is the value of the first field of that name, in any case.
func (e *Entry) Lookup(name string) (string, bool) {
	for head := e.Head; len(head) > 0; {
		var n, value []byte
		n, value, head = cutField(head)
		if equalFold(n, name) {
			return view(value), true
		}
	}
	return "", false
}

// AppendFields appends all fields in order. They are the entry's memory.
func (e *Entry) AppendFields(fields []Field) []Field {
	for head := e.Head; len(head) > 0; {
		var f Field
		f.Name, f.Value, head = cutField(head)
		fields = append(fields, f)
	}
	return fields
}

// cutField takes the first line of a head as Entry.Head has it.
func cutField(head []byte) (name, value, rest []byte) {
	colon := 0
	for head[colon] != ':' {
		colon++
	}
	end := colon + 2
	for head[end] != '\r' {
		end++
	}
	return head[:colon], head[colon+2 : end], head[end+2:]
}

// Tags calls yield for every name that the response can be purged by: the
// members of Cache-Groups (RFC 9875), Surrogate-Key and Cache-Tag.
func (e *Entry) Tags(yield func(string) bool) {
	if e.Flags&HasTags == 0 {
		return
	}
	for head := e.Head; len(head) > 0; {
		var name, value []byte
		name, value, head = cutField(head)
		if !tagsOf(name, view(value), yield) {
			return
		}
	}
}

// Size is what the entry occupies in bytes, itself counted.
func (e *Entry) Size() int {
	n := entrySize + cap(e.Head) + cap(e.Body) + len(e.Vary)
	for _, p := range e.Parts {
		n += partSize + cap(p.Data)
	}
	return n
}

// Size is what the resource occupies in bytes, its entries and itself counted.
func (r *Resource) Size() int {
	n := resourceSize + len(r.Text) + 8*cap(r.Variants)
	for _, e := range r.Variants {
		n += e.Size()
	}
	return n
}

const (
	entrySize    = 192
	partSize     = 32
	resourceSize = 64
)

// Received is when the response came.
func (e *Entry) Received() time.Time { return time.Unix(0, e.ReceivedAt) }
