package upstream

import (
	"errors"
	"io"
	"slices"
	"strconv"
)

// maxAtHand is how much of a body at hand is sent in one write with the head.
const maxAtHand = 64 << 10

func appendFields(b []byte, fields []Field) []byte {
	for _, f := range fields {
		b = append(b, f.Name...)
		b = append(b, ": "...)
		b = append(b, f.Value...)
		b = append(b, "\r\n"...)
	}
	return b
}

// appendHead puts the request head into c.out.
func (c *wire) appendHead() {
	r := &c.Request
	b := append(c.out, r.Method...)
	b = append(b, ' ')
	b = append(b, r.Target...)
	b = append(b, " HTTP/1.1\r\n"...)
	b = appendFields(b, r.Fields)
	if r.ContentLength < 0 {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if len(r.Upgrade) > 0 {
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, r.Upgrade...)
		b = append(b, "\r\n"...)
	}
	c.out = append(b, "\r\n"...)
	c.sender.rest = r.ContentLength
}

// appendBody puts the body at hand behind the head, up to maxAtHand of it, and
// reports whether there is more to stream.
func (c *wire) appendBody() (more bool, _ *Error) {
	var err error
	if c.Request.ContentLength < 0 {
		more, err = c.appendChunk()
	} else {
		more, err = c.appendLength()
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = errShortBody
	}
	if err != nil {
		return false, &Error{Type: typeRequest, RequestBody: true, Err: err}
	}
	return more, nil
}

func (c *wire) appendLength() (more bool, err error) {
	if c.Request.Body == nil {
		return false, errShortBody
	}
	n := min(c.sender.rest, maxAtHand)
	head := len(c.out)
	c.out = slices.Grow(c.out, int(n))[:head+int(n)]
	if _, err := io.ReadFull(c.Request.Body, c.out[head:]); err != nil {
		return false, err
	}
	c.sender.rest -= n
	return c.sender.rest > 0, nil
}

func (c *wire) appendChunk() (more bool, err error) {
	if c.Request.Body == nil {
		c.out = c.appendLastChunk(c.out)
		return false, nil
	}
	const room = len("10000\r\n") // what maxAtHand takes
	head := len(c.out)
	c.out = slices.Grow(c.out, room+512)
	b := c.out[:head+room]
	for len(b)-head-room < maxAtHand && err == nil {
		b = slices.Grow(b, 512)
		free := b[len(b):min(cap(b), head+room+maxAtHand)]
		var n int
		n, err = c.Request.Body.Read(free)
		b = b[:len(b)+n]
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	data := b[head+room:]
	if len(data) > 0 {
		c.out = append(strconv.AppendInt(b[:head], int64(len(data)), 16), "\r\n"...)
		c.out = append(append(c.out, data...), "\r\n"...)
	}
	if err == nil {
		return true, nil
	}
	c.out = c.appendLastChunk(c.out)
	return false, nil
}
