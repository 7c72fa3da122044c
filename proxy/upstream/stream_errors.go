package upstream

import (
	"errors"
	"strings"

	"golang.org/x/net/http2"
)

// What x/net says in errors that have no type or name. TestWordsOfHTTP2 and the
// tests of what leads to them hold it to that.
const (
	saysGoAway      = "http2: Transport received Server's graceful shutdown GOAWAY"
	saysGoAwayError = "http2: Transport received GOAWAY from server ErrCode:"
	saysUnusable    = "http2: client conn not usable"
	saysNeverUsable = "http2: client conn could not be established"
	saysLost        = "http2: client connection lost"
	saysHeadSize    = "http2: response header list larger than advertised limit"
	saysTooLong     = "net/http: server replied with more than declared Content-Length; truncated"
	saysReset       = "received from peer"
	saysRequest     = "http2: " // and what of the request cannot be sent
)

var (
	errRefused   = errors.New("the target refused the stream without looking at it")
	errGoingAway = errors.New("the target closed the connection to new streams before it looked at this one")
	errClosing   = errors.New("the connection was closing")
	errDenied    = errors.New("the target closed the connection, for an error, to its first stream")
	errLostPing  = errors.New("the target answers nothing more, pings included")
	errTooLong   = errors.New("response body longer than its Content-Length")
)

// failure says what err, met on the stream, means. Who ended the call on
// purpose comes before what the link said then.
func (s *stream) failure(err error) *Error {
	canceled := s.cancellation()
	s.mu.Lock()
	body, fault := s.failed, s.fault
	s.mu.Unlock()
	var e *Error
	switch {
	case canceled != nil:
		return canceledError(canceled)
	case body != nil:
		return &Error{Type: typeRequest, RequestBody: true, Err: body}
	case s.write.passed():
		return &Error{Type: typeWriteTime, Err: errWriteTime}
	case s.head.passed() && !s.final:
		return &Error{Type: typeResponseTime, Err: errHeadTime}
	case s.head.passed():
		return &Error{Type: typeReadTime, Err: errReadTime}
	case fault != nil:
		return protocolError(fault)
	case errors.As(err, &e):
		return e
	}
	if e := s.streamFailure(err); e != nil {
		return e
	}
	return s.linkFailure(err)
}

// streamFailure is what befell this stream alone, or nil.
func (s *stream) streamFailure(err error) *Error {
	var reset http2.StreamError
	said := err.Error()
	switch {
	case errors.As(err, &reset) && reset.Cause != nil && reset.Cause.Error() == saysReset:
		if reset.Code == http2.ErrCodeRefusedStream && !s.final {
			return &Error{Type: typeUnavailable, Unsent: true, Err: errRefused}
		}
		return s.broken(err)
	case errors.As(err, &reset) && reset.Cause != nil && reset.Cause.Error() == saysHeadSize:
		return protocolError(errHeadSize)
	case errors.As(err, &reset):
		return protocolError(err)
	case said == saysTooLong:
		return protocolError(errTooLong)
	case said == saysGoAway:
		return &Error{Type: typeUnavailable, Unsent: true, Err: errGoingAway}
	case strings.HasPrefix(said, saysGoAwayError):
		return &Error{Type: typeUnavailable, Unsent: true, Err: errDenied}
	case said == saysUnusable, said == saysNeverUsable:
		return &Error{Type: typeTerminated, Unsent: true, Err: errClosing}
	}
	return nil
}

// linkFailure is what befell the whole link.
func (s *stream) linkFailure(err error) *Error {
	var violation http2.ConnectionError
	said := err.Error()
	switch {
	case said == saysLost:
		return &Error{Type: typeReadTime, Err: errLostPing}
	case saysGoingAway(err), gone(err):
		return s.broken(err)
	case errors.As(err, &violation), errors.Is(err, http2.ErrFrameTooLarge):
		return protocolError(err)
	case !s.final && !s.answering() && strings.HasPrefix(said, saysRequest) && errors.Unwrap(err) != nil:
		return &Error{Type: typeRequest, Unsent: true, Err: err}
	}
	return s.broken(err)
}

// broken is a response that will not come, or not whole.
func (s *stream) broken(err error) *Error {
	if s.final || s.answering() {
		return &Error{Type: typeIncomplete, Err: err}
	}
	return &Error{Type: typeTerminated, Stale: s.alone && gone(err), Err: err}
}

// answering reports whether any of a response has come.
func (s *stream) answering() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.interims > 0
}
