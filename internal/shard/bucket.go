// Package shard spreads rows over PostgreSQL servers. Keys fall into 4,096 fixed
// buckets; an assigner says which bucket a new row belongs to and on which shard
// a bucket begins; the map says where it is by now, and the mover changes that
// while everything runs. A Cluster reads and writes through the map: on replicas
// that are near enough, on the primary otherwise.
//
// No write trusts a map: a guard, in the transaction of the write, checks
// that this shard owns the bucket at the epoch that the writer believes in, and
// reads carry the same predicate. A map that is old costs a retry and nothing
// else.
package shard

import (
	"hash/crc32"

	"github.com/cespare/xxhash/v2"
)

// Buckets is how many buckets there are, for ever: ids carry theirs in 12 bits.
const Buckets = 4096

// A Bucket is the unit that moves between shards, from 0 to Buckets-1.
type Bucket uint16

// KeyBucket is the bucket of a key that routes by itself, such as an e-mail
// address, by crc32: it depends on nothing that is configured.
func KeyBucket(key string) Bucket {
	crc := ^uint32(0) // as crc32.ChecksumIEEE, which would have the key on the heap
	for i := range len(key) {
		crc = crc32.IEEETable[byte(crc)^key[i]] ^ crc>>8
	}
	return Bucket(^crc % Buckets)
}

func foreignBucket(id string) Bucket {
	return Bucket(xxhash.Sum64String(id) % Buckets)
}
