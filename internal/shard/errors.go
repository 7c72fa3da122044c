package shard

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Unavailable says that a shard cannot do what is asked now. Nothing was written,
// or where Unknown is set, perhaps it was.
type Unavailable struct {
	Shard   string
	What    string // for clients
	Unknown bool
	Err     error // for the log
}

func (u *Unavailable) Error() string {
	if u.Err == nil {
		return u.What
	}
	return u.What + ": " + u.Err.Error()
}

func (u *Unavailable) Unwrap() error { return u.Err }

// What a try of a read or write may end with.
var (
	errNotOwner = errors.New("shard: the bucket is elsewhere")
	errBehind   = errors.New("shard: the replica has not replayed that far")
	// errCommitted: what failed came after the COMMIT, and no position is known.
	errCommitted = errors.New("shard: committed, at a position that is not known")
)

// notOwned is the SQLSTATE of the guards.
const notOwned = "SH001"

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// unready reports whether err says that the tables are not there: the server was
// away when the others got theirs, and is back only now.
func unready(err error) bool {
	switch sqlState(err) {
	case "42P01", "42883": // undefined table, undefined function
		return true
	}
	return false
}

// refused reports whether a server that is well has turned a statement or a
// connection away: it has no connections, memory or disk left (class 53), does not
// know who asks (28) or the database (3D), or a time-out of its own was over.
func refused(err error) bool {
	switch state := sqlState(err); {
	case state == "57014": // query_canceled
		return true
	case state != "":
		return slices.Contains([]string{"53", "28", "3D"}, state[:2])
	}
	return false
}

// errMisplaced says that a database is another shard, which waiting does not cure.
var errMisplaced = errors.New("the database is of another shard")

// away reports whether a migration that ended so found the server gone, so that
// it can be done when that is back.
func away(err error) bool {
	var u *Unavailable
	return errors.As(err, &u) || !errors.Is(err, errMisplaced) && hostFault(err)
}

// again reports whether a transaction that failed so did nothing and may succeed
// if it is tried again.
func again(err error) bool {
	switch sqlState(err) {
	case notOwned, "40001", "40P01", "55P03": // serialization, deadlock, lock time-out
		return true
	}
	return false
}

// untouched reports whether a batch that failed so has certainly written nothing.
func untouched(err error) bool {
	var before pgx.ErrPreprocessingBatch
	if errors.Is(err, errCommitted) {
		return false
	}
	if errors.As(err, &before) || pgconn.SafeToRetry(err) {
		return true
	}
	// A statement that fails takes the COMMIT behind it with it. A server that
	// goes down may say so while it commits.
	code := sqlState(err)
	return code != "" && code[:2] != "57" && code[:2] != "08" && code[:2] != "XX"
}

// pause waits up to a few milliseconds, so that those who wait for the same
// bucket do not come back together.
func pause(ctx context.Context) {
	timer := time.NewTimer(time.Duration(5+rand.IntN(20)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
