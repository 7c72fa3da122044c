package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/pgtest"
	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/postgres"
)

// TestJoin opens a store while one server of three is down, the first or the last:
// what is on the others works, what is not is refused, and the shard joins, with
// its schema, when the server is there.
func TestJoin(t *testing.T) {
	for _, away := range []int{0, 2} {
		t.Run(fmt.Sprint("shard ", away+1), func(t *testing.T) {
			var clusters []*pgtest.Cluster
			var addresses []shard.Address
			for i := range 3 {
				c := pgtest.Start(t, pgtest.Options{})
				clusters = append(clusters, c)
				addresses = append(addresses, shard.Address{Name: fmt.Sprint("s", i+1), Primary: c.Primary.URL(c.Primary.Database(t))})
			}
			clusters[away].Primary.Kill()
			s := open(t, postgres.Config{Shards: addresses, Assigner: assigner(t, "hash", 3)})
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			// People of each shard.
			var emails [3]string
			for i := 0; emails[0] == "" || emails[1] == "" || emails[2] == ""; i++ {
				email := fmt.Sprintf("j%d@example.com", i)
				emails[assigner(t, "hash", 3).Home(shard.KeyBucket(email))] = email
			}
			create := func(i int) error {
				_, _, _, err := s.Create(ctx, users.User{Name: "J", Email: emails[i], Attributes: []byte("{}")}, users.Once{}, "")
				return err
			}
			refused := func(err error) bool {
				var u *users.Unavailable
				return errors.As(err, &u) && !u.Unknown
			}
			for i := range emails {
				err := create(i)
				if works := away != 0 && i != away; works && err != nil || !works && !refused(err) {
					t.Errorf("shard %d: %v", i+1, err)
				}
			}
			if _, err := s.List(ctx, users.Query{Limit: 5}, ""); !refused(err) {
				t.Errorf("a list without a shard: %v", err)
			}
			vital := false
			for _, c := range s.Health(ctx) {
				vital = vital || c.Err != nil && c.Vital
			}
			if vital != (away == 0) {
				t.Errorf("vital %v", vital)
			}
			clusters[away].Primary.Restart(t)
			wait(t, "the shard joins", func() bool {
				err := create(away)
				if err != nil && !refused(err) {
					t.Fatal(err)
				}
				return err == nil
			})
			for i := range emails {
				if err := create(i); err != nil && !errors.Is(err, users.ErrEmailTaken) {
					t.Errorf("shard %d: %v", i+1, err)
				}
			}
			if page, err := s.List(ctx, users.Query{Limit: 5}, users.Newest); err != nil || len(page.Users) != 3 {
				t.Errorf("%d users, %v", len(page.Users), err)
			}
		})
	}
}

// TestCreateAll stores many at once, some of which are there, while buckets move.
func TestCreateAll(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{})
	for _, strategy := range []string{"hash", "geo"} {
		t.Run(strategy, func(t *testing.T) {
			s := open(t, postgres.Config{Shards: fresh(t, c, 3), Assigner: assigner(t, strategy, 3)})
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			var all []users.User
			for i := range 900 {
				all = append(all, users.User{
					Name: fmt.Sprint("N", i), Email: fmt.Sprintf("N%d@example.com", i%800), Attributes: []byte(`{"a":1}`),
					Region: []string{"eu-west", "us-east", "ap-south"}[i%3],
				})
			}
			first, _, _, err := s.Create(ctx, users.User{Name: "First", Email: "n7@example.com", Attributes: []byte("{}")}, users.Once{}, "")
			if err != nil {
				t.Fatal(err)
			}
			moved := make(chan error, 1)
			go func() {
				mover, names := shard.NewMover(s.Cluster()), s.Cluster().Names()
				var err error
				for b := shard.Bucket(0); b < 60 && err == nil; b++ {
					_, err = mover.Move(ctx, b, names[(int(s.Cluster().Router().Lookup(b).Shard)+1)%3])
				}
				moved <- err
			}()
			for i := 0; i < len(all); i += 100 {
				if err := s.CreateAll(ctx, all[i:i+100]); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-moved; err != nil {
				t.Error(err)
			}
			if err := s.CreateAll(ctx, all); err != nil { // once more: all are there
				t.Fatal(err)
			}
			q := users.Query{Limit: 200}
			seen := map[string]users.User{}
			for {
				page, err := s.List(ctx, q, users.Newest)
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range page.Users {
					norm, _ := users.NormalEmail(u.Email)
					found, _, err := s.ByEmail(ctx, norm, users.Newest)
					if _, twice := seen[norm]; twice || err != nil || found.ID != u.ID || string(u.Attributes) == "" {
						t.Errorf("%s is there twice, or looked up as %q: %v", norm, found.ID, err)
					}
					seen[norm] = u
				}
				if q.Cursor = page.Next; q.Cursor == "" {
					break
				}
			}
			if len(seen) != 800 || seen["n7@example.com"].ID != first.ID {
				t.Errorf("%d users, n7 is %q", len(seen), seen["n7@example.com"].ID)
			}
			if seen["n3@example.com"].Name != "N3" || seen["n3@example.com"].Version != 1 {
				t.Errorf("%+v", seen["n3@example.com"])
			}
		})
	}
}

// TestLopsided lists where one shard has nearly all of the newest.
func TestLopsided(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{})
	s := open(t, postgres.Config{Shards: fresh(t, c, 3), Assigner: assigner(t, "geo", 3)})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var want []string
	for i := range 120 {
		region := "us-east"
		if i%25 == 0 {
			region = "ap-south"
		}
		u, _, _, err := s.Create(ctx, users.User{Name: "L", Email: fmt.Sprintf("l%d@example.com", i), Region: region, Attributes: []byte("{}")}, users.Once{}, "")
		if err != nil {
			t.Fatal(err)
		}
		want = append([]string{u.ID}, want...)
	}
	var got []string
	q := users.Query{Limit: 50}
	for {
		page, err := s.List(ctx, q, users.Newest)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range page.Users {
			got = append(got, u.ID)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %d of %d, or in another order", len(got), len(want))
	}
}
