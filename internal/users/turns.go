package users

import (
	"context"
	"errors"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	turnsAtOnce = 512
	turnWait    = time.Second // then a change goes without
	turnTries   = 16          // of a change under those of other processes
)

// turns have changes that are made of what a user is, as patches are, go one after
// the other in this process: together all but one of them would be in vain each
// time. Users share them by chance.
type turns [turnsAtOnce]chan struct{}

func newTurns() (t turns) {
	for i := range t {
		t[i] = make(chan struct{}, 1)
	}
	return t
}

// change does a change again where somebody else was faster, which is nothing that
// a client without a version has to know.
func (t *turns) change(ctx context.Context, id string, change func() error) error {
	turn := t[xxhash.Sum64String(id)%turnsAtOnce]
	patience := time.NewTimer(turnWait)
	defer patience.Stop()
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-patience.C: // perhaps of another user, whose shard hangs
	case <-ctx.Done():
		return &Unavailable{What: "the user is changed by too many at once", Err: ctx.Err()}
	}
	for range turnTries {
		err := change()
		var conflict *Conflict
		if !errors.As(err, &conflict) {
			return err
		}
	}
	return &Unavailable{What: "the user is changed by too many at once"}
}
