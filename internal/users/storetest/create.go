package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/internal/users"
)

func (s *suite) create() {
	before := time.Now().Add(-time.Minute)
	want := person(1)
	got, seen := s.mustCreate(want)
	if len(got.ID) != 36 || got.ID[14] != '7' || got.ID != strings.ToLower(got.ID) {
		s.Errorf("ID %q is no canonical UUIDv7", got.ID)
	}
	if got.Version != 1 || !got.CreatedAt.Equal(got.UpdatedAt) || got.CreatedAt.Before(before) {
		s.Errorf("version %d, created %v, updated %v", got.Version, got.CreatedAt, got.UpdatedAt)
	}
	if got.CreatedAt.Location() != time.UTC || got.CreatedAt.Nanosecond()%1000 != 0 {
		s.Errorf("created %v is not in whole microseconds UTC", got.CreatedAt)
	}
	want.ID, want.Version, want.CreatedAt, want.UpdatedAt = got.ID, 1, got.CreatedAt, got.UpdatedAt
	s.same(got, want)
	s.same(s.mustGet(got.ID, seen), want)
	byEmail, _, err := s.store.ByEmail(s.ctx, s.normal(want.Email), seen)
	if err != nil {
		s.Fatal(err)
	}
	s.same(byEmail, want)
}

func (s *suite) emailTaken() {
	first, seen := s.mustCreate(person(1))
	other := person(2)
	other.Email = "PERSON1@example.COM"
	_, _, _, err := s.store.Create(s.ctx, other, users.Once{}, seen)
	s.wantErr(err, users.ErrEmailTaken)
	s.same(s.mustGet(first.ID, seen), first)
	page, err := s.store.List(s.ctx, users.Query{Limit: 10}, seen)
	if err != nil || len(page.Users) != 1 {
		s.Errorf("%d users, %v", len(page.Users), err)
	}
}

// emailRace has many sign up with the same address at once, from other regions,
// so that a strategy by region puts them on other shards.
func (s *suite) emailRace() {
	for round := range 5 {
		var won, lost atomic.Int32
		atOnce(16, func(i int) {
			u := person(round)
			u.Region = []string{"eu-west", "us-east", "ap-south", ""}[i%4]
			_, _, _, err := s.store.Create(s.ctx, u, users.Once{}, "")
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, users.ErrEmailTaken):
				lost.Add(1)
			default:
				s.Error(err)
			}
		})
		if won.Load() != 1 || lost.Load() != 15 {
			s.Errorf("%d won and %d lost", won.Load(), lost.Load())
		}
	}
}

func (s *suite) idempotency() {
	first, replayed, _, err := s.store.Create(s.ctx, person(1), once("key-1", "body"), "")
	if err != nil || replayed {
		s.Fatal(replayed, err)
	}
	again, replayed, seen, err := s.store.Create(s.ctx, person(1), once("key-1", "body"), "")
	if err != nil || !replayed {
		s.Fatalf("replayed %v, %v", replayed, err)
	}
	s.same(again, first)
	s.same(s.mustGet(first.ID, seen), first)
	_, _, _, err = s.store.Create(s.ctx, person(1), once("key-1", "another body"), "")
	s.wantErr(err, users.ErrKeyReused)
	for i := 2; i < 12; i++ { // wherever they would be
		_, _, _, err = s.store.Create(s.ctx, person(i), once("key-1", fmt.Sprint("body of ", i)), "")
		s.wantErr(err, users.ErrKeyReused)
	}
	for range 2 { // the key is this request's from now on, though it failed
		_, _, _, err = s.store.Create(s.ctx, person(1), once("key-2", "body"), "")
		s.wantErr(err, users.ErrEmailTaken)
	}
	_, _, _, err = s.store.Create(s.ctx, person(20), once("key-2", "another body"), "")
	s.wantErr(err, users.ErrKeyReused)

	// What the user has become meanwhile is not what was created.
	changed := first
	changed.Name = "Somebody else"
	if _, _, err := s.store.Replace(s.ctx, changed, 1, seen); err != nil {
		s.Fatal(err)
	}
	again, replayed, _, err = s.store.Create(s.ctx, person(1), once("key-1", "body"), "")
	if err != nil || !replayed {
		s.Fatalf("replayed %v, %v", replayed, err)
	}
	s.same(again, first)

	// A key whose request failed is as good as new for the same request.
	if _, _, err := s.store.Delete(s.ctx, first.ID, 0, users.Newest); err != nil {
		s.Fatal(err)
	}
	made, _, _, err := s.store.Create(s.ctx, person(1), once("key-2", "body"), "")
	if err != nil || made.ID == first.ID {
		s.Fatal(made.ID, err)
	}
	again, replayed, _, err = s.store.Create(s.ctx, person(1), once("key-2", "body"), "")
	if err != nil || !replayed {
		s.Fatalf("replayed %v, %v", replayed, err)
	}
	s.same(again, made)
}

// idempotencyRace sends one request many times at once: one creates, all get
// the same user.
func (s *suite) idempotencyRace() {
	ids := make([]string, 16)
	var fresh atomic.Int32
	atOnce(len(ids), func(i int) {
		u, replayed, _, err := s.store.Create(s.ctx, person(1), once("key", "body"), "")
		if err != nil {
			s.Error(err)
			return
		}
		if !replayed {
			fresh.Add(1)
		}
		ids[i] = u.ID
	})
	if fresh.Load() != 1 {
		s.Errorf("%d were no replay", fresh.Load())
	}
	for _, id := range ids {
		if id != ids[0] {
			s.Errorf("IDs %v", ids)
			break
		}
	}
}

// idempotencyAcross sends one key with requests for users of other addresses and
// regions, which belong on other shards, at once and in turn: there is one user,
// whoever asks gets that or ErrKeyReused, and each goes on getting the same.
func (s *suite) idempotencyAcross() {
	ask := func(i int) (users.User, bool, error) {
		u := person(100 + i)
		u.Region = []string{"eu-west", "us-east", "ap-south", ""}[i%4]
		got, replayed, _, err := s.store.Create(s.ctx, u, once("one-key", u.Email), "")
		return got, replayed, err
	}
	made := make([]users.User, 16)
	atOnce(len(made), func(i int) {
		u, _, err := ask(i)
		if err == nil {
			made[i] = u
		} else if !errors.Is(err, users.ErrKeyReused) {
			s.Error(err)
		}
	})
	page, err := s.store.List(s.ctx, users.Query{Limit: 50}, users.Newest)
	if err != nil || len(page.Users) != 1 {
		s.Fatalf("%d users, %v", len(page.Users), err)
	}
	for i, u := range made {
		again, replayed, err := ask(i)
		switch {
		case u.ID == "" && !errors.Is(err, users.ErrKeyReused):
			s.Errorf("the request %d, which was refused: %v", i, err)
		case u.ID != "" && (err != nil || !replayed || again.ID != u.ID || u.ID != page.Users[0].ID):
			s.Errorf("the request that created %s: %s, replayed %v, %v", u.ID, again.ID, replayed, err)
		}
	}
}

func (s *suite) password() {
	u := person(1)
	u.PasswordHash = "$argon2id$one"
	u, seen := s.mustCreate(u)
	check := func(want string) {
		s.Helper()
		got, _, err := s.store.ByEmail(s.ctx, s.normal(u.Email), seen)
		if err != nil || got.PasswordHash != want {
			s.Errorf("hash %q, %v, want %q", got.PasswordHash, err, want)
		}
	}
	check("$argon2id$one")
	u.PasswordHash = ""
	u, seen, err := s.store.Replace(s.ctx, u, 0, seen)
	if err != nil {
		s.Fatal(err)
	}
	check("$argon2id$one")
	u.PasswordHash = "$argon2id$two"
	if u, seen, err = s.store.Replace(s.ctx, u, 0, seen); err != nil {
		s.Fatal(err)
	}
	check("$argon2id$two")
}
