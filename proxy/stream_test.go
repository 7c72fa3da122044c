package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/routing"
)

// A fakeStream is a request, and writes down the response.
type fakeStream struct {
	method, target string
	fields         [][2]string
	trailer        [][2]string
	length         int64
	body           io.Reader
	gone           error // what sending fails with

	attached interface{ Cancel(error) }
	sent     strings.Builder
}

func (s *fakeStream) Method() string                      { return s.method }
func (s *fakeStream) Target() string                      { return s.target }
func (s *fakeStream) Authority() string                   { return "shop.example:8443" }
func (s *fakeStream) Length() int64                       { return s.length }
func (s *fakeStream) Body() io.Reader                     { return s.body }
func (s *fakeStream) BodyReceived() bool                  { return false }
func (s *fakeStream) BodyFault() error                    { return nil }
func (s *fakeStream) Interrupt()                          {}
func (s *fakeStream) SetReadDeadline(time.Time) error     { return nil }
func (s *fakeStream) TLS() *tls.ConnectionState           { return nil }
func (s *fakeStream) Peer() netip.AddrPort                { return netip.MustParseAddrPort("192.0.2.1:1234") }
func (s *fakeStream) Attach(x interface{ Cancel(error) }) { s.attached = x }
func (s *fakeStream) Detach()                             { s.attached = nil }

func at(fields [][2]string, i int) (name, value string, ok bool) {
	if i >= len(fields) {
		return "", "", false
	}
	return fields[i][0], fields[i][1], true
}

func (s *fakeStream) Field(i int) (name, value string, ok bool)   { return at(s.fields, i) }
func (s *fakeStream) Trailer(i int) (name, value string, ok bool) { return at(s.trailer, i) }

func (s *fakeStream) Begin(status int) { fmt.Fprintf(&s.sent, "%d\n", status) }

func (s *fakeStream) Add(name, value []byte) {
	switch lower := strings.ToLower(string(name)); lower {
	case "date", "x-request-id", "via", "server", "cache-control", "proxy-status":
	default:
		fmt.Fprintf(&s.sent, "%s: %s\n", lower, value)
	}
}

func (s *fakeStream) Send(body []byte, end bool) error {
	fmt.Fprintf(&s.sent, "[%s]", body)
	if end {
		s.sent.WriteString("end")
	}
	return s.gone
}

func (s *fakeStream) Write(p []byte) (int, error) {
	s.sent.Write(p)
	return len(p), s.gone
}

func (s *fakeStream) End() error {
	s.sent.WriteString("end")
	return s.gone
}

// What a backend answers goes out in the fewest calls, and what breaks off is not
// ended.
func TestStreamResponse(t *testing.T) {
	plain := once(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\nKeep-Alive: x\r\nConnection: close\r\n\r\nhello")
	chunked := once(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
	cut := once(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
	unchanged := once(t, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nEtag: \"a\"\r\n\r\n")
	p := build(t, Spec{
		Backends: backends(map[string]any{"plain": to(plain), "chunked": to(chunked), "cut": to(cut), "unchanged": to(unchanged), "gone": to(nowhere(t)), "panicky": panicky{}}),
		Routes: []Route{
			{Name: "p", Match: routing.Match{Path: "/plain"}, Backend: "plain"}, {Name: "c", Match: routing.Match{Path: "/chunked"}, Backend: "chunked"},
			{Name: "x", Match: routing.Match{Path: "/cut"}, Backend: "cut"}, {Name: "u", Match: routing.Match{Path: "/unchanged"}, Backend: "unchanged"},
			{Name: "g", Match: routing.Match{Path: "/gone"}, Backend: "gone"}, {Name: "b", Match: routing.Match{Path: "/panic"}, Backend: "panicky"},
		},
	})
	grpc := [][2]string{{"content-type", "application/grpc"}}
	for _, c := range []struct {
		name, method, target string
		fields               [][2]string
		gone                 error
		want, ends           string
	}{
		{"plain", "GET", "/plain", nil, nil, "200\nx-a: b\ncontent-length: 5\n[hello]end", ""},
		{"HEAD", "HEAD", "/plain", nil, nil, "200\nx-a: b\ncontent-length: 5\n[]end", ""},
		{"trailers", "GET", "/chunked", nil, nil, "200\n[]hellox-sum: 1\nend", ""},
		{"broken off", "GET", "/cut", nil, nil, "200\ncontent-length: 100\n[]only this", ""},
		{"broken off, gRPC", "POST", "/cut", grpc, nil, "200\ncontent-length: 100\n[]only thisgrpc-status: 14\n", "end"},
		{"304", "GET", "/unchanged", nil, nil, "304\netag: \"a\"\n[]end", ""},
		{"no target", "GET", "/gone", nil, nil, "502\ncontent-type: application/problem+json\n", "end"},
		{"no target, gRPC", "POST", "/gone", grpc, nil, "200\ncontent-type: application/grpc\ngrpc-status: 14\n", "[]end"},
		{"a panic", "GET", "/panic", nil, nil, "500\n", "end"},
		{"gone meanwhile", "GET", "/chunked", nil, errors.New("gone"), "200\n[]", "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &fakeStream{method: c.method, target: c.target, fields: c.fields, gone: c.gone}
			p.HandleStream(s)
			if got := s.sent.String(); !strings.HasPrefix(got, c.want) || c.ends == "" && got != c.want || !strings.HasSuffix(got, c.ends) {
				t.Errorf("sent %q, want %q … %q", got, c.want, c.ends)
			}
			if s.attached != nil {
				t.Error("it is still attached")
			}
		})
	}
}

// A request arrives as HTTP/1 would have brought it, and with its trailers.
func TestStreamRequest(t *testing.T) {
	got := make(chan *http.Request, 1)
	up := origin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Header.Set("Body", string(body))
		got <- r
	})
	p := build(t, Spec{Backends: backends(map[string]any{"up": to(up)}), Routes: everything("up")})
	s := &fakeStream{
		method: "POST", target: "/a%20b?c", length: -1, body: strings.NewReader("hello"),
		fields: [][2]string{{"x-twice", "1"}, {"te", "trailers"}, {"accept", "*/*"}, {"x-twice", "2"}, {"trailer", "x-sum"}}, trailer: [][2]string{{"x-sum", "42"}},
	}
	p.HandleStream(s)
	r := <-got
	if r.Method != "POST" || r.RequestURI != "/a%20b?c" || r.Host != "shop.example:8443" || r.Header.Get("Body") != "hello" || r.ContentLength != -1 {
		t.Errorf("the backend got %+v", r)
	}
	if h := r.Header; strings.Join(h["X-Twice"], "|") != "1|2" || h["Te"] != nil || h.Get("Via") != "2 sluice" || h.Get("X-Forwarded-For") != "192.0.2.1" {
		t.Errorf("the backend got %v", h)
	}
	if r.Trailer.Get("X-Sum") != "42" {
		t.Errorf("the backend got trailers %v", r.Trailer)
	}
	if !strings.HasPrefix(s.sent.String(), "200\n") || !strings.HasSuffix(s.sent.String(), "end") {
		t.Errorf("sent %q", s.sent.String())
	}
}

func TestCanonical(t *testing.T) {
	for name, want := range map[string]string{"x-forwarded-for": "X-Forwarded-For", "te": "Te", "-a--b": "-A--B", "x_y": "X_y", "etag": "Etag", "": ""} {
		if got := string(canonical(nil, name)); got != want || name != "" && got != http.CanonicalHeaderKey(name) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
