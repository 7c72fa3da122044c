package users

import (
	"encoding/json"
	"time"
)

// A User is what the service is about. The JSON is what clients see.
type User struct {
	// ID is a UUIDv7 in canonical form that carries the user's bucket; the
	// store makes it.
	ID string `json:"id"`
	// Name is 1 to 200 characters.
	Name string `json:"name"`
	// Email is as the client wrote it; NormalEmail of it is unique over all
	// shards.
	Email string `json:"email"`
	// Region is empty, or lower-case letters, digits and hyphens.
	Region string `json:"region"`
	// Attributes is a JSON object without white space; never empty.
	Attributes json.RawMessage `json:"attributes"`
	// Version counts from 1. Every write makes it larger by one; a patch that
	// changes nothing is none.
	Version int64 `json:"version"`
	// CreatedAt and UpdatedAt are UTC, in whole microseconds.
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	// PasswordHash is argon2id in PHC form; empty for a user who cannot log
	// in. Stores give it out from ByEmail alone, and keep what they have where
	// a write brings none. It is in no cache and no answer.
	PasswordHash string `json:"-"`

	// Avatar is for Replace alone; nil: the avatar stays.
	Avatar *AvatarChange `json:"-"`
}
