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
//
// # The parts
//
//   - pure: Bucket, ID (which carries its bucket), Assigner (hash, range, geo),
//     Map, Plan (which buckets to move so that each shard has its weight), Token.
//   - Cluster: Write, a transaction in one bucket; Read, a row of one bucket;
//     Scatter, rows of all shards in one order. It probes its servers and finds
//     out by asking who is primary, so that a promotion needs no new file.
//   - Mover: Move and Recover.
//
// # How one read goes through
//
// The Router looks the bucket up (an atomic load); a replica takes turns whose lag
// is within bounds, and whose position covers the Token, which it is asked in the
// same batch as the row; else the primary. Where the row's bucket has moved, the map
// is read again and so is the row.
//
// # How writes go together
//
// A write that comes alone is one transaction, in one round trip. Those that come
// while it is on its way, and name the row that they lock (Write.Order), wait for
// its end and are one transaction then: the busier a shard, the less each costs.
// Nobody waits so for longer than 10 ms where a place is free, and where a group is
// refused, or waits 100 ms for a lock, each of its writes is done alone.
//
// # How a bucket moves
//
// Copy while it is written, fence it at its source for what is left, decide in one
// row of the map's shard, open it at its destination under the next epoch, purge
// what was left behind once it is a day old. A mover that dies anywhere in it is
// followed by one that ends the move: forward where it was decided, else back.
//
// # What it promises
//
// A bucket has one owner at any time; a write that was acknowledged is on it. A read
// under a Token never shows less than it covers. A write of which nobody knows
// how it ended says so (Unavailable.Unknown).
// A primary of an older timeline than other shards remember is none, also
// for who starts while it is the only one up; a shard alone has nobody to
// remember that for it.
package shard
