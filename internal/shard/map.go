package shard

import "sync/atomic"

// An Entry is where a bucket is.
type Entry struct {
	Shard int32 // by its place in the list of shards
	Epoch int64 // grows with each move
}

// A Map says where every bucket is. It does not change; a Router holds the
// newest.
type Map struct {
	Version int64 // grows with each change
	Entries [Buckets]Entry
}

// A Router looks buckets up in the newest map. Its zero value has none, and is
// given one by Swap before it is used.
type Router struct{ current atomic.Pointer[Map] }

// Lookup says where a bucket is.
func (r *Router) Lookup(b Bucket) Entry { return r.current.Load().Entries[b%Buckets] }

// Map returns the newest map.
func (r *Router) Map() *Map { return r.current.Load() }

// Swap takes m unless the router has a newer one, and reports whether it did.
func (r *Router) Swap(m *Map) bool {
	for {
		old := r.current.Load()
		if old != nil && old.Version >= m.Version {
			return false
		}
		if r.current.CompareAndSwap(old, m) {
			return true
		}
	}
}
