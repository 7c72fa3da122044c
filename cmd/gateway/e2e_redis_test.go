package main_test

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// overRedis is a config of limits of each kind that share Redis, and of a cache
// that does.
func overRedis(redis, backend string) string {
	return fmt.Sprintf(`listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
shutdown: {grace: 0s}
access_log: {enabled: false}
redis: %s
cache: {redis: {enabled: true}}
backends:
  a: {kind: respond, body: "ok"}
  origin: {targets: [%q]}
routes:
  - match: /limited
    backend: a
    limits:
      - {name: leased, key: host, rate: 30/1h, scope: global}
      - {name: small, key: host, rate: 19/1h, scope: global, report_only: true}
      - {name: window, key: host, rate: 10/1h, algorithm: fixed_window, scope: global}
      - {name: sliding, key: host, rate: 100/1h, algorithm: sliding_window, scope: global}
      - {name: places, key: host, max: 5, algorithm: concurrency, scope: global}
  - match: /bytes/*
    backend: origin
    cache: {ttl: {default: 1h}}
`, redis, backend)
}

// askPath returns the status of a request on a connection of its own.
func askPath(t *testing.T, c *child, path string) (status int, cache string) {
	t.Helper()
	conn := connect(t, c.addresses[0])
	defer conn.Close()
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
	check(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	check(t, err)
	return resp.StatusCode, resp.Header.Get("Cache-Status")
}

// twoOver starts two gateways over one Redis, and has them share limits: of the
// tightest, ten together.
func twoOver(t *testing.T, redis string) (both []*child) {
	t.Helper()
	o := newOrigin(t)
	for range 2 {
		c, _ := startChild(t, overRedis(redis, "http://"+o.addr), "")
		both = append(both, c)
	}
	for _, c := range both {
		check(t, waitFor(func() error { return hasMetric(c, "sluice_limit_nodes 2") }))
	}
	admitted := 0
	for i := range 24 {
		switch status, _ := askPath(t, both[i%2], "/limited"); status {
		case 200:
			admitted++
		case 429:
		default:
			t.Fatalf("status %d", status)
		}
	}
	if admitted != 10 {
		t.Errorf("two gateways admit %d together, want 10", admitted)
	}
	for _, c := range both {
		check(t, hasMetric(c, "sluice_limit_redis_up 1"))
		check(t, hasMetric(c, `sluice_redis_errors_total{use="limits"} 0`))
	}
	return both
}

// Gateways share limits over a Redis that speaks TLS, and by it what they cache;
// one that does not trust its certificate does not.
func TestE2ERedisTLS(t *testing.T) {
	dir := t.TempDir()
	cert, authority, err := selfSigned("redis.test")
	check(t, err)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	check(t, err)
	for name, text := range map[string][]byte{"cert.pem": authority, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		check(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	redis := redistest.StartTLS(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	settings := func(more string) string {
		return fmt.Sprintf("{addresses: [%q], timeout: 5s, tls: {ca_file: %q%s}}", redis.Address, filepath.Join(dir, "cert.pem"), more)
	}
	both := twoOver(t, settings(", server_name: redis.test"))
	n := 100
	check(t, waitFor(func() error { // a path that the second was never asked for
		n++
		path := fmt.Sprint("/bytes/", n)
		askPath(t, both[0], path)
		if _, state := askPath(t, both[1], path); !strings.HasPrefix(state, "sluice; hit") {
			return fmt.Errorf("what the first has cached is %q at the second", state)
		}
		return nil
	}))
	stranger, _ := startChild(t, overRedis(settings(""), "http://"+both[0].addresses[0]), "")
	check(t, waitFor(func() error { return hasMetric(stranger, "sluice_limit_redis_up 0") }))
	if status, _ := askPath(t, stranger, "/limited"); status != 200 {
		t.Errorf("status %d of a gateway that does not trust Redis, and has its share", status)
	}
}

// Gateways share limits over a cluster, whatever node has a key.
func TestE2ERedisCluster(t *testing.T) {
	nodes := redistest.StartCluster(t)
	twoOver(t, fmt.Sprintf("{addresses: [%q, %q], timeout: 5s}", nodes[0].Address, nodes[1].Address))
	keys := 0
	for _, s := range nodes {
		keys += s.Keys("sluice:limit:*")
	}
	if keys < 5 {
		t.Errorf("%d keys of limits in the cluster", keys)
	}
}

// When the master dies gateways go on by on_error, and then over the new one.
func TestE2ERedisFailover(t *testing.T) {
	master := redistest.Start(t)
	replica := redistest.StartReplica(t, master)
	sentinel := redistest.StartSentinel(t, "m", master)
	c, _ := startChild(t, limitedBy(fmt.Sprintf("{addresses: [%q], master_name: m, timeout: 200ms}", sentinel.Address)), "")
	check(t, waitFor(func() error { return hasMetric(c, "sluice_limit_redis_up 1") }))
	if status, _ := askPath(t, c, "/"); status != 200 {
		t.Fatalf("status %d", status)
	}
	master.Kill()
	check(t, waitFor(func() error { return hasMetric(c, "sluice_limit_redis_up 0") }))
	begin := time.Now()
	if status, _ := askPath(t, c, "/"); status != 200 {
		t.Errorf("status %d without Redis", status)
	}
	t.Logf("an answer without Redis took %v", time.Since(begin))
	check(t, waitFor(func() error {
		if !replica.IsMaster() {
			return fmt.Errorf("the replica is no master yet")
		}
		return hasMetric(c, "sluice_limit_redis_up 1")
	}))
	replica.Do("FLUSHALL")
	check(t, waitFor(func() error {
		if status, _ := askPath(t, c, "/"); status != 200 {
			return fmt.Errorf("status %d over the new master", status)
		}
		if replica.Keys("sluice:limit:*:lease") == 0 {
			return fmt.Errorf("nothing of the limit is in the new master")
		}
		return nil
	}))
}

// limitedBy is a config of one limit over Redis.
func limitedBy(redis string) string {
	return fmt.Sprintf(`listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
shutdown: {grace: 0s}
access_log: {enabled: false}
redis: %s
backends: {a: {kind: respond, body: "ok"}}
routes:
  - match: /
    backend: a
    limits: [{name: shared, key: host, rate: 1000/1s, burst: 200, scope: global}]
`, redis)
}
