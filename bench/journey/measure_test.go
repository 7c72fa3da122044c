package main

import (
	"strings"
	"testing"
	"time"
)

func TestCounters(t *testing.T) {
	var c counters
	err := c.read(strings.NewReader(`# HELP users_queries_total x
users_queries_total{shard="s1",role="primary",op="get"} 70
users_queries_total{shard="s2",role="replica",op="get"} 30
users_queries_total_other 9
users_cache_requests_total{result="local_hit"} 50
users_cache_requests_total{result="hit"} 30
users_cache_requests_total{result="miss"} 20
users_cache_requests_total{result="bypass"} 7
users_cache_requests_total{result="error"} 1
sluice_cache_requests_total{route="user",result="hit"} 3
sluice_cache_requests_total{route="user",result="revalidated"} 1
sluice_cache_requests_total{route="user",result="bypass"} 1e6
process_cpu_seconds_total 1.5
nonsense
`))
	if err != nil || c.queries != 100 || c.users != (cacheCount{80, 101, 1}) || c.edge != (cacheCount{3, 4, 0}) {
		t.Errorf("%+v, %v", c, err)
	}
	if share, ok := c.users.ratio(); !ok || share != 80.0/101 {
		t.Errorf("%v, %t", share, ok)
	}
	if _, ok := (cacheCount{}).ratio(); ok {
		t.Error("a cache that nobody asked has a ratio")
	}
}

func TestMachine(t *testing.T) {
	busy, stolen, err := parseMachine("cpu  100 20 30 1000 50 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
	if err != nil || busy != 1630*time.Millisecond || stolen != 80*time.Millisecond {
		t.Errorf("%v, %v, %v", busy, stolen, err)
	}
	if _, _, err := parseMachine("intr 1 2 3"); err == nil {
		t.Error("anything is taken for /proc/stat")
	}
}

func TestLimit(t *testing.T) {
	for _, c := range []struct {
		cores cores
		want  string
	}{
		{cores{Role: map[string]float64{"client": 0.3, "database": 1.2}, Machine: 1.95, Total: 2}, "CPU: database has 1.20 of 2 cores"},
		{cores{Role: map[string]float64{"client": 0.3, "database": 1.2}, Machine: 1.6, Stolen: 0.3, Total: 2}, "CPU: database"},
		{cores{Role: map[string]float64{"client": 0.1, "database": 0.5}, Machine: 2, Total: 2}, "work that is none of the journey's: 1.40 of 2 cores"},
		{cores{Role: map[string]float64{"gateway": 0.5}, Machine: 0.6, Total: 2}, "waiting: 70 % of the CPU is idle; gateway has most"},
		{cores{Role: map[string]float64{"redis": 0.95}, Process: map[string]float64{"redis": 0.95}, Machine: 1.9, Total: 4}, "Redis, whose one thread"},
	} {
		if got := c.cores.limit(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
	before := usage{at: time.Unix(0, 0), role: map[string]time.Duration{"database": time.Second}, machine: 10 * time.Second}
	after := usage{at: time.Unix(10, 0), role: map[string]time.Duration{"database": 6 * time.Second, "client": time.Second}, machine: 25 * time.Second}
	used := after.since(before)
	if used.Role["database"] != 0.5 || used.Role["client"] != 0.1 || used.Machine != 1.5 || used.others() < 0.89 || used.others() > 0.91 {
		t.Errorf("%+v", used)
	}
}

func TestProgress(t *testing.T) {
	line := progress("3-cache", "mixed", 5*time.Second, 10*time.Second, 50_000)
	if want := "3-cache      mixed      [###############...............]  5/10 s     10000 requests/s"; line != want {
		t.Errorf("%q", line)
	}
	if line := progress("x", "y", 20*time.Second, 10*time.Second, 0); !strings.Contains(line, strings.Repeat("#", 30)+"]") {
		t.Errorf("%q", line)
	}
}
