package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"

	"golang.org/x/net/http2"
)

//lint:file-ignore SA1019 net/http's ClientConn dials by itself and hides the errors that tell whether a request was seen.

// A link is a connection of HTTP/2 that many calls share. What is read from and
// written to it is x/net's ClientConn's business. That closes it too, so that
// the pool learns here that a link is over.
type link struct {
	net.Conn          // what frames are written to
	beneath  net.Conn // the same without TLS
	p        *Pool
	cc       *http2.ClientConn
	over     atomic.Bool // the target has closed or reset it

	// Under Pool.mu.
	streams   int  // of calls that are not closed
	served    bool // has answered a call
	idleSince int64
	gone      bool // closed: its place is free
}

func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if gone(err) {
		l.over.Store(true)
	}
	return n, err
}

// Close closes without a word to a TLS peer: to say goodbye could block on a
// target that does not read.
func (l *link) Close() error {
	err := l.beneath.Close()
	l.p.lose(l)
	return err
}

// nudge has x/net look again at streams that wait to send a body: where a
// response without a body has ended, it does not notice that they were
// canceled. A request that is canceled before it is begun does that.
func (l *link) nudge() {
	if !l.cc.ReserveNewRequest() {
		return // then others are at work on the link, and do so
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r, err := http.NewRequestWithContext(ctx, "GET", "http://nudge/", nil); err == nil {
		_, _ = l.cc.RoundTrip(r) // fails as it should
	}
}

// A linkMaker makes the ClientConns of a pool's links.
type linkMaker = http2.Transport

// saysGoingAway reports whether the connection ended after a GOAWAY.
func saysGoingAway(err error) bool { return errors.As(err, new(http2.GoAwayError)) }

func newLinkMaker(cfg Config) (*linkMaker, error) {
	// The windows can be set by way of a Transport of net/http only.
	t, err := http2.ConfigureTransports(&http.Transport{
		DisableCompression: true,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: linkWindow,
		},
	})
	if err != nil {
		return nil, err
	}
	t.DisableCompression = true
	t.MaxHeaderListSize = maxHeadFrames
	t.WriteByteTimeout = linkWrite
	t.PingTimeout = pingTime
	t.ReadIdleTimeout = rareSilence
	if cfg.Idle > 0 && cfg.Idle <= 2*silence {
		t.ReadIdleTimeout = silence
	}
	return t, nil
}

// maxHeadFrames is from where on a head costs the target the whole link: x/net
// decodes no further. Heads between maxHead and it cost it their stream.
const maxHeadFrames = 4 * maxHead

var (
	errLinkLost  = errors.New("the connection was closed as soon as it was open")
	errNoStreams = errors.New("the target allows no streams")
)

// openLink connects, and waits until the target has answered a ping: then it
// has shown that it speaks HTTP/2, TLS 1.3 targets have accepted the client's
// certificate, and its limit of streams is known, which is returned. Where
// openLink fails the place that was counted for the link is free again.
func (p *Pool) openLink(ctx context.Context) (*link, int, *Error) {
	nc, err := p.target.open(ctx)
	if err != nil {
		p.free()
		return nil, 0, err.(*Error)
	}
	l := &link{Conn: nc, beneath: nc, p: p}
	if p.target.tls != nil {
		if l.Conn, err = p.target.secure(ctx, nc); err != nil {
			p.free()
			return nil, 0, err.(*Error)
		}
	}
	if l.cc, err = p.mux.http.NewClientConn(l); err != nil { // closes l
		return nil, 0, prefaceError(ctx, err, l)
	}
	if err := l.cc.Ping(ctx); err != nil {
		l.cc.Close()
		return nil, 0, prefaceError(ctx, err, l)
	}
	return l, int(l.cc.State().MaxConcurrentStreams), nil
}

// prefaceError gives an error before the first stream its type.
func prefaceError(ctx context.Context, err error, l *link) *Error {
	e := &Error{Type: typeProtocol, Unsent: true, Err: err}
	var alert *net.OpError
	switch {
	case ctx.Err() != nil:
		e.Type = typeConnectTime
	case errors.As(err, &alert) && alert.Op == "remote error" && l.Conn != l.beneath:
		e.Type = typeTLS
	case gone(err), l.over.Load():
		e.Type = typeTerminated
	}
	// What is left is that x/net closed it for what it read.
	return e
}
