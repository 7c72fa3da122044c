package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-edge/sluice/internal/users"
)

// strangers are IDs that no user has.
var strangers = []string{
	"", "x", "00000000-0000-0000-0000-000000000000",
	"018f4e3c-7a1b-7fff-bfff-ffffffffffff", "018f4e3c-7a1b-7000-8000-000000000000",
	"018F4E3C-7A1B-7000-8000-000000000000", "018f4e3c7a1b70008000000000000000",
	"'; DROP TABLE users; --", strings.Repeat("a", 1000), "\x00",
}

func (s *suite) unknown() {
	for _, id := range strangers {
		_, _, err := s.store.Get(s.ctx, id, "")
		s.wantErr(err, users.ErrNotFound)
		_, _, err = s.store.Replace(s.ctx, withEmail(person(1), id, "a@example.com"), 0, "")
		s.wantErr(err, users.ErrNotFound)
		_, _, err = s.store.Delete(s.ctx, id, 0, "")
		s.wantErr(err, users.ErrNotFound)
	}
	_, _, err := s.store.ByEmail(s.ctx, "nobody@example.com", "")
	s.wantErr(err, users.ErrNotFound)
	// What was refused has taken no address.
	s.mustCreate(withEmail(person(1), "", "a@example.com"))
}

// pages walks a list to its end.
func (s *suite) pages(q users.Query, after users.Token) []users.User {
	s.Helper()
	var all []users.User
	for range 1000 {
		page, err := s.store.List(s.ctx, q, after)
		if err != nil {
			s.Fatalf("list %+v: %v", q, err)
		}
		if len(page.Users) > q.Limit {
			s.Fatalf("a page of %d for a limit of %d", len(page.Users), q.Limit)
		}
		if len(page.Missing) > 0 {
			s.Fatalf("missing %v", page.Missing)
		}
		all = append(all, page.Users...)
		if page.Next == "" {
			return all
		}
		q.Cursor = page.Next
	}
	s.Fatal("the list has no end")
	return nil
}

// newest reports the order of a list.
func newest(a, b users.User) int {
	if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
		return c
	}
	return strings.Compare(b.ID, a.ID)
}

func (s *suite) list() {
	if page, err := s.store.List(s.ctx, users.Query{Limit: 5}, ""); err != nil || len(page.Users) != 0 || page.Next != "" {
		s.Fatalf("an empty store lists %v, %q, %v", page.Users, page.Next, err)
	}
	const n = 45
	want := make([]users.User, n)
	var seen users.Token
	for i := range want {
		var err error
		want[i], _, seen, err = s.store.Create(s.ctx, person(i), users.Once{}, seen)
		if err != nil {
			s.Fatal(err)
		}
	}
	slices.SortFunc(want, newest)
	for _, limit := range []int{1, 7, 15, n - 1, n, n + 1} {
		got := s.pages(users.Query{Limit: limit}, seen)
		if len(got) != n {
			s.Fatalf("limit %d: %d users", limit, len(got))
		}
		for i := range got {
			s.same(got[i], want[i])
		}
	}
}

func (s *suite) listFilters() {
	var seen users.Token
	for i, name := range []string{"Anna", "anton", "Bert", "ANNE", "50%_x", "Ännchen"} {
		u := person(i)
		u.Name, u.Email = name, fmt.Sprintf("%c%d@example.com", 'q'+i, i)
		var err error
		if _, _, seen, err = s.store.Create(s.ctx, u, users.Once{}, seen); err != nil {
			s.Fatal(err)
		}
	}
	for _, c := range []struct {
		q    users.Query
		want string // names in order of the alphabet
	}{
		{users.Query{Prefix: "an"}, "ANNE Anna anton"},
		{users.Query{Prefix: "ann"}, "ANNE Anna"},
		{users.Query{Prefix: "än"}, "Ännchen"},
		{users.Query{Prefix: "s2@"}, "Bert"},
		{users.Query{Prefix: "%"}, ""},
		{users.Query{Prefix: "50%_"}, "50%_x"},
		{users.Query{Prefix: "_"}, ""},
		{users.Query{Prefix: "'"}, ""},
		{users.Query{Region: "eu-west"}, "ANNE Anna"},
		{users.Query{Region: "eu-west", Prefix: "anna"}, "Anna"},
		{users.Query{Region: "nowhere"}, ""},
		{users.Query{Email: "q0@example.com"}, "Anna"},
		{users.Query{Email: "q0@example.com", Region: "us-east"}, ""},
		{users.Query{Email: "q@example.com"}, ""},
	} {
		for _, limit := range []int{1, 2, 100} {
			c.q.Limit, c.q.Cursor = limit, ""
			var names []string
			for _, u := range s.pages(c.q, seen) {
				names = append(names, u.Name)
			}
			slices.Sort(names)
			if got := strings.Join(names, " "); got != c.want {
				s.Errorf("%+v lists %q, want %q", c.q, got, c.want)
			}
		}
	}
}

// listWhileWriting walks lists while users come and go: who was there all the
// time is on the list once, and nobody twice.
func (s *suite) listWhileWriting() {
	stays := map[string]bool{}
	var seen users.Token // without it a replica may not have them yet
	for i := range 30 {
		u, _, after, err := s.store.Create(s.ctx, person(i), users.Once{}, seen)
		if err != nil {
			s.Fatal(err)
		}
		stays[u.ID], seen = true, after
	}
	ctx, stop := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 1000; ctx.Err() == nil; i++ {
			u, _, _, err := s.store.Create(ctx, person(i), users.Once{}, "")
			if err == nil {
				_, _, err = s.store.Delete(ctx, u.ID, 0, "")
			}
			if err != nil && ctx.Err() == nil {
				s.Error(err)
				return
			}
		}
	})
	for range 20 {
		count := map[string]int{}
		for _, u := range s.pages(users.Query{Limit: 4}, seen) {
			count[u.ID]++
		}
		for id := range stays {
			if count[id] != 1 {
				s.Errorf("%s is on the list %d times", id, count[id])
			}
		}
	}
	stop()
	wg.Wait()
}

// tokens has many clients write and read what they wrote, each with its token.
func (s *suite) tokens() {
	atOnce(8, func(i int) {
		u, _, seen, err := s.store.Create(s.ctx, person(i), users.Once{}, "")
		if err != nil {
			s.Error(err)
			return
		}
		for range 20 {
			if u, seen, err = s.store.Replace(s.ctx, u, u.Version, seen); err != nil {
				s.Error(err)
				return
			}
			got, _, err := s.store.Get(s.ctx, u.ID, seen)
			if err != nil || got.Version != u.Version {
				s.Errorf("read version %d after writing %d: %v", got.Version, u.Version, err)
			}
			if got, _, err = s.store.Get(s.ctx, u.ID, users.Newest); err != nil || got.Version != u.Version {
				s.Errorf("read version %d as the newest, after writing %d: %v", got.Version, u.Version, err)
			}
			page, err := s.store.List(s.ctx, users.Query{Email: s.normal(u.Email), Limit: 1}, seen)
			if err != nil || len(page.Users) != 1 || page.Users[0].Version != u.Version {
				s.Errorf("listed %v after writing %d: %v", page.Users, u.Version, err)
			}
		}
		if len(seen) == 0 || len(seen) > 2048 {
			s.Errorf("a token of %d bytes", len(seen))
		}
	})
}

// saw has one client write and another be told of it: its token shows no less.
func (s *suite) saw() {
	u, _ := s.mustCreate(person(1))
	other, own := s.mustCreate(person(2))
	for range 20 {
		var err error
		if u, _, err = s.store.Replace(s.ctx, u, 0, ""); err != nil {
			s.Fatal(err)
		}
		told := s.mustGet(u.ID, users.Newest)
		seen, err := s.store.Saw(s.ctx, u.ID, told.Version, own)
		if err != nil {
			s.Fatal(err)
		}
		if got := s.mustGet(u.ID, seen); got.Version < told.Version {
			s.Errorf("version %d after version %d was seen", got.Version, told.Version)
		}
		s.mustGet(other.ID, seen) // and no less than before
		own = seen
	}
	_, err := s.store.Saw(s.ctx, u.ID, 1, "x")
	s.wantErr(err, users.ErrToken)
}

// forged gives the store cursors and tokens that it cannot have made, as a
// changed list of shards might bring them.
func (s *suite) forged() {
	u, seen := s.mustCreate(person(1))
	for _, text := range []string{"x", "|||", "s1|x|y|z", strings.Repeat("9", 300), "\x00\xff"} {
		_, err := s.store.List(s.ctx, users.Query{Limit: 1, Cursor: text}, "")
		s.wantErr(err, users.ErrCursor)
		_, _, err = s.store.Get(s.ctx, u.ID, users.Token(text))
		s.wantErr(err, users.ErrToken)
		_, _, err = s.store.Delete(s.ctx, u.ID, 0, users.Token(text))
		s.wantErr(err, users.ErrToken)
	}
	s.mustGet(u.ID, seen)
}

func (s *suite) health() {
	checks := s.store.Health(s.ctx)
	if len(checks) == 0 {
		s.Error("nothing was asked")
	}
	for _, c := range checks {
		if c.Err != nil || c.Name == "" {
			s.Errorf("%q: %v", c.Name, c.Err)
		}
	}
}

func (s *suite) canceled() {
	u, seen := s.mustCreate(person(1))
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, _, _, err := s.store.Create(ctx, person(2), users.Once{}, ""); err == nil {
		s.Error("a canceled create did not fail")
	} else if errors.Is(err, users.ErrEmailTaken) || errors.Is(err, users.ErrNotFound) {
		s.Error(err)
	}
	// What is at hand may be given all the same.
	if got, _, err := s.store.Get(ctx, u.ID, seen); errors.Is(err, users.ErrNotFound) || err == nil && got.Version != 1 {
		s.Errorf("a canceled read gave version %d, %v", got.Version, err)
	}
	s.mustGet(u.ID, seen)
}
