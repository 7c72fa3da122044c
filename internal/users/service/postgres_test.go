package service_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/pgtest"
	"github.com/sluice-edge/sluice/internal/redistest"
	"github.com/sluice-edge/sluice/internal/users/cache"
	"github.com/sluice-edge/sluice/internal/users/service"
)

// TestServers runs the service on two shards with a replica each, and Redis, and
// takes one after the other away.
func TestServers(t *testing.T) {
	spec := service.Default()
	spec.Mode, spec.Cache.Mode, spec.Cache.LocalTTL = service.Postgres, cache.ModeEvent, time.Second
	clusters := []*pgtest.Cluster{
		pgtest.Start(t, pgtest.Options{Replicas: 1}), pgtest.Start(t, pgtest.Options{Replicas: 1}),
	}
	for i, c := range clusters {
		name := c.Primary.Database(t)
		spec.Shards = append(spec.Shards, service.Shard{
			Name: fmt.Sprintf("s%d", i+1), Primary: c.Primary.URL(name), Replicas: []string{c.Replicas[0].URL(name)},
		})
		c.CatchUp(t)
	}
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	server := redistest.Start(t)
	a := serve(t, spec, redisOf(t, server.Address))
	b := serve(t, spec, redisOf(t, server.Address)) // another process
	a.want(200, "GET", "/health", "")
	a.want(200, "GET", "/ready", "")

	// Who shows the token sees the write everywhere, whatever was cached.
	var paths []string
	for i := range 8 {
		u, token := a.create(fmt.Sprintf("n%d@example.com", i))
		path := "/api/users/" + u.ID
		paths = append(paths, path)
		for n := range 5 {
			for _, one := range []*api{a, b} {
				if r := one.want(200, "GET", path, "", "Sluice-Consistency", token); r.header.Get("ETag") != fmt.Sprintf(`"%d"`, n+1) {
					t.Errorf("ETag %s after %d writes", r.header.Get("ETag"), n+1)
				}
			}
			writer := []*api{a, b}[n%2]
			token = writer.want(200, "PATCH", path, fmt.Sprintf(`{"name":"N%d"}`, n), "Sluice-Consistency", token).header.Get("Sluice-Consistency")
		}
	}
	for i, path := range paths {
		a.want(409, "POST", "/api/users", fmt.Sprintf(`{"name":"N","email":"N%d@example.com"}`, i))
		a.want(200, "GET", path, "")
	}

	// Without the primary of one shard: reads, marked; writes at once 503.
	dead := clusters[0]
	dead.CatchUp(t)
	dead.Primary.Kill()
	server.Flush()
	marked, refused := 0, 0
	deadline := time.Now().Add(patience)
	for marked == 0 || refused == 0 {
		for _, path := range paths {
			if r := b.do("GET", path, ""); r.status == 200 && r.header.Get("Sluice-Stale") == "replica" {
				marked++
			}
			r := b.do("PATCH", path, `{"region":"eu"}`)
			if r.status == 503 && r.header.Get("Retry-After") != "" {
				refused++
			} else if r.status != 200 {
				t.Errorf("PATCH: %d %s", r.status, r.text)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d reads were marked, %d writes refused", marked, refused)
		}
	}
	if r := b.want(503, "GET", "/health", ""); !strings.Contains(r.text, "shard s1 primary") {
		t.Errorf("health %s", r.text)
	}
	dead.Primary.Restart(t)
	for b.do("GET", "/health", "").status != 200 || b.do("PATCH", paths[0], `{"region":"eu"}`).status != 200 {
		if time.Now().After(deadline.Add(patience)) {
			t.Fatal("it does not come back")
		}
	}
}

// TestShared: two services of the same data share it, and the last to go ends it.
func TestShared(t *testing.T) {
	ctx := context.Background()
	all := service.NewServices(nil, nil)
	spec := embedded(t)
	one, err := all.Open(ctx, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	same, err := all.Open(ctx, spec, nil)
	if err != nil || same != one {
		t.Fatalf("the same settings are another service: %v", err)
	}
	other := spec
	other.Cache.TTL, other.SecretFile = time.Minute, ""
	two, err := all.Open(ctx, other, nil)
	if err != nil || two == one || two.Store() != one.Store() {
		t.Fatalf("other settings do not share the data: %v", err)
	}
	if _, err := service.NewServices(nil, nil).Open(ctx, spec, nil); err == nil {
		t.Error("somebody else opened the data as well")
	}
	for i, s := range []*service.Service{one, same, two} {
		if err := s.Release(); err != nil {
			t.Error(i, err)
		}
	}
	if one.Hold() || two.Hold() {
		t.Error("a service can be held that has ended")
	}
	again, err := service.NewServices(nil, nil).Open(ctx, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Release(); err != nil {
		t.Error(err)
	}
	spec.Strategy = "geo"
	if _, err := all.Open(ctx, spec, nil); err == nil || !strings.Contains(err.Error(), "laid out") {
		t.Errorf("the data was opened with another strategy: %v", err)
	}
}
