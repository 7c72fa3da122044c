package interop

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

type client = testgrpc.TestServiceClient

// cases are those of gRPC's interop_client that need no cloud. That of Go has no
// cases of compression: here they are the cases with messages, with gzip.
var cases = []struct {
	name string
	run  func(context.Context, client, *grpc.ClientConn)
}{
	{"empty_unary", plain(interop.DoEmptyUnaryCall)},
	{"large_unary", plain(interop.DoLargeUnaryCall)},
	{"client_streaming", plain(interop.DoClientStreaming)},
	{"server_streaming", plain(interop.DoServerStreaming)},
	{"ping_pong", plain(interop.DoPingPong)},
	{"empty_stream", plain(interop.DoEmptyStream)},
	{"timeout_on_sleeping_server", plain(interop.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", plain(interop.DoCancelAfterBegin)},
	{"cancel_after_first_response", plain(interop.DoCancelAfterFirstResponse)},
	{"status_code_and_message", plain(interop.DoStatusCodeAndMessage)},
	{"special_status_message", plain(interop.DoSpecialStatusMessage)},
	{"custom_metadata", plain(interop.DoCustomMetadata)},
	{"compressed_unary", plain(interop.DoLargeUnaryCall, grpc.UseCompressor(gzip.Name))},
	{"client_compressed_streaming", plain(interop.DoClientStreaming, grpc.UseCompressor(gzip.Name))},
	{"server_compressed_streaming", plain(interop.DoServerStreaming, grpc.UseCompressor(gzip.Name))},
	{"compressed_ping_pong", plain(interop.DoPingPong, grpc.UseCompressor(gzip.Name))},
	{"unimplemented_method", func(ctx context.Context, _ client, conn *grpc.ClientConn) { interop.DoUnimplementedMethod(ctx, conn) }},
	{"unimplemented_service", func(ctx context.Context, _ client, conn *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
	}},
}

func plain(run func(context.Context, client, ...grpc.CallOption), options ...grpc.CallOption) func(context.Context, client, *grpc.ClientConn) {
	return func(ctx context.Context, c client, _ *grpc.ClientConn) { run(ctx, c, options...) }
}

// TestInterop runs the cases over TLS and without, on each side of the gateway.
func TestInterop(t *testing.T) {
	bare, secure := startServer(t, "bare", false), startServer(t, "secure", true)
	g := startGateway(t, `
backends:
  bare: {targets: ["http://`+bare.address+`"], transport: {protocol: h2c}}
  secure: {targets: ["https://`+secure.address+`"], transport: {protocol: h2, tls: {server_name: localhost, ca_file: CERTS/ca.pem}}}
routes:
  - {match: {path: /*, headers: {X-To: bare}}, backend: bare}
  - {match: {path: /*, headers: {X-To: secure}}, backend: secure}
`)
	for _, from := range []string{"h2c", "tls"} {
		for _, to := range []string{"bare", "secure"} {
			t.Run(from+" to "+to, func(t *testing.T) {
				conn := dial(t, g, from == "tls", "x-to", to)
				for _, c := range cases {
					t.Run(c.name, func(t *testing.T) {
						trying(t, func() { c.run(patience(t), testgrpc.NewTestServiceClient(conn), conn) })
					})
				}
			})
		}
	}
}
