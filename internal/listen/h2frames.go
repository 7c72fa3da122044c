package listen

import (
	"encoding/binary"

	"golang.org/x/net/http2"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

// frames does what the frames say that have come. An error ends the connection:
// an http2.ConnectionError is told to the client.
func (h *h2Conn) frames() error {
	now := h.s.clock.Load()
	for {
		more, err := h.step(now)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	h.timeHead(now)
	if h.data.left == 0 {
		h.in.giveBack()
	}
	return nil
}

// step deals with one frame, or with what has come of DATA, and reports whether
// there was one.
func (h *h2Conn) step(now int64) (bool, error) {
	if h.data.left > 0 {
		return h.dataComes(), nil
	}
	f, ok := h.in.next()
	if !ok {
		return false, nil
	}
	if !h.counted {
		if err := h.begins(f, now); err != nil {
			return false, err
		}
		h.counted = true
	}
	if f.Kind == http2.FrameData {
		return h.dataBegins(f)
	}
	if h.in.len() < h2.HeaderLen+f.Length {
		h.in.want(h2.HeaderLen + f.Length)
		return false, nil
	}
	payload := h.in.bytes()[h2.HeaderLen:][:f.Length]
	h.in.skip(h2.HeaderLen + f.Length)
	h.counted = false
	return true, h.frame(f, payload)
}

// begins judges a frame by its header.
func (h *h2Conn) begins(f h2.Header, now int64) error {
	if reason := h.abuse.begins(f, now, &h.out); reason != "" {
		h.breach(reason)
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	switch {
	case f.Length > h2FrameSize:
		return http2.ConnectionError(http2.ErrCodeFrameSize)
	case !h.greeted && (f.Kind != http2.FrameSettings || f.Flags.Has(http2.FlagSettingsAck)),
		h.block.open != (f.Kind == http2.FrameContinuation),
		h.block.open && f.Stream != h.block.stream:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

// timeHead notes since when a header section is incomplete.
func (h *h2Conn) timeHead(now int64) {
	f, ok := h.in.next()
	incomplete := h.block.open || ok && f.Kind == http2.FrameHeaders
	switch timed := h.headSince.Load() > 0; {
	case incomplete && !timed:
		h.headSince.Store(max(now, 1))
	case !incomplete && timed:
		h.headSince.Store(0)
	}
}

// frame does what a whole frame says.
func (h *h2Conn) frame(f h2.Header, p []byte) error {
	var code http2.ErrCode
	switch f.Kind {
	case http2.FrameHeaders:
		return h.headers(f, p)
	case http2.FrameContinuation:
		return h.continuation(f, p)
	case http2.FrameRSTStream:
		code = h.resetBy(f, p)
	case http2.FrameSettings:
		code = h.settings(f, p)
	case http2.FramePing:
		code = h.ping(f, p)
	case http2.FrameGoAway:
		code = h.goAway(f, p)
	case http2.FrameWindowUpdate:
		code = h.windowUpdate(f, p)
	case http2.FramePriority:
		code = h.priority(f, p)
	case http2.FramePushPromise:
		code = http2.ErrCodeProtocol
	}
	if code != http2.ErrCodeNo {
		return http2.ConnectionError(code)
	}
	return nil
}

// priority is not followed, but has to be well-formed.
func (h *h2Conn) priority(f h2.Header, p []byte) http2.ErrCode {
	switch {
	case f.Stream == 0:
		return http2.ErrCodeProtocol
	case len(p) != 5:
		return http2.ErrCodeFrameSize
	case binary.BigEndian.Uint32(p)&h2.MaxID == f.Stream:
		h.mu.Lock()
		h.reset(f.Stream, http2.ErrCodeProtocol)
		h.mu.Unlock()
	}
	return http2.ErrCodeNo
}

// resetBy ends a stream that the client has no more use for.
func (h *h2Conn) resetBy(f h2.Header, p []byte) http2.ErrCode {
	if len(p) != 4 {
		return http2.ErrCodeFrameSize
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.idle(f.Stream) {
		return http2.ErrCodeProtocol
	}
	if st := h.streams[f.Stream]; st != nil {
		h.close(st, ErrClientGone)
		h.cancel(st, ErrClientGone)
	} else {
		h.lingered(f.Stream)
	}
	return http2.ErrCodeNo
}

// idle reports whether a stream has not been opened. With mu held.
func (h *h2Conn) idle(id uint32) bool { return id == 0 || id&1 == 0 || id > h.last }

func (h *h2Conn) ping(f h2.Header, p []byte) http2.ErrCode {
	switch {
	case f.Stream != 0:
		return http2.ErrCodeProtocol
	case len(p) != 8:
		return http2.ErrCodeFrameSize
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !f.Flags.Has(http2.FlagPingAck) {
		h.out.buf = h2.AppendPing(h.out.buf, true, p)
	} else if string(p) == h2DrainPing {
		h.callLast()
	}
	return http2.ErrCodeNo
}

// goAway: the client opens no more streams of its own accord, so that the
// connection may end with those that there are.
func (h *h2Conn) goAway(f h2.Header, p []byte) http2.ErrCode {
	switch {
	case f.Stream != 0:
		return http2.ErrCodeProtocol
	case len(p) < 8:
		return http2.ErrCodeFrameSize
	}
	h.drain()
	return http2.ErrCodeNo
}

func (h *h2Conn) windowUpdate(f h2.Header, p []byte) http2.ErrCode {
	if len(p) != 4 {
		return http2.ErrCodeFrameSize
	}
	n := int64(binary.BigEndian.Uint32(p) & h2.MaxWindow)
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.Stream == 0 {
		if n == 0 {
			return http2.ErrCodeProtocol
		}
		if !h2.Grow(&h.out.window, n) {
			return http2.ErrCodeFlowControl
		}
		h.admit()
		return http2.ErrCodeNo
	}
	if h.idle(f.Stream) {
		return http2.ErrCodeProtocol
	}
	st := h.streams[f.Stream]
	switch {
	case n == 0:
		h.reset(f.Stream, http2.ErrCodeProtocol)
	case st == nil: // it has ended here and not yet there
	case !h2.Grow(&st.window, n):
		h.reset(f.Stream, http2.ErrCodeFlowControl)
	default:
		st.cond.Broadcast()
	}
	return http2.ErrCodeNo
}

func (h *h2Conn) settings(f h2.Header, p []byte) http2.ErrCode {
	const size = 6
	switch {
	case f.Stream != 0:
		return http2.ErrCodeProtocol
	case f.Flags.Has(http2.FlagSettingsAck) && len(p) > 0, len(p)%size != 0:
		return http2.ErrCodeFrameSize
	case len(p) > manySettings*size:
		return http2.ErrCodeProtocol
	case f.Flags.Has(http2.FlagSettingsAck):
		if h.untold--; h.untold < 0 {
			return http2.ErrCodeProtocol
		}
		return http2.ErrCodeNo
	}
	h.greeted = true
	h.mu.Lock()
	defer h.mu.Unlock()
	for ; len(p) > 0; p = p[size:] { // in their order: the last counts (RFC 9113, section 6.5.3)
		if code := h.setting(http2.SettingID(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])); code != http2.ErrCodeNo {
			return code
		}
	}
	h.out.buf = h2.AppendSettingsAck(h.out.buf)
	return http2.ErrCodeNo
}

// setting obeys one setting of the client. With mu held.
func (h *h2Conn) setting(id http2.SettingID, value uint32) http2.ErrCode {
	switch id {
	case http2.SettingHeaderTableSize:
		h.out.enc.SetLimit(value)
	case http2.SettingEnablePush:
		if value > 1 {
			return http2.ErrCodeProtocol
		}
	case http2.SettingMaxFrameSize:
		if value < h2.MinFrame || value > 1<<24-1 {
			return http2.ErrCodeProtocol // smaller ones are sent
		}
	case http2.SettingInitialWindowSize:
		if value > h2.MaxWindow {
			return http2.ErrCodeFlowControl
		}
		more := int64(value) - h.out.initial // windows may become negative (section 6.9.2)
		h.out.initial = int64(value)
		for _, st := range h.streams {
			if !h2.Grow(&st.window, more) {
				return http2.ErrCodeFlowControl
			}
			st.cond.Broadcast()
		}
	}
	return http2.ErrCodeNo
}
