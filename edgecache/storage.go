package edgecache

import "context"

// A Store keeps resources in memory, within a bound in bytes in which everything
// counts, and lets go of those that are asked for least. All of it may be called
// from many goroutines, and hits share no lock.
type Store interface {
	// Get is the resource of that key, nil for none, and counts as a use of it.
	// Two calls may return the same resource at different addresses, and so its
	// entries; Entry.same tells.
	Get(Key) *Resource
	// Update puts what change returns in the place of what is there, nil standing
	// for nothing on both sides. Changes of one key happen one after the other;
	// change may be called while a lock is held, and calls nothing of the store.
	// A new resource may be refused, for the sake of others; it then simply is
	// not there.
	Update(Key, func(*Resource) *Resource)
	// Each calls yield for every resource, in no order, until it returns false.
	Each(yield func(Key, *Resource) bool)
	// Stats is what the store holds now.
	Stats() StoreStats
}

// StoreStats says what a Store holds.
type StoreStats struct {
	Resources int   // keys
	Bytes     int64 // of Resource.Size and what the store itself needs for them
	Capacity  int64 // bytes
	Evicted   uint64
	Refused   uint64 // new resources that were not worth others' places
}

// A Second is a slower store that several gateways share. Nothing of it may ever
// be slower than it is told: it is asked instead of an origin, not before it.
type Second interface {
	// Get is the resource of that key; nil for none, and for everything that goes
	// wrong. A resource that cannot be read, or whose Text is another, is none.
	Get(ctx context.Context, k Key, text string) *Resource
	// Put stores e for others, some time soon, or not at all.
	Put(k Key, text string, e *Entry)
	// Delete removes the resource.
	Delete(k Key)
}

// A Purge is an order to use some stored responses no more.
type Purge struct {
	Kind  PurgeKind
	Value string // URL, prefix of URLs, host, or tag
	// Origin restricts a purge by tag to one origin, as scheme://host (RFC 9875,
	// section 3); empty: to none.
	Origin string
	// Soft keeps them for when there is nothing better (stale-if-error, validation).
	Soft bool
}

// A PurgeKind says what a purge names.
type PurgeKind uint8

// What can be purged. A URL means its resources with whatever query parameters,
// fields and cookies are in their keys beside it, a prefix all URLs that begin
// with it.
const (
	PurgeURL PurgeKind = iota
	PurgePrefix
	PurgeHost
	PurgeTag
	PurgeAll
)

// A Verdict says what has become of an entry since it was requested.
type Verdict uint8

// Verdicts, the worst last.
const (
	Valid Verdict = iota
	Stale         // softly purged: validate it
	// Doubted: other gateways may have purged it, which this one could not hear
	// of. Only a validation makes it usable again, nothing else does, not even
	// stale-if-error.
	Doubted
	Purged // never to be served again
)

// A Purger knows what was purged. The cache asks it before each use of an entry,
// so that a purge takes hold at once and also of responses that were under way.
type Purger interface {
	// Sequence is the number of the last purge that is known.
	Sequence() uint64
	// Verdict is for an entry of r with Purges as Sequence was when it was
	// requested. It is on the way of every hit: no lock, no allocation.
	Verdict(r *Resource, e *Entry) Verdict
	// Spares reports whether no purge after that number can be of what is being
	// fetched for r, whatever tags it will have.
	Spares(r *Resource, after uint64) bool
	// Purge is in force here when it returns; err says that others may not have it.
	Purge(Purge) error
	// Invalidate is Purge for who cannot wait for others: they are told soon.
	Invalidate(Purge)
}
