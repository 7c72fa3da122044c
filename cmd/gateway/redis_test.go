package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// withRedis is a configuration with a key redis.
func withRedis(text, redis string) string {
	return says(text, `listeners: [{address: "127.0.0.1:0"}]`, `admin: {address: ""}`, "redis: "+redis)
}

// buildWith builds a configuration over a link that is in use.
func buildWith(t *testing.T, text string, running *redisLink) (*setup, error) {
	t.Helper()
	px, err := new(program).idle()
	must(t, err)
	return build(px, source{"gw.yaml", []byte(text)}, nil, 1, running)
}

func TestRedisLink(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "open sesame")
	dir := t.TempDir()
	put(t, dir, "password", "open sesame\n")
	settings := fmt.Sprintf("{addresses: [%q], password_file: %q, timeout: 10s}", server.Address, filepath.Join(dir, "password"))
	first, err := buildWith(t, withRedis("one", settings), nil)
	must(t, err)
	must(t, first.redis.Set(context.Background(), "a", "1", 0).Err())

	same, err := buildWith(t, withRedis("two", settings), first.redis)
	must(t, err)
	if same.redis != first.redis {
		t.Error("the link is another though its settings are not")
	}
	if _, err := buildWith(t, withRedis("two", settings)+"nonsense: 1\n", first.redis); err == nil {
		t.Error("nonsense was built")
	}
	same.drop(first.redis)
	must(t, first.redis.Ping(context.Background()).Err()) // neither has closed it

	put(t, dir, "password", "something else\n")
	other, err := buildWith(t, withRedis("three", settings), first.redis)
	must(t, err)
	if other.redis == first.redis {
		t.Error("the link is the same though the password is another")
	}
	other.drop(first.redis)
	if other.redis.Ping(context.Background()).Err() == nil {
		t.Error("a link that was dropped is open")
	}
	first.drop(nil)
}

// What is wrong with the key redis is said at its place, without connecting.
func TestRedisFaults(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "empty", "\n")
	for _, c := range []struct{ redis, want string }{
		{`{addresses: ["127.0.0.1:1"]}`, ""},
		{`{addresses: ["127.0.0.1:1"], tls: true}`, ""},
		{`{addresses: ["127.0.0.1:1", "127.0.0.1:2"], master_name: m, db: 3}`, ""},
		{`{addresses: []}`, "redis.addresses: must not be empty"},
		{`{addresses: ["127.0.0.1"]}`, `redis.addresses[0]: "127.0.0.1" is not host:port`},
		{`{addresses: [":6379"]}`, `redis.addresses[0]: ":6379" is not host:port`},
		{`{addresses: ["a:1", "b:1"], db: 1}`, "redis.db: a cluster has only the database 0"},
		{`{addresses: ["a:1"], cluster: true, master_name: m}`, "redis.cluster: cluster and master_name exclude each other"},
		{`{addresses: ["a:1"], timeout: 0s}`, "redis.timeout: must be at least 1ms"},
		{`{addresses: ["a:1"], password_file: DIR/none}`, "redis.password_file: cannot read"},
		{`{addresses: ["a:1"], password_file: DIR/empty}`, "is empty"},
		{`{addresses: ["a:1"], tls: {ca_file: DIR/empty}}`, "redis.tls.ca_file: "},
		{`{addresses: ["a:1"], tls: yes please}`, `"yes please" is neither true, false nor a mapping`},
	} {
		s, err := buildWith(t, withRedis("one", strings.ReplaceAll(c.redis, "DIR", dir)), nil)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.redis, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", c.redis, err, c.want)
		}
		if err == nil {
			s.drop(nil)
		}
	}
}
