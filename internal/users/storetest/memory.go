package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/users"
)

// Memory is a users.Store in memory, the simplest that passes Run: for tests of
// what is put before a store.
type Memory struct {
	mu    sync.Mutex
	byID  map[string]users.User
	owner map[string]string
	once  map[string]done
}

type done struct {
	once users.Once
	user users.User
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{byID: map[string]users.User{}, owner: map[string]string{}, once: map[string]done{}}
}

const memoryToken users.Token = "memory|1"

func knows(after users.Token) error {
	if after == "" || after == users.Newest || after == memoryToken {
		return nil
	}
	return users.ErrToken
}

// begin takes the store.
func (m *Memory) begin(ctx context.Context, after users.Token) error {
	if err := ctx.Err(); err != nil {
		return &users.Unavailable{What: "too late", Err: err}
	}
	m.mu.Lock()
	return knows(after)
}

// Create implements users.Store.
func (m *Memory) Create(ctx context.Context, u users.User, once users.Once, after users.Token) (users.User, bool, users.Token, error) {
	if err := m.begin(ctx, after); err != nil {
		m.release(err)
		return u, false, "", err
	}
	defer m.mu.Unlock()
	if d, ok := m.once[once.Key]; ok && once.Key != "" {
		if d.once.Hash != once.Hash {
			return u, false, "", users.ErrKeyReused
		}
		if d.user.ID != "" {
			return d.user, true, memoryToken, nil
		}
	}
	norm, err := users.NormalEmail(u.Email)
	if err != nil {
		return u, false, "", err
	}
	if _, taken := m.owner[norm]; taken {
		if once.Key != "" {
			m.once[once.Key] = done{once: once}
		}
		return u, false, "", users.ErrEmailTaken
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	ms := now.UnixMilli()
	u.ID = fmt.Sprintf("%08x-%04x-7000-8000-%012x", ms>>16, ms&0xffff, rand.Uint64()>>16)
	u.Version, u.CreatedAt, u.UpdatedAt = 1, now, now
	m.byID[u.ID], m.owner[norm] = u, u.ID
	if once.Key != "" {
		m.once[once.Key] = done{once, u}
	}
	return u, false, memoryToken, nil
}

// release gives the store back where begin has taken it.
func (m *Memory) release(err error) {
	if err == users.ErrToken {
		m.mu.Unlock()
	}
}

// Get implements users.Store.
func (m *Memory) Get(ctx context.Context, id string, after users.Token) (users.User, users.Source, error) {
	if err := m.begin(ctx, after); err != nil {
		m.release(err)
		return users.User{}, users.Source{}, err
	}
	defer m.mu.Unlock()
	u, ok := m.byID[id]
	if !ok {
		return u, users.Source{}, users.ErrNotFound
	}
	u.PasswordHash = ""
	return u, users.Source{Primary: true}, nil
}

// Saw implements users.Store.
func (m *Memory) Saw(ctx context.Context, _ string, _ int64, after users.Token) (users.Token, error) {
	if err := m.begin(ctx, after); err != nil {
		m.release(err)
		return "", err
	}
	defer m.mu.Unlock()
	return memoryToken, nil
}

// ByEmail implements users.Store.
func (m *Memory) ByEmail(ctx context.Context, email string, after users.Token) (users.User, users.Source, error) {
	if err := m.begin(ctx, after); err != nil {
		m.release(err)
		return users.User{}, users.Source{}, err
	}
	defer m.mu.Unlock()
	id, ok := m.owner[email]
	if !ok {
		return users.User{}, users.Source{}, users.ErrNotFound
	}
	return m.byID[id], users.Source{Primary: true}, nil
}

// Replace implements users.Store.
func (m *Memory) Replace(ctx context.Context, u users.User, expect int64, after users.Token) (users.User, users.Token, error) {
	if err := m.begin(ctx, after); err != nil {
		m.release(err)
		return u, "", err
	}
	defer m.mu.Unlock()
	old, err := m.expected(u.ID, expect)
	if err != nil {
		return u, "", err
	}
	norm, err := users.NormalEmail(u.Email)
	if err != nil {
		return u, "", err
	}
	if other, taken := m.owner[norm]; taken && other != u.ID {
		return u, "", users.ErrEmailTaken
	}
	before, _ := users.NormalEmail(old.Email)
	delete(m.owner, before)
	m.owner[norm] = u.ID
	u.Version, u.CreatedAt, u.UpdatedAt = old.Version+1, old.CreatedAt, time.Now().UTC().Truncate(time.Microsecond)
	if u.PasswordHash == "" {
		u.PasswordHash = old.PasswordHash
	}
	u.Avatar = nil
	m.byID[u.ID] = u
	u.PasswordHash = ""
	return u, memoryToken, nil
}

func (m *Memory) expected(id string, expect int64) (users.User, error) {
	old, ok := m.byID[id]
	switch {
	case !ok:
		return old, users.ErrNotFound
	case expect != 0 && expect != old.Version:
		return old, &users.Conflict{Current: old.Version}
	}
	return old, nil
}

// Delete implements users.Store.
func (m *Memory) Delete(ctx context.Context, id string, expect int64, after users.Token) (int64, users.Token, error) {
	if err := m.begin(ctx, after); err != nil {
		m.release(err)
		return 0, "", err
	}
	defer m.mu.Unlock()
	old, err := m.expected(id, expect)
	if err != nil {
		return 0, "", err
	}
	norm, _ := users.NormalEmail(old.Email)
	delete(m.owner, norm)
	delete(m.byID, id)
	return old.Version + 1, memoryToken, nil
}

// List implements users.Store.
func (m *Memory) List(ctx context.Context, q users.Query, after users.Token) (users.Page, error) {
	if err := m.begin(ctx, after); err != nil {
		m.release(err)
		return users.Page{}, err
	}
	defer m.mu.Unlock()
	created, id, ok := strings.Cut(q.Cursor, " ")
	at, err := strconv.ParseInt(created, 10, 64)
	if q.Cursor != "" && (!ok || err != nil) {
		return users.Page{}, users.ErrCursor
	}
	last := users.User{ID: id, CreatedAt: time.UnixMicro(at)}
	var page users.Page
	for _, u := range m.byID {
		norm, _ := users.NormalEmail(u.Email)
		if (q.Cursor == "" || newest(last, u) < 0) && (q.Region == "" || q.Region == u.Region) && (q.Email == "" || q.Email == norm) &&
			(strings.HasPrefix(users.Fold(u.Name), q.Prefix) || strings.HasPrefix(norm, q.Prefix)) {
			u.PasswordHash = ""
			page.Users = append(page.Users, u)
		}
	}
	slices.SortFunc(page.Users, newest)
	if len(page.Users) > q.Limit {
		page.Users = page.Users[:q.Limit]
		end := page.Users[q.Limit-1]
		page.Next = strconv.FormatInt(end.CreatedAt.UnixMicro(), 10) + " " + end.ID
	}
	return page, nil
}

// Health implements users.Store.
func (m *Memory) Health(context.Context) []users.Check { return []users.Check{{Name: "memory"}} }

// Close implements users.Store.
func (m *Memory) Close() error { return nil }
