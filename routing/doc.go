// Package routing answers "where does it go?", twice: to which route a request
// belongs, and to which target of the route's backend.
//
// # Which route
//
// A Table picks the route for a Request: by host, path, method, headers, query
// and client address, the most specific match first, whatever the order of the
// file (see Table for the order). Its cost does not grow with the number of
// routes: hosts are found in a map, paths in a tree of segments per host. Explain
// says of each rule what became of it, by the same code.
//
// Paths are compared in one normal form (Paths.Normalize), the only reading of
// a path that anything in the gateway decides on. Where another reading of it
// that is common would have taken another route, the outcome is Ambiguous rather
// than a guess.
//
// # Which target
//
// A Balancer picks the target of an attempt among a backend's Members, by one of
// six policies, of which BALANCE.md shows how evenly they spread load and how
// many keys they move; a Key says which parts of a request it goes by; a Sticky
// keeps a client on its target by a signed cookie. Tried holds those that an
// exchange has been to, so that a retry goes elsewhere. What a member has in
// flight and how fast it answers outlives reloads; whether it can be used at all
// is told from outside (health), and it is asked nothing.
//
// # What it promises
//
// A table is immutable and a match allocates nothing; picking takes no lock that
// all share. The same members in any order, in any gateway, give a key the same
// target by ring_hash and maglev (TestGatewaysAgree), so a new version may not
// change that. A table of rules agrees with one that tries them one by one
// (oracle_test.go).
//
// # Sources
//
// RFC 3986, section 6.2.2, for the normal form. Mitzenmacher, The Power of Two
// Choices, for least_request and ewma; Finagle's PeakEwma for latencies; Karger
// et al. 1997 for ring_hash, Eisenbud et al. 2016 for maglev, Mirrokni, Thorup and
// Zadimoghaddam for bounded loads. Each is named where it is used.
package routing
