package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/edgecache"
	"github.com/sluice-edge/sluice/routing"
)

// newCache is a cache of 16 MiB.
func newCache(t testing.TB) *edgecache.Cache {
	t.Helper()
	store, err := edgecache.NewMemory(16 << 20)
	if err != nil {
		t.Fatal(err)
	}
	purges, err := edgecache.NewPurges(edgecache.PurgesConfig{Memory: store, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := edgecache.New(edgecache.Config{Store: store, Purger: purges, Underway: 16 << 20, Revalidations: 4})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// defaultCache is what `cache: true` means, changed by edits.
func defaultCache(edits ...func(*Cache)) *Cache {
	var c Cache
	c.SetDefaults()
	for _, edit := range edits {
		edit(&c)
	}
	return &c
}

// cached serves everything from an origin through a cache.
func cached(t *testing.T, h http.HandlerFunc, edits ...func(*Cache)) (addr string, p *Proxy) {
	t.Helper()
	return serveProxy(t, Spec{
		Cache:    newCache(t),
		Routes:   []Route{{Name: "all", Match: routing.Match{Path: "/*"}, Backend: "up", Cache: defaultCache(edits...)}},
		Backends: backends(map[string]any{"up": to(origin(t, h))}),
	})
}

// An answer is a response as a client read it.
type answer struct {
	*http.Response
	body string
	err  error
}

// cacheStatus is what the cache says of itself, without a lifetime.
func (a answer) cacheStatus() string {
	s, _, _ := strings.Cut(a.Header.Get("Cache-Status"), "; ttl=")
	return strings.TrimPrefix(s, "sluice; ")
}

// demand sends one request over a connection of its own.
func demand(t *testing.T, addr, method, target string, fields ...string) answer {
	t.Helper()
	a := try(addr, method, target, "", fields...)
	if a.err != nil {
		t.Fatalf("%s %s: %v", method, target, a.err)
	}
	return a
}

func try(addr, method, target, body string, fields ...string) (a answer) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return answer{err: err}
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	head := method + " " + target + " HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	if body != "" {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if _, err := io.WriteString(c, head+"\r\n"+body); err != nil {
		return answer{err: err}
	}
	return readAnswer(c, method)
}

func readAnswer(c net.Conn, method string) (a answer) {
	a.Response, a.err = http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if a.err != nil {
		return a
	}
	b, err := io.ReadAll(a.Body)
	a.body, a.err = string(b), err
	return a
}

// says answers 200 with fields and a body, and counts.
func says(n *atomic.Int64, body string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		io.WriteString(w, body)
	}
}

func TestCacheHit(t *testing.T) {
	var n atomic.Int64
	addr, p := cached(t, says(&n, "hello", "Cache-Control: max-age=60", `ETag: "v1"`, "X-A: 1"))
	if a := demand(t, addr, "GET", "/x"); a.body != "hello" || a.cacheStatus() != "fwd=uri-miss; stored" {
		t.Fatalf("first: %q, %s", a.body, a.Header)
	}
	a := demand(t, addr, "GET", "/x")
	if a.body != "hello" || a.cacheStatus() != "hit" || a.Header.Get("Age") == "" || a.Header.Get("X-A") != "1" || a.ContentLength != 5 {
		t.Errorf("hit: %q, %s", a.body, a.Header)
	}
	if a := demand(t, addr, "HEAD", "/x"); a.body != "" || a.cacheStatus() != "hit" || a.ContentLength != 5 {
		t.Errorf("HEAD: %q, %d, %s", a.body, a.ContentLength, a.Header)
	}
	if a := demand(t, addr, "GET", "/x", `If-None-Match: "v0", W/"v1"`); a.StatusCode != 304 || a.body != "" || a.Header.Get("ETag") != `"v1"` || a.Header.Get("Content-Type") != "" {
		t.Errorf("If-None-Match: %d, %q, %s", a.StatusCode, a.body, a.Header)
	}
	if a := demand(t, addr, "GET", "/x", `If-Match: "v1"`); a.StatusCode != 200 || n.Load() != 2 {
		t.Errorf("If-Match: %d after %d requests: it is the origin's to judge", a.StatusCode, n.Load())
	}
	eventually(t, "all are counted", func() bool {
		got := p.CacheResults()
		return got["hit"] == 3 && got["miss"] == 1 && got["bypass"] == 1
	})
}

func TestCacheRanges(t *testing.T) {
	var n atomic.Int64
	addr, _ := cached(t, says(&n, "0123456789", "Cache-Control: max-age=60", `ETag: "v1"`, "Content-Type: text/x"))
	demand(t, addr, "GET", "/x")
	for _, c := range []struct {
		fields       []string
		status       int
		body, ranged string
	}{
		{[]string{"Range: bytes=2-4"}, 206, "234", "bytes 2-4/10"},
		{[]string{"Range: bytes=7-"}, 206, "789", "bytes 7-9/10"},
		{[]string{"Range: bytes=-3"}, 206, "789", "bytes 7-9/10"},
		{[]string{"Range: bytes=5-3"}, 200, "0123456789", ""},
		{[]string{"Range: lines=1-2"}, 200, "0123456789", ""},
		{[]string{"Range: bytes=10-"}, 416, "", "bytes */10"},
		{[]string{"Range: bytes=2-4", `If-Range: "v1"`}, 206, "234", "bytes 2-4/10"},
		{[]string{"Range: bytes=2-4", `If-Range: "v2"`}, 200, "0123456789", ""},
		{[]string{"Range: bytes=2-4", `If-Range: W/"v1"`}, 200, "0123456789", ""},
		{[]string{"Range: bytes=2-4", `If-None-Match: "v1"`}, 304, "", ""},
		{[]string{"Range: bytes=2-4", "Range: bytes=5-6"}, 200, "0123456789", ""},
	} {
		a := demand(t, addr, "GET", "/x", c.fields...)
		if a.StatusCode != c.status || c.status < 400 && a.body != c.body || a.Header.Get("Content-Range") != c.ranged {
			t.Errorf("%v: %d %q, Content-Range %q", c.fields, a.StatusCode, a.body, a.Header.Get("Content-Range"))
		}
	}
	a := demand(t, addr, "GET", "/x", "Range: bytes=0-1,5-6")
	if !strings.HasPrefix(a.Header.Get("Content-Type"), "multipart/byteranges; boundary=") || strings.Count(a.body, "Content-Range: bytes ") != 2 || !strings.Contains(a.body, "\r\n\r\n56\r\n") {
		t.Errorf("two ranges: %s\n%s", a.Header, a.body)
	}
	if n.Load() != 1 {
		t.Errorf("the origin was asked %d times", n.Load())
	}
}

// Parts are put together where a strong validator says that they are of one
// content, and not otherwise.
func TestCacheParts(t *testing.T) {
	const content = "abcdefghijklmnopqrstuvwxyz"
	tag := atomic.Pointer[string]{}
	set := func(s string) { tag.Store(&s) }
	var n atomic.Int64
	addr, _ := cached(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", *tag.Load())
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	})
	set(`"v1"`)
	demand(t, addr, "GET", "/x", "Range: bytes=0-9")
	demand(t, addr, "GET", "/x", "Range: bytes=10-19")
	if a := demand(t, addr, "GET", "/x", "Range: bytes=5-14"); a.body != content[5:15] || a.cacheStatus() != "hit" {
		t.Errorf("across two parts: %q, %s", a.body, a.Header)
	}
	if a := demand(t, addr, "GET", "/x", "Range: bytes=15-24"); a.body != content[15:25] || a.cacheStatus() == "hit" {
		t.Errorf("beyond what is there: %q, %s", a.body, a.Header)
	}
	demand(t, addr, "GET", "/x", "Range: bytes=25-")
	if a := demand(t, addr, "GET", "/x"); a.body != content || a.cacheStatus() != "hit" || a.StatusCode != 200 {
		t.Errorf("all of it: %d %q, %s", a.StatusCode, a.body, a.Header)
	}
	before := n.Load()
	set(`"v2"`)
	demand(t, addr, "GET", "/y", "Range: bytes=0-9")
	set(`"v3"`)
	demand(t, addr, "GET", "/y", "Range: bytes=10-19")
	if a := demand(t, addr, "GET", "/y", "Range: bytes=0-4"); a.cacheStatus() == "hit" {
		t.Errorf("parts of two contents: %s", a.Header)
	}
	if n.Load() != before+3 {
		t.Errorf("%d requests for /y", n.Load()-before)
	}
}

// A gate holds an origin's answers until it opens.
type gate struct {
	arrived chan struct{}
	open    chan struct{}
}

func newGate() gate { return gate{make(chan struct{}, 4096), make(chan struct{})} }

// A thousand who ask at once have the origin asked once, and read the answer
// while it is still arriving.
func TestCacheCollapses(t *testing.T) {
	const clients = 1000
	var n atomic.Int64
	begin, end := newGate(), newGate()
	addr, p := cached(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		begin.arrived <- struct{}{}
		<-begin.open
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "first,")
		w.(http.Flusher).Flush()
		<-end.open
		io.WriteString(w, "last")
	})
	var wg sync.WaitGroup
	var got, halves atomic.Int64
	for range clients {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(60 * time.Second))
			io.WriteString(c, "GET /x HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Error(err)
				return
			}
			half := make([]byte, 6)
			if _, err := io.ReadFull(res.Body, half); err == nil && string(half) == "first," {
				halves.Add(1)
			}
			if rest, err := io.ReadAll(res.Body); err == nil && string(rest) == "last" {
				got.Add(1)
			}
		})
	}
	<-begin.arrived
	eventually(t, "all wait", func() bool { return p.stats.inFlight.Load() == clients })
	close(begin.open)
	eventually(t, "all have the first half", func() bool { return halves.Load() == clients })
	close(end.open)
	wg.Wait()
	if got.Load() != clients || n.Load() != 1 {
		t.Errorf("%d of %d clients got all, of %d requests to the origin", got.Load(), clients, n.Load())
	}
	if a := demand(t, addr, "GET", "/x"); a.cacheStatus() != "hit" || a.body != "first,last" {
		t.Errorf("afterwards: %q, %s", a.body, a.Header)
	}
}

// What turns out not to be storable releases all who wait, at once and in
// parallel, and is remembered.
func TestCacheReleases(t *testing.T) {
	const clients = 50
	var n atomic.Int64
	first, others := newGate(), newGate()
	addr, p := cached(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "private")
		if n.Add(1) == 1 {
			first.arrived <- struct{}{}
			<-first.open
		} else {
			others.arrived <- struct{}{}
			<-others.open
		}
		fmt.Fprintf(w, "for %s", r.Header.Get("X-Who"))
	})
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			want := fmt.Sprintf("for %d", i)
			if a := try(addr, "GET", "/x", "", fmt.Sprintf("X-Who: %d", i)); a.err != nil || a.body != want {
				t.Errorf("client %d got %q, %v", i, a.body, a.err)
			}
		})
	}
	<-first.arrived
	eventually(t, "all wait", func() bool { return p.stats.inFlight.Load() == clients })
	close(first.open)
	for range clients - 1 { // all of them are at the origin at the same time
		receive(t, "a released request", others.arrived)
	}
	close(others.open)
	wg.Wait()
	if n.Load() != clients {
		t.Errorf("%d requests for %d clients", n.Load(), clients)
	}
	eventually(t, "all are counted", func() bool { return p.CacheResults()["uncacheable"] == clients })
}

// A response that breaks off is not stored, and all who read it can tell.
func TestCacheBrokenFetch(t *testing.T) {
	var n atomic.Int64
	addr, _ := cached(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "100")
		}
		io.WriteString(w, "half")
		if n.Add(1) == 1 {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/length" {
			io.WriteString(w, strings.Repeat(".", 96))
		}
	})
	for _, path := range []string{"/length", "/chunked"} {
		n.Store(0)
		if a := try(addr, "GET", path, ""); a.err == nil {
			t.Errorf("%s: a truncated response looked whole: %q", path, a.body)
		}
		if a := demand(t, addr, "GET", path); a.cacheStatus() == "hit" {
			t.Errorf("%s: it was stored: %q", path, a.body)
		}
		if a := demand(t, addr, "GET", path); a.cacheStatus() != "hit" {
			t.Errorf("%s: the whole one was not stored: %s", path, a.Header)
		}
	}
}

// The client that caused a fetch leaves; the others, and the cache, get it whole.
func TestCacheLeaderLeaves(t *testing.T) {
	var n atomic.Int64
	begin, end := newGate(), newGate()
	addr, p := cached(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		begin.arrived <- struct{}{}
		<-end.open
		io.WriteString(w, "b")
	})
	leader, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(leader, "GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n")
	receive(t, "the fetch", begin.arrived)
	got := make(chan answer, 1)
	go func() { got <- try(addr, "GET", "/x", "") }()
	eventually(t, "the other waits", func() bool { return p.stats.inFlight.Load() == 2 })
	leader.(*net.TCPConn).SetLinger(0)
	leader.Close()
	close(end.open)
	if a := receive(t, "an answer", got); a.err != nil || a.body != "ab" {
		t.Errorf("the other got %q, %v", a.body, a.err)
	}
	eventually(t, "it is stored", func() bool { return demand(t, addr, "GET", "/x").cacheStatus() == "hit" })
	if n.Load() != 1 {
		t.Errorf("%d requests", n.Load())
	}
}

// A content that turns out too large goes to everybody all the same, within a
// bounded memory, and is not stored.
func TestCacheTooLarge(t *testing.T) {
	const size = 5 << 20
	var n atomic.Int64
	addr, p := cached(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.Header().Set("Cache-Control", "max-age=60")
		piece := make([]byte, 64<<10)
		for range size / len(piece) {
			w.Write(piece)
			w.(http.Flusher).Flush()
		}
	}, func(c *Cache) { c.MaxObject = 1 << 20 })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if a := try(addr, "GET", "/x", ""); a.err != nil || len(a.body) != size {
				t.Errorf("%d bytes, %v", len(a.body), a.err)
			}
		})
	}
	wg.Wait()
	eventually(t, "nothing is under way", func() bool { return p.gen.Load().cache.Underway() == 0 })
	if a := demand(t, addr, "GET", "/x"); a.cacheStatus() == "hit" {
		t.Error("it was stored")
	}
}

func TestCacheRevalidates(t *testing.T) {
	var n, validated atomic.Int64
	addr, p := cached(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("X-N", fmt.Sprint(n.Load()))
		if r.Header.Get("If-None-Match") == `"v1"` {
			validated.Add(1)
			w.WriteHeader(304)
			return
		}
		io.WriteString(w, "hello")
	})
	demand(t, addr, "GET", "/x")
	if a := demand(t, addr, "GET", "/x"); a.body != "hello" || a.Header.Get("X-N") != "2" || a.cacheStatus() != "fwd=stale; fwd-status=304" {
		t.Errorf("%q, %s", a.body, a.Header)
	}
	if a := demand(t, addr, "GET", "/x", `If-None-Match: "v1"`); a.StatusCode != 304 || a.Header.Get("X-N") != "3" {
		t.Errorf("%d, %s", a.StatusCode, a.Header)
	}
	eventually(t, "both are counted", func() bool { return p.CacheResults()["revalidated"] == 2 })
	if validated.Load() != 2 {
		t.Errorf("%d validations", validated.Load())
	}
}

// While a stale response is validated it is served, once in the background for
// all; when the origin fails it is served as well.
func TestCacheStale(t *testing.T) {
	var n atomic.Int64
	var failing atomic.Bool
	slow := newGate()
	addr, _ := cached(t, func(w http.ResponseWriter, r *http.Request) {
		switch i := n.Add(1); {
		case failing.Load():
			panic(http.ErrAbortHandler)
		case i == 2:
			<-slow.open
		}
		w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=60, stale-if-error=60")
		fmt.Fprintf(w, "%d", n.Load())
	})
	demand(t, addr, "GET", "/x")
	for range 20 {
		if a := demand(t, addr, "GET", "/x"); a.body != "1" || a.cacheStatus() != "hit" {
			t.Fatalf("%q, %s", a.body, a.Header)
		}
	}
	if n.Load() > 2 {
		t.Errorf("%d requests", n.Load())
	}
	close(slow.open)
	eventually(t, "the new one is there", func() bool { return demand(t, addr, "GET", "/x").body != "1" })
	failing.Store(true)
	if a := demand(t, addr, "GET", "/x"); a.StatusCode != 200 {
		t.Errorf("while the origin fails: %d", a.StatusCode)
	}
}

// What stands in for an origin that was asked and failed is no hit (RFC 9211,
// section 2.1), however it was asked.
func TestCacheStaleIfErrorSaysWhy(t *testing.T) {
	var failing atomic.Bool
	addr, p := cached(t, func(w http.ResponseWriter, r *http.Request) {
		if failing.Load() {
			w.WriteHeader(503)
			return
		}
		if r.URL.Path == "/aging" {
			w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=60")
		} else {
			w.Header().Set("Cache-Control", "max-age=0, stale-if-error=60")
		}
		io.WriteString(w, "hello")
	})
	demand(t, addr, "GET", "/aging")
	if a := demand(t, addr, "GET", "/aging"); a.cacheStatus() != "hit" {
		t.Errorf("served before it was asked for: %s", a.Header)
	}
	demand(t, addr, "GET", "/x")
	failing.Store(true)
	for _, method := range []string{"GET", "HEAD"} {
		a := demand(t, addr, method, "/x")
		if got := a.Header.Get("Cache-Status"); a.StatusCode != 200 || !strings.HasPrefix(got, "sluice; fwd=stale; ttl=") {
			t.Errorf("%s: %d, %q", method, a.StatusCode, got)
		}
	}
	if got := p.CacheResults()["stale"]; got != 3 { // both kinds, each once
		t.Errorf("%d counted as stale", got)
	}
}

func TestCacheInvalidation(t *testing.T) {
	var n atomic.Int64
	addr, _ := cached(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Cache-Groups", `"g1"`)
		if r.Method == "POST" && r.URL.Path == "/group" {
			w.Header().Set("Cache-Group-Invalidation", `"g1"`)
		}
		if r.URL.Path == "/moves" {
			w.Header().Set("Location", "/x")
		}
		if r.Header.Get("X-Fail") != "" {
			w.WriteHeader(500)
		}
		io.WriteString(w, "hello")
	})
	for _, c := range []struct {
		method, target string
		fields         []string
		gone           bool
	}{
		{"POST", "/x", nil, true}, {"M-SEARCH", "/x", nil, true}, {"DELETE", "/x?y=1", nil, true},
		{"OPTIONS", "/x", nil, false}, {"POST", "/z", nil, false}, {"POST", "/x", []string{"X-Fail: 1"}, false},
		{"PUT", "/moves", nil, true}, {"POST", "/group", nil, true},
	} {
		demand(t, addr, "GET", "/x")
		if a := demand(t, addr, "GET", "/x"); a.cacheStatus() != "hit" {
			t.Fatalf("before %s %s: %s", c.method, c.target, a.Header)
		}
		demand(t, addr, c.method, c.target, c.fields...)
		if a := demand(t, addr, "GET", "/x"); (a.cacheStatus() != "hit") != c.gone && c.target != "/x?y=1" {
			t.Errorf("%s %s %v: %s", c.method, c.target, c.fields, a.Header)
		}
	}
}
