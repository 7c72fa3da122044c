// Package upstream holds the gateway's connections to its targets.
//
// A Transport owns one Pool a target, for as long as some generation of the
// configuration names that target. A Call is one attempt: one request written,
// one response head read, one body streamed. With HTTP/1 it has a connection
// that no other call sees meanwhile (a wire), with HTTP/2 a stream on one that
// many share (a link).
//
//	fill in Call.Request → Do(pool) → look at Call.Response → Read or WriteTo → Close
//
// A Discovery finds targets that are no fixed list: from DNS (A, AAAA, SRV, by
// their TTLs) or from a file that is watched.
//
// The package exists because fasthttp.HostClient may not forward: it pools a
// connection on which bytes are left over (they become the next client's
// answer), writes a request whole before it reads (an early final response is
// lost), retries what must not be retried, and has one deadline for
// everything. net/http's does not say whether a request was sent.
//
// # What it promises
//
// A connection is used again only if both sides said all that they had to say
// and nothing is left on it, the last used first; before it is, it is looked at.
// An Error says whether the target can have seen the request, and whose fault it
// was: what may be tried again is decided by that and nothing else. A response is
// held to the framing of RFC 9112, section 6, without lenience. Cancel ends a call
// from any goroutine, and never meets another's.
//
// Deadlines cost no timers: a call stores when its present phase must be over,
// and Transport.Run looks over the calls in flight every few milliseconds.
//
// # Where to begin
//
// call.go, then pool.go and wire.go for HTTP/1, link.go and stream.go for HTTP/2;
// trip.go has the one system call more that is saved a request.
// conformance_test.go holds both protocols to the same cases.
package upstream
