// Package edgecache says whether a request must go to its origin at all: a
// shared cache after RFC 9111.
//
// Three layers, each of which can be read alone:
//
//   - policy: pure functions, told the time, over requests and responses. May
//     this be stored, how long is it fresh, does this stored response answer
//     that request? Every rule names its section.
//   - Cache: what happens to one request. Look up, serve, or have it fetched;
//     collapsed misses, revalidation, ranges, invalidation. It knows neither
//     connections nor backends: whoever uses it fetches.
//   - stores: entries in memory, bounded by bytes; a second level in Redis;
//     what was purged.
//
// A Key names a Resource, which holds the stored responses (Entry) for one
// primary key, one for each selection by Vary. Resources and entries are
// immutable: changing one means putting another in its place, and whoever has
// one may go on reading it.
package edgecache
