// Package listen accepts clients' connections and has fasthttp serve them,
// behind a strict pass over every byte that they send; HTTP/2 it serves itself.
// It knows nothing of routes or backends: a Server is given Handlers.
//
// # How one request goes through
//
//	accept → TLS → which protocol? ─┬─ HTTP/1: Conn.Read → guard → fasthttp → Handlers.Handle
//	                                └─ HTTP/2: frames → vet → Stream → Handlers.HTTP2
//
// fasthttp keeps neither the bytes of a request line nor its line ends, and takes
// what other parsers read differently. So it reads from a Conn, whose Read hands
// on only what the guard, a state machine over RFC 9112 with every lenience taken
// out, has accepted, and never more than one message: what follows waits until
// the response is out. vet is the same judgement for requests of HTTP/2, so that
// what reaches a handler can always be written as one HTTP/1.1 head. A Violation
// is answered (Handlers.Reject) and ends the connection, in such a way that the
// answer arrives.
//
// HTTP/2 (h2*.go, on the wire format of internal/listen/h2) has one goroutine a
// connection that reads, workers that serve streams, and counts of what clients do
// that costs more here than there: floods, resets, stalls end with GOAWAY.
//
// # What it promises
//
// New starts nothing; Bind takes the address; Run serves until its context ends,
// then drains. Who is slow is found by a sweep over the connections every few
// milliseconds, not by timers. Each connection knows when its client leaves, even
// while nobody reads (Attach). Running out of descriptors stops nobody who is
// connected. Certificates and tickets outlive reloads (TLS).
//
// # Sources
//
// RFC 9112 (guard), 9113 (h2), 9110; 8446 and 6066 for TLS. The tests run h2spec,
// and internal/attack runs raw bytes against the built gateway.
package listen
