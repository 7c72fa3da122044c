package listen

import (
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

// What a client may send within h2Window. Beyond it the connection ends with
// ENHANCE_YOUR_CALM.
const (
	h2Window = 10 * time.Second

	maxResets     = 200  // RST_STREAM, of the client or that it made us send
	maxSettings   = 100  // SETTINGS
	maxPings      = 500  // PING, and one for each DATA frame that was sent: some measure by them
	maxPriorities = 200  // PRIORITY and PRIORITY_UPDATE, and 10 for each request
	maxUpdates    = 1000 // WINDOW_UPDATE, and 10 for each DATA frame that was sent
	maxEmpty      = 100  // frames that carry nothing and end nothing
	maxUnknown    = 500  // frames that are ignored
	maxContinued  = 64   // CONTINUATION frames of one header section
	framePriority = 0x10 // PRIORITY_UPDATE (RFC 9218, section 7.1)
	manySettings  = 100  // in one frame
)

// H2Abuses are the reasons for which HTTP/2 connections are ended.
var H2Abuses = [...]string{
	"reset", "settings", "ping", "priority", "window_update", "empty", "unknown", "continuation", "slow_head", "stalled",
}

// Abuses counts the HTTP/2 connections that were ended because of their client.
func (s *Server) Abuses() (n [len(H2Abuses)]int64) {
	for i := range n {
		n[i] = s.abuses[i].Load()
	}
	return n
}

// h2Abuse counts what a client sends.
type h2Abuse struct {
	maxHead   int   // bytes of CONTINUATION frames that one may have
	continued int   // CONTINUATION frames of the header section
	block     int   // bytes of those
	since     int64 // when the window began
	data      int64 // h2Out's counts then
	resets    int64
	count     h2Counts
}

type h2Counts struct{ resets, settings, pings, priorities, updates, empty, unknown, requests int64 }

// begins counts a frame of which the header has come, and says what is too much;
// "" if nothing.
func (a *h2Abuse) begins(f h2.Header, now int64, out *h2Out) string {
	if now-a.since > int64(h2Window) {
		a.since, a.data, a.resets, a.count = now, out.data.Load(), out.resets.Load(), h2Counts{}
	}
	n := &a.count
	switch f.Kind {
	case http2.FrameHeaders:
		n.requests++
		a.continued, a.block = 0, 0
		a.nothing(f.Length == 0 && !f.Flags.Has(http2.FlagHeadersEndHeaders))
	case http2.FrameContinuation:
		a.continued++
		a.block += f.Length
		a.nothing(f.Length == 0 && !f.Flags.Has(http2.FlagContinuationEndHeaders))
	case http2.FrameData:
		a.nothing(f.Length == 0 && !f.Flags.Has(http2.FlagDataEndStream))
	case http2.FrameRSTStream:
		n.resets++
	case http2.FrameSettings:
		n.settings++
	case http2.FramePing:
		n.pings++
	case http2.FramePriority, framePriority:
		n.priorities++
	case http2.FrameWindowUpdate:
		n.updates++
	default:
		n.unknown++
	}
	return a.judge(out)
}

// nothing counts a frame that carries nothing and ends nothing.
func (a *h2Abuse) nothing(is bool) {
	if is {
		a.count.empty++
	}
}

func (a *h2Abuse) judge(out *h2Out) string {
	n, sent := &a.count, out.data.Load()-a.data
	switch {
	case a.continued > maxContinued || a.block > a.maxHead:
		return "continuation"
	case n.resets+out.resets.Load()-a.resets > maxResets:
		return "reset"
	case n.settings > maxSettings:
		return "settings"
	case n.pings > maxPings+sent:
		return "ping"
	case n.priorities > maxPriorities+10*n.requests:
		return "priority"
	case n.updates > maxUpdates+10*sent:
		return "window_update"
	case n.empty > maxEmpty:
		return "empty"
	case n.unknown > maxUnknown:
		return "unknown"
	}
	return ""
}

// provoked reports whether a stream is reset with code for what its client did
// (CVE-2025-8671): the client can have that as cheaply as it resets streams
// itself.
func provoked(code http2.ErrCode) bool {
	return code != http2.ErrCodeNo && code != http2.ErrCodeInternal && code != http2.ErrCodeCancel
}

// h2Blocks is how many bytes of CONTINUATION frames a header section may have: a
// head that is only somewhat too large gets its answer, whatever the bound.
func h2Blocks(maxHead int) int { return max(maxHead, 32<<10) }
