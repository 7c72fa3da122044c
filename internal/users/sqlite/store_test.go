package sqlite_test

import (
	"context"
	"testing"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/sqlite"
	"github.com/sluice-edge/sluice/internal/users/storetest"
)

func config(t *testing.T, dir, strategy string) sqlite.Config {
	t.Helper()
	assign, err := shard.NewAssigner(strategy, []shard.Place{
		{Name: "s1", From: "a", To: "g", Regions: []string{"eu-west"}},
		{Name: "s2", From: "g", To: "n", Regions: []string{"us-east"}},
		{Name: "s3", From: "n", To: "t", Regions: []string{"ap-south"}},
		{Name: "s4", From: "t", To: "", Default: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return sqlite.Config{Dir: dir, Shards: []string{"s1", "s2", "s3", "s4"}, Layout: strategy, Assign: assign}
}

func open(t *testing.T, cfg sqlite.Config) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	for _, strategy := range []string{"hash", "range", "geo"} {
		t.Run(strategy, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) users.Store { return open(t, config(t, t.TempDir(), strategy)) })
		})
	}
}
