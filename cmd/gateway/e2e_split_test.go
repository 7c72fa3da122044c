package main_test

import (
	"bufio"
	"math"
	"testing"
)

// splitConfig has two backends that answer with their names, by weight.
const splitConfig = `listeners: [{address: "127.0.0.1:0"}]
shutdown: {grace: 0s}
admin: {address: "127.0.0.1:0"}
access_log: {enabled: false}
backends:
  many: {kind: respond, body: many}
  few: {kind: respond, body: few}
  none: {kind: respond, body: none}
routes:
  - {match: /*, split: [{backend: many, weight: 90}, {backend: few, weight: 10}, {backend: none, weight: 0}]}
`

// A split sends to each backend its share: requests of one connection as well
// as those of many.
func TestE2ESplit(t *testing.T) {
	t.Parallel()
	const requests, share = 2000, 0.1
	c, _ := startChild(t, splitConfig, "")
	count := map[string]int{}
	conn := connect(t, c.addresses[0])
	r := bufio.NewReader(conn)
	for n := range requests {
		if n > requests/2 && n%10 == 0 {
			conn.Close()
			conn = connect(t, c.addresses[0])
			r.Reset(conn)
		}
		status, body, err := ask(conn, r, "/")
		if err != nil || status != 200 {
			t.Fatalf("%d %q, %v", status, body, err)
		}
		count[body]++
	}
	// Of independent requests the number has this standard deviation; five of them
	// it exceeds once in 1.7 million runs.
	bound := 5 * math.Sqrt(requests*share*(1-share))
	t.Logf("%v of %d; within %.0f of %.0f", count, requests, bound, requests*share)
	if math.Abs(float64(count["few"])-requests*share) > bound || count["many"]+count["few"] != requests {
		t.Errorf("%v of %d; want %.0f ± %.0f few", count, requests, requests*share, bound)
	}
	check(t, c.stop())
}
