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
//
// # Where safety and the letter differ
//
// A shared cache may do what a careful one should not. Set-Cookie is stored only
// where the response says public or s-maxage, or the route says so. A response to
// a request with cookies that are not in the key is stored only if it says how
// long it is fresh, or that it is public: neither ttl.default nor an estimate is
// for it. What an entry is used for needs public, must-revalidate or s-maxage
// where the request has Authorization, not only the one that it was stored by.
// ttl.min never works against no-store, no-cache and private, and ttl.default is
// for no status that a field outside the key could bring about (405, 414, 501).
// Fields that make some frameworks see another URL, host or method (Overrides) do
// not reach an origin whose answer may be stored, and what a route leaves out of
// the key's query does not either. A body of a GET or HEAD passes the cache by.
//
// Of a response that only the connection's end frames, the end is taken for the
// end, as RFC 9112, section 8, has it.
//
// # The public suite
//
// make cache-tests runs http-tests/cache-tests: 160 of its 160 required tests
// pass, 103 of 105 optimal ones. Red on purpose:
//
//   - conditional-lm-fresh-no-lm wants 304 for an If-Modified-Since that lies
//     before Date, of a response without Last-Modified. RFC 9111, section 4.3.2,
//     compares with Date there, and Date is later.
//   - partial-store-partial-complete wants the rest of a content asked for by
//     range where the part that is stored has no validator. What came could not be
//     combined with it (RFC 9111, section 3.4), so that it would have to be asked
//     for again as a whole. Parts with a strong validator are combined.
//
// Its four tests partial-store-partial-reuse-partial* have an origin that counts
// one byte too many in Content-Range; see Request.Place.
package edgecache
