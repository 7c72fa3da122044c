package storetest

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sluice-edge/sluice/internal/users"
)

func (s *suite) replace() {
	u, seen := s.mustCreate(person(1))
	next := u
	next.Name, next.Region, next.Attributes = "Néw ☃", "ap-south", json.RawMessage(`{"a":[1,2,{"b":null}]}`)
	got, seen, err := s.store.Replace(s.ctx, next, 1, seen)
	if err != nil {
		s.Fatal(err)
	}
	if !got.CreatedAt.Equal(u.CreatedAt) || got.UpdatedAt.Before(u.UpdatedAt) {
		s.Errorf("created %v, updated %v after %v", got.CreatedAt, got.UpdatedAt, u.CreatedAt)
	}
	next.Version, next.UpdatedAt = 2, got.UpdatedAt
	s.same(got, next)
	s.same(s.mustGet(u.ID, seen), next)

	_, _, err = s.store.Replace(s.ctx, next, 1, seen)
	s.wantConflict(err, 2)
	got, seen, err = s.store.Replace(s.ctx, next, 0, seen)
	if err != nil || got.Version != 3 {
		s.Errorf("version %d, %v", got.Version, err)
	}
	s.same(s.mustGet(u.ID, seen), got)
}

// replaceEmail moves an address: the old one is free afterwards, the new one
// taken, and one that another has is refused.
func (s *suite) replaceEmail() {
	a, _ := s.mustCreate(person(1))
	b, seen := s.mustCreate(person(2))
	next := a
	next.Email = strings.ToUpper(b.Email)
	_, _, err := s.store.Replace(s.ctx, next, 0, seen)
	s.wantErr(err, users.ErrEmailTaken)
	s.same(s.mustGet(a.ID, users.Newest), a) // seen says nothing of a

	for i := range 8 { // to other buckets
		next.Email = person(100 + i).Email
		if next, seen, err = s.store.Replace(s.ctx, next, next.Version, seen); err != nil {
			s.Fatal(err)
		}
		got, _, err := s.store.ByEmail(s.ctx, s.normal(next.Email), seen)
		if err != nil {
			s.Fatal(err)
		}
		s.same(got, next)
	}
	_, _, err = s.store.ByEmail(s.ctx, s.normal(a.Email), seen)
	s.wantErr(err, users.ErrNotFound)
	if _, _, _, err := s.store.Create(s.ctx, person(1), users.Once{}, seen); err != nil {
		s.Errorf("the old address is not free: %v", err)
	}
	_, _, _, err = s.store.Create(s.ctx, person(107), users.Once{}, seen)
	s.wantErr(err, users.ErrEmailTaken)

	// The same address in another spelling is no move.
	next.Email = strings.ToUpper(next.Email)
	got, _, err := s.store.Replace(s.ctx, next, next.Version, seen)
	if err != nil || got.Email != next.Email {
		s.Errorf("%q, %v", got.Email, err)
	}
}

// replaceRace has writers that expect the same version: one wins each round.
func (s *suite) replaceRace() {
	u, _ := s.mustCreate(person(1))
	for version := int64(1); version <= 5; version++ {
		var won atomic.Int32
		atOnce(8, func(i int) {
			_, _, err := s.store.Replace(s.ctx, u, version, "")
			var c *users.Conflict
			switch {
			case err == nil:
				won.Add(1)
			case !errors.As(err, &c):
				s.Error(err)
			}
		})
		if won.Load() != 1 {
			s.Fatalf("%d writers won over version %d", won.Load(), version)
		}
	}
	var wrote atomic.Int32
	atOnce(16, func(i int) {
		if _, _, err := s.store.Replace(s.ctx, u, 0, ""); err == nil {
			wrote.Add(1)
		} else {
			s.Error(err)
		}
	})
	got, seen, err := s.store.Replace(s.ctx, u, 0, "")
	if err != nil || got.Version != 7+int64(wrote.Load()) {
		s.Errorf("version %d after %d writes, %v", got.Version, wrote.Load(), err)
	}
	s.same(s.mustGet(u.ID, seen), got)
}

// emailSwapRace has users change to addresses that others give up and take at
// the same time: no address ever belongs to two.
func (s *suite) emailSwapRace() {
	const n = 4
	ids := make([]string, n)
	for i := range ids {
		u, _ := s.mustCreate(person(i))
		ids[i] = u.ID
	}
	atOnce(n, func(i int) {
		for round := range 10 {
			u := person(i)
			u.ID = ids[i]
			u.Email = person((i + round) % (n + 2)).Email
			_, _, err := s.store.Replace(s.ctx, u, 0, "")
			if err != nil && !errors.Is(err, users.ErrEmailTaken) {
				s.Errorf("replace: %v", err)
			}
		}
	})
	owner := map[string]string{}
	for _, id := range ids {
		away := withEmail(person(0), id, "own-"+id+"@example.com")
		if _, _, err := s.store.Replace(s.ctx, away, 0, ""); err != nil {
			s.Fatal(err)
		}
	}
	for i := range n + 2 { // all are free again
		u, _, _, err := s.store.Create(s.ctx, person(i), users.Once{}, "")
		if err != nil {
			s.Errorf("%s is still taken: %v", person(i).Email, err)
			continue
		}
		if other, ok := owner[u.Email]; ok {
			s.Errorf("%s belongs to %s and %s", u.Email, other, u.ID)
		}
		owner[u.Email] = u.ID
	}
}

func withEmail(u users.User, id, email string) users.User {
	u.ID, u.Email = id, email
	return u
}

func (s *suite) remove() {
	u, seen := s.mustCreate(person(1))
	_, _, err := s.store.Delete(s.ctx, u.ID, 7, seen)
	s.wantConflict(err, 1)
	version, seen, err := s.store.Delete(s.ctx, u.ID, 1, seen)
	if err != nil || version != 2 {
		s.Fatalf("version %d, %v", version, err)
	}
	_, _, err = s.store.Get(s.ctx, u.ID, seen)
	s.wantErr(err, users.ErrNotFound)
	_, _, err = s.store.ByEmail(s.ctx, s.normal(u.Email), seen)
	s.wantErr(err, users.ErrNotFound)
	_, _, err = s.store.Delete(s.ctx, u.ID, 0, seen)
	s.wantErr(err, users.ErrNotFound)
	_, _, err = s.store.Replace(s.ctx, u, 0, seen)
	s.wantErr(err, users.ErrNotFound)
	page, err := s.store.List(s.ctx, users.Query{Limit: 10}, seen)
	if err != nil || len(page.Users) != 0 {
		s.Errorf("%d users, %v", len(page.Users), err)
	}
	again, _ := s.mustCreate(person(1))
	if again.ID == u.ID {
		s.Error("an ID came twice")
	}
}

// emailMoveRace has many give a user the same new address at once, and another after
// it: it is nobody else's.
func (s *suite) emailMoveRace() {
	u, _ := s.mustCreate(person(1))
	for n := range 4 {
		next := u
		next.Email = person(100 + n).Email
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, _, err := s.store.Replace(s.ctx, next, 0, "")
				var down *users.Unavailable
				if err != nil && !errors.As(err, &down) { // too many at once
					s.Errorf("%s: %v", next.Email, err)
				}
			})
		}
		wg.Wait()
		got, _, err := s.store.ByEmail(s.ctx, s.normal(next.Email), users.Newest)
		if err != nil || got.ID != u.ID {
			s.Fatalf("%s is of %s: %v", next.Email, got.ID, err)
		}
	}
}
