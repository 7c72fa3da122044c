package jobs

import (
	"fmt"
	"path/filepath"
	"reflect"
	"testing"
)

// TestAnalytics counts jobs of several regions and days, by two workers.
func TestAnalytics(t *testing.T) {
	forStores(t, func(t *testing.T, s *store) {
		work(t, WorkerConfig{Shards: []Source{s}, Concurrency: 50})
		if kind, at := s.env[:6], s.env[7:]; kind == "sqlite" { // another process has another handle
			work(t, WorkerConfig{Shards: []Source{openSQLite(t, filepath.Clean(at))}, Concurrency: 50})
		} else {
			work(t, WorkerConfig{Shards: []Source{s}, Concurrency: 50})
		}
		var orders []Order
		for i := range 300 {
			orders = append(orders, Order{Args: Analytics{
				Region: []string{"eu", "us", ""}[i%3], Day: fmt.Sprintf("2026-11-%d", 23+i%2), Event: "user.created",
			}})
		}
		_, err := s.enqueue(true, orders...)
		must(t, err)
		eventually(t, "all are counted", func() bool {
			var n int64
			for _, day := range []string{"2026-11-23", "2026-11-24"} {
				list, err := s.counters(day)
				must(t, err)
				for _, c := range list {
					n += c.N
				}
			}
			return n == 300
		})
		got, err := s.counters("2026-11-24")
		must(t, err)
		want := []Counter{
			{"2026-11-24", "", "user.created", 50}, {"2026-11-24", "eu", "user.created", 50}, {"2026-11-24", "us", "user.created", 50},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

// TestCountedOnce stores the same increments again, alone and among new ones.
func TestCountedOnce(t *testing.T) {
	forStores(t, func(t *testing.T, s *store) {
		args := Analytics{Region: "eu", Day: "2026-11-24", Event: "e"}
		inc := func(key string) increment { return increment{job: Job{ID: 1, key: key}, args: args} }
		for _, batch := range [][]increment{
			{inc("a"), inc("b")}, {inc("a")}, {inc("b"), inc("c"), inc("b"), inc("c")},
		} {
			must(t, s.storage().count(ctx, batch))
		}
		list, err := s.counters("2026-11-24")
		must(t, err)
		if len(list) != 1 || list[0].N != 3 {
			t.Errorf("%v, want one counter of 3", list)
		}
		for left := 3; left > 0; left -= 2 { // there is no job 1
			if n, err := s.storage().prune(ctx, 2); err != nil || n != min(left, 2) {
				t.Errorf("%d of %d pruned, two at a time: %v", n, left, err)
			}
		}
		must(t, s.storage().count(ctx, []increment{inc("a")}))
		if list, _ = s.counters("2026-11-24"); list[0].N != 4 {
			t.Errorf("%v: what was pruned is still known", list)
		}
	})
}
