// Package admin is the admin API: metrics, liveness and readiness, what is
// configured, reload, profiles. It knows nothing of the gateway but the
// functions that it is given (Config); one that is nil leaves its path out. / lists
// the paths.
//
// # Who may ask
//
// A request passes guard: /healthz and /readyz are for anybody; the rest wants
// the bearer token (RFC 6750) where there is one, compared in a time that tells
// nothing of it. Where there is none the listener is on loopback (cmd/gateway sees
// to that), and the Host must be an address or localhost, so that a page of
// another site whose name resolves to this machine is refused; requests that such
// a page sends are, too (net/http.CrossOriginProtection).
//
// # What it promises
//
// Answers are JSON or plain text and never cached, errors problem documents
// (RFC 9457). Reading changes nothing; what changes something is a POST. The
// handler is served by net/http on a listener of its own, so that it answers when
// the clients' listeners are full.
package admin
