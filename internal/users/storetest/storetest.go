// Package storetest holds implementations of users.Store to its contract. It is
// for tests alone.
package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/users"
)

// patience bounds every call; none is expected to last.
const patience = 30 * time.Second

// An Open returns an empty store of several shards. It closes it, and everything
// that it needs, when the test is over.
type Open func(t *testing.T) users.Store

// Run holds the stores that open gives to the contract, each test on one of its
// own.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"Create", (*suite).create},
		{"EmailTaken", (*suite).emailTaken},
		{"EmailRace", (*suite).emailRace},
		{"Idempotency", (*suite).idempotency},
		{"IdempotencyRace", (*suite).idempotencyRace},
		{"IdempotencyAcross", (*suite).idempotencyAcross},
		{"Replace", (*suite).replace},
		{"ReplaceEmail", (*suite).replaceEmail},
		{"ReplaceRace", (*suite).replaceRace},
		{"EmailSwapRace", (*suite).emailSwapRace},
		{"EmailMoveRace", (*suite).emailMoveRace},
		{"Delete", (*suite).remove},
		{"Unknown", (*suite).unknown},
		{"Password", (*suite).password},
		{"List", (*suite).list},
		{"ListFilters", (*suite).listFilters},
		{"ListWhileWriting", (*suite).listWhileWriting},
		{"Saw", (*suite).saw},
		{"Tokens", (*suite).tokens},
		{"Forged", (*suite).forged},
		{"Health", (*suite).health},
		{"Canceled", (*suite).canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c.test(&suite{T: t, ctx: ctx, store: open(t)})
		})
	}
}

type suite struct {
	*testing.T
	ctx   context.Context
	store users.Store
}

// person is a user who passes the rules.
func person(n int) users.User {
	return users.User{
		Name:       fmt.Sprintf("Person %d", n),
		Email:      fmt.Sprintf("Person%d@Example.com", n),
		Region:     []string{"eu-west", "us-east", ""}[n%3],
		Attributes: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n)),
	}
}

// normal is how the store compares an address.
func (s *suite) normal(email string) string {
	s.Helper()
	n, err := users.NormalEmail(email)
	if err != nil {
		s.Fatal(err)
	}
	return n
}

func (s *suite) mustCreate(u users.User) (users.User, users.Token) {
	s.Helper()
	got, replayed, seen, err := s.store.Create(s.ctx, u, users.Once{}, "")
	if err != nil || replayed {
		s.Fatalf("create %q: replayed %v, %v", u.Email, replayed, err)
	}
	return got, seen
}

func (s *suite) mustGet(id string, after users.Token) users.User {
	s.Helper()
	u, _, err := s.store.Get(s.ctx, id, after)
	if err != nil {
		s.Fatalf("get %s after %q: %v", id, after, err)
	}
	return u
}

// same compares what clients see of two users.
func (s *suite) same(got, want users.User) {
	s.Helper()
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if !sameJSON(a, b) {
		s.Errorf("got  %s\nwant %s", a, b)
	}
}

// sameJSON compares values: jsonb keeps neither order nor spelling.
func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return string(p) == string(q)
}

func (s *suite) wantErr(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("error %v, want %v", err, want)
	}
}

func (s *suite) wantConflict(err error, current int64) {
	s.Helper()
	var c *users.Conflict
	if !errors.As(err, &c) || c.Current != current {
		s.Errorf("error %v, want a conflict with version %d", err, current)
	}
}

// once is the idempotency of a request with that key and body.
func once(key, body string) users.Once {
	return users.Once{Key: key, Hash: sha256.Sum256([]byte(body))}
}

// at once calls f(0) … f(n-1) at the same time and waits for all.
func atOnce(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}
