package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

const redisAddr = "127.0.0.1:19300"

// limitKinds are what a limit that nobody reaches costs: none, one of this
// gateway, one of all gateways whose tokens are leased, and the common way, INCR
// and EXPIRE in one script for each request. No limit is there twice: what the
// second differs by from the first is no limit's doing.
var limitKinds = []struct{ name, limits string }{
	{"no limit", ""},
	{"none again", ""},
	{"local", "{rate: 9000000/1s}"},
	{"leased", "{rate: 9000000/1s, burst: 1000000, scope: global}"},
	{"INCR", "{rate: 1000000000/1h, algorithm: fixed_window, scope: global}"},
}

const noLimit, incr = 0, 4 // of limitKinds

// A limitTurn is what a second of load gave.
type limitTurn struct {
	result
	redis    float64 // CPU µs of Redis a request
	commands float64 // of Redis a request
}

// limitBeds are what the limits stand in front of.
var limitBeds = []struct{ title, backend string }{
	{"Forwarding: most of it is the work of forwarding", fmt.Sprintf(`{targets: ["http://%s"]}`, originAddr)},
	{"Answered by the gateway itself: HTTP and the limit alone", `{kind: respond, body: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`},
}

// compareLimits measures gateways with each kind of limit, and then the limiter
// without a gateway.
func compareLimits(dir string) error {
	if err := needs("redis-server", "redis-cli", "wrk"); err != nil {
		return err
	}
	stop, redisPID, err := start(dir, rival{"redis", []string{"redis-server", "FILE"}, "redis.conf",
		fmt.Sprintf("bind 127.0.0.1\nport %s\nsave \"\"\nappendonly no\ndir %s\n", port(redisAddr), dir)}, redisAddr)
	if err != nil {
		return fmt.Errorf("starting Redis: %w", err)
	}
	defer stop()
	fmt.Printf("%d connections; each kind of limit on a gateway of its own, %d turns of a second each, in an order drawn anew; medians, and of ratios within a turn with their quartiles\n", *connections, limitTurns())
	for _, bed := range limitBeds {
		fmt.Printf("\n%s\n", bed.title)
		if err := measureLimits(dir, bed.backend, redisPID); err != nil {
			return err
		}
	}
	fmt.Printf("\nThe limiter without a gateway: decisions\n")
	return measureDecisions()
}

// limitTurns is rounds of duration, in turns that are as short as wrk's may be:
// what the machine does besides changes within seconds.
func limitTurns() int { return max(*rounds*int(duration.Seconds()), 3) }

// measureLimits has all kinds run at once, and loads one after the other.
func measureLimits(dir, backend string, redisPID int) error {
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
	all := make([][]limitTurn, len(limitKinds)) // of a kind, by turns
	for range limitTurns() {
		for _, i := range rand.Perm(len(limitKinds)) {
			one, err := takeTurn(addrs[i], pids[i], redisPID)
			if err != nil {
				return fmt.Errorf("measuring %s: %w", limitKinds[i].name, err)
			}
			all[i] = append(all[i], one)
		}
	}
	reportLimits(all)
	return nil
}

func takeTurn(addr string, pid, redisPID int) (limitTurn, error) {
	commands, err := redisCommands()
	if err != nil {
		return limitTurn{}, err
	}
	user, system := cpu(redisPID)
	one, err := measureAt(addr, pid, time.Second)
	if err != nil {
		return limitTurn{}, err
	}
	userAfter, systemAfter := cpu(redisPID)
	after, err := redisCommands()
	used := (userAfter + systemAfter - user - system).Seconds() * 1e6
	return limitTurn{one, used / one.requests, float64(after-commands) / one.requests}, err
}

// redisCommands is how many scripts Redis has run: for limits, and once a second
// for each gateway that says that it lives.
func redisCommands() (n int, err error) {
	out, err := exec.Command("redis-cli", "-p", port(redisAddr), "INFO", "commandstats").Output()
	if err != nil {
		return 0, fmt.Errorf("redis-cli: %w", err)
	}
	return strconv.Atoi(sub(scriptsLine, string(out)))
}

var scriptsLine = regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`)

func reportLimits(all [][]limitTurn) {
	fmt.Printf("  %-10s %14s %8s %9s %10s %12s %9s %20s %17s %22s\n", "", "CPU µs/request", "of user", "of Redis", "asks/1,000", "requests/s", "p99",
		"× CPU no limit", "× requests/s INCR", "CPU INCR, with Redis'")
	for i, k := range limitKinds {
		of := func(value func(t int) float64) quartiles { return quartilesOf(len(all[i]), value) }
		whole := func(kind, t int) float64 { return all[kind][t].perRequest + all[kind][t].redis }
		byCost := slices.Clone(all[i])
		slices.SortFunc(byCost, func(a, b limitTurn) int { return cmp.Compare(a.perRequest, b.perRequest) })
		cost := of(func(t int) float64 { return all[i][t].perRequest / all[noLimit][t].perRequest })
		fmt.Printf("  %-10s %14.1f %8.1f %9.1f %10.2f %12.0f %9s %20s %17.1f %22s\n", k.name,
			of(func(t int) float64 { return all[i][t].perRequest }).median,
			of(func(t int) float64 { return all[i][t].user }).median,
			of(func(t int) float64 { return all[i][t].redis }).median,
			of(func(t int) float64 { return 1000 * all[i][t].commands }).median,
			of(func(t int) float64 { return all[i][t].perSecond }).median, byCost[len(byCost)/2].p99,
			fmt.Sprintf("%.2f (%.2f to %.2f)", cost.median, cost.low, cost.high),
			of(func(t int) float64 { return all[i][t].perSecond / all[incr][t].perSecond }).median,
			fmt.Sprintf("÷ %.1f", of(func(t int) float64 { return whole(incr, t) / whole(i, t) }).median))
	}
	most := quartilesOf(len(all[noLimit]), func(t int) float64 { return all[noLimit][t].perSecond / all[incr][t].perSecond })
	fmt.Printf("  No limit at all has %.1f × the requests/s of INCR: that is the most that any limit can have here.\n", most.median)
}

type quartiles struct{ low, median, high float64 }

func quartilesOf(n int, value func(i int) float64) quartiles {
	var each []float64
	for i := range n {
		each = append(each, value(i))
	}
	slices.Sort(each)
	return quartiles{each[n/4], each[n/2], each[3*n/4]}
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
