package interop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// The interop cases end the process where one fails. Before that they log why,
// which is the place to make it a panic of the test instead.
type louder struct{ grpclog.LoggerV2 }

func (louder) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (louder) Fatalln(args ...any)               { panic(fmt.Sprint(args...)) }
func (louder) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func speakUp() {
	grpclog.SetLoggerV2(louder{grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr)})
}

// trying is a call of an interop case; it fails the test and not the process.
func trying(t *testing.T, run func()) {
	t.Helper()
	defer func() {
		if v := recover(); v != nil {
			t.Errorf("%v", v)
		}
	}()
	run()
}

// A server is gRPC's interop server, which says its name to whom it answers.
type server struct {
	*grpc.Server
	address string
}

func startServer(t *testing.T, name string, secure bool) *server {
	t.Helper()
	own := metadata.Pairs("x-server", name)
	options := []grpc.ServerOption{
		grpc.UnaryInterceptor(func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := grpc.SetHeader(ctx, own); err != nil {
				return nil, err
			}
			return next(ctx, r)
		}),
	}
	if secure {
		pair, err := tls.LoadX509KeyPair(filepath.Join(certs, "server.pem"), filepath.Join(certs, "server-key.pem"))
		must(t, err)
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &server{grpc.NewServer(options...), ln.Addr().String()}
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(ln) // ends with Stop
	}()
	t.Cleanup(func() {
		s.Stop()
		<-ended
	})
	return s
}

// dial gives a client that talks to one of g's listeners, and adds fields to
// all it asks.
func dial(t *testing.T, g *gateway, secure bool, fields ...string) *grpc.ClientConn {
	t.Helper()
	mark := func(ctx context.Context) context.Context { return metadata.AppendToOutgoingContext(ctx, fields...) }
	creds := insecure.NewCredentials()
	if secure {
		creds = credentials.NewTLS(trust(t))
	}
	conn, err := grpc.NewClient("passthrough:///"+g.address(secure), grpc.WithTransportCredentials(creds),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, r, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return next(mark(ctx), method, r, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return next(mark(ctx), desc, cc, method, opts...)
		}))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func trust(t *testing.T) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(certs, "ca.pem"))
	must(t, err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in ca.pem")
	}
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	t.Cleanup(cancel)
	return ctx
}
