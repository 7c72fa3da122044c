package routing

import (
	"cmp"
	"fmt"
	"math/rand"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The oracle matches every rule by itself, by means other than the table's, and
// sorts what matches by the order that Table documents.

// oracleHost reports whether pattern takes host, and how specific it is.
func oracleHost(pattern, host string) (specificity int, ok bool) {
	host = strings.ToLower(regexp.MustCompile(`:\d+$`).ReplaceAllString(host, ""))
	host = strings.TrimSuffix(host, ".")
	pattern = strings.ToLower(pattern)
	if suffix, wild := strings.CutPrefix(pattern, "*"); wild {
		return len(suffix), strings.HasSuffix(host, suffix) && host != suffix
	}
	return 1000, pattern == host
}

var oracleParam = regexp.MustCompile(`\\\{\w+\\\}`)

// oraclePath translates a pattern into a regular expression.
func oraclePath(pattern, path string) bool {
	expr, isExpr := strings.CutPrefix(pattern, "re:")
	if !isExpr {
		head, prefix := strings.CutSuffix(strings.ReplaceAll(pattern, "%3F", "?"), "/*")
		expr = `^` + oracleParam.ReplaceAllString(regexp.QuoteMeta(head), `[^/]+`)
		if prefix {
			expr += `(/.*)?`
		}
		expr = `(?s)` + expr + `$`
	}
	return pattern == "" || regexp.MustCompile(expr).MatchString(path) && (isExpr || path != "")
}

func oracleValue(want, got string, ok bool) bool {
	if expr, isExpr := strings.CutPrefix(want, "re:"); isExpr {
		return ok && regexp.MustCompile(expr).MatchString(got)
	}
	return ok && (want == "present" || want == got)
}

// oracleHolds asks all but the host and the method.
func oracleHolds(m Match, r *Request) bool {
	if !oraclePath(m.Path, r.Path) {
		return false
	}
	for name, want := range m.Headers {
		if v, ok := r.Fields.Lookup(name); !oracleValue(want, v, ok) {
			return false
		}
	}
	query, _ := url.ParseQuery(r.Query)
	for name, want := range m.Query {
		if !oracleValue(want, query.Get(name), query.Has(name)) {
			return false
		}
	}
	return len(m.ClientIPs) == 0 || slices.ContainsFunc(m.ClientIPs, func(s string) bool {
		return netip.MustParsePrefix(s).Contains(r.ClientIP)
	})
}

func oracleMethods(m Match) []string {
	if slices.Contains(m.Methods, "GET") && !slices.Contains(m.Methods, "HEAD") {
		return append(slices.Clone(m.Methods), "HEAD")
	}
	return m.Methods
}

// oracleKey is what a rule is sorted by, higher first.
func oracleKey(rule Rule, host int) []int {
	m := rule.Match
	key := []int{rule.Priority, host}
	segs := strings.Split(strings.TrimSuffix(m.Path, "/*"), "/")[1:]
	literal := 0
	shape := make([]int, 8)
	for i, seg := range segs {
		if !strings.HasPrefix(seg, "{") {
			literal++
			shape[i] = 1
		}
	}
	switch {
	case m.Path == "":
		key = append(key, 0)
	case strings.HasPrefix(m.Path, "re:"):
		key = append(key, 2)
	case strings.HasSuffix(m.Path, "/*"):
		key = append(append(key, 1, literal, len(segs)), shape...)
	case strings.Contains(m.Path, "{"):
		key = append(append(key, 3, literal, len(segs)), shape...)
	default:
		key = append(key, 4)
	}
	key = append(key, make([]int, 13-len(key))...)
	conditions, exact := len(m.Headers)+len(m.Query)+min(1, len(m.Methods))+min(1, len(m.ClientIPs)), 0
	for _, values := range []map[string]string{m.Headers, m.Query} {
		for _, v := range values {
			switch {
			case v == "present":
			case strings.HasPrefix(v, "re:"):
				exact++
			default:
				exact += 2
			}
		}
	}
	widest := 0
	for _, s := range m.ClientIPs {
		p := netip.MustParsePrefix(s)
		widest = max(widest, p.Addr().BitLen()-p.Bits())
	}
	return append(key, conditions, exact, -len(oracleMethods(m)), -widest)
}

type oracleMatch struct {
	index int
	key   []int
}

// oracle returns what a table should, and the key of the rule that won.
func oracle(rules []Rule, r *Request) (Result, []int) {
	var found []oracleMatch
	var allow []string
	for i, rule := range rules {
		host, ok := 0, len(rule.Match.Hosts) == 0
		for _, h := range rule.Match.Hosts {
			if n, matches := oracleHost(h, r.Host); matches {
				host, ok = max(host, n), true
			}
		}
		methods := oracleMethods(rule.Match)
		switch {
		case !ok || !oracleHolds(rule.Match, r):
		case len(methods) == 0 || slices.Contains(methods, r.Method):
			found = append(found, oracleMatch{i, oracleKey(rule, host)})
		default:
			allow = append(allow, methods...)
		}
	}
	if len(found) > 0 {
		slices.SortFunc(found, func(a, b oracleMatch) int {
			return cmp.Or(slices.Compare(b.key, a.key), cmp.Compare(a.index, b.index))
		})
		return Result{Outcome: Found, Route: found[0].index}, append(found[0].key, -found[0].index)
	}
	slices.Sort(allow)
	if allow = slices.Compact(allow); len(allow) > 0 {
		return Result{Outcome: MethodNotAllowed, Allow: allow}, nil
	}
	return Result{}, nil
}

// oracleReading reads path in one of the ways that Table.Match documents. It
// returns "" for a path that leads above the root.
func oracleReading(path string, merge, strip, cut, again, separate bool) string {
	if again {
		path = regexp.MustCompile(`%25([0-9A-Fa-f]{2})`).ReplaceAllStringFunc(path, func(s string) string {
			v, _ := url.PathUnescape("%" + s[3:])
			return v
		})
	}
	if cut {
		path = regexp.MustCompile(`[?#].*`).ReplaceAllString(path, "")
	}
	if separate {
		path = strings.ReplaceAll(path, "%2F", "/")
	}
	if strip {
		path = regexp.MustCompile(`;[^/]*`).ReplaceAllString(path, "")
	}
	if merge {
		path = regexp.MustCompile(`/+`).ReplaceAllString(path, "/")
	}
	dots := regexp.MustCompile(`^(.*?)/(?:\.|([^/]*)/\.\.)(/|$)`)
	for {
		if regexp.MustCompile(`^/\.\.(/|$)`).MatchString(path) {
			return ""
		}
		m := dots.FindStringSubmatchIndex(path)
		if m == nil {
			return path
		}
		path = path[:m[3]] + "/" + path[m[7]:]
	}
}

// oracleAmbiguous is oracle for a path that Normalize called ambiguous.
func oracleAmbiguous(rules []Rule, r *Request) Result {
	first, key := oracle(rules, r)
	kinds := 0
	for _, expr := range []string{`//`, `;`, `[?#]`, `%25[0-9A-Fa-f]{2}`, `%2F`} {
		if regexp.MustCompile(expr).MatchString(r.Path) {
			kinds++
		}
	}
	if kinds > 3 {
		return Result{Outcome: Ambiguous}
	}
	for n := range 32 {
		has := func(bit int) bool { return n&bit != 0 }
		if has(16) && !strings.Contains(r.Path, "%2F") {
			continue
		}
		other := *r
		other.Path = oracleReading(r.Path, has(1), has(2), has(4), has(8), has(16))
		if other.Path == "" {
			return Result{Outcome: Ambiguous}
		}
		res, otherKey := oracle(rules, &other)
		differs := res.Outcome != first.Outcome || res.Route != first.Route
		if has(16) {
			differs = differs && res.Outcome == Found && slices.Compare(otherKey, key) > 0
		}
		if differs {
			return Result{Outcome: Ambiguous}
		}
	}
	return first
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.Intn(len(list))] }

// randomRule draws from pools so small that rules meet.
func randomRule(r *rand.Rand, i int) Rule {
	var m Match
	for range r.Intn(3) {
		m.Hosts = append(m.Hosts, pick(r, []string{"a.example", "b.a.example", "*.example", "*.a.example", "example", "*.b.a.example"}))
	}
	segs := []string{"a", "b", "c", "{p}", "{q}", "{r}", "%2F", ";", "?"}
	switch r.Intn(8) {
	case 0:
	case 1:
		m.Path = pick(r, []string{"re:^/a", "re:^/a/[bc]", "re:b$", "re:^/(a|b)/b", "re:^/[^/]*$"})
	default:
		for i, seg := range r.Perm(len(segs))[:r.Intn(5)] {
			if s := segs[seg]; s != "{q}" || i > 0 {
				m.Path += "/" + strings.ReplaceAll(s, "?", "%3F")
			}
		}
		if m.Path == "" || r.Intn(3) == 0 {
			m.Path += pick(r, []string{"/", "/*"})
		}
	}
	if r.Intn(3) == 0 {
		m.Methods = pick(r, [][]string{{"GET"}, {"POST"}, {"HEAD"}, {"GET", "POST"}, {"QUERY"}, {"BREW", "GET", "HEAD"}})
	}
	values := []string{"1", "2", "present", "re:^[12]$", "re:2", ""}
	if r.Intn(4) == 0 {
		m.Headers = map[string]string{pick(r, []string{"X-A", "X-B"}): pick(r, values)}
	}
	if r.Intn(4) == 0 {
		m.Query = map[string]string{pick(r, []string{"v", "w x"}): pick(r, values)}
	}
	if r.Intn(5) == 0 {
		m.ClientIPs = pick(r, [][]string{{"10.0.0.0/8"}, {"10.1.0.0/16", "10.1.2.0/24"}, {"10.2.0.0/16", "2001:db8::/32"}})
	}
	rule := Rule{Name: fmt.Sprint(i), Match: m}
	if r.Intn(5) == 0 {
		rule.Priority = r.Intn(5) - 2
	}
	return rule
}

func randomRules(r *rand.Rand, n int) (rules []Rule) {
	for i := range n {
		rules = append(rules, randomRule(r, i))
	}
	return rules
}

func randomRequest(r *rand.Rand) *Request {
	req := &Request{
		Host:     pick(r, []string{"a.example", "B.a.example:80", "c.b.a.example.", "d.example", "example", "other", ""}),
		Method:   pick(r, []string{"GET", "HEAD", "POST", "QUERY", "BREW"}),
		Query:    pick(r, []string{"", "v=1", "v=2&v=1", "v", "w+x=2&v=%31", "w%20x=1", "x=1"}),
		Fields:   pick(r, []header{{}, {"x-a": "1"}, {"X-A": "2", "X-B": "1"}, {"x-b": ""}}),
		ClientIP: netip.MustParseAddr(pick(r, []string{"10.0.0.1", "10.1.2.3", "10.1.9.9", "10.2.0.1", "192.0.2.1", "2001:db8::1"})),
	}
	for range r.Intn(5) {
		req.Path += "/" + pick(r, []string{"a", "b", "c", "a", "b", "c", "d", ""})
	}
	if req.Path == "" {
		req.Path = "/"
	}
	return req
}

// checkMatch compares Match and Explain with the oracle.
func checkMatch(t *testing.T, rules []Rule, table *Table, r *Request) {
	t.Helper()
	want, _ := oracle(rules, r)
	if r.Ambiguous {
		want = oracleAmbiguous(rules, r)
	}
	got := table.Match(r)
	if got.Outcome != want.Outcome || got.Route != want.Route || !slices.Equal(got.Allow, want.Allow) && want.Outcome == MethodNotAllowed {
		t.Fatalf("%+v\nends in %+v, want %+v; got %+v, want %+v", *r, got, want, rules[got.Route], rules[want.Route])
	}
	why := table.Explain(r)
	if fault := contradiction(got, why); fault != "" || len(why) != len(rules) {
		t.Fatalf("%+v\nis explained by %+v: %s", *r, why, fault)
	}
}

func TestMatchAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	outcomes := map[Outcome]int{}
	for range 150 {
		rules := randomRules(r, 1+r.Intn(30))
		table := mustTable(t, rules...)
		for range 20 {
			req := randomRequest(r)
			checkMatch(t, rules, table, req)
			outcomes[table.Match(req).Outcome]++
		}
	}
	if outcomes[Found] < 200 || outcomes[NoRoute] < 200 || outcomes[MethodNotAllowed] < 50 {
		t.Errorf("the requests do not cover the outcomes: %v", outcomes)
	}
}

// TestReadingsAgainstOracle is the same for paths that can be read otherwise.
func TestReadingsAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	outcomes := map[Outcome]int{}
	for range 120 {
		rules := randomRules(r, 1+r.Intn(12))
		table := mustTable(t, rules...)
		for n := 0; n < 10; {
			normal, ambiguous, err := keep.Normalize(nil, []byte(randomPath(r)))
			if err != nil || !ambiguous {
				continue
			}
			n++
			req := randomRequest(r)
			req.Path, req.Ambiguous = string(normal), true
			checkMatch(t, rules, table, req)
			outcomes[table.Match(req).Outcome]++
		}
	}
	if outcomes[Found] < 100 || outcomes[Ambiguous] < 100 {
		t.Errorf("the requests do not cover the outcomes: %v", outcomes)
	}
}

// FuzzMatch compares with the oracle on paths and hosts that nobody thought of.
func FuzzMatch(f *testing.F) {
	f.Add(int64(1), "a.example", "/a/b", "GET", "v=1")
	f.Add(int64(2), "b.a.example:80", "/a//b;x/%2541", "BREW", "w+x=%31")
	f.Fuzz(func(t *testing.T, seed int64, host, path, method, query string) {
		r := rand.New(rand.NewSource(seed))
		rules := randomRules(r, 1+r.Intn(20))
		req := randomRequest(r)
		normal, ambiguous, err := keep.Normalize(nil, []byte(path))
		if err != nil {
			return
		}
		req.Path, req.Method, req.Ambiguous = string(normal), method, ambiguous
		if regexp.MustCompile(`^[a-zA-Z0-9-]+([.][a-zA-Z0-9-]+)*[.]?(:[0-9]+)?$`).MatchString(host) {
			req.Host = host
		}
		if _, err := url.ParseQuery(query); err == nil {
			req.Query = query
		}
		checkMatch(t, rules, mustTable(t, rules...), req)
	})
}
