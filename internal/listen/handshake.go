package listen

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// handshakeLate is for a handshake that is blocked while it writes: it is not
// waited for much longer than HandshakeTimeout.
const handshakeLate = time.Second

var errHandshakeSlow = errors.New("listen: the TLS handshake took too long")

// HandshakeFailures are the reasons for which TLS handshakes are counted as
// failed.
var HandshakeFailures = [...]string{
	"no_certificate", "bad_record", "version", "cipher", "client_certificate", "protocol", "alert", "timeout", "closed", "other",
}

// Handshakes counts the TLS handshakes of a server.
type Handshakes struct {
	TLS12, TLS13 int64 // done, by version
	Resumed      int64 // of them, with a session of before
	Failed       [len(HandshakeFailures)]int64
}

type handshakes struct {
	tls12, tls13, resumed atomic.Int64
	failed                [len(HandshakeFailures)]atomic.Int64
}

// Handshakes counts the TLS handshakes so far.
func (s *Server) Handshakes() Handshakes {
	h := Handshakes{TLS12: s.hands.tls12.Load(), TLS13: s.hands.tls13.Load(), Resumed: s.hands.resumed.Load()}
	for i := range h.Failed {
		h.Failed[i] = s.hands.failed[i].Load()
	}
	return h
}

// shake runs the TLS handshake, and reports whether it succeeded.
func (c *Conn) shake() bool {
	t := c.secure
	t.socket.how = readHandshake
	err := t.tls.Handshake()
	t.socket.how = readWaiting
	if err != nil {
		c.shakeFailed(err)
		return false
	}
	st := t.tls.ConnectionState()
	if st.Version == tls.VersionTLS12 {
		c.s.hands.tls12.Add(1)
	} else {
		c.s.hands.tls13.Add(1)
	}
	if st.DidResume {
		c.s.hands.resumed.Add(1)
	}
	c.enter(stateNew)
	return true
}

func (c *Conn) shakeFailed(err error) {
	reason := failure(err)
	for i, r := range HandshakeFailures {
		if r == reason {
			c.s.hands.failed[i].Add(1)
		}
	}
	c.s.log.Debug("TLS handshake failed", "client", c.RemoteAddr().String(), "reason", reason, "error", err)
	var record tls.RecordHeaderError
	if errors.As(err, &record) && looksLikeHTTP(record.RecordHeader) {
		c.secure = nil // no word of TLS has been said
		c.refuse(errPlain)
	}
}

// looksLikeHTTP reports whether a client sent a request of HTTP/1 where
// something else should begin.
func looksLikeHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH", "PRI *":
		return true
	}
	return false
}

// failure is one of HandshakeFailures. crypto/tls has values for few of its
// errors.
func failure(err error) string {
	var record tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.Is(err, errHandshakeSlow):
		return "timeout"
	case errors.As(err, &record):
		return "bad_record"
	case errors.As(err, &certificate):
		return "client_certificate"
	case errors.As(err, &op) && op.Op == "remote error":
		return "alert"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "closed"
	}
	text := err.Error()
	for _, hint := range [...]struct{ part, reason string }{
		{"unsupported versions", "version"}, {"supported version", "version"}, {"protocol version", "version"},
		{"signature algorithms", "no_certificate"}, {"no certificates", "no_certificate"},
		{"cipher suite", "cipher"}, {"key exchange", "cipher"}, {"elliptic curve", "cipher"}, {"ECDHE", "cipher"},
		{"client didn't provide a certificate", "client_certificate"}, {"client certificate", "client_certificate"},
		{"application protocol", "protocol"},
		{"bad record MAC", "bad_record"}, {"oversized record", "bad_record"},
	} {
		if strings.Contains(text, hint.part) {
			return hint.reason
		}
	}
	return "other"
}
