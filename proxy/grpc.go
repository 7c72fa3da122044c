package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// gRPC over HTTP/2 (the protocol is github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md)
// is forwarded like everything else. Two things are its own: what the gateway
// itself has to say comes as a gRPC status, and grpc-timeout bounds the exchange.

// isGRPC reports whether the client expects a gRPC answer.
func (x *Exchange) isGRPC() bool {
	r := &x.Request
	if r.Version != "2" || string(r.Method) != "POST" {
		return false
	}
	kind, _ := r.Lookup("Content-Type")
	rest, ok := strings.CutPrefix(kind, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// grpcTimeout parses a grpc-timeout: at most 8 digits and a unit.
func grpcTimeout(value string) (time.Duration, bool) {
	if len(value) < 2 || len(value) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(value[:len(value)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	unit := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}[value[len(value)-1]]
	if unit == 0 {
		return 0, false
	}
	const most = 365 * 24 * time.Hour // 8 digits of hours would be more than a Duration holds
	if time.Duration(n) > most/unit {
		return most, true
	}
	return time.Duration(n) * unit, true
}

// gRPC status codes (github.com/grpc/grpc, doc/statuscodes.md).
const (
	grpcCancelled         = 1
	grpcDeadlineExceeded  = 4
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
	grpcUnauthenticated   = 16
)

// grpcCode is the code for what the gateway would have answered with a status.
func grpcCode(status int) int {
	switch status {
	case http.StatusUnauthorized:
		return grpcUnauthenticated
	case http.StatusForbidden:
		return grpcPermissionDenied
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return grpcUnimplemented
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge:
		return grpcResourceExhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return grpcUnavailable
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return grpcDeadlineExceeded
	case statusClientGone:
		return grpcCancelled
	}
	return grpcInternal
}

// writeGRPC makes x's response the problem's, as a gRPC client understands it: a
// response of trailers only. Logs and metrics keep the problem's own status.
func (p *Problem) writeGRPC(x *Exchange) {
	r := &x.Response
	r.Status, x.counted = http.StatusOK, p.Status
	h := &r.Header
	h.Fields = h.Fields[:0]
	h.Add("Content-Type", "application/grpc")
	h.Add("Proxy-Status", x.keep(pseudonym, "; error=", p.kind()))
	h.Fields = p.grpcStatus(h.Fields)
	if p.RetryAfter > 0 {
		h.Add("Grpc-Retry-Pushback-Ms", strconv.FormatInt(p.RetryAfter.Milliseconds(), 10))
	}
}

// grpcStatus appends the fields that say how a call ended.
func (p *Problem) grpcStatus(fields []Field) []Field {
	return append(fields,
		Field{Name: raw("Grpc-Status"), Value: strconv.AppendInt(nil, int64(grpcCode(p.Status)), 10)},
		Field{Name: raw("Grpc-Message"), Value: grpcMessage(p.Detail)})
}

// grpcMessage percent-encodes all but visible ASCII and spaces.
func grpcMessage(s string) []byte {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}
