package upstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A framed is one connection as a target sees it that is scripted frame by
// frame.
type framed struct {
	*http2.Framer
	conn net.Conn
	mute bool // answer no pings

	mu  sync.Mutex // of writes
	buf bytes.Buffer
	enc *hpack.Encoder
}

// serveFrames runs one script a connection, the last one for all that follow,
// after it has sent the settings.
func serveFrames(t testing.TB, settings []http2.Setting, scripts ...func(f *framed)) string {
	var all []func(p *peer)
	for _, script := range scripts {
		all = append(all, func(p *peer) {
			preface := make([]byte, len(http2.ClientPreface))
			if _, err := io.ReadFull(p.in, preface); err != nil || string(preface) != http2.ClientPreface {
				return
			}
			f := &framed{Framer: http2.NewFramer(p.Conn, p.in), conn: p.Conn}
			f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			f.AllowIllegalWrites = true
			f.enc = hpack.NewEncoder(&f.buf)
			f.WriteSettings(settings...)
			script(f)
		})
	}
	return serve(t, all...)
}

// next returns the next frame that says something of a stream; nil at the end.
func (f *framed) next() http2.Frame {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			var stream http2.StreamError
			if errors.As(err, &stream) {
				continue
			}
			return nil
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				f.locked(func() { f.WriteSettingsAck() })
			}
		case *http2.PingFrame:
			if !frame.IsAck() && !f.mute {
				f.locked(func() { f.WritePing(true, frame.Data) })
			}
		case *http2.WindowUpdateFrame:
		default:
			return frame
		}
	}
}

func (f *framed) locked(write func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	write()
}

// request reads up to the next request's head and returns its stream, 0 at the
// end.
func (f *framed) request() uint32 {
	for {
		switch frame := f.next().(type) {
		case nil:
			return 0
		case *http2.MetaHeadersFrame:
			return frame.StreamID
		}
	}
}

// reset reads up to the next RST_STREAM.
func (f *framed) reset() (stream uint32, code http2.ErrCode) {
	for {
		switch frame := f.next().(type) {
		case nil:
			return 0, 0
		case *http2.RSTStreamFrame:
			return frame.StreamID, frame.ErrCode
		}
	}
}

// drain reads to the end.
func (f *framed) drain() {
	for f.next() != nil {
	}
}

// head writes a head or trailer section: ":status: 200|name: value".
func (f *framed) head(stream uint32, end bool, lines string) {
	f.locked(func() {
		f.buf.Reset()
		for _, line := range strings.Split(lines, "|") {
			i := strings.Index(line[1:], ":") + 1
			f.enc.WriteField(hpack.HeaderField{Name: line[:i], Value: strings.TrimPrefix(line[i+1:], " ")})
		}
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.buf.Bytes(), EndHeaders: true, EndStream: end})
	})
}

func (f *framed) data(stream uint32, end bool, s string) {
	f.locked(func() { f.WriteData(stream, end, []byte(s)) })
}

// answer answers with ok.
func (f *framed) answer(stream uint32) {
	f.head(stream, false, ":status: 200|content-length: 2")
	f.data(stream, true, "ok")
}

// answerAll answers every request.
func (f *framed) answerAll() {
	for stream := f.request(); stream != 0; stream = f.request() {
		f.answer(stream)
	}
}

func maxStreams(n uint32) []http2.Setting {
	return []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: n}}
}

func h2c(url string) Config { return Config{URL: url, Protocol: "h2c"} }

// ask does a call that must be answered with ok.
func ask(t *testing.T, p *Pool) {
	t.Helper()
	c := get("/")
	must(t, c, p)
	wantBody(t, c, "ok")
	c.Close()
}

// TestHeads has a table of what is no response.
func TestHeads(t *testing.T) {
	for _, x := range []struct {
		name, method string
		say          func(f *framed, s uint32)
		do, read     string // the error types
	}{
		{"no status", "GET", func(f *framed, s uint32) { f.head(s, true, "a: b") }, "http_protocol_error", ""},
		{"status of words", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: abc") }, "http_protocol_error", ""},
		{"status too small", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 99") }, "http_protocol_error", ""},
		{"status too large", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 600") }, "http_protocol_error", ""},
		{"two statuses", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 200|:status: 200") }, "http_protocol_error", ""},
		{"status behind a field", "GET", func(f *framed, s uint32) { f.head(s, true, "a: b|:status: 200") }, "http_protocol_error", ""},
		{"request's pseudo field", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 200|:path: /") }, "http_protocol_error", ""},
		{"101", "GET", func(f *framed, s uint32) { f.head(s, false, ":status: 101") }, "http_protocol_error", ""},
		{"only interims", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 103") }, "http_protocol_error", ""},
		{"CR", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 200|a: b\rc") }, "http_protocol_error", ""},
		{"LF", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 200|a: b\nx: y") }, "http_protocol_error", ""},
		{"NUL", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 200|a: \x00") }, "http_protocol_error", ""},
		{"DEL", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 200|a: \x7f") }, "http_protocol_error", ""},
		{"capital letters", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 200|Aa: b") }, "http_protocol_error", ""},
		{"space in a name", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 200|a b: c") }, "http_protocol_error", ""},
		{"more than 200 fields", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 200"+strings.Repeat("|a: b", 201)) }, "http_protocol_error", ""},
		{"length with a leading zero", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 200|content-length: 00") }, "http_protocol_error", ""},
		{"more than 64 KiB", "GET", func(f *framed, s uint32) {
			f.head(s, true, ":status: 200|a: "+strings.Repeat("x", 10000)+strings.Repeat("|a: "+strings.Repeat("y", 4000), 15))
		},
			"http_response_header_section_size", ""},
		{"more than 256 KiB", "GET", func(f *framed, s uint32) {
			f.head(s, true, ":status: 200"+strings.Repeat("|a: "+strings.Repeat("y", 4000), 80))
		},
			"http_response_header_section_size", ""},
		{"interim of more than 256 KiB", "GET", func(f *framed, s uint32) {
			f.head(s, false, ":status: 103"+strings.Repeat("|a: "+strings.Repeat("y", 4000), 80))
		}, "http_response_header_section_size", ""},
		{"DATA first", "GET", func(f *framed, s uint32) { f.data(s, true, "x") }, "http_protocol_error", ""},
		{"DATA for HEAD", "HEAD", func(f *framed, s uint32) { f.head(s, false, ":status: 200"); f.data(s, true, "x") }, "", ""},
		{"DATA behind a 204", "GET", func(f *framed, s uint32) { f.head(s, false, ":status: 204"); f.data(s, true, "x") }, "", ""},
		{"longer than announced", "GET", func(f *framed, s uint32) { f.head(s, false, ":status: 200|content-length: 1"); f.data(s, true, "xy") }, "", "http_protocol_error"},
		{"shorter than announced", "GET", func(f *framed, s uint32) { f.head(s, false, ":status: 200|content-length: 3"); f.data(s, true, "xy") }, "", "http_response_incomplete"},
		{"announced and nothing", "GET", func(f *framed, s uint32) { f.head(s, true, ":status: 200|content-length: 3") }, "", "http_response_incomplete"},
		{"forbidden trailer", "GET", func(f *framed, s uint32) { f.head(s, false, ":status: 200"); f.head(s, true, "transfer-encoding: x") }, "", "http_protocol_error"},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
				if s := f.request(); s != 0 {
					x.say(f, s)
				}
				f.answerAll()
			})))
			c := request(x.method, "/")
			err := do(t, c, p)
			if x.do != "" {
				if e := wantError(t, err, x.do); e.Unsent || e.Stale {
					t.Errorf("%+v", e)
				}
			} else if err != nil {
				t.Fatal(err)
			} else if _, err = body(t, c); x.read != "" {
				wantError(t, err, x.read)
			} else if err != nil {
				t.Fatal(err)
			}
			c.Close()
			ask(t, p) // the link is none the worse for it
			if s := p.Stats(); s.Dials != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestFieldsOfConnections has the target send what HTTP/2 forbids and x/net
// drops: the caller must not see it.
func TestFieldsOfConnections(t *testing.T) {
	p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
		s := f.request()
		f.head(s, true, ":status: 200|connection: x|keep-alive: 5|proxy-connection: x|transfer-encoding: chunked|upgrade: x|a: b")
		f.drain()
	})))
	c := get("/")
	must(t, c, p)
	if got := fieldString(c.Response.Fields); got != "A=b;" {
		t.Errorf("head is %q", got)
	}
	c.Close()
}

// TestRequestFrames looks at the head that a target gets.
func TestRequestFrames(t *testing.T) {
	got := make(chan string, 1)
	p := pool(t, h2c(serveFrames(t, nil, func(f *framed) {
		for {
			switch frame := f.next().(type) {
			case nil:
				return
			case *http2.MetaHeadersFrame:
				var lines []string
				for _, field := range frame.Fields {
					lines = append(lines, field.Name+"="+field.Value)
				}
				slices.Sort(lines)
				got <- strings.Join(lines, "|")
				f.answer(frame.StreamID)
			}
		}
	})))
	c := request("GET", "/x")
	for _, line := range []string{"Connection: close", "TE: trailers, deflate", "Upgrade: x", "Keep-Alive: 5", "Proxy-Connection: x", "X-UPPER: Value"} {
		name, value, _ := strings.Cut(line, ": ")
		c.Request.Fields = append(c.Request.Fields, Field{[]byte(name), []byte(value)})
	}
	for _, want := range []string{
		":authority=h|:method=GET|:path=/x|:scheme=http|x-upper=Value",
		":authority=h|:method=GET|:path=/x|:scheme=http|te=trailers|x-upper=Value",
	} {
		must(t, c, p)
		if s := <-got; s != want {
			t.Errorf("got  %s\nwant %s", s, want)
		}
		c.TrailersWanted = true
	}
	c.Close()
	c.Request.Fields = c.Request.Fields[1:] // without Host
	must(t, c, p)
	if s := <-got; !strings.HasPrefix(s, ":authority=127.0.0.1|") {
		t.Errorf("got %s", s)
	}
	c.Close()
}

// setPings is for links that are opened from now on.
func setPings(p *Pool, silence, patience time.Duration) {
	p.mux.http.ReadIdleTimeout, p.mux.http.PingTimeout = silence, patience //lint:ignore SA1019 as in link.go
}

// TestWordsOfHTTP2 holds x/net to what it says of a connection that takes
// nothing more.
func TestWordsOfHTTP2(t *testing.T) {
	for want, spoil := range map[string]func(l *link){
		saysUnusable:    func(l *link) { l.cc.SetDoNotReuse() },
		saysNeverUsable: func(l *link) { l.cc.Close() },
	} {
		p := pool(t, h2c(serveFrames(t, nil, (*framed).answerAll)))
		l, limit, err := p.openLink(t.Context())
		if err != nil || limit == 0 {
			t.Fatal(limit, err)
		}
		spoil(l)
		r, _ := http.NewRequest("GET", "http://h/", nil)
		if _, err := l.cc.RoundTrip(r); err == nil || err.Error() != want {
			t.Errorf("it says %v; want %s", err, want)
		}
		l.cc.Close()
	}
}

// TestClosingLink has a call meet a link that closes between the two moments
// when it is chosen and used: the call takes another.
func TestClosingLink(t *testing.T) {
	p := pool(t, h2c(serveFrames(t, nil, (*framed).answerAll)))
	ask(t, p)
	for _, c := range []*Call{get("/"), post(strings.NewReader("body"), 4)} {
		p.mu.Lock()
		c.Request.Deadline = time.Now().Add(patience)
		cc := p.mux.links[0].cc
		p.mu.Unlock()
		s := newStream(c, p)
		l, _, err := p.reserve(s)
		if err != nil || l == nil {
			t.Fatal(l, err)
		}
		cc.SetDoNotReuse()
		p.leave(s, l)
		must(t, c, p)
		wantBody(t, c, "ok")
		c.Close()
	}
	eventually(t, "the links are gone or unused", func() bool { return p.Stats().InUse == 0 })
}

// TestRequestTooLarge has a target that takes small heads only.
func TestRequestTooLarge(t *testing.T) {
	p := pool(t, h2c(serveFrames(t, []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 200}}, (*framed).answerAll)))
	c := get("/" + strings.Repeat("x", 100))
	if e := wantError(t, do(t, c, p), "http_request_error"); !e.Unsent || e.RequestBody {
		t.Errorf("%+v", e)
	}
	ask(t, p)
	wantIdle(t, p, 1)
}
