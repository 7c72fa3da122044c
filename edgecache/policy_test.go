package edgecache

import (
	"strings"
	"testing"
	"time"
)

// noon is when the responses of these tests come.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func httpDate(d time.Duration) string {
	return noon.Add(d).Format("Mon, 02 Jan 2006 15:04:05 GMT")
}

// lines are fields as "Name: value", one a line.
func lines(text string) (fields []Field) {
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields = append(fields, Field{[]byte(name), []byte(strings.TrimSpace(value))})
		}
	}
	return fields
}

func requestOf(method, fields string) *Request {
	r := &Request{Method: method, Fields: lines(fields)}
	r.Read()
	return r
}

func responseOf(status int, fields string) *Response {
	return &Response{Status: status, Fields: lines(fields), Length: 10, RequestedAt: noon, ReceivedAt: noon}
}

func ordinary() *Rules {
	return &Rules{MaxTTL: 24 * time.Hour, Heuristic: .1, MaxObject: 1 << 20, Key: KeyRule{Route: "r", Query: QueryAll}}
}

// What may be stored, why not, and for how long it is fresh.
func TestJudge(t *testing.T) {
	past, now := httpDate(-time.Hour), httpDate(0)
	for _, c := range []struct {
		name     string
		status   int
		request  string
		response string
		why      NotStored
		lifetime uint32
		by       Reason
	}{
		{"max-age", 200, "", "Cache-Control: max-age=60", "", 60, byMaxAge},
		{"s-maxage comes first", 200, "", "Cache-Control: max-age=60, s-maxage=30", "", 30, bySMaxAge},
		{"over Expires", 200, "", "Cache-Control: max-age=60\nExpires: " + past + "\nDate: " + now, "", 60, byMaxAge},
		{"Expires less Date", 200, "", "Expires: " + httpDate(time.Minute) + "\nDate: " + httpDate(-time.Minute), "", 120, byExpires},
		{"Expires without Date", 200, "", "Expires: " + httpDate(time.Minute), "", 60, byExpires},
		{"Expires that is no date", 200, "", "Expires: 0\nETag: \"a\"", "", 0, byExpires},
		{"two Expires that differ", 200, "", "Expires: " + httpDate(time.Minute) + "\nExpires: " + httpDate(time.Hour) + "\nETag: \"a\"", "", 0, byExpires},
		{"absurd max-age", 200, "", "Cache-Control: max-age=99999999999999999999", "", 86400, byMaximum},
		{"malformed max-age", 200, "", "Cache-Control: max-age=60x\nETag: \"a\"", "", 0, byMaxAge},
		{"negative max-age", 200, "", "Cache-Control: max-age=-60\nETag: \"a\"", "", 0, byMaxAge},
		{"two max-age that differ", 200, "", "Cache-Control: max-age=60\nCache-Control: max-age=90\nETag: \"a\"", "", 0, byMaxAge},
		{"two max-age alike", 200, "", "Cache-Control: max-age=60, max-age=60", "", 60, byMaxAge},
		{"space about the equals sign", 200, "", "Cache-Control: max-age =60\nETag: \"a\"", "", 0, byMaxAge},
		{"quoted", 200, "", `Cache-Control: max-age="60"`, "", 60, byMaxAge},
		{"within another's quotes", 200, "", `Cache-Control: x="max-age=60", max-age=5`, "", 5, byMaxAge},
		{"stale and without a validator", 200, "", "Cache-Control: max-age=0", "stale", 0, 0},
		{"no-store", 200, "", "Cache-Control: max-age=60, no-store", "no-store", 0, 0},
		{"no-store, understood", 200, "", "Cache-Control: max-age=60, no-store, must-understand", "", 60, byMaxAge},
		{"no-store, not understood", 599, "", "Cache-Control: max-age=60, no-store, must-understand", "must-understand", 0, 0},
		{"private", 200, "", "Cache-Control: max-age=60, private", "private", 0, 0},
		{"private fields alone", 200, "", `Cache-Control: max-age=60, private="x-user"`, "", 60, byMaxAge},
		{"no-cache with a validator", 200, "", "Cache-Control: no-cache\nETag: \"a\"", "", 0, byNothing},
		{"no-cache without", 200, "", "Cache-Control: no-cache, max-age=60", "stale", 0, 0},
		{"Vary: *", 200, "", "Cache-Control: max-age=60\nVary: a, *", "Vary: *", 0, 0},
		{"Vary by too much", 200, "", "Cache-Control: max-age=60\nVary: " + strings.Repeat("a,b,", 9), "Vary", 0, 0},
		{"Last-Modified", 200, "", "Last-Modified: " + past + "\nDate: " + now, "", 360, byHeuristic},
		{"Last-Modified of a 404", 404, "", "Last-Modified: " + past + "\nDate: " + now, "", 360, byHeuristic},
		{"Last-Modified of a 403", 403, "", "Last-Modified: " + past + "\nDate: " + now, "no freshness", 0, 0},
		{"Last-Modified in the future", 200, "", "Last-Modified: " + httpDate(time.Hour) + "\nDate: " + now, "", 0, byHeuristic},
		{"nothing at all", 200, "", "Content-Type: a/b", "no freshness", 0, 0},
		{"an error that says so", 503, "", "Cache-Control: max-age=5", "", 5, byMaxAge},
		{"a made-up status that says so", 299, "", "Cache-Control: max-age=5", "", 5, byMaxAge},
		{"a part that nobody asked for", 206, "", "Cache-Control: max-age=5", "unasked range", 0, 0},
		{"Authorization", 200, "Authorization: x", "Cache-Control: max-age=60", "authorization", 0, 0},
		{"Authorization, public", 200, "Authorization: x", "Cache-Control: max-age=60, public", "", 60, byMaxAge},
		{"Authorization, must-revalidate", 200, "Authorization: x", "Cache-Control: max-age=60, must-revalidate", "", 60, byMaxAge},
		{"Authorization, s-maxage", 200, "Authorization: x", "Cache-Control: s-maxage=60", "", 60, bySMaxAge},
		{"Set-Cookie", 200, "", "Cache-Control: max-age=60\nSet-Cookie: a=b", "set-cookie", 0, 0},
		{"Set-Cookie, public", 200, "", "Cache-Control: max-age=60, public\nSet-Cookie: a=b", "", 60, byMaxAge},
		{"Cookie and an estimate", 200, "Cookie: a=b", "Last-Modified: " + past, "cookies", 0, 0},
		{"Cookie and its word", 200, "Cookie: a=b", "Cache-Control: max-age=60", "", 60, byMaxAge},
		{"targeted over all else", 200, "", "CDN-Cache-Control: max-age=60\nCache-Control: no-store\nExpires: 0", "", 60, byTarget},
		{"targeted private", 200, "", "CDN-Cache-Control: private\nCache-Control: max-age=60", "private", 0, 0},
		{"targeted and broken", 200, "", "CDN-Cache-Control: max-age=60, &\nCache-Control: max-age=5", "", 5, byMaxAge},
		{"targeted of a wrong type", 200, "", "CDN-Cache-Control: max-age=\"60\"\nCache-Control: max-age=5", "", 5, byMaxAge},
		{"targeted with parameters", 200, "", "CDN-Cache-Control: x;a=1;b, max-age=60;c=(", "no freshness", 0, 0},
		{"targeted, said to be false", 200, "", "CDN-Cache-Control: no-store=?0, max-age=60", "", 60, byTarget},
		{"targeted in two lines", 200, "", "CDN-Cache-Control: max-age=60\nCDN-Cache-Control: no-store", "no-store", 0, 0},
		{"Age beyond", 200, "", "Cache-Control: max-age=60\nAge: 61", "stale", 0, 0},
		{"negative Age", 200, "", "Cache-Control: max-age=60\nAge: -100", "", 60, byMaxAge},
		{"Date long ago", 200, "", "Cache-Control: max-age=60\nDate: " + past, "stale", 0, 0},
		{"Date in the future", 200, "", "Cache-Control: max-age=60\nDate: " + httpDate(time.Hour), "", 60, byMaxAge},
		{"client's no-store, not asked for", 200, "Cache-Control: no-store", "Cache-Control: max-age=60", "", 60, byMaxAge},
	} {
		e, why := ordinary().Judge(requestOf("GET", c.request), responseOf(c.status, c.response))
		switch {
		case why != c.why:
			t.Errorf("%s: not stored for %q, want %q", c.name, why, c.why)
		case why == "" && (e.Lifetime != c.lifetime || e.Reason != c.by):
			t.Errorf("%s: %d s by %s, want %d s by %s", c.name, e.Lifetime, e.Reason, c.lifetime, c.by)
		}
	}
}

// The bounds of a route, as a CDN's.
func TestTTL(t *testing.T) {
	for _, c := range []struct {
		name              string
		least, said, most time.Duration
		status            int
		response          string
		why               NotStored
		lifetime          uint32
		by                Reason
	}{
		{"default where nothing is said", 0, time.Minute, 0, 200, "", "", 60, byDefault},
		{"default instead of an estimate", 0, time.Minute, 0, 200, "Last-Modified: " + httpDate(-time.Hour), "", 60, byDefault},
		{"default of a 404", 0, time.Minute, 0, 404, "", "", 60, byDefault},
		{"no default for a 405", 0, time.Minute, 0, 405, "", "no freshness", 0, 0},
		{"no default for a 500", 0, time.Minute, 0, 500, "", "no freshness", 0, 0},
		{"at least", time.Minute, 0, 0, 200, "Cache-Control: max-age=5", "", 60, byMinimum},
		{"at least, never for no-store", time.Minute, 0, 0, 200, "Cache-Control: no-store", "no-store", 0, 0},
		{"at least, never for private", time.Minute, 0, 0, 200, "Cache-Control: private", "private", 0, 0},
		{"at most", 0, 0, time.Minute, 200, "Cache-Control: max-age=500", "", 60, byMaximum},
		{"at most, of the default", 0, time.Hour, time.Minute, 200, "", "", 60, byMaximum},
	} {
		r := ordinary()
		r.MinTTL, r.DefaultTTL, r.MaxTTL = c.least, c.said, c.most
		e, why := r.Judge(requestOf("GET", ""), responseOf(c.status, c.response))
		if why != c.why || why == "" && (e.Lifetime != c.lifetime || e.Reason != c.by) {
			t.Errorf("%s: %q, %+v", c.name, why, e)
		}
	}
}

func TestAge(t *testing.T) {
	for _, c := range []struct {
		response string
		took     time.Duration
		age      int64
	}{
		{"", 0, 0}, {"Age: 5", 0, 5}, {"Age: 5", 3 * time.Second, 8}, {"Age: 5, 9", 0, 5}, {"Age: x", 0, 0}, {"Age: 5.0", 0, 0},
		{"Age: 5\nAge: 9", 0, 5}, {"Age: 99999999999999999999", 0, maxSeconds}, {"Date: " + httpDate(-time.Minute), 0, 60},
		{"Date: " + httpDate(-time.Minute) + "\nAge: 90", 0, 90}, {"Date: " + httpDate(time.Hour), 0, 0}, {"Date: nonsense", 0, 0},
	} {
		r := responseOf(200, c.response)
		r.RequestedAt = noon.Add(-c.took)
		f := r.facts()
		e := Entry{ReceivedAt: noon.UnixNano(), InitialAge: uint32(initialAge(&f, r.RequestedAt, r.ReceivedAt))}
		if got := e.Age(noon.UnixNano()); got != c.age {
			t.Errorf("%q after %v: %d, want %d", c.response, c.took, got, c.age)
		}
		if got, back := e.Age(noon.Add(time.Minute).UnixNano()), e.Age(noon.Add(-time.Hour).UnixNano()); got != min(c.age+60, maxSeconds) || back != c.age {
			t.Errorf("%q a minute on: %d; with the clock an hour back: %d", c.response, got, back)
		}
	}
}

// How long a stale response may be used, and for what.
func TestStale(t *testing.T) {
	for _, c := range []struct {
		response          string
		route             time.Duration
		seconds           int
		meanwhile, errors bool
	}{
		{"Cache-Control: max-age=10, stale-while-revalidate=5", 0, 14, true, false},
		{"Cache-Control: max-age=10, stale-while-revalidate=5", 0, 15, false, false},
		{"Cache-Control: max-age=10, stale-if-error=5", 0, 14, false, true},
		{"Cache-Control: max-age=10, stale-if-error=5, must-revalidate", 0, 14, false, false},
		{"Cache-Control: max-age=10, stale-if-error=5, proxy-revalidate", 0, 14, false, false},
		{"Cache-Control: max-age=10, stale-if-error=5, no-cache\nETag: \"a\"", 0, 14, false, false},
		{"Cache-Control: max-age=10", time.Minute, 60, true, true},
		{"Cache-Control: s-maxage=10", time.Minute, 60, false, false},
		{"Cache-Control: s-maxage=10, stale-if-error=90", time.Minute, 60, false, true},
		{"Cache-Control: max-age=10, stale-if-error=0, stale-while-revalidate=x", time.Minute, 60, false, false},
	} {
		r := ordinary()
		r.StaleRevalidate, r.StaleError = c.route, c.route
		e, why := r.Judge(requestOf("GET", ""), responseOf(200, c.response))
		if why != "" {
			t.Errorf("%s: %s", c.response, why)
			continue
		}
		at := noon.Add(time.Duration(c.seconds) * time.Second).UnixNano()
		if e.Fresh(at) || e.ServesWhileRevalidating(at) != c.meanwhile || e.ServesOnError(at) != c.errors {
			t.Errorf("%s after %d s: fresh %v, meanwhile %v, on error %v", c.response, c.seconds, e.Fresh(at), e.ServesWhileRevalidating(at), e.ServesOnError(at))
		}
	}
}

func TestParseDate(t *testing.T) {
	want := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
	for _, good := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT", "SUN, 06 NOV 1994 08:49:37 gmt", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun Nov 06 08:49:37 1994",
	} {
		if got, ok := parseDate(good, noon); !ok || !got.Equal(want) {
			t.Errorf("%q: %v, %v", good, got, ok)
		}
	}
	for _, bad := range []string{
		"", "0", "-1", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 94 08:49:37 GMT", "Sun 06 Nov 1994 08:49:37 GMT",
		"Sun, 06  Nov 1994 08:49:37 GMT", "Sun, 06-Nov-1994 08:49:37 GMT", "Sun, 06 Nov 1994 8:49:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT", "Xxx, 06 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 08.49.37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT", "Sunday, 06-Nov-9x 08:49:37 GMT",
	} {
		if got, ok := parseDate(bad, noon); ok {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
	if got, _ := parseDate("Thursday, 18-Aug-50 02:01:18 GMT", noon); got.Year() != 2050 {
		t.Errorf("a year of two digits: %v", got)
	}
}

// Which requests select a response that varies.
func TestVary(t *testing.T) {
	for _, c := range []struct {
		vary, stored, asked, language string
		same                          bool
	}{
		{"A", "A: 1", "A: 1\nB: 2", "", true},
		{"A", "A: 1", "A: 2", "", false},
		{"A", "A: 1", "", "", false},
		{"A", "", "A:", "", false},
		{"A", "A: 1,2", "A: 1\nA: 2", "", true},
		{"A", "A: 1,2", "A:  1 ,2 ", "", true},
		{"A", `A: "1, 2"`, `A: "1,2"`, "", false},
		{"User-Agent", "User-Agent: a, b", "User-Agent: a,b", "", false},
		{"Cookie", "Cookie: a=1", "Cookie: a=2", "", false},
		{"A, B", "A: 1\nB: 2", "B: 2\nA: 1", "", true},
		{"A, B", "A: 1\nB: 2", "A: 1\nB: 3", "", false},
		{"Accept-Encoding", "Accept-Encoding: gzip, br", "Accept-Encoding: BR,gzip", "", true},
		{"Accept-Encoding", "Accept-Encoding: gzip, br", "Accept-Encoding: br;q=0.5, gzip", "", false},
		{"Accept-Encoding", "Accept-Encoding: gzip", "", "", false},
		{"Accept-Language", "Accept-Language: en, de", "Accept-Language: de,  eN", "", true},
		{"Accept-Language", "Accept-Language: en, de", "Accept-Language: de, en;q=0.9", "", false},
		{"Accept-Language", "Accept-Language: en, de", "Accept-Language: de, fr;q=0.9", "de", true},
		{"Accept-Language", "Accept-Language: en, de", "Accept-Language: de, fr", "de", false},
		{"Accept-Language", "Accept-Language: en, de", "Accept-Language: fr, de;q=0.9", "de", false},
	} {
		e, why := ordinary().Judge(requestOf("GET", c.stored), responseOf(200, "Cache-Control: max-age=9\nVary: "+c.vary))
		if why != "" {
			t.Fatal(why)
		}
		if c.language != "" {
			e.Head = []byte("Content-Language: " + c.language + "\r\n")
		}
		r := Resource{Variants: []*Entry{e}}
		if got := r.Select(lines(c.asked), make([]byte, 0, 64)); (got != nil) != c.same {
			t.Errorf("Vary: %s, stored for %q: %q selects it: %v", c.vary, c.stored, c.asked, got != nil)
		}
	}
}

// Keys of different requests are different, however their parts are cut.
func TestKeysDoNotJoin(t *testing.T) {
	rule := KeyRule{Route: "r", Query: QueryAll, Headers: []string{"A", "B"}, Cookies: []string{"c"}}
	seen := map[string]string{}
	for _, c := range []struct{ host, target, fields string }{
		{"a", "/x", ""}, {"a", "/x?", ""}, {"a", "/x?y", ""}, {"a", "/x%3Fy", ""}, {"a", "/x%3fy?", ""}, {"ax", "/", ""}, {"a", "//x", ""}, {"a:8080", "/x", ""},
		{"a", "/x;y", ""}, {"a", "/x%3By", ""}, {"a", "/x/../y", ""}, {"a", "/x%2Fy", ""}, {"a", "/x/y", ""}, {"a", "/X", ""},
		{"a", "/x", "A: 1"}, {"a", "/x", "B: 1"}, {"a", "/x", "A: 1\nB: 1"}, {"a", "/x", "A:"}, {"a", "/x", "A: 1\nA: 1"}, {"a", "/x", "A: 1, 1"},
		{"a", "/x", "Cookie: c=1"}, {"a", "/x", "Cookie: c=1; c=1"}, {"a", "/x", "Cookie: c=1;x=2"},
	} {
		path, query, _ := strings.Cut(c.target, "?")
		target := Target{Method: "GET", Scheme: "http", Host: AppendHost(nil, []byte(c.host), "http"), Path: AppendPath(nil, []byte(path)), Query: rule.AppendQuery(nil, []byte(query))}
		text := string(rule.AppendText(nil, &target, lines(c.fields)))
		id := c.host + c.target + " " + c.fields
		if other, ok := seen[text]; ok && !same(other, id) {
			t.Errorf("%q and %q have one key", other, id)
		}
		seen[text] = id
	}
}

// same says which of the requests above are one request.
func same(a, b string) bool {
	pairs := [][2]string{{"a/x ", "a/x? "}, {"a/x%3Fy ", "a/x%3fy? "}, {"a/x Cookie: c=1", "a/x Cookie: c=1;x=2"}}
	for _, p := range pairs {
		if p[0] == a && p[1] == b {
			return true
		}
	}
	return false
}

// Nothing but the equivalences of RFC 3986, section 6.2.2, makes paths and hosts
// one.
func TestCanonical(t *testing.T) {
	for raw, want := range map[string]string{
		"/a": "/a", "/%61%2D%7e": "/a-~", "/%2f%2F": "/%2F%2F", "/%3b;%40@": "/%3B;%40@", "/%zz%": "/%zz%", "/%2561": "/%2561",
	} {
		if got := string(AppendPath(nil, []byte(raw))); got != want {
			t.Errorf("%s became %s, want %s", raw, got, want)
		}
	}
	for _, c := range [][3]string{{"EXAMPLE.com:80", "http", "example.com"}, {"a:443", "https", "a"}, {"a:443", "http", "a:443"}, {"[::1]:80", "http", "[::1]"}} {
		if got := string(AppendHost(nil, []byte(c[0]), c[1])); got != c[2] {
			t.Errorf("%s became %s", c[0], got)
		}
	}
	rule := KeyRule{Query: QueryNames, Names: []string{"b", "a"}}
	if got := string(rule.AppendQuery(nil, []byte("x=1&a=1&%61=2&b&a;b=3&a=2"))); got != "a=1&b&a=2" {
		t.Errorf("the parameters that count are %q", got)
	}
}

func TestFreshened(t *testing.T) {
	rules := ordinary()
	req := requestOf("GET", "")
	stored := responseOf(200, "Cache-Control: max-age=1\nETag: \"a\"\nX-A: 1\nX-B: 1\nContent-Encoding: gzip\nDate: "+httpDate(-time.Minute))
	stored.RequestedAt, stored.ReceivedAt = noon.Add(-time.Minute), noon.Add(-time.Minute)
	old, why := rules.Judge(req, stored)
	if why != "" {
		t.Fatal(why)
	}
	old.SetHead(stored)
	old.Body = []byte("0123456789")
	e := rules.Freshened(old, req, responseOf(304, "Cache-Control: max-age=60\nX-A: 2\nContent-Length: 0\nContent-Encoding: br\nConnection: X-B\nX-B: 2"))
	if e == nil {
		t.Fatal("it may not be stored any more")
	}
	get := func(name string) string { v, _ := e.Lookup(name); return v }
	if e.Lifetime != 60 || e.Age(noon.UnixNano()) != 0 || get("X-A") != "2" || get("X-B") != "1" || get("Content-Encoding") != "gzip" || string(e.Body) != "0123456789" || e.Status != 200 {
		t.Errorf("freshened: %+v\n%s", e, e.Head)
	}
	if rules.Freshened(old, req, responseOf(304, "Cache-Control: no-store")) != nil {
		t.Error("a 304 with no-store left it stored")
	}
	shared := e
	shared.Flags |= Shareable
	if e = rules.Freshened(shared, req, responseOf(304, "Cache-Control: max-age=60")); e == nil || e.Flags&Shareable != 0 {
		t.Error("a 304 without public left it for requests with Authorization")
	}
	if rules.Freshened(shared, requestOf("GET", "Authorization: a"), responseOf(304, "Cache-Control: max-age=60")) != nil {
		t.Error("a 304 without public, for somebody, left it for everybody")
	}
	if old.Describes(responseOf(304, `ETag: "b"`)) || !old.Describes(responseOf(304, `ETag: W/"a"`)) || !old.Describes(responseOf(304, "")) {
		t.Error("which 304 is about it")
	}
}

// Where the content of a 206 belongs. One that is shorter than Content-Range says
// was cut, and belongs nowhere: but for the last bytes, where as many have come as
// were asked for.
func TestPlace(t *testing.T) {
	for _, c := range []struct {
		asked, ranged string
		length        int64
		want          Span
		ok            bool
	}{
		{"bytes=0-4", "bytes 0-4/10", 5, Span{0, 5, 10, false}, true}, {"bytes=0-4", "bytes 0-4/*", 5, Span{0, 5, -1, false}, true},
		{"bytes=5-", "bytes 5-9/10", 5, Span{5, 5, 10, false}, true}, {"bytes=-5", "bytes 5-9/10", 5, Span{5, 5, 10, false}, true},
		{"bytes=-5", "bytes 4-9/10", 5, Span{4, 5, 9, true}, true}, {"Bytes = -5 ", "bytes 4-9/10", 5, Span{4, 5, 9, true}, true},
		{"bytes=-6", "bytes 4-9/10", 5, Span{}, false}, {"bytes=4-", "bytes 4-9/10", 5, Span{}, false}, {"bytes=4-9", "bytes 4-9/10", 5, Span{}, false},
		{"bytes=-5,-5", "bytes 4-9/10", 5, Span{}, false}, {"bytes=-5, 1-2", "bytes 4-9/10", 5, Span{}, false}, {"lines=-5", "bytes 4-9/10", 5, Span{}, false},
		{"bytes=-5", "bytes 4-9/*", 5, Span{}, false}, {"bytes=-5", "bytes 4-9/11", 5, Span{}, false}, {"bytes=-5", "bytes 3-9/10", 5, Span{}, false},
		{"bytes=-5", "bytes 0-5/6", 5, Span{}, false}, // it would be all there is
		{"bytes=-5\nRange: bytes=-5", "bytes 4-9/10", 5, Span{}, false},
		{"bytes=0-4", "bytes 0-4/10", 4, Span{}, false}, {"bytes=0-4", "bytes 0-4/5", 6, Span{}, false}, {"bytes=0-4", "bytes 4-0/10", 5, Span{}, false},
		{"bytes=0-4", "bytes */10", 5, Span{}, false}, {"bytes=0-4", "lines 0-4/10", 5, Span{}, false}, {"bytes=0-4", "bytes 0-4/3", 5, Span{}, false},
		{"bytes=0-4", "bytes 0-99999999999999999999/10", 5, Span{}, false}, {"bytes=0-4", "", 5, Span{}, false},
		{"bytes=0-4", "bytes 0-4/10\nContent-Range: bytes 0-4/10", 5, Span{}, false},
		{"bytes=0-4", "bytes 0-4/10\nContent-Type: Multipart/Byteranges; boundary=x", 5, Span{}, false},
	} {
		res := responseOf(206, "Content-Range: "+c.ranged)
		res.Length = c.length
		got, ok := requestOf("GET", "Range: "+c.asked).Place(res)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s of %d bytes, asked for %s: %+v, %v", c.ranged, c.length, c.asked, got, ok)
		}
	}
}

func TestTargetedSyntax(t *testing.T) {
	for _, good := range []string{"max-age=1", "a, b;c=1;d=\"x\", max-age=1", "x=:YQ==:, y=?1, z=1.5, w=tok/en", "  max-age=1  "} {
		if _, ok := targeted(good); !ok {
			t.Errorf("%q was refused", good)
		}
	}
	for _, bad := range []string{"", "Max-Age=1", "max-age=1,", "max-age=1 b", "a=(1 2", "a=?2", "max-age=1.", "max-age=", "a=\"x", "max-age=1234567890123456", "a;;b"} {
		if _, ok := targeted(bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestPathsOfConditions(t *testing.T) {
	for _, c := range []struct {
		stored, asked string
		want          bool
	}{
		{`ETag: "a"`, `If-None-Match: "a"`, true}, {`ETag: W/"a"`, `If-None-Match: "a"`, true}, {`ETag: "a"`, `If-None-Match: "b", W/"a"`, true},
		{`ETag: "a"`, "If-None-Match: *", true}, {`ETag: "a"`, "If-None-Match: a", false}, {"X: 1", `If-None-Match: "a"`, false},
		{`ETag: "a"`, "If-None-Match: \"b\"\nIf-None-Match: \"a\"", true}, {`ETag: "a"`, `If-None-Match: "b" "a"`, false},
		{"Last-Modified: " + httpDate(-time.Hour), "If-Modified-Since: " + httpDate(-time.Hour), true},
		{"Last-Modified: " + httpDate(-time.Hour), "If-Modified-Since: " + httpDate(-2*time.Hour), false},
		{"Date: " + httpDate(-time.Hour), "If-Modified-Since: " + httpDate(-time.Hour), true},
		{"Last-Modified: " + httpDate(-time.Hour) + "\nETag: \"a\"", "If-None-Match: \"b\"\nIf-Modified-Since: " + httpDate(0), false},
		{"Last-Modified: " + httpDate(-time.Hour), "If-Modified-Since: yesterday", false},
	} {
		res := responseOf(200, c.stored+"\nCache-Control: max-age=9999")
		e, why := ordinary().Judge(requestOf("GET", ""), res)
		if why != "" {
			t.Fatal(why)
		}
		e.SetHead(res)
		if got := e.NotModified(requestOf("GET", c.asked)); got != c.want {
			t.Errorf("%q against %q: %v", c.asked, c.stored, got)
		}
	}
}
