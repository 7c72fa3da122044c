package routing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"sync"
	"time"
)

// StickyCookie says how a backend keeps its clients on their targets.
type StickyCookie struct {
	Cookie     string        `yaml:"cookie" required:"true" doc:"name of the cookie that names a client's target, sealed and signed"`
	TTL        time.Duration `yaml:"ttl" min:"1s" doc:"how long a client stays; renewed while it comes" default:"1h"`
	SecretFile string        `yaml:"secret_file" doc:"file of the secrets, one a line of 16 bytes or more: the first signs, all are believed; empty: a random one, so that clients stay only until the gateway restarts, and only with this one"`
}

// SetDefaults is an hour.
func (c *StickyCookie) SetDefaults() { c.TTL = time.Hour }

// Validate refuses what is no name of a cookie and a time below a second.
func (c *StickyCookie) Validate() error {
	var all []error
	if !isToken(c.Cookie) {
		all = append(all, &keyError{"cookie", fmt.Errorf("%q is not the name of a cookie", c.Cookie)})
	}
	if c.TTL < time.Second {
		all = append(all, &keyError{"ttl", fmt.Errorf("must be at least 1s, got %v", c.TTL)})
	}
	return errors.Join(all...)
}

// A Sticky issues and reads the cookies that keep clients of one backend on
// their targets. It is safe for concurrent use.
//
// A cookie's value is, in base64url without padding (RFC 4648, section 5):
//
//	1 byte    version, 1
//	16 bytes  one block of AES-256: the member's ID (8 bytes), the time in Unix
//	          seconds after which it is void (8 bytes)
//	16 bytes  HMAC-SHA256 of the above, truncated (RFC 2104, section 5)
//
// numbers big-endian. Both keys are derived from the secret and the backend's
// name, so a cookie means nothing to another backend. The ID is sealed because
// it is a hash of a name that anybody could compute: the client would find out
// the target's address by trying.
type Sticky struct {
	spec StickyCookie
	keys []*stickyKey // the first signs
	tail string       // of Set-Cookie
}

const (
	stickyVersion = 1
	stickyText    = 4 * stickyBytes / 3
	stickyBytes   = 1 + aes.BlockSize + stickySum
	stickySum     = 16
	maxSticky     = 4 // cookies of the name that are looked at in one request
)

// MinSecret is the length in bytes of the shortest secret that is accepted.
const MinSecret = 16

// NewSticky returns the Sticky of a backend. The first of secrets, of which there is
// at least one, signs, and all are believed: to replace one, put the new one before
// it and drop the old one after the ttl.
func NewSticky(spec StickyCookie, backend string, secrets [][]byte) (*Sticky, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	s := &Sticky{spec: spec, tail: "; Path=/; Max-Age=" + strconv.FormatInt(int64(spec.TTL/time.Second), 10) + "; HttpOnly; SameSite=Lax"}
	for i, secret := range secrets {
		if len(secret) < MinSecret {
			return nil, &keyError{"secret_file", fmt.Errorf("secret %d has %d bytes: at least %d are needed", i+1, len(secret), MinSecret)}
		}
		k, err := newStickyKey(secret, backend)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, k)
	}
	return s, nil
}

// Find returns the ID of the member that a Cookie field names (see
// Balancer.Stick), if the field has a cookie that this backend's Sticky has
// issued and that is not void at now. renew reports that it should be issued
// anew: half of its time is over, or another secret signs by now.
func (s *Sticky) Find(cookieHeader string, now time.Time) (id uint64, renew, ok bool) {
	rest := cookieHeader
	for range maxSticky {
		var value string
		var more bool
		if value, rest, more = cookieOf(rest, s.spec.Cookie); !more {
			break
		}
		if len(value) != stickyText {
			continue
		}
		for i, k := range s.keys {
			id, until, ok := k.open(value)
			if left := until - now.Unix(); ok && left > 0 {
				return id, i > 0 || left <= int64(s.spec.TTL/time.Second)/2, true
			}
		}
	}
	return 0, false, false
}

// Issue appends the value of a Set-Cookie field (RFC 6265, section 4.1) that
// keeps the client on the member whose ID is id. secure says that the client is
// spoken to over TLS.
func (s *Sticky) Issue(dst []byte, id uint64, secure bool, now time.Time) []byte {
	dst = append(append(dst, s.spec.Cookie...), '=')
	dst = s.keys[0].seal(dst, id, now.Unix()+int64(s.spec.TTL/time.Second))
	dst = append(dst, s.tail...)
	if secure {
		dst = append(dst, "; Secure"...)
	}
	return dst
}

// A stickyKey is what one secret is for one backend.
type stickyKey struct {
	block cipher.Block
	pool  sync.Pool // of *stickyBuffer
}

// A stickyBuffer is what a cookie is opened and sealed with.
type stickyBuffer struct {
	mac    hash.Hash
	text   [stickyText]byte
	cookie [stickyBytes]byte
	plain  [aes.BlockSize]byte
	sum    [sha256.Size]byte
}

func newStickyKey(secret []byte, backend string) (*stickyKey, error) {
	block, err := aes.NewCipher(derive(secret, "sluice sticky seal", backend))
	if err != nil {
		return nil, err
	}
	k := &stickyKey{block: block}
	sign := derive(secret, "sluice sticky sign", backend)
	k.pool.New = func() any { return &stickyBuffer{mac: hmac.New(sha256.New, sign)} }
	return k, nil
}

// derive makes a key of 32 bytes for one use of a secret.
func derive(secret []byte, use, backend string) []byte {
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(use + "\x00" + backend)) // never fails
	return mac.Sum(nil)
}

// sign leaves in b.sum the sum of what is before it in b.cookie.
func (b *stickyBuffer) sign() {
	b.mac.Reset()
	_, _ = b.mac.Write(b.cookie[:stickyBytes-stickySum]) // never fails
	b.mac.Sum(b.sum[:0])
}

func (k *stickyKey) seal(dst []byte, id uint64, until int64) []byte {
	b := k.pool.Get().(*stickyBuffer)
	defer k.pool.Put(b)
	binary.BigEndian.PutUint64(b.plain[:8], id)
	binary.BigEndian.PutUint64(b.plain[8:], uint64(until))
	b.cookie[0] = stickyVersion
	k.block.Encrypt(b.cookie[1:1+aes.BlockSize], b.plain[:])
	b.sign()
	copy(b.cookie[1+aes.BlockSize:], b.sum[:stickySum])
	return base64.RawURLEncoding.AppendEncode(dst, b.cookie[:])
}

// open returns what seal was given; ok is false for everything else.
func (k *stickyKey) open(value string) (id uint64, until int64, ok bool) {
	b := k.pool.Get().(*stickyBuffer)
	defer k.pool.Put(b)
	if n := copy(b.text[:], value); n != len(value) {
		return 0, 0, false
	}
	if n, err := base64.RawURLEncoding.Decode(b.cookie[:], b.text[:]); err != nil || n != stickyBytes {
		return 0, 0, false
	}
	b.sign()
	if !hmac.Equal(b.sum[:stickySum], b.cookie[stickyBytes-stickySum:]) || b.cookie[0] != stickyVersion {
		return 0, 0, false
	}
	k.block.Decrypt(b.plain[:], b.cookie[1:1+aes.BlockSize])
	return binary.BigEndian.Uint64(b.plain[:8]), int64(binary.BigEndian.Uint64(b.plain[8:])), true
}
