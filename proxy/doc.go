// Package proxy is the walk of one exchange: from a client's request to the
// backend that a route names, and the answer back.
//
// The walk knows no protocol. Adapters (fasthttp.go for HTTP/1, stream.go for
// HTTP/2, nethttp.go for servers of net/http) fill in a Request and send out a
// Response; what lies between is Proxy.walk, in proxy.go, over an Exchange whose
// state is typed and whose order is what one reads:
//
//	decide   the generation, who the client is, the route, its bounds, its limits
//	obtain   from the cache where that has it, else
//	fetch      rewrite, mirror, pick a backend, have it serve
//	respond  what route and gateway add to the response
//
// An error anywhere in it becomes a Problem, and Proxy.answer writes that: no
// other place knows statuses of the gateway's own.
//
// # Backends
//
// A Backend serves an exchange: http (http.go, attempt.go, hedge.go: targets,
// retries, fallback), files, respond, redirect, and users by cmd/gateway. They
// are a map from kind to Constructor, so that whoever embeds this package adds
// kinds of their own; the example of this package is one in twenty lines.
//
// An attempt of http is: a place in the Gate, a target of the Balancer that health
// allows, an upstream.Call, a judgement. A request is sent again where no target
// can have seen it, or where it may come twice and the budget has room; its body
// only where all of it was kept.
//
// # Generations
//
// Everything that one version of the file says is a Generation. Build makes one
// without starting anything; Proxy.Swap makes it the one of all exchanges that
// begin from now on, and Proxy.Run looks after it. An exchange sees one generation,
// from its begin to its log line. What has to outlive it (connections, health,
// limits, stored responses) is handed on by name.
//
// # What it promises
//
// A client sees no internal string, and one framing. Bodies stream both ways, in
// bounded memory. A small request allocates nothing on the way (the gate is in
// forward_bench_test.go). A panic is one 500. An Exchange is used again: nothing
// keeps it, or bytes of it, once it has ended.
//
// # Sources
//
// RFC 9110 for what is forwarded and what belongs to one hop (section 7.6), 9112
// and 9113 for framing, 7239 for Forwarded, 9209 for Proxy-Status, 9457 for
// problems, 9440 for client certificates.
package proxy
