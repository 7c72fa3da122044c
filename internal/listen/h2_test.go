package listen

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// echo2 is echo for HTTP/2.
var echo2 = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var v *Violation
	if errors.As(err, &v) {
		w.WriteHeader(v.Status)
	}
	fmt.Fprintf(w, "%s %s %s %s", r.Proto, r.Method, r.RequestURI, body)
})

// ways2 runs f over both kinds of HTTP/2.
func ways2(t *testing.T, f func(t *testing.T, way Config)) {
	t.Parallel() // http2.Server takes its time to say GOAWAY
	t.Run("h2c", func(t *testing.T) { t.Parallel(); f(t, Config{HTTP2: true}) })
	t.Run("h2", func(t *testing.T) { t.Parallel(); f(t, Config{HTTP2: true, TLS: standardTLS(t)}) })
}

// with2 is cfg on this way.
func (way Config) with2(cfg Config) Config {
	cfg.TLS, cfg.HTTP2 = way.TLS, way.HTTP2
	return cfg
}

// browser is a client of net/http that speaks HTTP/2 only.
func browser(t testing.TB, s *Server) (client *http.Client, url string) {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(tr.CloseIdleConnections)
	if s.limits.Load().tls != nil {
		tr.Protocols.SetHTTP2(true)
		return &http.Client{Transport: tr, Timeout: patience}, "https://" + s.Addr().String()
	}
	tr.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: tr, Timeout: patience}, "http://" + s.Addr().String()
}

func wantResponse(t testing.TB, res *http.Response, err error, status int, body string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status || !strings.Contains(string(got), body) || res.ProtoMajor != 2 {
		t.Fatalf("got %s %d %q, %v; want %d %q", res.Proto, res.StatusCode, got, err, status, body)
	}
}

func TestHTTP2(t *testing.T) { ways2(t, testHTTP2) }

func testHTTP2(t *testing.T, way Config) {
	s := start(t, way, Handlers{HTTP2: face(echo2)})
	client, url := browser(t, s)
	for i := range 3 {
		res, err := client.Get(fmt.Sprintf("%s/%d?x", url, i))
		wantResponse(t, res, err, 200, fmt.Sprintf("HTTP/2.0 GET /%d?x", i))
	}
	large := strings.Repeat("0123456789abcdef", 1<<16)
	res, err := client.Post(url+"/large", "text/plain", strings.NewReader(large))
	wantResponse(t, res, err, 200, "POST /large "+large)
	if st := s.Stats(); st.HTTP2 != 1 || st.Idle+st.Active != 1 {
		t.Errorf("counted %+v", st)
	}
	until(t, "idleness", func() bool { return s.Stats().Idle == 1 })
	req, _ := http.NewRequest("GET", url, nil)
	for i := range 99 {
		req.Header[fmt.Sprintf("X-%d", i)] = []string{"v"}
	}
	res, err = client.Do(req) // with User-Agent and Accept-Encoding
	wantResponse(t, res, err, 431, "too many")
	client.CloseIdleConnections()
	until(t, "no connection", func() bool { return s.Stats() == Stats{} })
}

// On the same listener HTTP/1 is served as ever, whatever it begins with.
func TestHTTP1BesideHTTP2(t *testing.T) { ways2(t, testHTTP1BesideHTTP2) }

func testHTTP1BesideHTTP2(t *testing.T, way Config) {
	s := start(t, way, Handlers{HTTP2: face(echo2)})
	for _, method := range []string{"GET", "PUT", "P", "PR", "PRI", "PRIX"} {
		c := dial(t, s)
		for _, piece := range []string{method[:1], method[1:], " /x HTTP/1.1\r\nHost: a\r\n\r\n"} {
			c.send(piece)
		}
		c.want(200, method+" /x")
	}
	if way.TLS != nil {
		return // ALPN decides
	}
	c := dial(t, s)
	c.send("PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n")
	c.want(505, "")
	c.wantEnd()
	c = dial(t, s)
	c.send("PRI * HTTP/2.0\r\n")
	c.CloseWrite()
	c.want(505, "")
	c = dial(t, s)
	c.send(get("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"))
	c.want(200, "GET /")
}

func TestWithoutHTTP2(t *testing.T) {
	for name, s := range map[string]*Server{
		"no handler": start(t, Config{HTTP2: true}, Handlers{}), "not configured": start(t, Config{}, Handlers{HTTP2: face(echo2)}),
	} {
		c := dial(t, s)
		c.send(http2.ClientPreface)
		c.want(505, "only")
		c.wantEnd()
		_ = name
	}
	s := start(t, Config{TLS: standardTLS(t)}, Handlers{HTTP2: face(echo2)})
	cfg := blind("a.example")
	cfg.NextProtos = []string{"h2", "http/1.1"}
	if st, err := greet(t, s, cfg); err != nil || st.NegotiatedProtocol != "http/1.1" {
		t.Errorf("%q, %v", st.NegotiatedProtocol, err)
	}
}

func TestOnlyHTTP2(t *testing.T) { ways2(t, testOnlyHTTP2) }

func testOnlyHTTP2(t *testing.T, way Config) {
	way.OnlyHTTP2 = true
	s := start(t, way, Handlers{HTTP2: face(echo2)})
	client, url := browser(t, s)
	res, err := client.Get(url)
	wantResponse(t, res, err, 200, "GET /")
	for _, raw := range []string{get(""), "PUT / HTTP/1.1\r\nHost: a\r\n\r\n"} {
		c := dial(t, s)
		c.send(raw)
		c.want(505, "only HTTP/2")
		c.wantEnd()
	}
	if way.TLS == nil {
		c := dial(t, s)
		c.send("nonsense\r\n\r\n")
		c.wantEnd()
	}
}

// What is of no HTTP is a broken preface where HTTP/2 may come, and a malformed
// request elsewhere.
func TestForeignPreface(t *testing.T) {
	const raw = "INVALID CONNECTION PREFACE\r\n\r\n"
	c := dial(t, start(t, Config{HTTP2: true}, Handlers{HTTP2: face(echo2)}))
	c.send(raw)
	c.wantEnd()
	for _, one := range []struct {
		cfg Config
		raw string
	}{{Config{}, raw}, {Config{HTTP2: true}, "GET / FTP/1.1\r\n\r\n"}} {
		c := dial(t, start(t, one.cfg, Handlers{HTTP2: face(echo2)}))
		c.send(one.raw)
		c.want(400, "")
		c.wantEnd()
	}
}

// Large header sections: one that is a little too large is answered, one that
// never ends is not.
func TestHeaderBomb(t *testing.T) {
	s := start(t, Config{HTTP2: true}, Handlers{HTTP2: face(echo2)})
	f := newFramer(t, s)
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true}) // what is read tells
	piece := bytes.Repeat([]byte{0x20}, 16<<10)                               // sizes of the table: they make no field
	for range 3 {
		_ = f.WriteContinuation(1, false, piece) // as well
	}
	f.wantGoAway(http2.ErrCodeEnhanceYourCalm)
	client, url := browser(t, s)
	req, _ := http.NewRequest("GET", url, nil)
	for i := range 5 {
		req.Header.Set(fmt.Sprintf("X-%d", i), strings.Repeat("v", 8<<10))
	}
	res, err := client.Do(req)
	if err == nil { // net/http sends no more than the server says it takes
		wantResponse(t, res, err, 431, "")
	}
}

func TestSlowHead(t *testing.T) { ways2(t, testSlowHead) }

func testSlowHead(t *testing.T, way Config) {
	s := start(t, way.with2(Config{HeaderTimeout: 300 * time.Millisecond}), Handlers{HTTP2: face(echo2)})
	f := newFramer(t, s)
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block("/"), EndStream: true}))
	f.wantGoAway(http2.ErrCodeEnhanceYourCalm)
	if n := s.Abuses()[slices.Index(H2Abuses[:], "slow_head")]; n != 1 {
		t.Errorf("counted %v", s.Abuses())
	}
	silent := dial(t, s) // not even a preface
	silent.wantEnd()
	if way.TLS == nil {
		half := dial(t, s)
		half.send("PRI * HT")
		half.want(408, "") // it may have become HTTP/1
		half.wantEnd()
	}
}

func TestIdleHTTP2(t *testing.T) { ways2(t, testIdleHTTP2) }

func testIdleHTTP2(t *testing.T, way Config) {
	s := start(t, way.with2(Config{IdleTimeout: 300 * time.Millisecond}), Handlers{HTTP2: face(echo2)})
	f := newFramer(t, s)
	f.open("/", true)
	f.wantGoAway(http2.ErrCodeNo)
	until(t, "no connection", func() bool { return s.Stats() == Stats{} })
}

// A body that comes too slowly is cut off; the other streams go on.
func TestSlowBodyHTTP2(t *testing.T) {
	s := start(t, Config{HTTP2: true, MinBodyRate: 240}, Handlers{HTTP2: face(echo2)})
	f := newFramer(t, s)
	id := f.open("/slow", false)
	f.must(f.WriteData(id, false, []byte("abc")))
	var on *h2Conn
	until(t, "a reader", func() bool {
		for _, c := range s.conns.all() {
			if h := c.h2.Load(); h != nil {
				h.mu.Lock()
				if st := h.streams[id]; st != nil && st.reading && st.received == 3 {
					on = h
				}
				h.mu.Unlock()
			}
		}
		return on != nil
	})
	on.checkStreams(0, bodyGrace) // as the sweeper does, see TestPace
	on.checkStreams(0, bodyWindow)
	status := ""
	dec := hpack.NewDecoder(4096, func(hf hpack.HeaderField) {
		if hf.Name == ":status" {
			status = hf.Value
		}
	})
	f.until("a response", func(fr http2.Frame) bool {
		h, ok := fr.(*http2.HeadersFrame)
		if ok {
			_, _ = dec.Write(h.HeaderBlockFragment())
		}
		return ok
	})
	if status != "408" {
		t.Errorf("status %s", status)
	}
	f.open("/next", true)
	f.until("another response", func(fr http2.Frame) bool { _, ok := fr.(*http2.HeadersFrame); return ok })
}

// A client that opens no window is not waited for.
func TestWriteStallHTTP2(t *testing.T) { ways2(t, testWriteStallHTTP2) }

func testWriteStallHTTP2(t *testing.T, way Config) {
	failed := make(chan error, 1)
	s := start(t, way.with2(Config{WriteStall: 300 * time.Millisecond}), Handlers{HTTP2: face(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/small" {
			_, _ = io.WriteString(w, "small")
			return
		}
		_, err := w.Write(make([]byte, 1<<20))
		failed <- err
	}))})
	f := newFramer(t, s)
	id := f.open("/large", true)
	f.until("RST_STREAM", func(fr http2.Frame) bool {
		r, ok := fr.(*http2.RSTStreamFrame)
		return ok && r.StreamID == id
	})
	if err := <-failed; err == nil {
		t.Error("all was written")
	}
	f.must(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	f.open("/small", true) // its handler returns at once
	f.wantGoAway(http2.ErrCodeEnhanceYourCalm)
	if n := s.Abuses()[slices.Index(H2Abuses[:], "stalled")]; n != 1 {
		t.Errorf("counted %v", s.Abuses())
	}
}

// What has begun ends well, idle connections end at once.
func TestShutdownHTTP2(t *testing.T) { ways2(t, testShutdownHTTP2) }

func testShutdownHTTP2(t *testing.T, way Config) {
	began, finish := make(chan struct{}), make(chan struct{})
	s := start(t, way, Handlers{HTTP2: face(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			began <- struct{}{}
			<-finish
		}
		_, _ = io.WriteString(w, "done")
	}))})
	idle := newFramer(t, s)
	idle.open("/", true)
	idle.until("a response", func(fr http2.Frame) bool {
		return fr.Header().Flags.Has(http2.FlagDataEndStream) && fr.Header().Type == http2.FrameData
	})
	client, url := browser(t, s)
	type answer struct {
		res *http.Response
		err error
	}
	got := make(chan answer, 1)
	go func() {
		res, err := client.Get(url + "/slow")
		got <- answer{res, err}
	}()
	<-began
	done := shutdown(context.Background(), s)
	idle.wantGoAway(http2.ErrCodeNo)
	select {
	case <-done:
		t.Fatal("Shutdown did not wait")
	default:
	}
	close(finish)
	a := <-got
	wantResponse(t, a.res, a.err, 200, "done")
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Shutdown does not end")
	}
}

// When the time is over what runs is cut off, and waited for.
func TestShutdownGivesUpHTTP2(t *testing.T) { ways2(t, testShutdownGivesUpHTTP2) }

func testShutdownGivesUpHTTP2(t *testing.T, way Config) {
	began, returned := make(chan struct{}), false
	s := start(t, way, Handlers{HTTP2: face(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		time.Sleep(20 * time.Millisecond) // lint:sleep what must be waited for
		returned = true
	}))})
	f := newFramer(t, s)
	f.open("/", true)
	<-began
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := <-shutdown(ctx, s); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case <-s.done:
	case <-time.After(patience):
		t.Fatal("Run did not return")
	}
	if !returned {
		t.Error("the handler was not waited for")
	}
}

// A client that leaves cancels what it has begun.
func TestClientLeavesHTTP2(t *testing.T) { ways2(t, testClientLeavesHTTP2) }

func testClientLeavesHTTP2(t *testing.T, way Config) {
	began, left := make(chan struct{}), make(chan struct{})
	s := start(t, way, Handlers{HTTP2: face(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	}))})
	f := newFramer(t, s)
	id := f.open("/", true)
	<-began
	f.must(f.WriteRSTStream(id, http2.ErrCodeCancel))
	<-left
	f.open("/", true)
	<-began
	f.conn.Close()
	select {
	case <-left:
	case <-time.After(patience):
		t.Fatal("not noticed")
	}
	until(t, "no connection", func() bool { return s.Stats() == Stats{} })
}
