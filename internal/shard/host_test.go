package shard

import (
	"testing"
	"time"
)

// TestPoolSize: an address says how many connections there are to its server, and
// otherwise the config.
func TestPoolSize(t *testing.T) {
	for address, want := range map[string]int32{
		"postgres://users@127.0.0.1:1/users":                                  7,
		"postgres://users@127.0.0.1:1/users?sslmode=disable&pool_max_conns=3": 3,
	} {
		h, err := newHost(Config{MaxConns: 7, Timeout: time.Second}, address, "primary")
		if err != nil {
			t.Fatal(err)
		}
		if got := h.pool.Config().MaxConns; got != want {
			t.Errorf("%s: %d connections, not %d", address, got, want)
		}
		h.pool.Close()
	}
}
