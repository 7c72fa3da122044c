package listen

import (
	"io"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

const (
	h2DrainIdle = 500 * time.Millisecond // for a client to hear GOAWAY and answer
	h2DrainPing = "draining"             // whose answer says that it has
)

// due is what the clock says about h: io.EOF to end it silently, an
// http2.ConnectionError to say why.
func (h *h2Conn) due(now int64) error {
	lim := h.s.limits.Load()
	age := time.Duration(now - h.c.since.Load())
	switch h.c.in() {
	case stateNew:
		if age > lim.HeaderTimeout || age > drainNew && h.s.draining.Load() {
			return io.EOF
		}
	case stateIdle:
		if h.over() {
			return io.EOF
		}
		if age > lim.IdleTimeout {
			return http2.ConnectionError(http2.ErrCodeNo)
		}
	}
	if began := h.headSince.Load(); began > 0 && time.Duration(now-began) > lim.HeaderTimeout {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// over reports whether a drain has come to its end.
func (h *h2Conn) over() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.final && len(h.streams) == 0 && len(h.lingering) == 0 && len(h.out.buf) == 0 && !h.out.busy
}

// drain says GOAWAY, and that no stream has been too late yet (RFC 9113, section
// 6.8): those that are under way are served.
func (h *h2Conn) drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining || h.closed {
		return
	}
	h.draining, h.drainedAt = true, h.s.now()
	h.out.buf = h2.AppendGoAway(h.out.buf, h2.MaxID, http2.ErrCodeNo)
	h.out.buf = h2.AppendPing(h.out.buf, false, []byte(h2DrainPing))
	h.handOverLocked()
}

// callLast says which stream was the last. With mu held.
func (h *h2Conn) callLast() {
	if !h.draining || h.final {
		return
	}
	h.final, h.lastCall = true, h.last
	h.out.buf = h2.AppendGoAway(h.out.buf, h.last, http2.ErrCodeNo)
	h.handOverLocked()
}

// visit is the sweeper's.
func (h *h2Conn) visit(now int64, passed time.Duration) {
	switch err := h.due(now); {
	case err == nil:
	case err == http2.ConnectionError(http2.ErrCodeEnhanceYourCalm):
		h.breach("slow_head")
		h.c.nudge()
	default:
		h.c.nudge()
	}
	if st := h.c.in(); st != stateActive && st != stateIdle {
		return
	}
	h.c.checkStall(now) // without a stream there may still be something to send
	if h.checkStreams(now, passed) {
		h.breach("stalled")
		h.c.nudge()
	}
}

// checkStreams looks after the streams: bodies that come too slowly are cut off,
// responses that nobody takes are reset. It reports whether another one waits
// since a stream was reset for that, and nothing has been taken meanwhile: then
// it is the client, and not who reads the one.
func (h *h2Conn) checkStreams(now int64, passed time.Duration) (stalled bool) {
	lim := h.s.limits.Load()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining && now-h.drainedAt > int64(h.patience) {
		h.callLast()
	}
	if h.c.in() == stateIdle && now-h.c.since.Load() > int64(parkAfter) {
		h.out.release()
	}
	var late []uint32
	for _, st := range h.streams {
		if lim.MinBodyRate > 0 && st.reading && !st.slow && st.pace.tooSlow(passed, st.received, lim.MinBodyRate) {
			st.slow = true
			st.cond.Broadcast()
		}
		if st.writing > 0 && now-st.writing > int64(lim.WriteStall) {
			late = append(late, st.id)
		}
	}
	for _, id := range late {
		sent := h.out.data.Load()
		if h.stalled == sent {
			return true
		}
		h.stalled = sent
		h.reset(id, http2.ErrCodeCancel)
	}
	h.stopLate(now)
	h.handOverLocked()
	return false
}
