// Package session keeps who is logged in: in Redis, for every process of the
// service and every gateway, or in this process where there is no Redis.
package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/users"
)

const (
	secretBytes = 24
	sessionKey  = "sluice:session:"
	roundKey    = "sluice:logins:" // and the user: what the sessions bear that are good
)

func newSecret() string {
	b := make([]byte, secretBytes)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// keyOf is what a session is found by: who reads Redis cannot log in with it.
func keyOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// a record is a session as it is kept.
type record struct {
	User    string `json:"user"`
	Created int64  `json:"created"` // unix microseconds
	Round   string `json:"round,omitempty"`
}

func (r record) session(secret string, expires time.Time) users.Session {
	return users.Session{Secret: secret, UserID: r.User, CreatedAt: time.UnixMicro(r.Created).UTC(), ExpiresAt: expires.UTC().Truncate(time.Microsecond)}
}

// Redis keeps sessions in Redis. What it cannot ask, it does not let in.
type Redis struct {
	client redis.UniversalClient
	ttl    time.Duration
	errors *metrics.Counter
}

// NewRedis returns sessions in client's database that end ttl after they were
// last shown.
func NewRedis(client redis.UniversalClient, ttl time.Duration, set *metrics.Set) *Redis {
	if set == nil {
		set = metrics.NewSet()
	}
	return &Redis{client, ttl, set.GetOrCreateCounter(`sluice_redis_errors_total{use="sessions"}`)}
}

func (r *Redis) failed(what string, err error) error {
	r.errors.Inc()
	return &users.Unavailable{What: what, Err: err}
}

// Start begins a session.
func (r *Redis) Start(ctx context.Context, userID string) (users.Session, error) {
	now, secret := time.Now(), newSecret()
	round, err := r.round(ctx, userID)
	rec := record{userID, now.UnixMicro(), round}
	var text []byte
	if err == nil {
		text, err = json.Marshal(rec)
	}
	if err == nil {
		err = r.client.Set(ctx, sessionKey+keyOf(secret), text, r.ttl).Err()
	}
	if err != nil {
		return users.Session{}, r.failed("sessions cannot be kept now", err)
	}
	return rec.session(secret, now.Add(r.ttl)), nil
}

// round is what the user's sessions bear: the first of them makes it up, and it
// lasts as long as any of them. A round that is lost, as Redis loses what it has no
// room for, ends sessions; a note of what has been ended would bring them back.
func (r *Redis) round(ctx context.Context, userID string) (string, error) {
	pipe := r.client.Pipeline()
	pipe.SetArgs(ctx, roundKey+userID, newSecret(), redis.SetArgs{Mode: "NX", TTL: r.ttl})
	round := pipe.GetEx(ctx, roundKey+userID, r.ttl)
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return "", err
	}
	return round.Result()
}

// Find returns a session and moves its end away.
func (r *Redis) Find(ctx context.Context, secret string) (users.Session, error) {
	now := time.Now()
	text, err := r.client.GetEx(ctx, sessionKey+keyOf(secret), r.ttl).Result()
	if errors.Is(err, redis.Nil) {
		return users.Session{}, users.ErrNoSession
	}
	var rec record
	if err == nil {
		err = json.Unmarshal([]byte(text), &rec)
	}
	round := ""
	if err == nil {
		round, err = r.client.GetEx(ctx, roundKey+rec.User, r.ttl).Result()
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return users.Session{}, r.failed("nobody's session can be looked up now", err)
	}
	if round == "" || round != rec.Round {
		return users.Session{}, users.ErrNoSession
	}
	return rec.session(secret, now.Add(r.ttl)), nil
}

// End ends a session for good.
func (r *Redis) End(ctx context.Context, secret string) error {
	n, err := r.client.Del(ctx, sessionKey+keyOf(secret)).Result()
	if err != nil {
		return r.failed("the session could not be ended; it may still be open", err)
	}
	if n == 0 {
		return users.ErrNoSession
	}
	return nil
}

// EndAll ends the sessions of a user that have begun until now.
func (r *Redis) EndAll(ctx context.Context, userID string) error {
	err := r.client.Del(ctx, roundKey+userID).Err()
	if err != nil {
		return r.failed("the user's sessions could not be ended", err)
	}
	return nil
}

// Memory keeps sessions in this process, and loses them with it.
type Memory struct {
	mu     sync.Mutex
	ttl    time.Duration
	byKey  map[string]*kept
	byUser map[string]map[string]bool // their keys
}

type kept struct {
	record
	expires time.Time
}

const maxSessions = 1 << 20

// NewMemory returns sessions that end ttl after they were last shown.
func NewMemory(ttl time.Duration) *Memory {
	return &Memory{ttl: ttl, byKey: map[string]*kept{}, byUser: map[string]map[string]bool{}}
}

// drop forgets a session. m.mu is held.
func (m *Memory) drop(key string, k *kept) {
	delete(m.byKey, key)
	delete(m.byUser[k.User], key)
	if len(m.byUser[k.User]) == 0 {
		delete(m.byUser, k.User)
	}
}

// Configure changes how long sessions last from when they are shown next.
func (m *Memory) Configure(ttl time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ttl = ttl
}

// Start begins a session.
func (m *Memory) Start(_ context.Context, userID string) (users.Session, error) {
	now, secret := time.Now(), newSecret()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	if len(m.byKey) >= maxSessions {
		return users.Session{}, &users.Unavailable{What: "there are too many sessions"}
	}
	userID = strings.Clone(userID) // it may be a view of a request
	k := &kept{record{User: userID, Created: now.UnixMicro()}, now.Add(m.ttl)}
	key := keyOf(secret)
	m.byKey[key] = k
	if m.byUser[userID] == nil {
		m.byUser[userID] = map[string]bool{}
	}
	m.byUser[userID][key] = true
	return k.session(secret, k.expires), nil
}

// sweep looks at a few sessions, more than begin, and drops what has ended.
func (m *Memory) sweep(now time.Time) {
	n := 0
	for key, k := range m.byKey { // in no order
		if !now.Before(k.expires) {
			m.drop(key, k)
		}
		if n++; n == 4 {
			return
		}
	}
}

// Find returns a session and moves its end away.
func (m *Memory) Find(_ context.Context, secret string) (users.Session, error) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.byKey[keyOf(secret)]
	if k == nil || !now.Before(k.expires) {
		return users.Session{}, users.ErrNoSession
	}
	k.expires = now.Add(m.ttl)
	return k.session(secret, k.expires), nil
}

// End ends a session for good.
func (m *Memory) End(_ context.Context, secret string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := keyOf(secret)
	k := m.byKey[key]
	if k == nil {
		return users.ErrNoSession
	}
	m.drop(key, k)
	return nil
}

// EndAll ends the sessions of a user that have begun until now.
func (m *Memory) EndAll(_ context.Context, userID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.byUser[userID] {
		m.drop(key, m.byKey[key])
	}
	return nil
}
