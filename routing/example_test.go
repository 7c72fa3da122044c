package routing_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/sluice-edge/sluice/routing"
)

// A backend keeps its members over reloads and makes a balancer of each
// generation's file.
func Example() {
	now := time.Now()
	members := routing.NewMembers(now)
	var spec routing.Balance
	spec.SetDefaults()
	balancer, err := routing.NewBalancer(spec, []routing.Seat{
		{Member: members.Of("http://127.0.0.1:9001", now), Weight: 2},
		{Member: members.Of("http://127.0.0.1:9002", now), Weight: 1},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	key, _ := balancer.Hash(&routing.Request{ClientIP: netip.MustParseAddr("192.0.2.1")})
	var tried routing.Tried
	for range 2 { // attempts of one exchange
		m := balancer.Pick(key, now, &tried)
		m.Begin()
		fmt.Println(m.Name())
		m.End(20*time.Millisecond, now)
		tried.Add(m)
	}
	// Output:
	// http://127.0.0.1:9001
	// http://127.0.0.1:9002
}
