package health

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// A script is how a gRPC server answers: with an HTTP status, content type,
// body, and a status in its trailers or, if it has no body, in its head.
type script struct {
	status  int
	kind    string
	body    string
	trailer string
	message string
}

func (s script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", s.kind)
	if s.body == "" && s.trailer != "" {
		w.Header().Set("Grpc-Status", s.trailer)
		w.Header().Set("Grpc-Message", s.message)
	}
	w.WriteHeader(s.status)
	io.WriteString(w, s.body)
	if s.body != "" && s.trailer != "" {
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", s.trailer)
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", s.message)
	}
}

func frame(m string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m)))) + m
}

func h2c(t testing.TB, h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quiet()
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func grpcActive() Active {
	a := defaultActive()
	a.Kind = "grpc"
	return a
}

func TestGRPC(t *testing.T) {
	const kind = "application/grpc"
	for _, c := range []struct {
		name string
		s    script
		want string
	}{
		{"serving", script{200, kind, frame("\x08\x01"), "0", ""}, ""},
		{"proto", script{200, kind + "+proto", frame("\x08\x01"), "0", ""}, ""},
		{"unknown fields", script{200, kind, frame("\x12\x02hi\x1d\x01\x02\x03\x04\x21\x01\x02\x03\x04\x05\x06\x07\x08\x08\x01\x28\x05"), "0", ""}, ""},
		{"last one counts", script{200, kind, frame("\x08\x01\x08\x02"), "0", ""}, "NOT_SERVING"},
		{"not serving", script{200, kind, frame("\x08\x02"), "0", ""}, "NOT_SERVING"},
		{"service unknown", script{200, kind, frame("\x08\x03"), "0", ""}, "SERVICE_UNKNOWN"},
		{"default", script{200, kind, frame(""), "0", ""}, "UNKNOWN"},
		{"new status", script{200, kind, frame("\x08\x09"), "0", ""}, "serving status 9"},
		{"not found", script{200, kind, "", "5", "unknown service"}, `grpc-status "5": "unknown service"`},
		{"late error", script{200, kind, frame("\x08\x01"), "13", ""}, `grpc-status "13"`},
		{"no status", script{200, kind, frame("\x08\x01"), "", ""}, "no grpc-status"},
		{"ok without a message", script{200, kind, "", "0", ""}, "not one plain gRPC message"},
		{"compressed", script{200, kind, "\x01" + frame("\x08\x01")[1:], "0", ""}, "not one plain gRPC message"},
		{"two messages", script{200, kind, frame("\x08\x01") + frame("\x08\x01"), "0", ""}, "not one plain gRPC message"},
		{"cut", script{200, kind, frame("\x08\x01")[:6], "0", ""}, "not one plain gRPC message"},
		{"cut field", script{200, kind, frame("\x08"), "0", ""}, "no protobuf"},
		{"long field", script{200, kind, frame("\x12\x7fx"), "0", ""}, "no protobuf"},
		{"group", script{200, kind, frame("\x0b"), "0", ""}, "no protobuf"},
		{"field 0", script{200, kind, frame("\x00\x01"), "0", ""}, "no protobuf"},
		{"web page", script{200, "text/html", "hello", "", ""}, "content type"},
		{"503", script{503, kind, "", "", ""}, "status 503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantFault(t, ask(t, probing(t, grpcActive(), nil, h2c(t, c.s).URL), 10*time.Second), c.want)
		})
	}
}

// TestGRPCRequest looks at what is sent, in cleartext and over TLS, and that
// one connection carries it.
func TestGRPCRequest(t *testing.T) {
	for _, over := range []string{"h2c", "tls"} {
		t.Run(over, func(t *testing.T) {
			var peers atomic.Value
			peers.Store("")
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil || string(body) != frame("\x0a\x06orders") {
					t.Errorf("body %q, %v", body, err)
				}
				if r.Method != "POST" || r.RequestURI != "/grpc.health.v1.Health/Check" || r.ProtoMajor != 2 || r.Host != "health.example.com" ||
					r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" {
					t.Errorf("%+v", r)
				}
				if old := peers.Swap(r.RemoteAddr); old != "" && old != r.RemoteAddr {
					t.Error("a second connection")
				}
				script{200, "application/grpc", frame("\x08\x01"), "0", ""}.ServeHTTP(w, r)
			})
			a := grpcActive()
			a.Service, a.Host = "orders", "health.example.com"
			var p probe
			if over == "h2c" {
				p = probing(t, a, nil, h2c(t, h).URL)
			} else {
				s, pool := secure(t, "target.example.com", true, h)
				p = probing(t, a, &tls.Config{RootCAs: pool, ServerName: "target.example.com"}, s.URL)
			}
			for range 3 {
				wantFault(t, ask(t, p, 10*time.Second), "")
			}
			if peers.Load() == "" {
				t.Error("nobody was asked")
			}
		})
	}
}

// TestGRPCBroken: peers that do not speak it, or not at all, and a new connection
// after that.
func TestGRPCBroken(t *testing.T) {
	for name, c := range map[string]struct {
		handle  func(net.Conn)
		timeout time.Duration
	}{
		"hang":    {silent, 150 * time.Millisecond},
		"http/1":  {once("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), 10 * time.Second},
		"nothing": {once(""), 10 * time.Second},
		"reset":   {reset, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			address, accepted := peer(t, "tcp", "127.0.0.1:0", c.handle)
			p := probing(t, grpcActive(), nil, "http://"+address)
			for i := range 2 {
				if err := ask(t, p, c.timeout); err == nil {
					t.Error("it is well")
				}
				if n := int(accepted.Load()); n < i+1 {
					t.Errorf("%d connections after %d checks", n, i+1)
				}
			}
		})
	}
	s, pool := secure(t, "target.example.com", false, http.NotFoundHandler())
	p := probing(t, grpcActive(), &tls.Config{RootCAs: pool, ServerName: "target.example.com"}, s.URL)
	if err := ask(t, p, 10*time.Second); err == nil {
		t.Error("TLS without h2 is well")
	}
}

// FuzzServing feeds answers to the reader.
func FuzzServing(f *testing.F) {
	f.Add([]byte(frame("\x08\x01")))
	f.Add([]byte(frame("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := serving(b); err == nil && len(b) < 7 {
			t.Errorf("%q is serving", b)
		}
	})
}
