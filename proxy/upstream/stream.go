package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"time"
)

// A stream carries a call over a link. It is made for one call, because x/net
// may still be at work on its request when the call is closed: what is reached
// from there is the stream's own, and never a later call's.
type stream struct {
	*Call // for the call's goroutine alone
	p     *Pool
	link  *link
	index int   // in mux.streams, -1 for not there; under Pool.mu
	alone bool  // it began on a used link that had no other stream; under Pool.mu
	hard  int64 // Call.hard as Do has it

	ctx      context.Context
	cancel   context.CancelFunc
	up       *upload     // nil without a body
	trailer  http.Header // of the request
	response *http.Response
	bodyless bool  // the response has no body, whatever frames come
	rest     int64 // of the response's body; -1: only its end tells
	ended    bool  // the response was read to its end
	final    bool  // the final head is read
	begun    bool  // the link was given the request

	head  deadline // of the phase that waits for the response
	write deadline // of what the link takes of the request's body

	mu       sync.Mutex // after Call.mu and Pool.mu
	aborted  bool
	late     bool          // the final head is read: the head's time is moot
	body     io.ReadCloser // of the response; closed by abort
	interims int
	fault    error // of an interim head
	failed   error // of Request.Body
	hangups  sync.WaitGroup
}

// maxLinks is how many links are tried that turn out to be closing, where the
// request's body is still to be had.
const maxLinks = 4

func newStream(c *Call, p *Pool) *stream {
	s := &stream{Call: c, p: p, hard: c.hard, index: -1}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if c.Request.ContentLength != 0 {
		s.up = newUpload(s)
	}
	return s
}

func (s *stream) exchange() *Error {
	if len(s.Upgrade) > 0 {
		return &Error{Type: typeUpgrade, Unsent: true, Err: errUpgradeH2}
	}
	if err := s.prepareBody(); err != nil {
		return &Error{Type: typeRequest, RequestBody: true, Unsent: true, Err: err}
	}
	for tries := 1; ; tries++ {
		if err := s.join(); err != nil {
			return err
		}
		response, err := s.link.cc.RoundTrip(s.request())
		if err == nil {
			err = s.finishHead(response)
		}
		if err == nil {
			return nil
		}
		failure := s.failure(err)
		if tries < maxLinks && again(failure, tries) && s.up.again() {
			s.part()
			continue
		}
		return failure
	}
}

// again reports whether a failed try is no news to the caller: the link was
// closing, or the target refused the stream, once.
func again(e *Error, tries int) bool {
	return e.Err == errClosing || e.Err == errGoingAway || e.Err == errRefused && tries == 1
}

// prepareBody fills the upload with what is at hand.
func (s *stream) prepareBody() error {
	r := &s.Request
	if s.up == nil {
		return nil
	}
	if r.Trailer != nil && r.ContentLength < 0 {
		s.trailer = make(http.Header)
	}
	if r.BodyAtHand || r.Body == nil {
		if err := s.up.fill(); err != nil {
			return err
		}
	}
	return nil
}

// join puts the stream on a link and begins its first phase.
func (s *stream) join() *Error {
	l, err := s.p.connect(s)
	if err != nil {
		if canceled := s.cancellation(); canceled != nil {
			return canceledError(canceled)
		}
		return err
	}
	s.link = l
	if s.up.start() {
		s.head.set(s.hard) // the head's time begins with the end of the body
	} else {
		s.head.set(s.p.until(s.p.cfg.Header, s.hard))
	}
	s.p.enter(s)
	// Where the call was canceled already, x/net gives the place back and
	// writes nothing.
	s.begun = s.ctx.Err() == nil
	return nil
}

// patience is how long a connection may be waited for.
func (s *stream) patience() (context.Context, context.CancelFunc) {
	limit := time.Now().Add(s.p.cfg.Connect)
	if d := s.Request.Deadline; !d.IsZero() && d.Before(limit) {
		limit = d
	}
	return context.WithDeadline(s.ctx, limit)
}

// left reports whether the call gave up a dial for a reason of its own.
func (s *stream) left() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aborted || s.hard > 0 && s.hard <= s.p.t.now()
}

// part takes the stream off its link.
func (s *stream) part() {
	if s.link != nil {
		s.p.leave(s, s.link)
		s.link = nil
	}
}

func (s *stream) cancellation() error {
	s.Call.mu.Lock()
	defer s.Call.mu.Unlock()
	return s.canceled
}

// trace hears of the request from x/net's goroutines.
func (s *stream) trace() context.Context {
	return httptrace.WithClientTrace(s.ctx, &httptrace.ClientTrace{
		Got1xxResponse: s.interim,
		WroteRequest:   func(httptrace.WroteRequestInfo) { s.written() },
	})
}

// written begins the target's time to answer.
func (s *stream) written() {
	s.write.set(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.late {
		s.head.set(s.p.until(s.p.cfg.Header, s.hard))
	}
}

// writing begins the target's time to take what the link was just given.
func (s *stream) writing() {
	if idle := s.p.cfg.Idle; idle > 0 {
		s.write.set(s.p.t.now() + int64(idle))
	}
}

func (s *stream) interim(code int, _ textproto.MIMEHeader) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.interims++; s.interims > maxInterims {
		s.fault = errInterims
	}
	if code == 101 {
		s.fault = errUnasked
	}
	return s.fault
}

// bodyFailed has the call fail for the request's body.
func (s *stream) bodyFailed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.aborted {
		s.failed = err
	}
}

func (s *stream) unsent() bool { return !s.begun }

func (s *stream) sent() bool { return s.up.sent() }

func (s *stream) upgraded() (net.Conn, []byte) { return nil, nil }

// buffered knows of empty bodies alone: what x/net holds of others cannot be
// seen.
func (s *stream) buffered() ([]byte, bool) {
	return nil, s.rest == 0 && s.Response.ContentLength == 0
}

func (s *stream) read(p []byte) (int, error) {
	if s.bodyless {
		return 0, io.EOF
	}
	s.head.set(s.until(s.p.cfg.Idle))
	n, err := s.response.Body.Read(p)
	s.head.set(0)
	if s.rest > 0 {
		s.rest -= int64(n)
	}
	if err == nil {
		return n, nil
	}
	if err == io.EOF {
		s.ended = true
		s.err = s.finishTrailer()
	} else {
		s.err = s.failure(err)
	}
	if n > 0 {
		return n, nil // and the error next time
	}
	return 0, s.err
}

func (s *stream) writeTo(w io.Writer, flush flusher) (int64, error) {
	return s.copy(w, flush, 0)
}

func (s *stream) abortLocked() { s.abort() }

// abort resets the stream. Nothing in it waits: Pool.mu or Call.mu is held.
func (s *stream) abort() {
	s.mu.Lock()
	first := !s.aborted
	s.aborted = true
	if first && s.body != nil {
		s.hangUp()
	}
	s.mu.Unlock()
	if first {
		s.cancel()
		s.up.stop()
	}
}

// hangUp ends a Read of the response. Canceling alone does not, while x/net
// waits for the target to take the request's body. s.mu is held.
func (s *stream) hangUp() {
	s.hangups.Go(func() { s.body.Close() })
}

func (s *stream) expire(now int64) {
	if s.head.sweep(now) || s.write.sweep(now) {
		s.abort()
	}
}

// close resets the stream unless it is over on both sides. In that case it
// waits for x/net to be done with it, so that its place on the link is free.
func (s *stream) close() {
	over := s.final && (s.ended || s.rest == 0) && s.sent()
	s.mu.Lock()
	s.aborted = true // so that nothing hangs up from here on
	s.mu.Unlock()
	if !over {
		s.cancel()
	}
	s.up.finish()
	if s.response != nil {
		s.response.Body.Close()
		if !s.sent() {
			s.link.nudge()
		}
	}
	s.hangups.Wait()
	s.cancel()
	s.part()
	s.Call.mu.Lock()
	s.closeLocked()
	s.Call.mu.Unlock()
	s.p.busy.Add(-1)
}
