package upstream

import (
	"fmt"
	"io"
	"time"
)

// A Field is one field line of a head or a trailer section, name and value as
// they are on the wire, the optional white space around the value removed.
type Field struct{ Name, Value []byte }

// Config says how to reach one target and how to treat its connections. It is
// comparable: pools with equal configurations are one pool, which is how
// connections survive a reload.
type Config struct {
	// URL is http://host:port, https://host:port, or unix:/path/to/socket.
	// The port defaults to the scheme's; there is no path.
	URL string

	Connect  time.Duration // to resolve, connect and finish the TLS handshake; 0: 1 s
	Header   time.Duration // from the last byte of the request to the final response head; 0: unbounded
	Idle     time.Duration // between two reads of a response body, and for one write of a streamed request body; 0: unbounded
	PoolIdle time.Duration // how long an unused connection is kept; 0: 55 s

	// Protocol is what the target speaks: "" or "http1", "h2" (HTTP/2 over TLS, for
	// an https URL) or "h2c" (HTTP/2 without, for the others).
	Protocol string

	// UnknownCoding takes a response with a single transfer coding that is
	// registered nowhere as one whose body ends with the connection (RFC 9112,
	// section 6.3), as it is; else it is a broken response. HTTP/1 only.
	UnknownCoding bool

	MaxConnections  int // open at once; 0: unbounded
	IdleConnections int // kept although unused for a second; 0: 256

	TLS TLS // for https targets
}

// TLS is how a target's certificate is verified, and what it is shown.
type TLS struct {
	ServerName string // SNI and the name to verify; empty: the host of the URL
	CAFile     string // PEM; empty: the system's roots
	Insecure   bool   // verify nothing
	CertFile   string // PEM of the certificate for targets that ask for one, its chain behind it; empty: none
	KeyFile    string // PEM of its key; empty where CertFile is
}

// A ConfigError says what of a Config cannot work.
type ConfigError struct {
	// Key is the part: url, protocol, tls.ca_file, tls.cert_file or tls.key_file.
	Key string
	Err error
}

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// A Request is what a Call sends. The caller keeps everything in it unchanged
// until the call is closed.
type Request struct {
	Method []byte
	Target []byte // as it goes on the request line
	// Fields is the whole head in order. Of what belongs to the connection it
	// holds nothing, except that it has exactly one Content-Length where
	// ContentLength is known and a body (even an empty one) is announced.
	Fields []Field
	// ContentLength is the length of Body in bytes; 0 for none, -1 for
	// unknown, which is sent chunked. Body may hold more than a known length;
	// the rest is not read.
	ContentLength int64
	// Body is read from another goroutine than the caller's, unless
	// BodyAtHand, and never again once Call.Close has returned.
	Body io.Reader
	// BodyAtHand promises that reading Body will not block, so that it may be
	// sent in one write with the head, up to 64 KiB of it. What is beyond is
	// streamed as if there were no promise.
	BodyAtHand bool
	// Interrupt, when not nil, makes a Body.Read that blocks, and any that
	// begins later, return: a read deadline in the past does that to a
	// connection. It is called at most once, from Do or Close, when the call
	// has to end while Body is being read. See Call.
	Interrupt func()
	// Trailer, when not nil, is called once after an unknown-length Body ended,
	// from the goroutine that read Body, and gives the trailer fields to send.
	Trailer func() []Field
	// Interim, when not nil, is told of each interim response but 100, from the
	// goroutine of Do, before the final one (RFC 9110, section 15.2). What it is
	// given is gone when it returns. Of targets that speak HTTP/2 nothing is told.
	Interim func(status int, fields []Field)
	// TrailersWanted tells a target that speaks HTTP/2 that trailer fields are
	// understood (TE: trailers), as gRPC requires. TE itself belongs to the
	// connection and is not in Fields.
	TrailersWanted bool
	// Upgrade, when not empty, asks for a switch to that protocol; the
	// Connection and Upgrade fields are then written by the call. A 101 answer
	// is only accepted for it. A target that speaks HTTP/2 cannot be asked.
	Upgrade []byte
	// Deadline ends the whole call; zero for none.
	Deadline time.Time
}

// A Response is what a Call got. Everything in it lives until the call is
// closed.
type Response struct {
	Status int
	// Fields is the final head in order, without what belongs to the
	// connection (Connection and what it names, Keep-Alive, Transfer-Encoding,
	// Upgrade except on 101, Proxy-Connection). Content-Length is in it.
	Fields []Field
	// ContentLength is the number of body bytes to come, -1 when only the end
	// will tell. 0 for HEAD, 204 and 304, whatever a Content-Length field says.
	ContentLength int64
	// Trailer is the trailer section, once Read has returned io.EOF.
	Trailer []Field
}

// An Error says what went wrong with a call, and whose fault it was.
type Error struct {
	// Type is a Proxy-Status error type (RFC 9209, section 2.3):
	// connection_refused, connection_timeout, dns_error,
	// destination_ip_unroutable, destination_unavailable, tls_certificate_error,
	// tls_protocol_error, connection_terminated, connection_read_timeout,
	// connection_write_timeout, connection_limit_reached,
	// http_response_timeout, http_response_incomplete, http_protocol_error,
	// http_response_header_section_size, http_upgrade_failed;
	// http_request_error, with RequestBody or for a head that the target's
	// protocol cannot express.
	Type string
	// RequestBody is true when reading the request's body failed: the client's
	// doing, not the target's.
	RequestBody bool
	// Canceled is true when Call.Cancel ended it.
	Canceled bool
	// Stale is true when a reused connection ended before the first byte of a
	// response: the target very likely never saw the request.
	Stale bool
	// Unsent is true when not one byte of the request was written, or the
	// target has said that it did nothing with it (RFC 9113, section 8.7).
	Unsent bool
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Type, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether time ran out.
func (e *Error) Timeout() bool {
	switch e.Type {
	case "connection_timeout", "connection_read_timeout", "connection_write_timeout", "http_response_timeout":
		return true
	}
	return false
}
