package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	wsGUID     = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, section 1.3
	wsMaxFrame = 1 << 20                                // bytes of one frame
	wsIdle     = 5 * time.Minute

	wsClose = 0x8
	wsPing  = 0x9
	wsPong  = 0xA

	wsProtocolError = 1002
	wsTooBig        = 1009
)

// A wsError ends a WebSocket with its close code.
type wsError uint16

func (e wsError) Error() string { return "websocket closed" }

// A wsFrame is one frame as RFC 6455, section 5.2 lays it out.
type wsFrame struct {
	head    byte // FIN and opcode
	payload []byte
}

func (f wsFrame) opcode() byte { return f.head & 0x0F }

// echoWebSocket switches to WebSocket and sends back what comes.
func echoWebSocket(ctx *fasthttp.RequestCtx) {
	h := &ctx.Request.Header
	key := string(h.Peek("Sec-WebSocket-Key"))
	if !h.ConnectionUpgrade() || !strings.EqualFold(string(h.Peek("Upgrade")), "websocket") || key == "" {
		ctx.Response.Header.Set("Upgrade", "websocket")
		ctx.Response.Header.Set("Connection", "Upgrade")
		echoProblem(ctx, fasthttp.StatusUpgradeRequired, "/echo/ws speaks WebSocket only")
		return
	}
	sum := sha1.Sum([]byte(key + wsGUID))
	ctx.SetStatusCode(fasthttp.StatusSwitchingProtocols)
	ctx.Response.Header.Set("Upgrade", "websocket")
	ctx.Response.Header.Set("Connection", "Upgrade")
	ctx.Response.Header.Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
	ctx.Hijack(echoFrames)
}

// echoFrames sends back every frame until the client closes. Fragments stay
// fragments.
func echoFrames(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		_ = c.SetDeadline(time.Now().Add(wsIdle)) // a dead connection fails the read
		f, err := readFrame(r)
		if code, ok := errors.AsType[wsError](err); ok {
			_ = writeFrame(c, wsFrame{head: 0x80 | wsClose, payload: binary.BigEndian.AppendUint16(nil, uint16(code))})
			return
		}
		if err != nil {
			return
		}
		switch f.opcode() {
		case wsPing:
			f.head = 0x80 | wsPong
		case wsPong:
			continue
		}
		if writeFrame(c, f) != nil || f.opcode() == wsClose {
			return
		}
	}
}

// readFrame reads one frame of a client and unmasks it. The error is a wsError
// where the frame breaks the protocol.
func readFrame(r *bufio.Reader) (wsFrame, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return wsFrame{}, err
	}
	f := wsFrame{head: head[0]}
	n := uint64(head[1] & 0x7F)
	control := f.opcode() >= wsClose
	switch {
	case f.head&0x70 != 0, // an extension that nobody agreed on
		head[1]&0x80 == 0, // clients mask
		control && (n > 125 || f.head&0x80 == 0),
		f.opcode() > 2 && f.opcode() < wsClose || f.opcode() > wsPong:
		return f, wsError(wsProtocolError)
	}
	var ext [8]byte
	switch n {
	case 126:
		if _, err := io.ReadFull(r, ext[6:]); err != nil {
			return f, err
		}
		n = binary.BigEndian.Uint64(ext[:])
	case 127:
		if _, err := io.ReadFull(r, ext[:]); err != nil {
			return f, err
		}
		n = binary.BigEndian.Uint64(ext[:])
	}
	if n > wsMaxFrame {
		return f, wsError(wsTooBig)
	}
	buf := make([]byte, 4+n)
	if _, err := io.ReadFull(r, buf); err != nil {
		return f, err
	}
	f.payload = buf[4:]
	for i := range f.payload {
		f.payload[i] ^= buf[i&3]
	}
	return f, nil
}

// writeFrame writes one unmasked frame.
func writeFrame(w io.Writer, f wsFrame) error {
	b := make([]byte, 0, 10+len(f.payload))
	switch n := len(f.payload); {
	case n < 126:
		b = append(b, f.head, byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, f.head, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, f.head, 127), uint64(n))
	}
	_, err := w.Write(append(b, f.payload...))
	return err
}
