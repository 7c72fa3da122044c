// Package users is the bundled user service: its rules, its HTTP API, its cache
// and its sessions. What keeps the users is behind Store.
//
//	users           rules and API: Handler over a Store and Sessions
//	users/sqlite    a Store in SQLite files, one a shard
//	users/postgres  a Store in PostgreSQL over internal/shard
//	users/cache     a Store in front of a Store: cache-aside, Redis or this process
//	users/session   Sessions in Redis or this process
//	users/service   puts them together as the configuration says
//	users/storetest what every Store is held to
//
// # How one request goes through
//
// fasthttp.go, or the gateway's backend of kind users, makes a Request; Handler
// finds what it asks for, checks it (input.go, rules.go: every fault is a
// FieldError that names its field), asks the Store, and appends the answer
// (encode.go). A write has If-Match held to the user's Version (precondition.go),
// is done once for one Idempotency-Key, and takes its jobs along in its
// transaction.
//
// Each answer to a write carries Sluice-Consistency, a Token of how much the client
// has seen, signed; sent back, in that field or as a cookie, it has a read show at
// least that much, whichever replica or cache answers. Cursors of lists are signed
// the same way, and good for one list only.
//
// # What it promises
//
// What was acknowledged survives a crash. An e-mail address has one user, over all
// shards, however many sign up at once. A list is in one order over all shards.
// Nobody reads older than he wrote, if he sends back what he was given. Where a
// shard is away the others go on; a list says who is missing or is not answered.
// storetest holds every Store to that, and its checker
// (make checker) a journal of clients while servers are killed, hang and lag.
//
// # Sources
//
// RFC 9110 for conditions (section 13), 7396 for patches, 9457 for problems, 9562
// for ids (version 7); draft-ietf-httpapi-idempotency-key-header; openapi.json
// describes the API and is tested against it.
package users
