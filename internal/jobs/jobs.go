package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The life of a job, unless a WorkerConfig says otherwise.
const (
	// Timeout is how long one attempt may take.
	Timeout = 30 * time.Second
	// Lease is after how long a job whose worker is gone is done by another,
	// give or take the 30 s between two looks for such jobs.
	Lease = 2 * time.Minute
	// MaxAttempts is how often a job is tried before it is dead: for about
	// three hours.
	MaxAttempts = 20

	deadFor = 30 * 24 * time.Hour // dead letters are kept for that long
	doneFor = time.Hour           // and what is done
)

// Queues are the names of all queues. Each is worked apart from the others, so
// that what fails in one holds up none of them.
func Queues() []string { return []string{"analytics", "cache", "images", "mail"} }

// Kinds are the names of all kinds of jobs.
func Kinds() []string { return []string{"analytics", "avatar", "cache_fix", "welcome_email"} }

// Args say what is to be done. They are one of WelcomeEmail, Avatar, Analytics
// and CacheFix.
type Args interface {
	// Kind is the name of what is to be done.
	Kind() string
	// Check returns what is wrong with the arguments, as an *ArgsError.
	Check() error

	queue() string // where it is done unless an Order says otherwise
}

// An Order is a job that is to be enqueued.
type Order struct {
	Args  Args
	Queue string    // "": the one of its kind
	After time.Time // not before; zero: at once
}

// A Job is one attempt at one job, for its handler.
type Job struct {
	Shard   string
	ID      int64 // in its shard, as long as the job is stored
	Attempt int   // from 1

	key string
}

// Key is the job's own for ever, on all shards, and the same on each attempt:
// SQLite gives the id of a job that has been removed to another one.
func (j Job) Key() string { return j.key }

// An ArgsError says which argument of a job is wrong.
type ArgsError struct {
	Kind, Field, Why string
}

func (e *ArgsError) Error() string {
	return fmt.Sprintf("job %s: %s %s", e.Kind, e.Field, e.Why)
}

// An UnknownError says that there is no queue or kind of a name.
type UnknownError struct {
	What, Name string // What is "queue" or "kind"
	Known      []string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("there is no %s %q, only %v", e.What, e.Name, e.Known)
}

// Permanent marks an error that further attempts cannot change: the job is dead
// at once.
func Permanent(err error) error { return &permanent{err} }

type permanent struct{ error }

func (p *permanent) Unwrap() error { return p.error }

func isPermanent(err error) bool {
	var p *permanent
	var args *ArgsError
	return errors.As(err, &p) || errors.As(err, &args)
}

// meta is what is stored beside a job's arguments.
type meta struct {
	Key string `json:"key"`
}

func keyOf(metadata []byte) string {
	var m meta
	_ = json.Unmarshal(metadata, &m) // a job that has none was not enqueued here
	return m.Key
}
