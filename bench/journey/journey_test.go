package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/bench/phases"
)

// TestMain is a gateway as well, where the environment says so: one that answers
// from nothing, and not always well.
func TestMain(m *testing.M) {
	if how := os.Getenv("JOURNEY_FAKE"); how != "" {
		fake(how)
		return
	}
	os.Exit(m.Run())
}

func fake(how string) {
	var reads, writes atomic.Int64
	admin := http.NewServeMux()
	admin.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	admin.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "users_queries_total{op=\"get\"} %d\nusers_cache_requests_total{result=\"hit\"} %d\nusers_cache_requests_total{result=\"miss\"} %[2]d\n", 2*writes.Load(), reads.Load())
	})
	go http.ListenAndServe(os.Getenv("ADMIN"), admin) //nolint // a test's
	err := http.ListenAndServe(os.Getenv("ENTRY"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := reads.Load() + writes.Load()
		switch {
		case how == "sick" && n > 100:
			w.WriteHeader(http.StatusServiceUnavailable)
		case how == "mortal" && n > 100:
			fmt.Fprintln(os.Stderr, "out of breath")
			os.Exit(3)
		}
		if r.Method == "PUT" {
			writes.Add(1)
		} else {
			reads.Add(1)
		}
		fmt.Fprintf(w, `{"id":"%s"}`, filepath.Base(r.URL.Path))
	}))
	fmt.Fprintln(os.Stderr, err)
}

// fakeJourney is a journey over the gateway above, which needs no databases.
func fakeJourney(t *testing.T, how string) (*journey, *phases.Phase) {
	t.Helper()
	t.Setenv("JOURNEY_FAKE", how)
	dir, err := phases.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "9-fake.yaml")
	text := "# A fake\nx-processes: []\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := phases.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in := &phases.Install{Gateway: self}
	people := newPopulation(1000, false)
	return &journey{in: in, dir: dir, threads: 1, people: people, bar: &bar{out: &bytes.Buffer{}},
		seeder:  &seeder{in: in, dir: dir, people: people, kept: map[string]map[string]string{"": {}}},
		setting: setting{users: 1000, connections: 4, writes: 0.2, skew: 0.99, warm: 50 * time.Millisecond, measured: 300 * time.Millisecond, reads: true, readsTime: 100 * time.Millisecond}}, p
}

// TestMeasure: figures are of the load that is measured, and of no other.
func TestMeasure(t *testing.T) {
	j, p := fakeJourney(t, "well")
	o := j.measure(context.Background(), p)
	if o.why != "" {
		t.Fatal(o.why)
	}
	m := o.mixed
	if m.requests < 20 || m.perSecond < 20 || m.p50 <= 0 || m.p95 < m.p50 || m.max < m.p99 {
		t.Errorf("%+v", m)
	}
	// Two queries a write; what is answered after the end is counted by the
	// server alone, four connections' at most.
	late := 1000 * 4 * 2 / float64(m.requests)
	if want := 2000 * float64(m.writes) / float64(m.requests); m.queries < want-1 || m.queries > want+late || m.writes == 0 {
		t.Errorf("%v queries per 1,000 requests, %v of them at most late, not %v", m.queries, late, want)
	}
	if share, ok := m.users.ratio(); !ok || share != 0.5 {
		t.Errorf("a hit ratio of %v", share)
	}
	if o.reads.requests == 0 || o.reads.writes != 0 || o.reads.queries != 0 {
		t.Errorf("reads alone: %+v", o.reads)
	}
	if m.cores.Role["gateway"] <= 0 || m.cores.Role["client"] <= 0 {
		t.Errorf("CPU: %+v", m.cores)
	}
}

// TestThrownAway: a phase in which something goes wrong has no figures, and what
// went wrong is said.
func TestThrownAway(t *testing.T) {
	for how, want := range map[string]string{"sick": "status 503", "mortal": "gateway ended:\nout of breath"} {
		j, p := fakeJourney(t, how)
		o := j.measure(context.Background(), p)
		if !strings.Contains(o.why, want) || !strings.Contains(o.why, "requests went wrong") {
			t.Errorf("%s: %q", how, o.why)
		}
		if err := missing([]outcome{o}); err == nil || !strings.Contains(err.Error(), "9-fake") {
			t.Errorf("%v", err)
		}
	}
}

// TestBudget: when the time is over, that is why there are no figures.
func TestBudget(t *testing.T) {
	j, p := fakeJourney(t, "well")
	j.setting.warm = time.Hour
	ctx, cancel := context.WithTimeoutCause(context.Background(), 500*time.Millisecond, fmt.Errorf("the time of -budget is over"))
	defer cancel()
	if o := j.measure(ctx, p); !strings.Contains(o.why, "-budget is over") {
		t.Errorf("%q", o.why)
	}
}
