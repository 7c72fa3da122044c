package health

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// A grpcProbe calls grpc.health.v1.Health/Check over HTTP/2, in cleartext (with
// prior knowledge, RFC 9113 section 3.3) or over TLS. The two messages of that
// call have one field each; they are written and read here.
type grpcProbe struct {
	transport *http.Transport
	request   *http.Request
	message   []byte
}

func newGRPCProbe(p *plan, at *place) (probe, error) {
	u, err := at.url("/grpc.health.v1.Health/Check")
	if err != nil {
		return nil, err
	}
	if at.tls != nil {
		at.tls.NextProtos = []string{"h2"}
	}
	t := at.transport()
	t.Protocols.SetHTTP1(false)
	t.Protocols.SetHTTP2(at.tls != nil)
	t.Protocols.SetUnencryptedHTTP2(at.tls == nil)
	t.DisableKeepAlives = p.Interval > keepMax
	r := at.request(http.MethodPost, u, p.Host)
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	message := healthRequest(p.Service)
	r.ContentLength = int64(len(message))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(message)), nil }
	return &grpcProbe{transport: t, request: r, message: message}, nil
}

// check closes the connection on failure: otherwise a path that is dead would
// be asked again and again, while a new connection might get through.
func (p *grpcProbe) check(ctx context.Context) error {
	err := p.call(ctx)
	if err != nil {
		p.close()
	}
	return err
}

func (p *grpcProbe) call(ctx context.Context) error {
	request := p.request.WithContext(ctx)
	request.Body, _ = p.request.GetBody()
	response, err := p.transport.RoundTrip(request)
	if err != nil {
		return short(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	if kind := response.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/grpc") {
		return fmt.Errorf("content type %q is not gRPC's", kind)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return fmt.Errorf("body: %w", short(err))
	}
	if err := grpcStatus(response); err != nil {
		return err
	}
	return serving(body)
}

func (p *grpcProbe) close() { p.transport.CloseIdleConnections() }

// grpcStatus reads the status from the trailers, or from the head of an answer
// that has nothing else.
func grpcStatus(r *http.Response) error {
	fields := r.Trailer
	if fields.Get("Grpc-Status") == "" {
		fields = r.Header
	}
	switch status := fields.Get("Grpc-Status"); status {
	case "0":
		return nil
	case "":
		return errors.New("the answer has no grpc-status")
	default:
		return fmt.Errorf("grpc-status %.10q: %.100q", status, fields.Get("Grpc-Message"))
	}
}

// healthRequest is a HealthCheckRequest, string service = 1, in its frame.
func healthRequest(service string) []byte {
	var m []byte
	if service != "" {
		m = binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
		m = append(m, service...)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m)))
	return append(frame, m...)
}

var servingStatuses = map[uint64]string{0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

// serving reads a framed HealthCheckResponse, ServingStatus status = 1, where 1
// is SERVING.
func serving(frame []byte) error {
	if len(frame) < 5 || frame[0] != 0 || uint64(binary.BigEndian.Uint32(frame[1:])) != uint64(len(frame)-5) {
		return errors.New("the answer is not one plain gRPC message")
	}
	status, err := servingStatus(frame[5:])
	if err != nil || status == 1 {
		return err
	}
	if name := servingStatuses[status]; name != "" {
		return errors.New(name)
	}
	return fmt.Errorf("serving status %d", status)
}

// servingStatus finds field 1 among others, which it skips; 0 where it is not
// there.
func servingStatus(m []byte) (status uint64, err error) {
	bad := errors.New("the answer is no protobuf message")
	for len(m) > 0 {
		tag, n := binary.Uvarint(m)
		if n <= 0 || tag>>3 == 0 {
			return 0, bad
		}
		m = m[n:]
		skip := uint64(0)
		switch tag & 7 {
		case 0:
			v, n := binary.Uvarint(m)
			if n <= 0 {
				return 0, bad
			}
			if tag>>3 == 1 {
				status = v
			}
			skip = uint64(n)
		case 1:
			skip = 8
		case 2:
			size, n := binary.Uvarint(m)
			if n <= 0 || size > maxBody {
				return 0, bad
			}
			skip = uint64(n) + size
		case 5:
			skip = 4
		default:
			return 0, bad
		}
		if skip > uint64(len(m)) {
			return 0, bad
		}
		m = m[skip:]
	}
	return status, nil
}
