package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sample is a report of three phases, one of which failed.
func sample() *report {
	one := func(rate float64, p95 time.Duration, queries, database float64) part {
		return part{requests: int(rate * 10), writes: int(rate), perSecond: rate, mean: p95 / 2, p50: p95 / 2, p95: p95, p99: 2 * p95,
			queries: queries, cores: cores{Role: map[string]float64{"database": database, "client": 0.2}, Machine: 1.99, Total: 2}}
	}
	return &report{
		when: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), machine: "2 cores", versions: "PostgreSQL 15",
		setting: setting{users: 1_000_000, connections: 64, writes: 0.1, skew: 0.99, warm: time.Second, measured: 10 * time.Second, reads: true, readsTime: time.Second},
		outcomes: []outcome{
			{name: "1-single", title: "One", processes: 2, mixed: one(1000, 100*time.Millisecond, 1000, 1), reads: one(1100, 90*time.Millisecond, 1000, 1)},
			{name: "2-database", title: "Two", processes: 2, mixed: one(5000, 40*time.Millisecond, 1000, 1), reads: one(6000, 30*time.Millisecond, 1000, 1)},
			{name: "3-cache", title: "Three", processes: 3, mixed: one(20000, 10*time.Millisecond, 200, 0.5), reads: one(60000, 2*time.Millisecond, 50, 0.1)},
			{name: "4-replicas", why: "a | b\nmore"},
			{name: "final", title: "All", processes: 10, mixed: one(50000, 9*time.Millisecond, 110, 1.8), reads: one(80000, 5*time.Millisecond, 1, 0.2)},
		},
	}
}

func TestMarkdown(t *testing.T) {
	text := sample().markdown()
	for _, want := range []string{
		"1,000,000 users, 90 % `GET /api/users/ID` and 10 % `PUT`, users by zipf 0.99, 64 keep-alive connections",
		"PostgreSQL forces every commit to the disk",
		"| 1-single | 1,000 | 50.0 | 100 | 200 | 1,000 | 1000 | 1200 | – | – | CPU: database has 1.00 of 2 cores |",
		"| 4-replicas | not measured: a / b more |",
		"| caching alone: response time (mean) | 4.4 × shorter | 4.00 × shorter | 15.0 × shorter |",
		"| caching alone: throughput | 4 × | 4.00 × | 10.0 × |",
		"| caching alone: database load (queries) | −70 % | −80 % | −95 % |",
		"| whole journey: p95 | 16.7 × shorter | 11.1 × shorter | 18.0 × shorter |",
		"| whole journey: throughput | 500 × | 50.0 × | 72.7 × |",
		"| whole journey: database CPU a request | 3 × less | 27.8 × less | 364 × less |",
		"2 cores have 40.0 ms of CPU for 1,000 of 50,000 requests/s, for everybody and the client. 1,000 reads alone cost 5.00 ms in final, of which the client has 2.50; 1,000 writes, with the reads that no cache answers after them, 355 ms.",
		"| caching alone ≥ 10 × throughput | 4.00 × | missed |",
		"| caching alone ≥ −90 % database queries | −80 % | missed |",
		"| the whole ≥ 50,000 requests/s | 50,000 | met |",
		"| the whole: p95 < 10 ms | 9.00 ms | met |",
		"with 10 % of them, 100 of the 1,000 queries per 1,000 requests of 2-database are writes'",
		"**The machine was not quiet** in",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestWrite: all pictures that the report names are there, and well-formed.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	for _, r := range []*report{sample(), {outcomes: []outcome{{name: "1-single", why: "nothing runs"}}}} {
		if err := r.write(dir); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "JOURNEY.md"))
		if err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.svg"))
		if err != nil || len(files) != 4 {
			t.Fatalf("%v, %v", files, err)
		}
		for _, file := range files {
			if !strings.Contains(string(text), "("+filepath.Base(file)+")") {
				t.Errorf("the report does not show %s", filepath.Base(file))
			}
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			for d := xml.NewDecoder(f); ; {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%s: %v", filepath.Base(file), err)
				}
			}
			f.Close()
		}
	}
}

// TestBars: bars are as long as what they are for.
func TestBars(t *testing.T) {
	c := chart{title: "A & B", format: short, rows: []row{{"x", []float64{10, 30}}, {"y", []float64{20}}, {"z", nil}}}
	picture := c.bars()
	for _, want := range []string{
		"A &amp; B",
		`<rect x="110" y="61" width="135" height="20" fill="#4269d0"/>`,
		`<rect x="245" y="61" width="405" height="20" fill="#efb118"/>`,
		`<rect x="110" y="91" width="270" height="20" fill="#4269d0"/>`,
		"not measured",
	} {
		if !strings.Contains(picture, want) {
			t.Errorf("no %s in\n%s", want, picture)
		}
	}
	dots := (&chart{title: "t", format: short, rows: []row{{"x", []float64{1, 10}}, {"y", []float64{100}}}}).dots()
	for _, want := range []string{`cx="120"`, `cx="390"`, `cx="660"`} { // a decade is as far everywhere
		if !strings.Contains(dots, want) {
			t.Errorf("no %s in\n%s", want, dots)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 0.0123: "0.012", 0.5: "0.50", 9.999: "10.0", 42.42: "42.4", 99.99: "100", 999: "999", 1234.5: "1,234", 1e6: "1,000,000", -1234: "-1,234"} {
		if got := thousands(n); got != want {
			t.Errorf("%v is written %s, not %s", n, got, want)
		}
	}
	for _, c := range []struct {
		from, to float64
		want     string
	}{{1000, 50, "−95 %"}, {100, 100, "+0 %"}, {100, 150, "+50 %"}, {0, 1, "–"}} {
		if got := change(c.from, c.to); got != c.want {
			t.Errorf("from %v to %v: %s", c.from, c.to, got)
		}
	}
}
