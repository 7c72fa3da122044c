// Package h2 is the wire format of HTTP/2 (RFC 9113) as a server needs it: frames
// are recognised and appended to buffers, and the fields of responses compressed.
// It does no I/O and starts nothing.
package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

const (
	HeaderLen = 9         // bytes of a frame before its payload
	MaxID     = 1<<31 - 1 // the highest stream identifier
	MaxWindow = 1<<31 - 1 // bytes, the largest flow-control window
	MinFrame  = 16 << 10  // bytes of payload that everybody takes
)

// A Header is what a frame begins with (RFC 9113, section 4.1).
type Header struct {
	Length int // of the payload, in bytes
	Kind   http2.FrameType
	Flags  http2.Flags
	Stream uint32
}

// Parse reads the header that b begins with, HeaderLen bytes.
func Parse(b []byte) Header {
	_ = b[HeaderLen-1]
	return Header{
		Length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		Kind:   http2.FrameType(b[3]), Flags: http2.Flags(b[4]),
		Stream: binary.BigEndian.Uint32(b[5:]) & MaxID,
	}
}

// Append appends h.
func (h Header) Append(b []byte) []byte {
	return append(b, byte(h.Length>>16), byte(h.Length>>8), byte(h.Length), byte(h.Kind), byte(h.Flags),
		byte(h.Stream>>24), byte(h.Stream>>16), byte(h.Stream>>8), byte(h.Stream))
}

// AppendHeaders appends a field block as HEADERS, with END_STREAM where end is
// set, and as many CONTINUATION as payloads of up to most bytes take.
func AppendHeaders(b []byte, stream uint32, block []byte, end bool, most int) []byte {
	h := Header{Kind: http2.FrameHeaders, Stream: stream}
	if end {
		h.Flags = http2.FlagHeadersEndStream
	}
	for {
		h.Length = min(len(block), most)
		if h.Length == len(block) {
			h.Flags |= http2.FlagHeadersEndHeaders // CONTINUATION's is the same
		}
		b = append(h.Append(b), block[:h.Length]...)
		if block = block[h.Length:]; len(block) == 0 {
			return b
		}
		h.Kind, h.Flags = http2.FrameContinuation, 0
	}
}

// AppendData appends p as one DATA frame.
func AppendData(b []byte, stream uint32, p []byte, end bool) []byte {
	h := Header{Length: len(p), Kind: http2.FrameData, Stream: stream}
	if end {
		h.Flags = http2.FlagDataEndStream
	}
	return append(h.Append(b), p...)
}

// AppendReset appends RST_STREAM.
func AppendReset(b []byte, stream uint32, code http2.ErrCode) []byte {
	b = Header{Length: 4, Kind: http2.FrameRSTStream, Stream: stream}.Append(b)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// AppendWindowUpdate appends WINDOW_UPDATE; stream 0 is the connection.
func AppendWindowUpdate(b []byte, stream uint32, n int) []byte {
	b = Header{Length: 4, Kind: http2.FrameWindowUpdate, Stream: stream}.Append(b)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// AppendSettings appends SETTINGS.
func AppendSettings(b []byte, settings ...http2.Setting) []byte {
	b = Header{Length: 6 * len(settings), Kind: http2.FrameSettings}.Append(b)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(s.ID)), s.Val)
	}
	return b
}

// AppendSettingsAck appends the acknowledgement of SETTINGS.
func AppendSettingsAck(b []byte) []byte {
	return Header{Kind: http2.FrameSettings, Flags: http2.FlagSettingsAck}.Append(b)
}

// AppendPing appends PING, or the answer to one; data has 8 bytes.
func AppendPing(b []byte, ack bool, data []byte) []byte {
	h := Header{Length: 8, Kind: http2.FramePing}
	if ack {
		h.Flags = http2.FlagPingAck
	}
	return append(h.Append(b), data[:8]...)
}

// AppendGoAway appends GOAWAY: streams above last are not looked at.
func AppendGoAway(b []byte, last uint32, code http2.ErrCode) []byte {
	b = Header{Length: 8, Kind: http2.FrameGoAway}.Append(b)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, last), uint32(code))
}

// Unpad takes the padding off the payload of a DATA or HEADERS frame (RFC 9113,
// section 6.1); it reports false where there is more padding than payload.
func Unpad(h Header, p []byte) ([]byte, bool) {
	if !h.Flags.Has(http2.FlagDataPadded) {
		return p, true
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, false
	}
	return p[1 : len(p)-int(p[0])], true
}

// Grow adds n to a window; false means that it would exceed MaxWindow (RFC 9113,
// section 6.9.1). Windows may be negative.
func Grow(window *int64, n int64) bool {
	if *window+n > MaxWindow {
		return false
	}
	*window += n
	return true
}
