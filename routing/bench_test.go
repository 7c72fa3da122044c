package routing

import (
	"fmt"
	"math/rand"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// A mix is a table and requests for all over it.
type mix struct {
	table    *Table
	requests []*Request
}

// gateway is a table of n rules as a gateway has them: exact paths, prefixes,
// parameters and conditions, on so many hosts.
func gateway(t testing.TB, n, hosts int) mix {
	var rules []Rule
	m := mix{}
	for i := range n {
		host := fmt.Sprintf("host%d.example.com", i%hosts)
		match := Match{Hosts: []string{host}}
		path := fmt.Sprintf("/api/v%d/service%d", i%3, i)
		switch i % 5 {
		case 0:
			match.Path, path = path+"/*", path+"/some/thing"
		case 1:
			match.Path = path
		case 2:
			match.Path, path = path+"/{id}", path+"/7"
		case 3:
			match.Path, path = path+"/{id}/items/*", path+"/7/items/8"
			match.Methods = []string{"GET", "POST"}
		case 4:
			match.Path = path
			match.Headers = map[string]string{"X-Canary": "1"}
			match.Query = map[string]string{"v": "2"}
			match.ClientIPs = []string{"10.0.0.0/8"}
		}
		if i%7 == 0 && hosts > 1 {
			match.Hosts = []string{"*." + host}
			host = "a.b." + host
		}
		rules = append(rules, Rule{Match: match})
		m.requests = append(m.requests, &Request{Host: host + ":8080", Path: path, Query: "a=1&v=%32", Method: "GET",
			Fields: canary{}, ClientIP: netip.MustParseAddr("10.1.2.3")})
	}
	rules = append(rules, Rule{Match: Match{Path: "/*"}})
	m.table = mustTable(t, rules...)
	return m
}

// canary is a Fields as cheap as can be.
type canary struct{}

func (canary) Lookup(string) (string, bool) { return "1", true }

func (canary) Nth(_ string, n int) (string, bool) { return "1", n == 0 }

// bench visits the rules in an order that no cache likes, but has the requests
// at hand, as a gateway that has just parsed them.
func bench(b *testing.B, m mix) {
	requests := make([]Request, 0, len(m.requests))
	for _, i := range rand.New(rand.NewSource(1)).Perm(len(m.requests)) {
		r := *m.requests[i]
		r.Host, r.Path, r.Query = strings.Clone(r.Host), strings.Clone(r.Path), strings.Clone(r.Query)
		requests = append(requests, r)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i++; i >= len(requests) {
			i = 0
		}
		if res := m.table.Match(&requests[i]); res.Outcome != Found {
			b.Fatalf("%+v: %v", requests[i], res.Outcome)
		}
	}
}

func BenchmarkMatch10(b *testing.B)            { bench(b, gateway(b, 10, 1)) }
func BenchmarkMatch10000(b *testing.B)         { bench(b, gateway(b, 10_000, 1)) }
func BenchmarkMatch10Hosts(b *testing.B)       { bench(b, gateway(b, 10, 5)) }
func BenchmarkMatch10000Hosts(b *testing.B)    { bench(b, gateway(b, 10_000, 500)) }
func BenchmarkMatch10000AHost(b *testing.B)    { bench(b, gateway(b, 10_000, 10_000)) }
func BenchmarkMatch10000Miss(b *testing.B)     { bench(b, misses(b, 10_000)) }
func BenchmarkMatch100Regexps(b *testing.B)    { bench(b, regexps(b, 100)) }
func BenchmarkMatchPriority10000(b *testing.B) { bench(b, overridden(b, 10_000)) }

// misses only falls to the catch-all, as late as can be.
func misses(t testing.TB, n int) mix {
	m := gateway(t, n, 1)
	for _, r := range m.requests {
		r.Path = strings.Replace(r.Path, "service", "missing", 1)
	}
	return m
}

// regexps has n expressions on one host.
func regexps(t testing.TB, n int) (m mix) {
	var rules []Rule
	for i := range n {
		rules = append(rules, Rule{Match: Match{Path: fmt.Sprintf("re:^/v%d/[0-9]+$", i)}})
		m.requests = append(m.requests, &Request{Path: fmt.Sprintf("/v%d/77", i)})
	}
	m.table = mustTable(t, rules...)
	return m
}

// overridden has a catch-all above all priorities, which takes every request.
func overridden(t testing.TB, n int) mix {
	m := gateway(t, n, 1)
	rules := []Rule{{Match: Match{Path: "/*"}, Priority: 1}}
	for _, r := range m.requests {
		rules = append(rules, Rule{Match: Match{Path: r.Path, Hosts: []string{"host0.example.com"}}})
	}
	m.table = mustTable(t, rules...)
	return m
}

// TestAllocs: a match allocates nothing, whatever the size of the table.
func TestAllocs(t *testing.T) {
	for name, m := range map[string]mix{
		"10": gateway(t, 10, 1), "1000": gateway(t, 1000, 1), "1000 on 50 hosts": gateway(t, 1000, 50),
		"misses": misses(t, 100), "regexps": regexps(t, 20), "priority": overridden(t, 100),
	} {
		i := 0
		if n := testing.AllocsPerRun(500, func() {
			i = (i + 7919) % len(m.requests)
			m.table.Match(m.requests[i])
		}); n != 0 {
			t.Errorf("%s: %v allocations a match", name, n)
		}
	}
	table := mustTable(t, paths("/x")...)
	for _, r := range []*Request{{Path: "/y"}, {Host: "[2001:db8::1]:80", Path: "/x"}, {Host: strings.Repeat("A", 250), Path: "/x"}} {
		if n := testing.AllocsPerRun(100, func() { table.Match(r) }); n != 0 {
			t.Errorf("%s%s: %v allocations a match", r.Host, r.Path, n)
		}
	}
}

func TestNormalizeAllocs(t *testing.T) {
	buf := make([]byte, 0, 64)
	for _, raw := range []string{"/a/b/c", "/a/./b%20c//d;e/../%2561", "/a/%2f", "/../x"} {
		path := []byte(raw)
		if n := testing.AllocsPerRun(100, func() { Paths{}.Normalize(buf, path) }); n != 0 {
			t.Errorf("%s: %v allocations", raw, n)
		}
	}
}

// TestConcurrent: one table serves many goroutines (with -race).
func TestConcurrent(t *testing.T) {
	m := gateway(t, 100, 10)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, r := range m.requests {
				if res := m.table.Match(r); res.Outcome != Found {
					t.Errorf("%+v: %v", r, res.Outcome)
				}
				m.table.Explain(r)
			}
		})
	}
	wg.Wait()
}

func BenchmarkNormalize(b *testing.B) {
	buf := make([]byte, 0, 256)
	for name, raw := range map[string]string{"plain": "/api/v1/service/123/items/456", "encoded": "/api/v1/./service/a%20b/x/../items"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			path := []byte(raw)
			for b.Loop() {
				if _, _, err := (Paths{}).Normalize(buf, path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHostile is the worst that a path of the size that is let in can ask
// for.
func BenchmarkHostile(b *testing.B) {
	m := gateway(b, 1000, 1)
	r := *m.requests[0]
	r.Path, r.Ambiguous = "/"+strings.Repeat("a;b//c%2F/d/", 1300), true
	b.SetBytes(int64(len(r.Path)))
	for b.Loop() {
		m.table.Match(&r)
	}
}

func BenchmarkNewTable10000(b *testing.B) {
	for b.Loop() {
		gateway(b, 10_000, 100)
	}
}
