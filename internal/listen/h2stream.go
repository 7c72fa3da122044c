package listen

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// h2Piece is what is written at once of a response: it can be said for how long
// a piece has been waiting for the client.
const h2Piece = 16 << 10

// h2Begin is more than what lies between a stream's first frame and its handler.
const h2Begin = time.Second

// An h2Stream is one request and its response, for a handler: as http2.Server
// made it, and timed.
type h2Stream struct {
	http.ResponseWriter
	h     *h2Conn
	at    int             // in h.streams
	ctx   context.Context // done when the stream is closed
	body  io.ReadCloser   // nil without
	began int64           // on the server's clock

	reading   atomic.Bool  // the handler waits for the body
	read      atomic.Int64 // bytes of it
	slow      atomic.Bool  // it has been found too slow
	writing   atomic.Int64 // since when the handler waits to write; 0: it does not
	headed    bool         // the head has been written
	pace      pace         // the sweeper's own
	abandoned bool         // as well: it has been reset
}

// Unwrap is for http.ResponseController.
func (st *h2Stream) Unwrap() http.ResponseWriter { return st.ResponseWriter }

// Peer is the client's end of the connection.
func (st *h2Stream) Peer() netip.AddrPort { return st.h.peer }

// WriteHeader writes a response's head, or an interim one.
func (st *h2Stream) WriteHeader(status int) {
	if status >= http.StatusOK && !st.headed {
		st.headed = true
		if status == http.StatusBadRequest {
			st.h.out.bad.Add(1)
		}
		st.h.s.complete(st.Header(), st.h.Conn)
	}
	st.waits()
	defer st.wrote()
	st.ResponseWriter.WriteHeader(status)
}

// waits notes that the handler waits for the client, until wrote.
func (st *h2Stream) waits() { st.writing.Store(max(st.h.s.clock.Load(), 1)) }

func (st *h2Stream) wrote() { st.writing.Store(0) }

// Write writes a part of the response's body.
func (st *h2Stream) Write(p []byte) (n int, err error) {
	if !st.headed {
		st.WriteHeader(http.StatusOK)
	}
	defer st.wrote()
	for {
		st.waits()
		piece := p[n:min(n+h2Piece, len(p))]
		m, err := st.ResponseWriter.Write(piece)
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
}

// FlushError sends what has been written.
func (st *h2Stream) FlushError() error {
	if !st.headed {
		st.WriteHeader(http.StatusOK)
	}
	st.waits()
	defer st.wrote()
	return st.ResponseWriter.(interface{ FlushError() error }).FlushError()
}

// Flush is FlushError for those who do not look.
func (st *h2Stream) Flush() { _ = st.FlushError() }

// h2Body is the body of a request.
type h2Body struct{ st *h2Stream }

// Read reads what has come. A client that was too slow is a *Violation.
func (b h2Body) Read(p []byte) (int, error) {
	st := b.st
	st.reading.Store(true)
	n, err := st.body.Read(p)
	st.reading.Store(false)
	st.read.Add(int64(n))
	if errors.Is(err, os.ErrDeadlineExceeded) && st.slow.Load() {
		err = errBodySlow
	}
	return n, err
}

// Close ends the reading.
func (b h2Body) Close() error { return b.st.body.Close() }

// refuse answers with the response to v.
func (st *h2Stream) refuse(r *http.Request, v *Violation) {
	v = &Violation{Status: v.Status, Reason: v.Reason, HTTP2: true}
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(st.h.s.reject(st.h.RemoteAddr(), v))), r)
	if err != nil {
		st.WriteHeader(v.Status)
		return
	}
	defer response.Body.Close()
	for name, values := range response.Header {
		if name != "Connection" {
			st.Header()[name] = values
		}
	}
	st.WriteHeader(response.StatusCode)
	_, _ = io.Copy(struct{ io.Writer }{st}, response.Body) // the client may be gone
}

// checkStreams looks after the streams: bodies that come too slowly are cut
// off, responses that nobody reads are reset. It reports whether there is one
// that only ending the connection ends.
func (h *h2Conn) checkStreams(now int64, passed time.Duration) bool {
	lim := h.s.limits.Load()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, st := range h.streams {
		control := http.NewResponseController(st.ResponseWriter)
		if lim.MinBodyRate > 0 && st.reading.Load() && st.pace.tooSlow(passed, st.read.Load(), lim.MinBodyRate) {
			st.slow.Store(true)
			_ = control.SetReadDeadline(past) // it fails for a stream that has ended
		}
		if since := st.writing.Load(); since > 0 && now-since > int64(lim.WriteStall) && !st.abandoned {
			st.abandoned = true
			_ = control.SetWriteDeadline(past) // as above
		}
	}
	return h.unserved(now, int64(lim.WriteStall))
}

// unserved reports whether there are streams, and have been for stall, that are
// older than that and open although no handler has them any more: what is left
// of their responses nobody takes. The caller holds h.mu.
func (h *h2Conn) unserved(now, stall int64) bool {
	handled := 0
	for _, st := range h.streams {
		if now-st.began > stall && st.ctx.Err() == nil {
			handled++
		}
	}
	if h.open.before(now-stall-int64(h2Begin)) <= handled {
		h.stuck = 0
		return false
	}
	if h.stuck == 0 {
		h.stuck = now
	}
	return now-h.stuck > stall
}
