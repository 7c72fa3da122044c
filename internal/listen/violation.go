package listen

import (
	"net/http"
	"net/netip"
	"strconv"
)

// Violation is a breach of the wire grammar or of a limit by the client.
// After one the connection is closed and nothing more is read as a request.
type Violation struct {
	Status int    // the HTTP status to answer with
	Reason string // a sentence that is safe to show to clients
	// HTTP2 says that it came over HTTP/2; there only its stream ends.
	HTTP2 bool
}

// Error says what was wrong.
func (v *Violation) Error() string { return v.Reason }

func bad(reason string) *Violation { return &Violation{Status: http.StatusBadRequest, Reason: reason} }

// Each rule has one value, so that refusing costs no allocation.
var (
	errLineEnd      = bad("lines must end in CRLF")
	errEmptyLines   = bad("more than one empty line before the request line")
	errMethod       = bad("malformed method")
	errRequestLine  = bad("malformed request line")
	errTarget       = bad("malformed request target")
	errTargetLong   = &Violation{Status: http.StatusRequestURITooLong, Reason: "request target too long"}
	errVersion      = bad("malformed protocol version")
	errVersionOther = &Violation{Status: http.StatusHTTPVersionNotSupported, Reason: "only HTTP/1.0 and HTTP/1.1 are spoken here"}
	errForeign      = bad("nothing in the request line is of HTTP")
	errConnect      = &Violation{Status: http.StatusNotImplemented, Reason: "CONNECT is not offered"}
	errTrace        = &Violation{Status: http.StatusMethodNotAllowed, Reason: "TRACE is not allowed"}
	errScheme       = bad("the scheme of the target does not fit the listener")
	errAuthority    = bad("the authority of the target and Host disagree")

	errHeadLarge  = &Violation{Status: http.StatusRequestHeaderFieldsTooLarge, Reason: "header section too large"}
	errFieldCount = &Violation{Status: http.StatusRequestHeaderFieldsTooLarge, Reason: "too many header fields"}
	errFieldName  = bad("malformed header field name")
	errFieldAlias = bad("header field name imitates another by underscores")
	errFieldValue = bad("malformed header field value")
	errFold       = bad("folded header field")
	errHost       = bad("malformed Host")
	errHostCount  = bad("exactly one Host is required")

	errLength      = bad("malformed Content-Length")
	errLengthTwice = bad("more than one Content-Length")
	errCoding      = bad("malformed Transfer-Encoding")
	errCodingOther = &Violation{Status: http.StatusNotImplemented, Reason: "transfer coding not implemented"}
	errCodingOld   = bad("Transfer-Encoding needs HTTP/1.1")
	errBothFraming = bad("both Content-Length and Transfer-Encoding")
	errNominated   = bad("Connection names a field that is not hop-by-hop")
	errConnection  = bad("malformed Connection")
	errHop         = bad("a field that belongs to one HTTP/1 connection")
	errExpect      = &Violation{Status: http.StatusExpectationFailed, Reason: "unknown expectation"}

	errChunkSize    = bad("malformed chunk size")
	errChunkExt     = bad("malformed or oversized chunk extension")
	errChunkEnd     = bad("chunk data not followed by CRLF")
	errTrailerField = bad("field not allowed in trailers")
	errTrailerLarge = &Violation{Status: http.StatusRequestHeaderFieldsTooLarge, Reason: "trailer section too large"}

	errRequest       = bad("malformed request")
	errHeadTruncated = bad("the request ended before its header section")
	errHeadSlow      = &Violation{Status: http.StatusRequestTimeout, Reason: "the header section took too long"}
	errBodySlow      = &Violation{Status: http.StatusRequestTimeout, Reason: "the body came too slowly"}
	errOnlyHTTP2     = &Violation{Status: http.StatusHTTPVersionNotSupported, Reason: "only HTTP/2 is spoken here"}
	errPlain         = bad("TLS is spoken here: use https")
	errCrowded       = &Violation{Status: http.StatusServiceUnavailable, Reason: "too many connections"}
)

// Problem appends a whole minimal response for v: problem+json (RFC 9457)
// with Proxy-Status (RFC 9209) and Connection: close.
func Problem(dst []byte, _ netip.AddrPort, v *Violation) []byte {
	title := http.StatusText(v.Status)
	body := make([]byte, 0, 160)
	body = append(body, `{"type":"about:blank","title":`...)
	body = strconv.AppendQuote(body, title)
	body = append(body, `,"status":`...)
	body = strconv.AppendInt(body, int64(v.Status), 10)
	body = append(body, `,"detail":`...)
	body = strconv.AppendQuote(body, v.Reason)
	body = append(body, '}')

	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(v.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, title...)
	dst = append(dst, "\r\nContent-Type: application/problem+json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\nCache-Control: no-store\r\nProxy-Status: sluice; error="...)
	dst = append(dst, proxyError(v.Status)...)
	switch v.Status {
	case http.StatusMethodNotAllowed:
		dst = append(dst, "\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"...)
	case http.StatusServiceUnavailable:
		dst = append(dst, "\r\nRetry-After: 1"...)
	}
	dst = append(dst, "\r\nConnection: close\r\n\r\n"...)
	return append(dst, body...)
}

func proxyError(status int) string {
	if status == http.StatusServiceUnavailable {
		return "connection_limit_reached"
	}
	return "http_request_error"
}
