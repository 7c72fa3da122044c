package cache

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/sluice-edge/sluice/internal/users"
)

const (
	memoryParts = 64
	partEntries = 1024 // of each part: 65,536 users at a few hundred bytes
)

// Memory is a Level in this process.
type Memory struct{ parts [memoryParts]part }

type part struct {
	mu      sync.RWMutex
	entries map[string]*Entry
}

// NewMemory returns an empty level.
func NewMemory() *Memory { return new(Memory) }

func (m *Memory) of(id string) *part { return &m.parts[xxhash.Sum64String(id)%memoryParts] }

// Find returns the entry of an ID.
func (m *Memory) Find(_ context.Context, id string) (*Entry, Mark, error) {
	return m.find(id, time.Now()), Mark{}, nil
}

func (m *Memory) find(id string, now time.Time) *Entry {
	p := m.of(id)
	p.mu.RLock()
	e := p.entries[id]
	p.mu.RUnlock()
	if e == nil || !now.Before(e.Expires) {
		return nil
	}
	return e
}

// Put keeps what was read.
func (m *Memory) Put(ctx context.Context, id string, e *Entry, _ Mark) error {
	return m.Tell(ctx, id, e)
}

// Tell keeps an entry. Where there is no room some other goes: an expired one if
// one of a few is, the tombstones last.
func (m *Memory) Tell(_ context.Context, id string, e *Entry) error {
	now := time.Now()
	p := m.of(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries == nil {
		p.entries = make(map[string]*Entry)
	}
	old, ok := p.entries[id]
	if ok && now.Before(old.Expires) && !e.beats(old) {
		return nil
	}
	if !ok && len(p.entries) >= partEntries {
		p.evict(now)
	}
	p.entries[strings.Clone(id)] = e // the ID may be a view of a request
	return nil
}

func (p *part) evict(now time.Time) {
	victim, tries := "", 0
	for id, e := range p.entries { // in no order
		if !now.Before(e.Expires) {
			delete(p.entries, id)
			return
		}
		if victim == "" || e.User != nil {
			victim = id
		}
		if tries++; tries == 8 {
			break
		}
	}
	delete(p.entries, victim)
}

// Distrust has no reason: what is in memory can always be asked.
func (m *Memory) Distrust() {}

// Check has nothing to ask.
func (m *Memory) Check(context.Context) *users.Check { return nil }
