package users

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strings"
	"sync"
)

const (
	minSecret = 16 // bytes
	macBytes  = 16 // of a signature: forging one takes 2^127 tries on average
	maxSigned = 4 << 10
)

// A signer signs what clients carry about for the service: tokens and cursors.
type signer struct{ macs *sync.Pool }

func newSigner(secret []byte) signer {
	key := sha256.Sum256(append([]byte("sluice users: "), secret...))
	return signer{&sync.Pool{New: func() any { return hmac.New(sha256.New, key[:]) }}}
}

// mac is over the purpose, what it is bound to, and the text, each with its
// length told apart.
func (s signer) mac(purpose, bound, text string) []byte {
	m := s.macs.Get().(hash.Hash)
	defer s.macs.Put(m)
	m.Reset()
	for _, part := range [...]string{purpose, bound, text} {
		n := len(part)
		m.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		m.Write([]byte(part))
	}
	return m.Sum(nil)
}

// seal is text with its signature, in characters for headers, cookies and URLs.
func (s signer) seal(purpose, bound, text string) string {
	mac := s.mac(purpose, bound, text)
	return base64.RawURLEncoding.EncodeToString(append(mac[:macBytes], text...))
}

// open is the text that was sealed for that purpose and bound to the same.
func (s signer) open(purpose, bound, sealed string) (string, bool) {
	if len(sealed) > maxSigned {
		return "", false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	// The decoder skips line ends, and so would take a second spelling.
	if err != nil || len(raw) < macBytes || strings.ContainsAny(sealed, "\r\n") {
		return "", false
	}
	text := string(raw[macBytes:])
	return text, hmac.Equal(raw[:macBytes], s.mac(purpose, bound, text)[:macBytes])
}
