package cache

import (
	"context"
	"strings"
	"sync"

	"github.com/sluice-edge/sluice/internal/users"
)

// flights has what several want at the same time read once.
type flights struct {
	spare func(id string, at Mark) // takes leases that nobody has read with

	mu   sync.Mutex
	byID map[string]*flight
}

type flight struct {
	// lease has what somebody brought who came to wait: the one who is in front
	// reads with it.
	lease  chan Mark
	done   chan struct{}
	user   users.User
	source users.Source
	err    error
}

// do reads, or waits for whoever reads the same already, to whom it leaves its
// lease, if it has one.
func (f *flights) do(ctx context.Context, id string, at Mark, read func(*flight) (users.User, users.Source, error)) (users.User, users.Source, error) {
	f.mu.Lock()
	if one := f.byID[id]; one != nil {
		if at.lease != "" {
			select {
			case one.lease <- at:
			default: // there was one before, which must have ended
			}
		}
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
	one := &flight{
		lease: make(chan Mark, 1), done: make(chan struct{}),
		err: &users.Unavailable{What: "the read failed"},
	}
	f.byID[id] = one
	f.mu.Unlock()
	defer func() { // also where read panics
		f.mu.Lock()
		delete(f.byID, id)
		f.mu.Unlock()
		close(one.done)
		select {
		case late := <-one.lease:
			f.spare(id, late)
		default:
		}
	}()
	one.user, one.source, one.err = read(one)
	return one.user, one.source, one.err
}
