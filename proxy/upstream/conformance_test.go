package upstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// carriers are the ways to a target that a call must not tell apart.
var carriers = []string{"http1", "http1 TLS", "h2c", "h2c unix", "h2"}

// conform runs a behaviour over every carrier. Each gets a start of its own, for
// which it gives the handler of its target and a Config without where that is.
func conform(t *testing.T, f func(t *testing.T, start func(Config, http.HandlerFunc) *Pool)) {
	for _, name := range carriers {
		t.Run(name, func(t *testing.T) {
			f(t, func(cfg Config, h http.HandlerFunc) *Pool { return startTarget(t, name, cfg, h) })
		})
	}
}

func startTarget(t testing.TB, carrier string, cfg Config, h http.Handler) *Pool {
	t.Helper()
	network, address := "tcp", "127.0.0.1:0"
	if strings.HasSuffix(carrier, "unix") {
		network, address = "unix", filepath.Join(t.TempDir(), "target")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, Protocols: new(http.Protocols), DisableGeneralOptionsHandler: true}
	cfg.Protocol, _, _ = strings.Cut(carrier, " ")
	switch {
	case network == "unix":
		cfg.URL = "unix:" + address
	case strings.Contains(carrier, "TLS"), carrier == "h2":
		ca, cert := authority(t, "upstream.test")
		cfg.URL, cfg.TLS.CAFile, cfg.TLS.ServerName = "https://"+l.Addr().String(), ca, "upstream.test"
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	default:
		cfg.URL = "http://" + l.Addr().String()
	}
	server.Protocols.SetHTTP1(cfg.Protocol == "http1")
	server.Protocols.SetHTTP2(cfg.Protocol == "h2")
	server.Protocols.SetUnencryptedHTTP2(cfg.Protocol == "h2c")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if server.TLSConfig != nil {
			server.ServeTLS(l, "", "")
		} else {
			server.Serve(l)
		}
	}()
	t.Cleanup(func() { server.Close(); <-ended })
	return pool(t, cfg)
}

// wantIdle waits until no call has a connection of p, and says how many are
// left open.
func wantIdle(t *testing.T, p *Pool, open int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d open connections, none in use", open), func() bool {
		s := p.Stats()
		return s.InUse == 0 && s.Open == open && p.busy.Load() == 0
	})
}

func TestConformRequest(t *testing.T) {
	conform(t, func(t *testing.T, start func(Config, http.HandlerFunc) *Pool) {
		p := start(Config{}, func(w http.ResponseWriter, r *http.Request) {
			var b strings.Builder
			fmt.Fprintf(&b, "%s %s %s %d", r.Method, r.RequestURI, r.Host, r.ContentLength)
			for _, name := range []string{"User-Agent", "Accept-Encoding", "X-Many", "Cookie", "Content-Length", "Te"} {
				fmt.Fprintf(&b, " %s", strings.Join(r.Header[name], "+"))
			}
			io.WriteString(w, b.String())
		})
		for _, x := range []struct{ method, target, fields, want string }{
			{"GET", "/", "", "GET / h 0      "},
			{"GET", "/a%2fb/../c?x=%20;y&", "", "GET /a%2fb/../c?x=%20;y& h 0      "},
			{"GET", "//evil/x", "", "GET //evil/x h 0      "},
			{"OPTIONS", "*", "", "OPTIONS * h 0      "},
			{"PURGE", "/?", "", "PURGE /? h 0      "},
			{"GET", "/", "X-Many: a|x-many: b|X-MANY: c|User-Agent: me|Accept-Encoding: br", "GET / h 0 me br a+b+c   "},
			{"GET", "/", "Cookie: a=1; b=2", "GET / h 0    a=1; b=2  "},
		} {
			c := request(x.method, x.target)
			for _, line := range strings.Split(x.fields, "|") {
				if name, value, ok := strings.Cut(line, ": "); ok {
					c.Request.Fields = append(c.Request.Fields, Field{[]byte(name), []byte(value)})
				}
			}
			must(t, c, p)
			got, err := body(t, c)
			if got = strings.Replace(got, "a=1+b=2", "a=1; b=2", 1); err != nil || got != x.want {
				t.Errorf("%s %s: the target saw %q, %v; want %q", x.method, x.target, got, err, x.want)
			}
			c.Close()
		}
		wantIdle(t, p, 1)
	})
}

func TestConformResponse(t *testing.T) {
	big := strings.Repeat("0123456789", 200000)
	conform(t, func(t *testing.T, start func(Config, http.HandlerFunc) *Pool) {
		p := start(Config{}, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = nil
			w.Header().Set("Content-Type", "x/y")
			switch r.URL.Path {
			case "/length":
				w.Header().Set("Content-Length", "2")
				io.WriteString(w, "ok")
			case "/many":
				w.Header()["X-B"] = []string{"2", "1"}
				w.Header()["X-A"] = []string{"0"}
				w.Header().Set("Content-Length", "0")
			case "/unknown":
				io.WriteString(w, "a")
				w.(http.Flusher).Flush()
				io.WriteString(w, "b")
			case "/big":
				io.WriteString(w, big)
			case "/204":
				w.WriteHeader(204)
			case "/304":
				w.Header().Del("Content-Type")
				w.Header().Set("Etag", `"1"`)
				w.WriteHeader(304)
			case "/trailer":
				w.Header().Set("Trailer", "X-None, X-Sum")
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
				w.Header()["X-Sum"] = []string{"1", "2"}
				w.Header().Set(http.TrailerPrefix+"X-Also", "3")
			case "/hints":
				w.Header().Set("Link", "x")
				w.WriteHeader(103)
				w.WriteHeader(103)
				w.Header().Del("Link")
				w.Header().Set("Content-Length", "2")
				io.WriteString(w, "ok")
			}
		})
		for _, x := range []struct {
			method, target, head string
			length               int64
			body, trailer        string
		}{
			{"GET", "/length", "200 Content-Length=2;Content-Type=x/y;", 2, "ok", ""},
			{"HEAD", "/length", "200 Content-Length=2;Content-Type=x/y;", 0, "", ""},
			{"GET", "/many", "200 Content-Length=0;Content-Type=x/y;X-A=0;X-B=2;X-B=1;", 0, "", ""},
			{"GET", "/unknown", "200 Content-Type=x/y;", -1, "ab", ""},
			{"GET", "/big", "200 Content-Type=x/y;", -1, big, ""},
			{"GET", "/204", "204 Content-Type=x/y;", 0, "", ""},
			{"GET", "/304", "304 Etag=\"1\";", 0, "", ""},
			{"GET", "/trailer", "200 Content-Type=x/y;Trailer=X-None, X-Sum;", -1, "x", "X-Also=3;X-Sum=1;X-Sum=2;"},
			{"GET", "/hints", "200 Content-Length=2;Content-Type=x/y;", 2, "ok", ""},
		} {
			for _, via := range []string{"Read", "WriteTo", "splice"} {
				c := request(x.method, x.target)
				must(t, c, p)
				head := fmt.Sprint(c.Status, " ", sortedString(c.Response.Fields))
				if head != x.head || c.Response.ContentLength != x.length {
					t.Errorf("%s %s: head is %q, length %d; want %q, %d", x.method, x.target, head, c.Response.ContentLength, x.head, x.length)
				}
				got, err := take(t, c, via)
				if err != nil || got != x.body {
					t.Errorf("%s: body of %d bytes, %v; want %d", x.target, len(got), err, len(x.body))
				}
				if trailer := sortedString(c.Trailers()); trailer != x.trailer {
					t.Errorf("%s: trailer is %q; want %q", x.target, trailer, x.trailer)
				}
				c.Close()
			}
		}
		wantIdle(t, p, 1)
	})
}

func TestConformBodies(t *testing.T) {
	big := strings.Repeat("0123456789", 300000)
	conform(t, func(t *testing.T, start func(Config, http.HandlerFunc) *Pool) {
		p := start(Config{Idle: patience}, func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%d %v %d %s %s", r.ContentLength, err, len(b), r.Trailer.Get("X-Sum"), b[:min(len(b), 4)])
		})
		trailer := func() []Field { return []Field{{[]byte("X-Sum"), []byte("7")}} }
		for _, x := range []struct {
			name   string
			body   io.Reader
			length int
			atHand bool
			want   string
		}{
			{"length", strings.NewReader("body and more"), 4, false, "4 <nil> 4  body"},
			{"length at hand", strings.NewReader("body and more"), 4, true, "4 <nil> 4  body"},
			{"large", strings.NewReader(big), len(big), false, "3000000 <nil> 3000000  0123"},
			{"large at hand", strings.NewReader(big), len(big), true, "3000000 <nil> 3000000  0123"},
			{"announced but empty", nil, 0, false, "0 <nil> 0  "},
			{"unknown", strings.NewReader("body"), -1, false, "-1 <nil> 4 7 body"},
			{"unknown at hand", strings.NewReader("body"), -1, true, "-1 <nil> 4 7 body"},
			{"unknown, none", nil, -1, true, "-1 <nil> 0 7 "},
			{"unknown and large", strings.NewReader(big), -1, false, "-1 <nil> 3000000 7 0123"},
			{"unknown and large at hand", strings.NewReader(big), -1, true, "-1 <nil> 3000000 7 0123"},
		} {
			c := post(x.body, x.length)
			c.BodyAtHand = x.atHand
			c.Request.Trailer = trailer
			if x.length < 0 { // net/http's HTTP/1 server drops what was not announced
				c.Request.Fields = append(c.Request.Fields, Field{[]byte("Trailer"), []byte("X-Sum")})
			}
			must(t, c, p)
			if got, err := body(t, c); err != nil || got != x.want {
				t.Errorf("%s: the target saw %q, %v; want %q", x.name, got, err, x.want)
			}
			if !c.RequestSent() {
				t.Errorf("%s: not sent", x.name)
			}
			c.Close()
		}
		wantIdle(t, p, 1)
	})
}

func TestConformTimeouts(t *testing.T) {
	for _, x := range []struct {
		name, path string
		cfg        Config
		call       func() *Call
		err        string
	}{
		{"header", "/silent", Config{Header: soon}, func() *Call { return get("/silent") }, "http_response_timeout"},
		{"header after a body", "/silent", Config{Header: soon}, func() *Call { return post(strings.NewReader("body"), 4) }, "http_response_timeout"},
		{"header after a body of unknown length", "/silent", Config{Header: soon}, func() *Call { return post(strings.NewReader("body"), -1) }, "http_response_timeout"},
		{"deadline", "/silent", Config{}, func() *Call {
			c := get("/silent")
			c.Request.Deadline = time.Now().Add(3 * soon)
			return c
		}, "http_response_timeout"},
		{"deadline during the upload", "/silent", Config{Idle: time.Hour}, func() *Call {
			g := newGate()
			c := post(g, 4)
			c.Interrupt = g.interrupt
			c.Request.Deadline = time.Now().Add(3 * soon)
			return c
		}, "http_response_timeout"},
		{"deadline long ago", "/silent", Config{}, func() *Call {
			c := get("/silent")
			c.Request.Deadline = time.Now().Add(-time.Hour)
			return c
		}, "http_response_timeout"},
		{"stalled upload", "/silent", Config{Idle: soon}, func() *Call { return post(zeros{}, 1<<40) }, "connection_write_timeout"},
		{"stalled upload of unknown length", "/silent", Config{Idle: soon}, func() *Call { return post(zeros{}, -1) }, "connection_write_timeout"},
		{"idle body", "/begin", Config{Idle: soon}, func() *Call { return get("/begin") }, "connection_read_timeout"},
		{"deadline in the body", "/begin", Config{}, func() *Call {
			c := get("/begin")
			c.Request.Deadline = time.Now().Add(patience / 50)
			return c
		}, "connection_read_timeout"},
	} {
		t.Run(x.name, func(t *testing.T) {
			conform(t, func(t *testing.T, start func(Config, http.HandlerFunc) *Pool) {
				left := make(chan bool, 8)
				over := make(chan bool)
				t.Cleanup(func() { close(over) })
				p := start(x.cfg, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/begin" {
						io.WriteString(w, "a")
						w.(http.Flusher).Flush()
					}
					select {
					case <-r.Context().Done():
						left <- true
					case <-over:
					}
				})
				c := x.call()
				err := do(t, c, p)
				if x.path == "/begin" {
					if err != nil {
						t.Fatal(err)
					}
					_, err = body(t, c)
				}
				if e := wantError(t, err, x.err); !e.Timeout() || e.Stale || e.Canceled || e.RequestBody {
					t.Errorf("%+v", e)
				}
				within(t, func() { c.Close() })
				if p.Stats().Dials > 0 && c.Body == nil { // net/http sees no departure before it has read the body
					within(t, func() { <-left })
				}
			})
		})
	}
}

func TestConformCancel(t *testing.T) {
	cause := errors.New("the cause")
	for _, when := range []string{"before", "head", "body", "upload", "upload after the head", "flood"} {
		t.Run(when, func(t *testing.T) {
			conform(t, func(t *testing.T, start func(Config, http.HandlerFunc) *Pool) {
				begun, left, over := make(chan bool, 1), make(chan bool, 1), make(chan bool)
				t.Cleanup(func() { close(over) })
				p := start(Config{Idle: patience, Header: patience}, func(w http.ResponseWriter, r *http.Request) {
					if when == "body" || when == "upload after the head" {
						io.WriteString(w, "a")
						http.NewResponseController(w).EnableFullDuplex()
						w.(http.Flusher).Flush()
					}
					begun <- true
					if r.Method == "POST" && when != "flood" {
						io.Copy(io.Discard, r.Body)
					} else {
						select {
						case <-r.Context().Done():
						case <-over: // net/http sees no departure before it has read the body
						}
					}
					left <- true
				})
				c := get("/")
				g := newGate()
				switch when {
				case "upload", "upload after the head":
					c = post(g, -1)
					c.Interrupt = g.interrupt
				case "flood":
					c = post(zeros{}, -1)
				}
				if when == "before" {
					c.Cancel(cause)
				} else {
					go func() { <-begun; c.Cancel(cause); c.Cancel(nil) }()
				}
				err := do(t, c, p)
				if when == "body" || when == "upload after the head" {
					if err == nil {
						_, err = body(t, c)
					}
				}
				if e := wantError(t, err, "connection_terminated"); !e.Canceled || e.Err != cause || e.Unsent != (when == "before") {
					t.Errorf("%+v", e)
				}
				within(t, func() { c.Close() })
				if when != "before" && when != "flood" {
					within(t, func() { <-left })
				}
				c.Request = get("/").Request
				c.Cancel(cause) // of a closed call: nothing
				if when == "before" {
					go func() { <-begun; c.Cancel(nil) }()
					wantError(t, do(t, c, p), "connection_terminated")
				}
			})
		})
	}
}

// TestConformEarlyResponse has the target answer while the body is on its way.
func TestConformEarlyResponse(t *testing.T) {
	conform(t, func(t *testing.T, start func(Config, http.HandlerFunc) *Pool) {
		p := start(Config{Idle: patience}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "4")
			w.Header().Set("Connection", "close")
			w.WriteHeader(413)
			io.WriteString(w, "much")
		})
		for _, length := range []int{1 << 40, -1} {
			g := newGate()
			g.feed <- "some"
			for _, c := range []*Call{post(g, length), post(zeros{}, length)} {
				if c.Body == io.Reader(g) {
					c.Interrupt = g.interrupt
				}
				must(t, c, p)
				if c.Status != 413 || c.RequestSent() {
					t.Errorf("status %d, sent %v", c.Status, c.RequestSent())
				}
				wantBody(t, c, "much")
				within(t, func() { c.Close() })
			}
		}
	})
}

func TestConformBodyFails(t *testing.T) {
	bad := errors.New("bad")
	conform(t, func(t *testing.T, start func(Config, http.HandlerFunc) *Pool) {
		seen := make(chan error, 1)
		p := start(Config{Idle: patience}, func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			seen <- err
		})
		for _, x := range []struct {
			length int
			end    error
			want   error
		}{{5, bad, bad}, {-1, bad, bad}, {5, io.EOF, errShortBody}} {
			c := post(io.MultiReader(strings.NewReader("ab"), failingReader{x.end}), x.length)
			e := wantError(t, do(t, c, p), "http_request_error")
			if !e.RequestBody || !errors.Is(e, x.want) || e.Stale || e.Unsent {
				t.Errorf("%+v", e)
			}
			within(t, func() {
				if err := <-seen; err == nil {
					t.Error("the target took the body for whole")
				}
			})
		}
		c := post(failingReader{bad}, 5)
		c.BodyAtHand = true
		if e := wantError(t, do(t, c, p), "http_request_error"); !e.RequestBody || !e.Unsent {
			t.Errorf("%+v", e)
		}
	})
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// TestConformBackPressure has either side produce without end while the other
// takes nothing: what is on the way must stop growing.
func TestConformBackPressure(t *testing.T) {
	const most = 16 << 20 // the kernel's buffers included
	conform(t, func(t *testing.T, start func(Config, http.HandlerFunc) *Pool) {
		var written atomic.Int64
		stop := make(chan bool)
		p := start(Config{Idle: patience}, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				<-stop
				return
			}
			for b := make([]byte, 1<<16); ; {
				n, err := w.Write(b)
				if written.Add(int64(n)); err != nil {
					return
				}
			}
		})
		stalls := func(what string, n *atomic.Int64) {
			t.Helper()
			end := time.Now().Add(patience)
			for last, same := int64(-1), 0; same < 20; time.Sleep(5 * time.Millisecond) { // lint:sleep nothing tells that nothing happens
				now := n.Load()
				if now > most || time.Now().After(end) {
					t.Fatalf("%s: %d bytes and no end", what, now)
				}
				if same++; now != last || now == 0 {
					last, same = now, 0
				}
			}
		}
		c := get("/")
		must(t, c, p)
		stalls("response", &written)
		if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil {
			t.Error(err)
		}
		within(t, func() { c.Close() })

		up := &counted{}
		c = post(up, -1)
		done := make(chan error, 1)
		go func() { done <- c.Do(p) }()
		stalls("request", &up.n)
		close(stop)
		within(t, func() {
			if err := <-done; err != nil && c.Status != 200 {
				t.Log(err) // net/http may reset what it does not read
			}
			c.Close()
		})
	})
}

// counted is zeros that are counted.
type counted struct{ n atomic.Int64 }

func (c *counted) Read(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }

// TestConformBreaks has the target break off.
func TestConformBreaks(t *testing.T) {
	conform(t, func(t *testing.T, start func(Config, http.HandlerFunc) *Pool) {
		p := start(Config{}, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/length":
				w.Header().Set("Content-Length", "100")
				fallthrough
			case "/unknown":
				io.WriteString(w, "some")
				w.(http.Flusher).Flush()
			case "/long":
				w.Header().Set("X", strings.Repeat("x", 80<<10))
				return
			case "/interims":
				for range 17 {
					w.WriteHeader(103)
				}
				return
			case "/nobody":
				w.Header().Set("Content-Length", "100")
				return
			}
			panic(http.ErrAbortHandler)
		})
		for _, x := range []struct{ target, do, read string }{
			{"/head", "connection_terminated", ""},
			{"/length", "", "http_response_incomplete"},
			{"/unknown", "", "http_response_incomplete"},
			{"/nobody", "", "http_response_incomplete"},
			{"/long", "http_response_header_section_size", ""},
			{"/interims", "http_protocol_error", ""},
		} {
			c := get(x.target)
			err := do(t, c, p)
			if x.do != "" {
				if e := wantError(t, err, x.do); e.Unsent || e.Canceled || e.Stale {
					t.Errorf("%s: %+v", x.target, e)
				}
				continue
			}
			if err != nil {
				t.Fatal(x.target, err)
			}
			_, err = body(t, c)
			if err == nil {
				t.Fatal(x.target, "is whole")
			}
			wantError(t, err, x.read)
			if _, again := c.Read(make([]byte, 1)); again != err {
				t.Errorf("%s: then %v", x.target, again)
			}
			c.Close()
		}
	})
}

func TestConformRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	for _, cfg := range []Config{{URL: "http://" + address}, {URL: "http://" + address, Protocol: "h2c"}, {URL: "https://" + address, Protocol: "h2"}} {
		p := pool(t, cfg)
		if e := wantError(t, do(t, get("/"), p), "connection_refused"); !e.Unsent {
			t.Errorf("%+v", e)
		}
		wantStats(t, p, 0, 0, 1, 0)
	}
}

// TestConformTime has time pass that is not the target's, and a call outlive
// the deadline it began with.
func TestConformTime(t *testing.T) {
	conform(t, func(t *testing.T, start func(Config, http.HandlerFunc) *Pool) {
		proceed := make(chan bool)
		p := start(Config{Header: time.Hour, Idle: time.Hour}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "4")
			io.WriteString(w, "so")
			w.(http.Flusher).Flush()
			select {
			case <-proceed:
				io.WriteString(w, "me")
			case <-r.Context().Done():
			}
		})
		later := func() { p.expire(p.t.now() + int64(2*time.Hour)) }
		c := get("/")
		must(t, c, p)
		later() // the caller comes back to Read late
		b := make([]byte, 2)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		later()
		proceed <- true
		wantBody(t, c, "me")
		later()
		must(t, c, p) // closes what came before
		c.Extend(time.Now().Add(-time.Second))
		_, err := body(t, c)
		wantError(t, err, "connection_read_timeout")
		c.Close()
		c.Extend(time.Time{})
		c.Reset()
		if c.Request.Method != nil || c.Response.Fields != nil || c.Status != 0 {
			t.Error("not reset")
		}
		if _, err := c.Read(b); err == nil {
			t.Error("a closed call is read")
		}
		if _, whole := c.Buffered(); whole {
			t.Error("a closed call has a body")
		}
	})
}
