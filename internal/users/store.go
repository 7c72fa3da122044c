package users

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"
)

// A Store keeps users, durably: what it has acknowledged survives a crash.
//
// Its methods are called from many goroutines and end soon after their context
// does. What they are given has passed the rules of this package. storetest
// holds every implementation to this contract.
//
// # How one request goes through it
//
// The handler checks a request and asks the service, which looks into the cache
// and then here. Each read and write is given the token that the client sent, as
// `after`, and each write returns the token that the client gets. The client sees
// it as Sluice-Consistency, signed by the handler together with what only the
// handler knows; so a token that arrives here is one that this store, or another
// process over the same shards, has made.
type Store interface {
	// Create stores a new user: the store gives it its ID, Version 1 and its
	// times. ErrEmailTaken where another user has the address, whatever the
	// shard and however many sign up at once.
	//
	// once, where it has a key, makes the request idempotent for a day at
	// least: the same key and hash again return the user as it was created
	// and replayed; the same key and another hash, ErrKeyReused. It is stored
	// in the write's own transaction, so that a COMMIT of which nobody knows
	// how it ended can be asked for again.
	Create(ctx context.Context, u User, once Once, after Token) (created User, replayed bool, seen Token, err error)

	// Get returns the user of that ID, or ErrNotFound; also where the ID is
	// none, or is of a bucket that holds no such user.
	Get(ctx context.Context, id string, after Token) (User, Source, error)

	// ByEmail returns the user who has that normal address, with the
	// PasswordHash, or ErrNotFound.
	ByEmail(ctx context.Context, email string, after Token) (User, Source, error)

	// Replace stores u in the place of the user of u.ID: Name, Email, Region,
	// Attributes, and PasswordHash where there is one; Avatar goes to what is
	// done in the write's transaction. Version becomes one
	// more, UpdatedAt the time, CreatedAt stays. expect is the version that
	// the user must have, or 0: *Conflict where it is another; ErrNotFound;
	// ErrEmailTaken.
	Replace(ctx context.Context, u User, expect int64, after Token) (User, Token, error)

	// Delete removes a user and frees the address. It returns the version
	// that the removal counts as, one more than the user's last. Errors as of
	// Replace.
	Delete(ctx context.Context, id string, expect int64, after Token) (version int64, seen Token, err error)

	// Saw returns a token that covers `after` and what a read of Newest has just
	// returned of a user: for a client that is told that the user is as it wants.
	Saw(ctx context.Context, id string, version int64, after Token) (Token, error)

	// List returns a page of the users that match, the newest first: by
	// CreatedAt, then ID, both descending, in one order over all shards.
	List(ctx context.Context, q Query, after Token) (Page, error)

	// Health asks everything that the store needs, and returns what it asked;
	// all of it is well where no Check has an error.
	Health(ctx context.Context) []Check

	// Close ends everything that the store runs and waits for it.
	Close() error
}

// A Token is how much of the store's history a client has seen, in the store's
// own words, without HMAC: a few dozen bytes, printable. The empty Token is
// nothing yet. A read that is given one shows at least what it covers; a write
// returns one that covers `after` and the write itself.
type Token string

// Newest, given to a read as after, asks for what is newest: the read shows every
// write that was acknowledged before it began, whoever made it. It is given to no
// write.
const Newest Token = "newest"

// Once makes a create idempotent.
type Once struct {
	Key  string            // the client's Idempotency-Key; empty: none
	Hash [sha256.Size]byte // of what was asked for
}

// A Source says where a read came from.
type Source struct {
	// Stale says that a replica answered because no primary could, and so
	// perhaps without the newest writes. Never under a Token that the replica
	// does not cover.
	Stale bool
	// Primary says that what was read was the newest when it was read.
	Primary bool
}

// A Query chooses users.
type Query struct {
	Region string // exactly; empty: any
	Prefix string // of the name or the normal address, in lower case; empty: any
	Email  string // the whole normal address; empty: any
	Limit  int    // users on the page, at least 1
	// Cursor is Page.Next of the page before, of the same Query; empty: from the
	// newest on. The handler signs it.
	Cursor string
	// Partial accepts a page without the shards that cannot be reached.
	Partial bool
}

// A Page is a part of a list.
type Page struct {
	Users []User
	// Next is where the following page begins, in the store's own words; empty
	// where this is the last. It is never empty while Missing is not.
	Next string
	// Missing names the shards that did not answer, where the Query allows it.
	Missing []string
	Source  Source
}

// A Check is one thing that a store needs.
type Check struct {
	Name string // such as "shard s1 primary"
	Err  error  // for the log; nil: it answered
	// Vital says that hardly a request can be answered without it; Spare, that
	// all can.
	Vital, Spare bool
}

// A Change is one write, for what has to happen with it in its transaction.
type Change struct {
	Before *User // nil: the user is new
	After  *User // nil: the user is gone; its Avatar is what the write brings
}

// What stores answer with; others are failures of theirs.
var (
	ErrNotFound   = errors.New("there is no such user")
	ErrEmailTaken = errors.New("another user has this e-mail address")
	ErrKeyReused  = errors.New("the idempotency key was used for another request")
	// ErrCursor says that a Query's Cursor is none of this store's.
	ErrCursor = errors.New("the cursor is none of this list")
	// ErrToken says that a Token is none of this store's.
	ErrToken = errors.New("the token is none of this store")
)

// A Conflict says that a user has another version than the client expects.
type Conflict struct{ Current int64 }

func (*Conflict) Error() string { return "the user has another version by now" }

// Unavailable says that a store cannot answer now: nothing was written, or where
// Unknown is set, perhaps it was.
type Unavailable struct {
	What       string        // for the client: "the primary of a shard cannot be reached"
	RetryAfter time.Duration // 0: a second
	Unknown    bool
	Err        error // for the log
}

func (u *Unavailable) Error() string {
	if u.Err == nil {
		return u.What
	}
	return u.What + ": " + u.Err.Error()
}

func (u *Unavailable) Unwrap() error { return u.Err }
