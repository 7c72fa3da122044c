package interop

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A talk is a stream that both sides speak on.
type talk struct {
	testgrpc.TestService_FullDuplexCallClient
	said int
}

func startTalk(t *testing.T, c client) *talk {
	t.Helper()
	s, err := c.FullDuplexCall(patience(t))
	must(t, err)
	one := &talk{s, 0}
	must(t, one.turn())
	return one
}

// turn has each side say something.
func (s *talk) turn() error {
	s.said++
	size := int32(1000 + s.said)
	err := s.Send(&testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: size}}})
	if err != nil && err != io.EOF {
		return err
	}
	got, err := s.Recv() // says why, after io.EOF
	if err != nil {
		return err
	}
	if n := len(got.GetPayload().GetBody()); n != int(size) {
		return fmt.Errorf("%d bytes came, not %d", n, size)
	}
	return nil
}

// end is the end of the talk, in order.
func (s *talk) end() error {
	if err := s.CloseSend(); err != nil {
		return err
	}
	if _, err := s.Recv(); err != io.EOF {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}

func replaceUp(config string, s *server) string { return strings.ReplaceAll(config, "UP", s.address) }

// serverOf is the name of the server that answers.
func serverOf(t *testing.T, c client) string {
	t.Helper()
	var head metadata.MD
	_, err := c.EmptyCall(patience(t), new(testgrpc.Empty), grpc.Header(&head))
	must(t, err)
	return strings.Join(head["x-server"], ", ")
}

const toUp = `
backends:
  up: {targets: ["http://UP"], transport: {protocol: h2c}}
routes:
  - {match: /*, backend: up}
`

// TestServerDies ends a server under its streams: the clients learn that they
// were not answered whole, and those who come then that nobody is there.
func TestServerDies(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		up := startServer(t, "up", false)
		g := startGateway(t, replaceUp(toUp, up))
		calls := testgrpc.NewTestServiceClient(dial(t, g, secure))
		var talks []*talk
		for range 5 {
			talks = append(talks, startTalk(t, calls))
		}
		up.Stop()
		for _, s := range talks {
			if err := s.turn(); status.Code(err) != codes.Unavailable {
				t.Errorf("on a stream: %v", err)
			}
		}
		if _, err := calls.EmptyCall(patience(t), new(testgrpc.Empty)); status.Code(err) != codes.Unavailable {
			t.Errorf("after it: %v", err)
		}
	})
}

// TestDrain ends the gateway under streams: they go on to their own end, and
// nobody else gets in.
func TestDrain(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		up := startServer(t, "up", false)
		g := startGateway(t, replaceUp(toUp, up))
		conn := dial(t, g, secure)
		var talks []*talk
		for range 20 {
			talks = append(talks, startTalk(t, testgrpc.NewTestServiceClient(conn)))
		}
		before := conn.GetState()
		must(t, g.cmd.Process.Signal(syscall.SIGTERM))
		if !conn.WaitForStateChange(patience(t), before) { // upon GOAWAY
			t.Fatal("the client is not told to go")
		}
		for range 10 {
			for _, s := range talks {
				must(t, s.turn())
			}
		}
		if c, err := net.Dial("tcp", g.address(secure)); err == nil {
			c.Close()
			t.Error("the gateway still takes connections")
		}
		for _, s := range talks {
			must(t, s.end())
		}
		g.wait()
	})
}

// TestReload changes the configuration under streams and calls: none is lost,
// and what comes then goes where the new one says.
func TestReload(t *testing.T) {
	const reloads = 6
	both(t, func(t *testing.T, secure bool) {
		one, two := startServer(t, "one", false), startServer(t, "two", false)
		g := startGateway(t, replaceUp(toUp, one))
		calls := testgrpc.NewTestServiceClient(dial(t, g, secure))
		var talks []*talk
		for range 10 {
			talks = append(talks, startTalk(t, calls))
		}
		over := make(chan struct{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for n := 0; ; n++ {
					if _, err := calls.EmptyCall(t.Context(), new(testgrpc.Empty)); err != nil {
						t.Errorf("call %d: %v", n, err)
						return
					}
					select {
					case <-over:
						return
					default:
					}
				}
			})
		}
		for n := range reloads {
			g.write(replaceUp(toUp, []*server{two, one}[n%2]))
			g.await("reloaded", n+1)
			for _, s := range talks {
				if err := s.turn(); err != nil {
					t.Errorf("after %d reloads: %v", n+1, err)
				}
			}
		}
		close(over)
		wg.Wait()
		for _, s := range talks {
			if err := s.end(); err != nil {
				t.Error(err)
			}
		}
		if name := serverOf(t, calls); name != "one" {
			t.Errorf("after all %s answers", name)
		}
	})
}
