package interop

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// both has a test speak to the gateway with TLS and without.
func both(t *testing.T, run func(t *testing.T, secure bool)) {
	t.Run("h2c", func(t *testing.T) { run(t, false) })
	t.Run("tls", func(t *testing.T) { run(t, true) })
}

// TestFaults holds what the gateway has to say by itself to the codes of gRPC.
func TestFaults(t *testing.T) {
	up := startServer(t, "up", false)
	g := startGateway(t, `
backends:
  up: {targets: ["http://`+up.address+`"], transport: {protocol: h2c}}
  down: {targets: ["http://`+closedPort(t)+`"], transport: {protocol: h2c}}
  full: {kind: respond, status: 503}
routes:
  - {match: {path: /grpc.testing.TestService/*, headers: {X-To: small}}, backend: up, max_body_bytes: 1KiB}
  - {match: {path: /grpc.testing.TestService/*, headers: {X-To: down}}, backend: down}
  - {match: {path: /grpc.testing.TestService/*, headers: {X-To: full}}, backend: full}
`)
	big := &testgrpc.SimpleRequest{Payload: interop.ClientNewPayload(testgrpc.PayloadType_COMPRESSABLE, 64<<10)}
	small := &testgrpc.SimpleRequest{Payload: interop.ClientNewPayload(testgrpc.PayloadType_COMPRESSABLE, 64)}
	both(t, func(t *testing.T, secure bool) {
		for _, c := range []struct {
			to      string
			request *testgrpc.SimpleRequest
			want    codes.Code
			says    string // "" for whatever
		}{
			{"nowhere", small, codes.Unimplemented, "no route matches the request"},
			{"down", small, codes.Unavailable, "the backend could not be reached"},
			{"small", big, codes.ResourceExhausted, "the request's body is larger than allowed"},
			{"small", small, codes.OK, ""},
			{"full", small, codes.Unavailable, ""}, // the client's own reading of 503
		} {
			calls := testgrpc.NewTestServiceClient(dial(t, g, secure, "x-to", c.to))
			_, err := calls.UnaryCall(patience(t), c.request)
			if s := status.Convert(err); s.Code() != c.want || c.says != "" && s.Message() != c.says {
				t.Errorf("%s: %v, want %v %q", c.to, err, c.want, c.says)
			}
		}
		// A stream whose messages are small, and too much together.
		stream, err := testgrpc.NewTestServiceClient(dial(t, g, secure, "x-to", "small")).StreamingInputCall(patience(t))
		must(t, err)
		for range 100 {
			if err = stream.Send(&testgrpc.StreamingInputCallRequest{Payload: small.Payload}); err != nil {
				break
			}
		}
		if _, err = stream.CloseAndRecv(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a stream of more than may be: %v", err)
		}
	})
}

// closedPort is an address where nobody listens any more.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, ln.Close())
	return ln.Addr().String()
}

// TestDeadline has the gateway end a call whose client says when but does not
// look at the clock.
func TestDeadline(t *testing.T) {
	up := startServer(t, "up", false)
	g := startGateway(t, `
backends:
  up: {targets: ["http://`+up.address+`"], transport: {protocol: h2c}}
routes:
  - {match: /*, backend: up}
`)
	client := &http.Client{Transport: bareHTTP2()}
	body, end := io.Pipe() // a stream that the client keeps open
	defer end.Close()
	r, err := http.NewRequestWithContext(patience(t), "POST", "http://"+g.address(false)+"/grpc.testing.TestService/FullDuplexCall", body)
	must(t, err)
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Timeout": {"300m"}}
	began := time.Now()
	res, err := client.Do(r)
	must(t, err)
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	must(t, err)
	code, message := res.Header.Get("Grpc-Status"), res.Header.Get("Grpc-Message")
	if code == "" {
		code, message = res.Trailer.Get("Grpc-Status"), res.Trailer.Get("Grpc-Message")
	}
	if res.StatusCode != 200 || code != "4" {
		t.Errorf("%d, grpc-status %q %q", res.StatusCode, code, message)
	}
	if took := time.Since(began); took < 250*time.Millisecond {
		t.Errorf("the call ended after %v", took)
	}
}

// bareHTTP2 is a client of HTTP/2 without TLS.
func bareHTTP2() *http.Transport {
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// TestRouting picks servers by path and by a field.
func TestRouting(t *testing.T) {
	one, two, three := startServer(t, "one", false), startServer(t, "two", false), startServer(t, "three", true)
	g := startGateway(t, `
backends:
  one: {targets: ["http://`+one.address+`"], transport: {protocol: h2c}}
  two: {targets: ["http://`+two.address+`"], transport: {protocol: h2c}}
  three: {targets: ["https://`+three.address+`"], transport: {protocol: h2, tls: {server_name: localhost, ca_file: CERTS/ca.pem}}}
routes:
  - {match: /grpc.testing.TestService/*, backend: one}
  - {match: /grpc.testing.TestService/UnaryCall, backend: two}
  - {match: {path: /grpc.testing.TestService/*, headers: {X-Canary: present}}, backend: three}
`)
	both(t, func(t *testing.T, secure bool) {
		conn := testgrpc.NewTestServiceClient(dial(t, g, secure))
		empty := func(ctx context.Context, opts ...grpc.CallOption) error {
			_, err := conn.EmptyCall(ctx, new(testgrpc.Empty), opts...)
			return err
		}
		for _, c := range []struct {
			name string
			run  func(context.Context, ...grpc.CallOption) error
			ctx  context.Context
			want string
		}{
			{"by default", empty, patience(t), "one"},
			{"by path", func(ctx context.Context, opts ...grpc.CallOption) error {
				_, err := conn.UnaryCall(ctx, new(testgrpc.SimpleRequest), opts...)
				return err
			}, patience(t), "two"},
			{"by field", empty, metadata.AppendToOutgoingContext(patience(t), "x-canary", "1"), "three"},
		} {
			var head metadata.MD
			err := c.run(c.ctx, grpc.Header(&head))
			if got := head["x-server"]; err != nil || len(got) != 1 || got[0] != c.want {
				t.Errorf("%s: %v %v, want %s", c.name, got, err, c.want)
			}
		}
	})
}
