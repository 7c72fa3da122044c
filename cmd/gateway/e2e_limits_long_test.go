//go:build long

package main_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// TestE2ELimitProof is the promise of limits across gateways: three of them over
// one Redis, each under wrk, which asks for about seven times what the limit
// allows. Redis is killed on the way and comes back empty. What was let through,
// and when, is read from the access logs.
func TestE2ELimitProof(t *testing.T) {
	if _, err := exec.LookPath("wrk"); err != nil {
		t.Skip("this needs wrk (Debian: wrk)")
	}
	const kill, back, end = 6 * time.Second, 9 * time.Second, 13 * time.Second
	redis := redistest.Start(t)
	var logs []string
	var gateways []*child
	for range 3 {
		c, log := logging(t, strings.Replace(limited(redis.Address, "50ms"), "access_log: {enabled: false}", "access_log: {enabled: true}", 1))
		gateways, logs = append(gateways, c), append(logs, log)
	}
	for _, c := range gateways {
		check(t, waitFor(func() error { return hasMetric(c, "sluice_limit_nodes 3") }))
	}
	begin := time.Now()
	said := wrkAll(t, gateways, end)
	<-time.After(kill - time.Since(begin))
	lost := 0 // decisions of gateways that Redis did not answer in time, although it runs
	for _, c := range gateways {
		lost += fallbacks(t, c)
	}
	redis.Kill()
	<-time.After(back - time.Since(begin))
	redis.Restart()
	slowest := time.Duration(0)
	for range gateways {
		slowest = max(slowest, slowestOf(t, <-said))
	}
	for _, c := range gateways {
		check(t, hasMetric(c, "sluice_limit_redis_up 1"))
		check(t, c.stop())
	}
	var admitted []answered
	requests := 0
	for _, log := range logs {
		some, n := readLog(t, log, begin)
		admitted, requests = append(admitted, some...), requests+n
	}
	slices.SortFunc(admitted, func(a, b answered) int { return cmp.Compare(a.to, b.to) })
	before := between(admitted, 0, kill)
	if over := overLimit(before, 1000, 200); over > 0 {
		t.Errorf("with Redis, in some window %.1f more than 200 + 1000/s; %d decisions were made without it", over, lost)
	} else {
		t.Logf("with Redis, the worst window has %.1f to spare", -over)
	}
	share := float64(len(between(admitted, time.Second, kill-500*time.Millisecond))) / (kill - 1500*time.Millisecond).Seconds() / 1000
	if share < 0.97 {
		t.Errorf("in steady state only %.1f %% of the limit are used", 100*share)
	}
	over := overLimit(admitted, 1000, 200)
	if over > 200 {
		t.Errorf("over the outage, in some window %.1f more than 200 + 1000/s; the bound is one burst of 200", over)
	}
	if slowest > 100*time.Millisecond {
		t.Errorf("the slowest request took %v", slowest)
	}
	away := len(between(admitted, kill+100*time.Millisecond, back))
	if away < 1000 {
		t.Errorf("without Redis only %d were admitted in %v", away, back-kill)
	}
	t.Logf("%d requests, %d admitted, %d of them in %v without Redis; in steady state %.1f %% of the limit; over the outage the worst window is %.1f beyond it (bound 200); the slowest request took %v",
		requests, len(admitted), away, back-kill, 100*share, over, slowest)
}

var fallbackLine = regexp.MustCompile(`(?m)^sluice_limit_fallbacks_total\{[^}]*\} (\d+)$`)

// fallbacks is how many decisions of c were made without Redis.
func fallbacks(t *testing.T, c *child) (n int) {
	t.Helper()
	_, metrics, err := adminGet(c, "/metrics")
	check(t, err)
	found := fallbackLine.FindStringSubmatch(metrics)
	if found == nil {
		t.Fatal("no metric of fallbacks")
	}
	n, err = strconv.Atoi(found[1])
	check(t, err)
	return n
}

// logging starts a gateway whose access log goes to a file.
func logging(t *testing.T, text string) (c *child, log string) {
	t.Helper()
	dir, path := t.TempDir(), ""
	path, log = filepath.Join(dir, "gw.yaml"), filepath.Join(dir, "access.log")
	check(t, os.WriteFile(path, []byte(text), 0o600))
	c, err := startGateway(exec.Command("sh", "-c", fmt.Sprintf("exec gateway run -config %s >%s", path, log)))
	check(t, err)
	t.Cleanup(c.kill)
	return c, log
}

// wrkAll has wrk load each gateway for a while with about 2,500 requests a
// second, and sends what each says.
func wrkAll(t *testing.T, gateways []*child, d time.Duration) <-chan string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "pace.lua")
	check(t, os.WriteFile(script, []byte("function delay() return 4 end\n"), 0o600))
	said := make(chan string, len(gateways))
	for _, c := range gateways {
		cmd := exec.CommandContext(t.Context(), "wrk", "-t1", "-c10", fmt.Sprintf("-d%ds", int(d.Seconds())), "--latency", "-s", script, "http://"+c.addresses[0]+"/")
		go func() {
			out, err := cmd.CombinedOutput()
			said <- fmt.Sprint(string(out), err)
		}()
	}
	return said
}

var (
	wrkLatency = regexp.MustCompile(`Latency +\S+ +\S+ +(\S+)`)
	wrkErrors  = regexp.MustCompile(`Socket errors:.*`)
)

// slowestOf is the longest that wrk has waited for an answer.
func slowestOf(t *testing.T, said string) time.Duration {
	t.Helper()
	found := wrkLatency.FindStringSubmatch(said)
	if bad := wrkErrors.FindString(said); found == nil || bad != "" {
		t.Fatalf("wrk says %s", said)
	}
	d, err := time.ParseDuration(found[1])
	check(t, err)
	return d
}

// readLog is what the access log has of admitted requests, and how many requests
// there were. A line has the millisecond in which a request began.
func readLog(t *testing.T, path string, begin time.Time) (admitted []answered, requests int) {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		requests++
		if !strings.Contains(lines.Text(), `"status":200,`) {
			continue
		}
		var line struct {
			Time     time.Time
			Duration float64 `json:"duration_ms"`
		}
		check(t, json.Unmarshal(lines.Bytes(), &line))
		from := line.Time.Sub(begin)
		took := time.Duration(line.Duration * float64(time.Millisecond))
		admitted = append(admitted, answered{from: from, to: from + took + time.Millisecond, status: 200})
	}
	check(t, lines.Err())
	return admitted, requests
}

func between(admitted []answered, from, to time.Duration) (some []answered) {
	for _, a := range admitted {
		if a.from >= from && a.to < to {
			some = append(some, a)
		}
	}
	return some
}
