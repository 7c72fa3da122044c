package listen

import (
	"crypto/rand"
	"crypto/tls"
	"sync"
	"time"
)

const (
	ticketEvery = 4 * time.Hour // a key makes tickets for that long
	ticketKeys  = 6             // and they are taken for a day
)

// tickets are the keys of TLS sessions. They outlive the settings that sessions
// began under, so that a reload costs nobody a handshake; crypto/tls does not
// resume one whose client certificate would not be taken any more.
type tickets struct {
	mu   sync.Mutex
	keys [][32]byte // the newest first
	made int64      // when it was, on the server's clock
	user *tls.Config
}

// serve has cfg use the keys from now on, instead of what used them before.
func (t *tickets) serve(cfg *tls.Config, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.user = cfg
	if cfg == nil {
		return
	}
	if len(t.keys) == 0 {
		t.add(now)
	}
	cfg.SetSessionTicketKeys(t.keys)
}

// rotate makes a new key where that is due.
func (t *tickets) rotate(now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.user == nil || now-t.made < int64(ticketEvery) {
		return
	}
	t.add(now)
	t.user.SetSessionTicketKeys(t.keys)
}

func (t *tickets) add(now int64) {
	var key [32]byte
	_, _ = rand.Read(key[:]) // it never fails
	t.keys = append([][32]byte{key}, t.keys[:min(len(t.keys), ticketKeys-1)]...)
	t.made = now
}
