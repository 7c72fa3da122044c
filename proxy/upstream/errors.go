package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The Proxy-Status error types that this package makes.
const (
	typeRefused      = "connection_refused"
	typeConnectTime  = "connection_timeout"
	typeDNS          = "dns_error"
	typeUnroutable   = "destination_ip_unroutable"
	typeUnavailable  = "destination_unavailable"
	typeCertificate  = "tls_certificate_error"
	typeTLS          = "tls_protocol_error"
	typeTerminated   = "connection_terminated"
	typeReadTime     = "connection_read_timeout"
	typeWriteTime    = "connection_write_timeout"
	typeLimit        = "connection_limit_reached"
	typeResponseTime = "http_response_timeout"
	typeIncomplete   = "http_response_incomplete"
	typeProtocol     = "http_protocol_error"
	typeRequest      = "http_request_error"
	typeHeadSize     = "http_response_header_section_size"
	typeUpgrade      = "http_upgrade_failed"
)

var (
	errCanceled    = errors.New("call canceled")
	errClosed      = errors.New("call is closed")
	errLimit       = errors.New("no more connections allowed to this target")
	errDeadline    = errors.New("the call's deadline passed")
	errHeadTime    = errors.New("no response head in time")
	errReadTime    = errors.New("nothing more of the response body in time")
	errWriteTime   = errors.New("the target did not take the request body in time")
	errShortBody   = errors.New("request body shorter than its length")
	errUpgradeBody = errors.New("101 response before the request was sent")
	errUpgradeH2   = errors.New("a target that speaks HTTP/2 switches to no other protocol")
	errNoH2        = errors.New("the target does not choose HTTP/2 in the TLS handshake")
)

// dialError gives an error of connecting its type.
func dialError(err error, network string) *Error {
	e := &Error{Type: typeUnavailable, Unsent: true, Err: err}
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case usedUp(err):
		e.Type = typeLimit
	case errors.As(err, &dns):
		e.Type = typeDNS
		if dns.IsTimeout {
			e.Type = typeConnectTime
		}
	case errors.Is(err, syscall.ECONNREFUSED), network == "unix" && errors.Is(err, syscall.ENOENT):
		e.Type = typeRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		e.Type = typeUnroutable
	case errors.Is(err, syscall.ECONNRESET):
		e.Type = typeTerminated
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		e.Type = typeConnectTime
	}
	return e
}

// usedUp reports whether err says that the process has no descriptor left.
func usedUp(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// handshakeError gives an error of the TLS handshake its type.
func handshakeError(err error) *Error {
	e := &Error{Type: typeTLS, Unsent: true, Err: err}
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var timeout net.Error
	switch {
	case errors.As(err, &verify), errors.As(err, &authority), errors.As(err, &name), errors.As(err, &invalid):
		e.Type = typeCertificate
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.Type = typeConnectTime
	case gone(err):
		e.Type = typeTerminated
	}
	return e
}

// gone reports whether err says that the other end closed or reset.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// protocolError refuses a response for what it is.
func protocolError(err error) *Error {
	if err == errHeadSize {
		return &Error{Type: typeHeadSize, Err: err}
	}
	return &Error{Type: typeProtocol, Err: err}
}
