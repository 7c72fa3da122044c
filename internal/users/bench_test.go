package users

import (
	"context"
	"testing"
	"time"
)

// shelf is a store that has one user at hand.
type shelf struct {
	Store
	user *User
}

func (s shelf) AtHand(string, Token) *User { return s.user }

// bare is a request without a header.
type bare struct{}

func (bare) Nth(string, int) (string, bool) { return "", false }
func (bare) Context() context.Context       { panic("a cached read needs no context") }

// TestCachedReadCosts holds a read of what is at hand to the ETag's allocation.
func TestCachedReadCosts(t *testing.T) {
	now := time.Now()
	u := &User{ID: "01a20f93-25a6-76a0-90b8-76569fc04157", Name: "N", Email: "n@example.com", Version: 7, CreatedAt: now, UpdatedAt: now}
	h, err := New(Config{Store: shelf{user: u}, Secret: make([]byte, minSecret)})
	if err != nil {
		t.Fatal(err)
	}
	req := &Request{Incoming: bare{}, Method: "GET", Path: "/api/users/" + u.ID}
	var resp Response
	allocs := testing.AllocsPerRun(100, func() {
		resp.Reset()
		if err := h.Serve(req, &resp); err != nil || resp.Status != 200 {
			t.Fatal(resp.Status, err)
		}
	})
	if allocs > 2 {
		t.Errorf("%v allocations", allocs)
	}
}
