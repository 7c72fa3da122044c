package listen

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// What a client may send within h2Window. Beyond it the connection ends with
// ENHANCE_YOUR_CALM. What is bounded by http2.Server is not counted again:
// streams at once, header lists, answers that wait to be written, settings in a
// frame.
const (
	h2Window = 10 * time.Second

	maxResets      = 200  // RST_STREAM, of the client or that it made us send
	maxSettings    = 100  // SETTINGS
	maxPings       = 500  // PING, and one for each DATA frame that was sent: some measure by them
	maxPriorities  = 200  // PRIORITY and PRIORITY_UPDATE, and 10 for each request
	maxUpdates     = 1000 // WINDOW_UPDATE, and 10 for each DATA frame that was sent
	maxEmpty       = 100  // frames that carry nothing and end nothing
	maxUnknown     = 500  // frames that are ignored
	maxContinued   = 64   // CONTINUATION frames of one header section
	framePriority  = 0x10 // PRIORITY_UPDATE (RFC 9218, section 7.1)
	frameHeaderLen = 9
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

// A frameReader finds the frames in a stream of bytes, and keeps only the
// header of one and the first bytes of its payload.
type frameReader struct {
	head  [frameHeaderLen]byte
	have  int // bytes of head
	left  int // bytes to come of the payload
	first [4]byte
	got   int // bytes of first
}

type frame struct {
	kind   http2.FrameType
	flags  http2.Flags
	stream uint32
	length int
}

// skip passes over the next n bytes.
func (f *frameReader) skip(n int) { f.have, f.left, f.got = frameHeaderLen, n, len(f.first) }

func (f *frameReader) frame() frame {
	return frame{
		kind: http2.FrameType(f.head[3]), flags: http2.Flags(f.head[4]),
		stream: binary.BigEndian.Uint32(f.head[5:]) & (1<<31 - 1),
		length: int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2]),
	}
}

// next takes bytes off p: up to the end of a frame's header, then those of its
// payload that are kept, then the rest.
func (f *frameReader) next(p []byte) (rest []byte, what frameEvent) {
	if f.have == frameHeaderLen && f.left == 0 {
		f.have, f.got = 0, 0
	}
	if f.have < frameHeaderLen {
		n := copy(f.head[f.have:], p)
		if f.have += n; f.have < frameHeaderLen {
			return nil, frameNothing
		}
		f.left = f.frame().length
		return p[n:], frameBegins
	}
	if f.got < len(f.first) {
		n := min(copy(f.first[f.got:], p), f.left)
		f.got += n
		f.left -= n
		if f.got == len(f.first) || f.left == 0 {
			return p[n:], frameShown
		}
		return p[n:], frameNothing
	}
	n := min(f.left, len(p))
	f.left -= n
	if f.left == 0 {
		return p[n:], frameEnds
	}
	return p[n:], frameNothing
}

type frameEvent uint8

const (
	frameNothing frameEvent = iota
	frameBegins             // its header is there
	frameShown              // so are the first bytes of its payload, up to 4
	frameEnds               // all has passed; not said of a payload of 4 bytes or fewer
)

// inFrames are those that come from the client.
type inFrames struct {
	frameReader
	maxHead   int
	open      *openStreams
	inHead    bool         // a header section is incomplete
	headSince atomic.Int64 // since when; 0: it is not
	continued int          // CONTINUATION frames in it
	block     int          // bytes of those
	since     int64        // when the window began
	data      int64        // outFrames' counts then
	resets    int64
	count     struct{ resets, settings, pings, priorities, updates, empty, unknown, requests int64 }
}

// settings reports whether the whole payload of a SETTINGS frame is what comes
// next, in n bytes.
func (i *inFrames) settings(n int) bool {
	return i.have == frameHeaderLen && i.got == 0 && i.left == n && i.kind() == http2.FrameSettings
}

const (
	settingLen   = 6
	manySettings = 100 // http2.Server takes no more
	noSetting    = 0xf000
)

// lastOfEach makes settings that come again later in the same frame such as
// nobody knows: http2.Server does not take any twice, although they are to be
// processed in their order (RFC 9113, section 6.5.3), so that the last counts.
func lastOfEach(p []byte) {
	n := len(p) / settingLen
	if n > manySettings {
		return
	}
	id := func(k int) uint16 { return binary.BigEndian.Uint16(p[k*settingLen:]) }
	for k := range n {
		for later := k + 1; later < n; later++ {
			if id(later) == id(k) {
				binary.BigEndian.PutUint16(p[k*settingLen:], noSetting+uint16(k))
				break
			}
		}
	}
}

// see counts what has come, and says what is too much; "" if nothing.
func (i *inFrames) see(p []byte, now int64, out *outFrames) (reason string) {
	for len(p) > 0 && reason == "" {
		var what frameEvent
		p, what = i.next(p)
		switch what {
		case frameBegins:
			if now-i.since > int64(h2Window) {
				i.since, i.data, i.resets = now, out.data.Load(), out.resets.Load()
				i.count = struct{ resets, settings, pings, priorities, updates, empty, unknown, requests int64 }{}
			}
			reason = i.begins(i.frame(), now, out)
		case frameShown:
			i.shown(i.frame())
		}
		i.timeHead(now)
	}
	return reason
}

// timeHead notes since when a header section is incomplete.
func (i *inFrames) timeHead(now int64) {
	if i.have == frameHeaderLen && i.left == 0 && (i.kind() == http2.FrameHeaders || i.kind() == http2.FrameContinuation) {
		i.inHead = !i.frame().flags.Has(http2.FlagHeadersEndHeaders)
	}
	switch timed := i.headSince.Load() > 0; {
	case i.inHead && !timed:
		i.headSince.Store(max(now, 1))
	case !i.inHead && timed:
		i.headSince.Store(0)
	}
}

func (i *inFrames) kind() http2.FrameType { return http2.FrameType(i.head[3]) }

func (i *inFrames) begins(f frame, now int64, out *outFrames) string {
	n := &i.count
	switch f.kind {
	case http2.FrameHeaders:
		n.requests++
		i.open.add(f.stream, now)
		i.inHead, i.continued, i.block = true, 0, 0
		if f.length == 0 && !f.flags.Has(http2.FlagHeadersEndHeaders) {
			n.empty++
		}
	case http2.FrameContinuation:
		i.continued++
		i.block += f.length
		if f.length == 0 && !f.flags.Has(http2.FlagContinuationEndHeaders) {
			n.empty++
		}
	case http2.FrameData:
		if f.length == 0 && !f.flags.Has(http2.FlagDataEndStream) {
			n.empty++
		}
	case http2.FrameRSTStream:
		n.resets++
		i.open.remove(f.stream)
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
	return i.judge(out)
}

// shown finds DATA frames that are nothing but padding.
func (i *inFrames) shown(f frame) {
	if f.kind == http2.FrameData && f.flags.Has(http2.FlagDataPadded) && !f.flags.Has(http2.FlagDataEndStream) &&
		f.length == int(i.first[0])+1 {
		i.count.empty++
	}
}

func (i *inFrames) judge(out *outFrames) string {
	n, sent := &i.count, out.data.Load()-i.data
	switch {
	case i.continued > maxContinued || i.block > i.maxHead:
		return "continuation"
	case n.resets+out.resets.Load()-i.resets > maxResets:
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
