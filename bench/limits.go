package main

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

const redisAddr = "127.0.0.1:19300"

// limitKinds are what a limit that nobody reaches costs: none, one of this
// gateway, one of all gateways whose tokens are leased, and the common way, a
// command of Redis for each request.
var limitKinds = []struct{ name, limits string }{
	{"no limit", ""},
	{"local", "{rate: 9000000/1s}"},
	{"leased", "{rate: 9000000/1s, burst: 1000000, scope: global}"},
	{"INCR", "{rate: 1000000000/1h, algorithm: fixed_window, scope: global}"},
}

// limitBeds are what the limits stand in front of.
var limitBeds = []struct{ title, backend string }{
	{"Forwarding: most of it is the work of forwarding", fmt.Sprintf(`{targets: ["http://%s"]}`, originAddr)},
	{"Answered by the gateway itself: HTTP and the limit alone", `{kind: respond, body: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`},
}

// compareLimits measures gateways with each kind of limit, and then the limiter
// without a gateway.
func compareLimits(dir string) error {
	if err := needs("redis-server", "wrk"); err != nil {
		return err
	}
	stop, _, err := start(dir, rival{"redis", []string{"redis-server", "FILE"}, "redis.conf",
		fmt.Sprintf("bind 127.0.0.1\nport %s\nsave \"\"\nappendonly no\ndir %s\n", port(redisAddr), dir)}, redisAddr)
	if err != nil {
		return fmt.Errorf("starting Redis: %w", err)
	}
	defer stop()
	fmt.Printf("%d connections; each kind of limit on a gateway of its own, in turn, %d rounds of %v; medians, and of ratios those within a round\n", *connections, *rounds, *duration)
	for _, bed := range limitBeds {
		fmt.Printf("\n%s\n", bed.title)
		if err := measureLimits(dir, bed.backend); err != nil {
			return err
		}
	}
	fmt.Printf("\nThe limiter without a gateway: decisions\n")
	return measureDecisions()
}

// measureLimits has all kinds run at once, and loads one after the other: what
// the machine does besides changes more slowly than that.
func measureLimits(dir, backend string) error {
	addrs, pids := make([]string, len(limitKinds)), make([]int, len(limitKinds))
	for i, k := range limitKinds {
		addrs[i] = fmt.Sprintf("127.0.0.1:%d", 19200+i)
		r := rival{fmt.Sprintf("limit-%d", i), []string{*gateway, "run", "-config", "FILE"}, fmt.Sprintf("limit-%d.yaml", i), withLimits(addrs[i], backend, k.limits)}
		stop, pid, err := start(dir, r, addrs[i])
		if err != nil {
			return fmt.Errorf("starting %s: %w", k.name, err)
		}
		defer stop()
		pids[i] = pid
		if _, err := drive(addrs[i], time.Second); err != nil {
			return err
		}
	}
	all := make([][]result, len(limitKinds)) // of a kind, by rounds
	for round := range *rounds {
		for turn := range limitKinds {
			i := (turn + round) % len(limitKinds) // nobody always comes after the same
			one, err := measureAt(addrs[i], pids[i])
			if err != nil {
				return fmt.Errorf("measuring %s: %w", limitKinds[i].name, err)
			}
			all[i] = append(all[i], one)
		}
	}
	reportLimits(all)
	return nil
}

func reportLimits(all [][]result) {
	fmt.Printf("  %-10s %14s %8s %12s %10s %16s %18s\n", "", "CPU µs/request", "of user", "requests/s", "p99", "× CPU no limit", "× requests/s INCR")
	const none, incr = 0, 3
	for i, k := range limitKinds {
		median := func(of func(round int) float64) float64 {
			var each []float64
			for round := range all[i] {
				each = append(each, of(round))
			}
			slices.Sort(each)
			return each[len(each)/2]
		}
		byCost := slices.Clone(all[i])
		slices.SortFunc(byCost, func(a, b result) int { return cmp.Compare(a.perRequest, b.perRequest) })
		fmt.Printf("  %-10s %14.1f %8.1f %12.0f %10s %16.2f %18.1f\n", k.name,
			median(func(r int) float64 { return all[i][r].perRequest }),
			median(func(r int) float64 { return all[i][r].user }),
			median(func(r int) float64 { return all[i][r].perSecond }), byCost[len(byCost)/2].p99,
			median(func(r int) float64 { return all[i][r].perRequest / all[none][r].perRequest }),
			median(func(r int) float64 { return all[i][r].perSecond / all[incr][r].perSecond }))
	}
}

func withLimits(addr, backend, limits string) string {
	return fmt.Sprintf(`listeners: [{address: %q}]
admin: {address: ""}
access_log: {enabled: %t}
redis: {addresses: [%q]}
backends:
  up: %s
routes:
  - {name: all, match: "/*", backend: up, limits: [%s]}
`, addr, !*lean, redisAddr, backend, limits)
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// needs says what is not installed.
func needs(names ...string) error {
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("this needs %s", name)
		}
	}
	if _, err := os.Stat(filepath.Clean(*gateway)); err != nil {
		return fmt.Errorf("-gateway: %w", err)
	}
	return nil
}
