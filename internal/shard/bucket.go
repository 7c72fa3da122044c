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
