package proxy

import (
	"bufio"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/routing"
)

// aLimit is a limit of rate by key, changed by change.
func aLimit(rate, key string, change ...func(*Limit)) Limit {
	var l Limit
	l.SetDefaults()
	if l.Rate.UnmarshalText([]byte(rate)) != nil || l.Key.UnmarshalText([]byte(key)) != nil {
		panic(rate + " by " + key)
	}
	for _, f := range change {
		f(&l)
	}
	return l
}

func limitedTo(limits ...Limit) Spec {
	return Spec{
		Routes:   []Route{{Name: "all", Match: routing.Match{Path: "/*"}, Backend: "a", Limits: limits}},
		Backends: backends(map[string]any{"a": Respond{Body: "ok"}}),
	}
}

// askLimited asks with fields, and returns the answer.
func askLimited(t *testing.T, addr, fields string) string {
	t.Helper()
	return ask(t, addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+fields+"\r\n")
}

func TestLimitKeys(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit Limit
		// Of these requests, the status of each.
		fields []string
		want   []string
	}{
		{"a header", aLimit("1/1h", "header:X-A"), []string{"X-A: 1\r\n", "X-A: 2\r\n", "x-a: 1\r\n"}, []string{"200", "200", "429"}},
		{"no header, by address", aLimit("1/1h", "header:X-A"), []string{"", "X-A: 1\r\n", "", "X-A: \r\n"}, []string{"200", "200", "429", "200"}},
		{"no header, all together", aLimit("1/1h", "header:X-A", func(l *Limit) { l.Missing = "shared" }), []string{"", "X-A: 1\r\n", ""}, []string{"200", "200", "429"}},
		{"exempt", aLimit("1/1h", "ip", func(l *Limit) { l.Exempt.Headers = map[string]string{"X-Probe": "re:^y"} }), []string{"X-Probe: yes\r\n", "X-Probe: yes\r\n", "X-Probe: no\r\n", ""}, []string{"200", "200", "200", "429"}},
		{"exempt address", aLimit("1/1h", "ip", func(l *Limit) { l.Exempt.ClientIPs = []string{"127.0.0.0/8"} }), []string{"", "", ""}, []string{"200", "200", "200"}},
		{"tiers", aLimit("1/1h", "ip", func(l *Limit) {
			_ = l.Tiers.By.UnmarshalText([]byte("header:X-Plan"))
			l.Tiers.Rates = map[string]Tier{"gold": {Rate: limiter.Rate{Count: 2, Per: time.Hour}}}
		}), []string{"X-Plan: gold\r\n", "X-Plan: gold\r\n", "X-Plan: gold\r\n", "", ""}, []string{"200", "200", "429", "200", "429"}},
		{"report only", aLimit("1/1h", "ip", func(l *Limit) { l.ReportOnly = true }), []string{"", "", ""}, []string{"200", "200", "200"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := serve(t, limitedTo(c.limit))
			for i, fields := range c.fields {
				got := askLimited(t, addr, fields)
				if !strings.HasPrefix(got, "HTTP/1.1 "+c.want[i]+" ") {
					t.Errorf("request %d with %q: want %s, got %s", i+1, fields, c.want[i], got)
				}
			}
		})
	}
}

// What one limit has taken is given back when another denies.
func TestLimitsRefund(t *testing.T) {
	wide := aLimit("3/1h", "ip", func(l *Limit) { l.Name = "wide" })
	narrow := aLimit("1/1h", "header:X-A", func(l *Limit) { l.Name = "narrow" })
	addr := serve(t, limitedTo(wide, narrow))
	for i, c := range []struct{ fields, status, state string }{
		{"X-A: 1\r\n", "200", `"wide";r=2;t=1200, "narrow";r=0;t=3600`},
		{"X-A: 1\r\n", "429", `"narrow";r=0;t=`},
		{"X-A: 1\r\n", "429", `"narrow";r=0;t=`},
		{"X-A: 1\r\n", "429", `"narrow";r=0;t=`},
		{"X-A: 2\r\n", "200", `"wide";r=1;t=`},
		{"X-A: 3\r\n", "200", `"wide";r=0;t=`},
		{"X-A: 4\r\n", "429", `RateLimit: "wide";r=0;t=`},
	} {
		got := askLimited(t, addr, c.fields)
		if !strings.HasPrefix(got, "HTTP/1.1 "+c.status+" ") || !strings.Contains(got, c.state) {
			t.Errorf("request %d: want %s with %s, got %s", i+1, c.status, c.state, got)
		}
	}
}

// A gRPC client is told in its own words.
func TestLimitGRPC(t *testing.T) {
	url, client := over2(t, limitedTo(aLimit("1/1h", "ip")))
	for _, want := range []string{"", "8"} {
		res := call(t, client, request(t, "POST", url+"/x", nil, "Content-Type", "application/grpc"))
		if text(t, res); want == "8" && (res.StatusCode != 200 || res.Header.Get("Grpc-Status") != want || res.Header.Get("Grpc-Retry-Pushback-Ms") == "" || res.Header.Get("RateLimit") == "") {
			t.Errorf("%d, %v", res.StatusCode, res.Header)
		}
	}
}

func TestLimitFaults(t *testing.T) {
	for _, c := range []struct {
		change func(*Limit)
		want   string
	}{
		{func(l *Limit) { l.Name = "a\"b" }, "routes[0].limits[0].name: "},
		{func(l *Limit) { l.Rate = limiter.Rate{} }, "routes[0].limits[0].rate: a rate is missing"},
		{func(l *Limit) { l.Cost = 11 }, "routes[0].limits[0].cost: a cost of 11 is never admitted"},
		{func(l *Limit) { l.Algorithm = limiter.RateConcurrency }, "routes[0].limits[0].max: "},
		{func(l *Limit) { l.Exempt.ClientIPs = []string{"nowhere"} }, "routes[0].limits[0].exempt.client_ips"},
		{func(l *Limit) { l.Exempt.Headers = map[string]string{"X": "re:("} }, "routes[0].limits[0].exempt.headers"},
		{func(l *Limit) { l.Tiers.Rates = map[string]Tier{"a": {Rate: limiter.Rate{Count: 1, Per: time.Second}}} }, "routes[0].limits[0].tiers: "},
		{func(l *Limit) {
			_ = l.Tiers.By.UnmarshalText([]byte("ip"))
			l.Tiers.Rates = map[string]Tier{"a": {}}
		}, "routes[0].limits[0].tiers.rates.a.rate: "},
	} {
		p := build(t, limitedTo())
		if _, err := p.Build(limitedTo(aLimit("10/1s", "ip", c.change))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %s, got %v", c.want, err)
		}
	}
	same := func(l *Limit) { l.Name = "same" }
	p := build(t, limitedTo())
	if _, err := p.Build(limitedTo(aLimit("1/1s", "ip", same), aLimit("2/1s", "ip", same))); err == nil || !strings.Contains(err.Error(), "another limit has the name") {
		t.Errorf("two limits of one name: %v", err)
	}
}

// Explain says how a request would be counted, and does not count it.
func TestLimitExplain(t *testing.T) {
	limit := aLimit("1/1h", "header:X-A", func(l *Limit) {
		_ = l.Tiers.By.UnmarshalText([]byte("header:X-Plan"))
		l.Tiers.Rates = map[string]Tier{"gold": {Rate: limiter.Rate{Count: 2, Per: time.Hour}}}
		l.Exempt.Headers = map[string]string{"X-Probe": "present"}
	})
	p := build(t, limitedTo(limit))
	explain := func(fields ...[2]string) LimitProbe {
		e := p.Explain(p.gen.Load(), Probe{URL: "/", Header: fields, ClientIP: netip.MustParseAddr("192.0.2.1")})
		if e.Status != 200 || len(e.Limits) != 1 {
			t.Fatalf("%+v", e)
		}
		return e.Limits[0]
	}
	for range 3 {
		want := LimitProbe{Name: "all-1", Rate: "1/1h, gcra, local", By: "header:x-a", Key: "no header:x-a", Note: "counted by the client's address, 192.0.2.1"}
		if got := explain(); got != want {
			t.Errorf("%+v", got)
		}
	}
	if got := explain([2]string{"X-A", "1"}, [2]string{"X-Plan", "gold"}); got.Tier != "gold" || got.Rate != "2/1h, gcra, local" || got.Key != `header:x-a "1"` || got.Note != "" {
		t.Errorf("%+v", got)
	}
	if got := explain([2]string{"X-Probe", "1"}); !got.Exempt {
		t.Errorf("%+v", got)
	}
	limit.Missing = missingShared
	p = build(t, limitedTo(limit))
	if got := explain(); got.Key != "no header:x-a" || got.Note != "counted with all others that have none" {
		t.Errorf("%+v", got)
	}
}

// TestLimitAllocates holds forwarding under local limits to no allocation.
func TestLimitAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	spec := limitedTo(aLimit("1000000/1s", "ip"), aLimit("1000000/1s", "header:User-Agent"))
	spec.Backends = backends(map[string]any{"a": to(startRaw(t, smallAnswer))})
	c, err := startSpec(t, spec).Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	roundTrips(t, c, r, 200)
	const n = 5000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	roundTrips(t, c, r, n)
	runtime.ReadMemStats(&after)
	if per := float64(after.Mallocs-before.Mallocs) / n; per > 0.1 {
		t.Errorf("%.2f allocations an exchange, want 0", per)
	}
}
