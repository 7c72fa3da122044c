package users

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// argon2id as OWASP's cheat sheet has it: 19 MiB, two passes, one lane.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
	argonKey    = 32 // bytes
	argonSalt   = 16 // bytes
	maxHashing  = 2  // at a time, in the process: each holds argonMemory
)

var argonHead = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$", argon2.Version, argonMemory, argonTime, argonLanes)

func checkPassword(password string) error {
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return &FieldError{"password", fmt.Sprintf("is shorter than %d characters", minPassword)}
	case len(password) > maxPassword:
		return &FieldError{"password", fmt.Sprintf("is longer than %d bytes", maxPassword)}
	}
	return nil
}

// hashInto gives the draft's user the hash of its password, where it has one.
func (h *Handler) hashInto(req *Request, d *draft) error {
	if d.password == "" {
		return nil
	}
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	key, err := h.argon(req.Context(), d.password, salt)
	if err != nil {
		return err
	}
	encode := base64.RawStdEncoding.EncodeToString
	d.user.PasswordHash = argonHead + encode(salt) + "$" + encode(key)
	return nil
}

// matches reports whether password is the one of a hash. It takes its time also
// where there is no hash, so that nobody learns who has a password.
func (h *Handler) matches(ctx context.Context, password, hash string) (bool, error) {
	rest, ok := strings.CutPrefix(hash, argonHead)
	saltText, keyText, _ := strings.Cut(rest, "$")
	salt, err := base64.RawStdEncoding.DecodeString(saltText)
	want, err2 := base64.RawStdEncoding.DecodeString(keyText)
	ok = ok && err == nil && err2 == nil && len(salt) == argonSalt && len(want) == argonKey
	if !ok {
		salt, want = make([]byte, argonSalt), make([]byte, argonKey)
	}
	key, err := h.argon(ctx, password, salt)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(key, want) == 1 && ok, nil
}

func (h *Handler) argon(ctx context.Context, password string, salt []byte) ([]byte, error) {
	select {
	case h.hashing <- struct{}{}:
	case <-ctx.Done():
		return nil, &Unavailable{What: "too many passwords are being checked", Err: ctx.Err()}
	}
	defer func() { <-h.hashing }()
	return argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, argonKey), nil
}
