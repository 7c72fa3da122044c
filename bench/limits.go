package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// compareLimits measures the gateway with each kind of limit, in turn.
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
	var rivals []rival
	for _, k := range limitKinds {
		rivals = append(rivals, rival{k.name, []string{*gateway, "run", "-config", "FILE"}, "sluice.yaml", withLimits(k.limits)})
	}
	results := map[string][]result{}
	for range *rounds {
		for _, r := range rivals {
			one, err := measure(dir, r)
			if err != nil {
				return fmt.Errorf("measuring %s: %w", r.name, err)
			}
			results[r.name] = append(results[r.name], one)
		}
	}
	report(rivals, results)
	ratios(rivals, results)
	return nil
}

func withLimits(limits string) string {
	return fmt.Sprintf(`listeners: [{address: %q}]
admin: {address: ""}
access_log: {enabled: %t}
redis: {addresses: [%q]}
backends:
  up: {targets: ["http://%s"]}
routes:
  - {name: all, match: "/*", backend: up, limits: [%s]}
`, proxyAddr, !*lean, redisAddr, originAddr, limits)
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// ratios prints what each kind costs beside no limit, and what leasing gains.
func ratios(rivals []rival, results map[string][]result) {
	median := func(name string, of func(result) float64) float64 {
		var all []float64
		for _, r := range results[name] {
			all = append(all, of(r))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	cost := func(r result) float64 { return r.perRequest }
	speed := func(r result) float64 { return r.perSecond }
	fmt.Println()
	for _, r := range rivals[1:] {
		fmt.Printf("%-10s %.2f × the CPU of no limit, %.2f × its requests/s\n", r.name,
			median(r.name, cost)/median("no limit", cost), median(r.name, speed)/median("no limit", speed))
	}
	fmt.Printf("leased     %.1f × the requests/s of a command for each\n", median("leased", speed)/median("INCR", speed))
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
