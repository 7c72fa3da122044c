package proxy

import (
	"net/netip"
	"strings"
	"testing"
)

// exchangeOf is a walk's exchange with a head of the given lines, from peer.
func exchangeOf(peer string, trusted string, lines ...string) *Exchange {
	g := &Generation{}
	if trusted != "" {
		g.trusted = []netip.Prefix{netip.MustParsePrefix(trusted)}
	}
	x := &Exchange{gen: g, route: &route{}}
	r := &x.Request
	r.Method, r.Target, r.Scheme, r.Version = []byte("GET"), []byte("/"), "http", "1.1"
	r.Fields = appendFields(nil, []byte(strings.Join(lines, "\r\n")+"\r\n"))
	for _, f := range r.Fields {
		if kindOf(f.Name) == host {
			r.Host = f.Value
		}
	}
	r.Peer = netip.AddrPortFrom(netip.MustParseAddr(peer), 4711)
	x.identify()
	return x
}

func lines(fields []Field) string {
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(string(f.Name) + ": " + string(f.Value) + "\n")
	}
	return b.String()
}

func TestUpstreamFields(t *testing.T) {
	const own = "Via: 1.1 sluice\nX-Request-Id: ID\n"
	for _, c := range []struct {
		name, peer, trusted string
		in                  []string
		want                string
	}{
		{
			"order and spelling stay", "192.0.2.1", "",
			[]string{"host: Example.com", "x-b: 1", "X-A:2 ", "x-b: 3", "Content-Length: 5"},
			"host: Example.com\nx-b: 1\nX-A: 2\nx-b: 3\nContent-Length: 5\n" +
				"X-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: Example.com\nForwarded: for=192.0.2.1;host=Example.com;proto=http\n" + own,
		},
		{
			"hop-by-hop and nominated fields end here", "192.0.2.1", "",
			[]string{"Host: a", "Connection: keep-alive, X-Secret", "x-secret: 1", "Keep-Alive: 5", "TE: gzip", "Proxy-Connection: keep-alive", "Transfer-Encoding: chunked", "Upgrade: h2c", "HTTP2-Settings: AA", "Expect: 100-continue", "Proxy-Authorization: x", "X-Kept: 1"},
			"Host: a\nX-Kept: 1\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: a\nForwarded: for=192.0.2.1;host=a;proto=http\n" + own,
		},
		{
			"a stranger's word on where it came from is dropped", "192.0.2.1", "",
			[]string{"Host: a:81", "X-Forwarded-For: 1.1.1.1", "x-forwarded-proto: https", "X-Forwarded-Host: evil", "X-Forwarded-Port: 1", "X-Real-IP: 1.1.1.1", "Forwarded: for=1.1.1.1", "X-Request-Id: mine"},
			"Host: a:81\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: a:81\nForwarded: for=192.0.2.1;host=\"a:81\";proto=http\n" + own,
		},
		{
			"a trusted peer's is extended", "10.0.0.9", "10.0.0.0/8",
			[]string{"Host: a", "X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop", "X-Forwarded-Port: 443", "Forwarded: for=1.1.1.1"},
			"Host: a\nX-Forwarded-Port: 443\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.0.0.9\nX-Forwarded-Proto: https\nX-Forwarded-Host: shop\nForwarded: for=1.1.1.1, for=10.0.0.9;host=a;proto=http\n" + own,
		},
		{
			"a stranger has no certificate but its own", "192.0.2.1", "",
			[]string{"Host: a", "client-cert: :AA==:", "Client-Cert-Chain: :AA==:", "X-Client-Cert: 1", "X-CLIENT-CERT-SUBJECT: CN=root", "x-client-cert-San: DNS:root", "Client-Certificates-And-Such: 1", "Client-Hints: kept"},
			"Host: a\nClient-Hints: kept\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: a\nForwarded: for=192.0.2.1;host=a;proto=http\n" + own,
		},
		{
			"a trusted peer may speak of its client's", "10.0.0.9", "10.0.0.0/8",
			[]string{"Host: a", "Client-Cert: :AA==:", "X-Client-Cert-Subject: CN=alice"},
			"Host: a\nClient-Cert: :AA==:\nX-Client-Cert-Subject: CN=alice\nX-Forwarded-For: 10.0.0.9\nX-Forwarded-Proto: http\nX-Forwarded-Host: a\nForwarded: for=10.0.0.9;host=a;proto=http\n" + own,
		},
		{
			"Via grows at its end", "192.0.2.1", "",
			[]string{"Host: a", "Via: 1.0 first", "Via: 1.1 second"},
			"Host: a\nVia: 1.0 first\nVia: 1.1 second\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: a\nForwarded: for=192.0.2.1;host=a;proto=http\n" + own,
		},
		{
			"IPv6 is quoted in Forwarded", "2001:db8::1", "",
			[]string{"Host: [::1]:80"},
			"Host: [::1]:80\nX-Forwarded-For: 2001:db8::1\nX-Forwarded-Proto: http\nX-Forwarded-Host: [::1]:80\nForwarded: for=\"[2001:db8::1]\";host=\"[::1]:80\";proto=http\n" + own,
		},
		{
			"a request without Host gets the target's", "192.0.2.1", "",
			[]string{"X: 1"},
			"Host: target:9\nX: 1\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: http\nForwarded: for=192.0.2.1;proto=http\n" + own,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := exchangeOf(c.peer, c.trusted, c.in...)
			got := strings.Replace(lines(x.upstreamFields("target:9")), "X-Request-Id: "+string(x.id), "X-Request-Id: ID", 1)
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestClientAddress(t *testing.T) {
	for _, c := range []struct {
		name, peer string
		in         []string
		want       string
	}{
		{"no proxy", "192.0.2.1", []string{"X-Forwarded-For: 9.9.9.9"}, "192.0.2.1"},
		{"one proxy", "10.0.0.1", []string{"X-Forwarded-For: 9.9.9.9"}, "9.9.9.9"},
		{"what the client made up comes before", "10.0.0.1", []string{"X-Forwarded-For: 6.6.6.6, 9.9.9.9, 10.0.0.2"}, "9.9.9.9"},
		{"over several fields", "10.0.0.1", []string{"X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 9.9.9.9", "X-Forwarded-For: 10.0.0.2"}, "9.9.9.9"},
		{"all trusted", "10.0.0.1", []string{"X-Forwarded-For: 10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"garbage ends the chain", "10.0.0.1", []string{"X-Forwarded-For: 9.9.9.9, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"with port", "10.0.0.1", []string{"X-Forwarded-For: 9.9.9.9:1234"}, "9.9.9.9"},
		{"IPv6", "10.0.0.1", []string{"X-Forwarded-For: [2001:db8::1]:80"}, "2001:db8::1"},
		{"Forwarded", "10.0.0.1", []string{`Forwarded: for=6.6.6.6, For="[2001:db8::2]:80";proto=https, for=10.0.0.2`}, "2001:db8::2"},
		{"empty", "10.0.0.1", []string{"X-Forwarded-For: "}, "10.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := exchangeOf(c.peer, "10.0.0.0/8", c.in...)
			if got := x.Request.ClientIP.String(); got != c.want {
				t.Errorf("the client is %s, want %s", got, c.want)
			}
		})
	}
}

func TestRequestID(t *testing.T) {
	if x := exchangeOf("10.0.0.1", "10.0.0.0/8", "X-Request-Id: abc-1"); string(x.id) != "abc-1" {
		t.Errorf("a trusted peer's id was not taken over: %s", x.id)
	}
	for _, bad := range []string{`a"b`, "a b", strings.Repeat("x", 129)} {
		if x := exchangeOf("10.0.0.1", "10.0.0.0/8", "X-Request-Id: "+bad); len(x.id) != 32 {
			t.Errorf("%q was taken as an id", bad)
		}
	}
	a, b := exchangeOf("192.0.2.1", ""), exchangeOf("192.0.2.1", "")
	if string(a.id) == string(b.id) || len(a.id) != 32 {
		t.Errorf("ids %s and %s", a.id, b.id)
	}
}

func TestLoopsAreCut(t *testing.T) {
	if err := exchangeOf("192.0.2.1", "", "Via: 1.1 sluice, 1.1 other, 1.1 sluice").checkHops(); err != nil {
		t.Errorf("two gateways in a row: %v", err)
	}
	if err := exchangeOf("192.0.2.1", "", "Via: "+strings.Repeat("1.1 sluice, ", maxHops)).checkHops(); err == nil {
		t.Error("a loop went on")
	}
}

func TestHeaderKeepsOrder(t *testing.T) {
	h := Header{Fields: appendFields(nil, []byte("Via: 1\r\nA: x\r\nVia: 2\r\nB: y\r\nvia: 3\r\n"))}
	h.Del("VIA")
	if got := lines(h.Fields); got != "A: x\nB: y\n" {
		t.Errorf("after Del: %q", got)
	}
	h = Header{Fields: appendFields(nil, []byte("A: 1\r\nB: 2\r\na: 3\r\n"))}
	h.Set("a", "9")
	if got := lines(h.Fields); got != "A: 9\nB: 2\n" {
		t.Errorf("after Set: %q", got)
	}
}

func TestEdit(t *testing.T) {
	e, err := newEdit(HeaderEdit{Set: map[string]string{"X-B": "set", "X-New": "1"}, Add: map[string]string{"X-C": "more"}, Remove: []string{"x-a"}})
	if err != nil {
		t.Fatal(err)
	}
	h := Header{Fields: appendFields(nil, []byte("X-A: 1\r\nx-b: 2\r\nX-C: 3\r\nX-B: 4\r\n"))}
	e.apply(&h)
	if got, want := lines(h.Fields), "x-b: set\nX-C: 3\nX-New: 1\nX-C: more\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range []HeaderEdit{
		{Set: map[string]string{"Content-Length": "0"}}, {Set: map[string]string{"Transfer-Encoding": "chunked"}},
		{Add: map[string]string{"X": "a\r\nY: b"}}, {Remove: []string{"a b"}}, {Set: map[string]string{"": "x"}}, {Add: map[string]string{"Connection": "close"}},
	} {
		if _, err := newEdit(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

// TestOneHost has edits refused after which a request would have no valid Host,
// or two.
func TestOneHost(t *testing.T) {
	for _, good := range []string{"a.example", "A_b-1.example.", "a.example:81", "192.0.2.1", "[2001:db8::1]", "[::1]:8080"} {
		if _, err := newRequestEdit(HeaderEdit{Set: map[string]string{"host": good}}); err != nil {
			t.Errorf("set: %v", err)
		}
		if _, err := newRewriter(Rewrite{Host: good}); err != nil {
			t.Errorf("rewrite: %v", err)
		}
	}
	for _, bad := range []string{"a b", "a/b", "u@a", "a:b", "a:", "a:65536", "a,b", ":80", "::1", "[::1", "[a]", "[::1%25eth0]", "[192.0.2.1]", "é.example"} {
		if _, err := newRequestEdit(HeaderEdit{Set: map[string]string{"Host": bad}}); err == nil {
			t.Errorf("set: %q was accepted", bad)
		}
		if _, err := newRewriter(Rewrite{Host: bad}); err == nil {
			t.Errorf("rewrite: %q was accepted", bad)
		}
	}
	for _, bad := range []HeaderEdit{{Remove: []string{"HOST"}}, {Add: map[string]string{"Host": "a"}}, {Set: map[string]string{"Host": ""}}} {
		if _, err := newRequestEdit(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestRewrite(t *testing.T) {
	for _, c := range []struct {
		name   string
		spec   Rewrite
		target string
		path   string
		want   string
	}{
		{"nothing", Rewrite{}, "/a%2eb?x=1", "/a.b", "/a%2eb?x=1"},
		{"strip", Rewrite{StripPrefix: "/api"}, "/api/users?x=1", "/api/users", "/users?x=1"},
		{"strip all", Rewrite{StripPrefix: "/api/"}, "/api", "/api", "/"},
		{"not inside a segment", Rewrite{StripPrefix: "/api"}, "/apis/x", "/apis/x", "/apis/x"},
		{"strip all, then add", Rewrite{StripPrefix: "/api", AddPrefix: "/v2"}, "/api", "/api", "/v2"},
		{"add", Rewrite{AddPrefix: "/v2"}, "/x", "/x", "/v2/x"},
		{"strip, then add", Rewrite{StripPrefix: "/api", AddPrefix: "/v2/"}, "/api/x", "/api/x", "/v2/x"},
		{"replace", Rewrite{Replace: Replace{From: `re:^/u/(\d+)$`, To: "/users/$1/show"}}, "/u/42", "/u/42", "/users/42/show"},
		{"replace, literally", Rewrite{Replace: Replace{From: "/a.b", To: "/$1"}}, "/a.b", "/a.b", "/$1"},
		{"escaped again", Rewrite{StripPrefix: "/api"}, "/api/a%20b%C3%A9", "/api/a bé", "/a%20b%C3%A9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := newRewriter(c.spec)
			if err != nil {
				t.Fatal(err)
			}
			x := &Exchange{route: &route{rewrite: w}}
			x.Request.Target, x.Request.Path = []byte(c.target), []byte(c.path)
			if _, query, ok := strings.Cut(c.target, "?"); ok {
				x.Request.Query = []byte(query)
			}
			x.rewrite()
			if string(x.forward) != c.want {
				t.Errorf("got %s, want %s", x.forward, c.want)
			}
		})
	}
}

func TestTrailersAreWanted(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want bool
	}{
		{nil, false},
		{[]string{"TE: trailers", "Connection: TE"}, true},
		{[]string{"te: deflate;q=0.5, Trailers"}, true},
		{[]string{"TE: gzip", "TE: trailers"}, true},
		{[]string{"TE: gzip"}, false},
		{[]string{"TE: trailers;q=0"}, false},
		{[]string{"X-TE: trailers"}, false},
	} {
		x := exchangeOf("192.0.2.1", "", c.in...)
		if got := x.wantsTrailers(); got != c.want {
			t.Errorf("%q: %v", c.in, got)
		}
		if s := lines(x.upstreamFields("a")); strings.Contains(strings.ToLower(s), "\nte:") {
			t.Errorf("TE was passed on: %s", s)
		}
	}
}
