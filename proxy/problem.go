package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/proxy/upstream"
)

// A Problem is an error that knows how the client is to be answered: as
// application/problem+json (RFC 9457) with a Proxy-Status field (RFC 9209).
type Problem struct {
	Status int
	// Detail is one sentence for the client. It never holds what is internal.
	Detail string
	// Type is the Proxy-Status error type; empty: http_request_denied.
	Type string
	// Allow are the methods for a 405.
	Allow []string
	// RetryAfter, when not 0, becomes Retry-After, in whole seconds.
	RetryAfter time.Duration
	// Close ends the client's connection after the answer.
	Close bool
	// Err is the cause, for the log.
	Err error
}

func (p *Problem) Error() string {
	s := strconv.Itoa(p.Status) + " " + p.Detail
	if p.Err != nil {
		s += ": " + p.Err.Error()
	}
	return s
}

func (p *Problem) Unwrap() error { return p.Err }

var errBodyTooLarge = &Problem{Status: 413, Detail: "the request's body is larger than allowed", Type: "http_request_error", Close: true}

// A clientFault is an error whose cause is what the client sent; the
// connection's own checks return them through the body.
type clientFault interface {
	ClientFault() (status int, reason string)
}

// problemOf is the one place where errors become statuses.
func problemOf(err error) *Problem {
	var fault clientFault
	if errors.As(err, &fault) {
		status, reason := fault.ClientFault()
		return &Problem{Status: status, Detail: reason, Type: "http_request_error", Close: true, Err: err}
	}
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var u *upstream.Error
	if errors.As(err, &u) {
		return upstreamProblem(u)
	}
	return &Problem{Status: 500, Detail: "the gateway failed", Type: "proxy_internal_error", Err: err}
}

// problemOf is that of an error that ended x. A gRPC server keeps the client's
// deadline as well, and resets the stream; which of us noticed first is nothing
// to the client.
func (x *Exchange) problemOf(err error) *Problem {
	var u *upstream.Error
	if !x.end.IsZero() && !time.Now().Before(x.end) && errors.As(err, &u) && !u.Canceled && !u.RequestBody {
		return &Problem{Status: 504, Detail: "the deadline of the call has passed", Type: "http_response_timeout", Err: err}
	}
	return problemOf(err)
}

// upstreamProblem says what a failed attempt means for the client.
func upstreamProblem(u *upstream.Error) *Problem {
	p := &Problem{Status: 502, Type: u.Type, Err: u}
	switch {
	case u.Canceled:
		p.Status, p.Detail, p.Close = statusClientGone, "the client left", true
	case u.RequestBody:
		p.Status, p.Detail, p.Close, p.Type = 400, "the request's body broke off", true, "http_request_error"
	case u.Type == "connection_limit_reached":
		p.Status, p.Detail, p.RetryAfter = 503, "the backend has no connection to spare", time.Second
	case u.Timeout():
		p.Status, p.Detail = 504, "the backend did not answer in time"
	case u.Type == "http_upgrade_failed":
		p.Detail = "the backend does not take upgrades"
	case u.Type == "http_protocol_error", u.Type == "http_response_header_section_size":
		p.Detail = "the backend's response was broken"
	case u.Type == "http_response_incomplete", u.Type == "connection_terminated":
		p.Detail = "the backend closed the connection"
	default:
		p.Detail = "the backend could not be reached"
	}
	return p
}

// statusClientGone is nginx's status for a client that left before the answer;
// it is logged and counted and never sent.
const statusClientGone = 499

// kind is the problem's Proxy-Status error type.
func (p *Problem) kind() string {
	if p.Type == "" {
		return "http_request_denied"
	}
	return p.Type
}

// write makes x's response the problem's.
func (p *Problem) write(x *Exchange) {
	if p.Close {
		x.closeAfter = true
	}
	if x.isGRPC() {
		p.writeGRPC(x)
		return
	}
	r := &x.Response
	r.Status = p.Status
	h := &r.Header
	h.Fields = h.Fields[:0]
	h.Add("Content-Type", "application/problem+json")
	if len(p.Allow) > 0 {
		h.Add("Allow", strings.Join(p.Allow, ", "))
	}
	if p.RetryAfter > 0 {
		h.Add("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	h.Add("Proxy-Status", x.keep(pseudonym, "; error=", p.kind()))
	h.Add("Cache-Control", "no-store")
	body := appendProblem(nil, p.Status, p.Detail, view(x.id))
	r.Body, r.ContentLength = &memoryBody{all: body}, int64(len(body))
}

// appendProblem appends a problem document (RFC 9457, section 3).
func appendProblem(b []byte, status int, detail, id string) []byte {
	title := http.StatusText(status)
	if title == "" {
		title = "Error"
	}
	b = append(b, `{"type":"about:blank","title":`...)
	b = appendJSON(b, title)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	if detail != "" {
		b = append(b, `,"detail":`...)
		b = appendJSON(b, detail)
	}
	if id != "" {
		b = append(b, `,"request_id":`...)
		b = appendJSON(b, id)
	}
	return append(b, "}\n"...)
}
