package cache

import (
	"context"
	"strings"
	"sync"

	"github.com/sluice-edge/sluice/internal/users"
)

// flights has what several want at the same time read once.
type flights struct {
	mu   sync.Mutex
	byID map[string]*flight
}

type flight struct {
	done   chan struct{}
	user   users.User
	source users.Source
	err    error
}

// do reads, or waits for whoever reads the same already.
func (f *flights) do(ctx context.Context, id string, read func() (users.User, users.Source, error)) (users.User, users.Source, error) {
	f.mu.Lock()
	if one := f.byID[id]; one != nil {
		f.mu.Unlock()
		select {
		case <-one.done:
			return one.user, one.source, one.err
		case <-ctx.Done():
			return users.User{}, users.Source{}, &users.Unavailable{What: "the database did not answer in time", Err: ctx.Err()}
		}
	}
	if f.byID == nil {
		f.byID = make(map[string]*flight)
	}
	id = strings.Clone(id)
	one := &flight{done: make(chan struct{}), err: &users.Unavailable{What: "the read failed"}}
	f.byID[id] = one
	f.mu.Unlock()
	defer func() { // also where read panics
		f.mu.Lock()
		delete(f.byID, id)
		f.mu.Unlock()
		close(one.done)
	}()
	one.user, one.source, one.err = read()
	return one.user, one.source, one.err
}
