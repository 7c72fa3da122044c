package upstream

import (
	"bytes"
	"errors"
	"math"
)

const (
	maxChunkDigits = 16
	maxChunkExt    = 256      // bytes of extension of one chunk
	maxBodyExt     = 16 << 10 // bytes of extension of all chunks of a body
	maxTrailer     = 8 << 10  // bytes of the trailer section
)

var (
	errChunkSize    = errors.New("malformed chunk size")
	errChunkExt     = errors.New("malformed or oversized chunk extension")
	errChunkEnd     = errors.New("chunk does not end with CRLF")
	errTrailerSize  = errors.New("trailer section larger than 8 KiB")
	errTrailerField = errors.New("field that may not be in a trailer section")
)

// What the next byte of a chunked body belongs to.
const (
	inSize = iota
	inExt
	inSizeLF
	inData
	inDataCR
	inDataLF
	inTrailer
	chunksDone
)

// A dechunker undoes the chunked coding, strictly, in whatever pieces the body
// comes. Chunk extensions are dropped.
type dechunker struct {
	state  int
	digits int
	rest   uint64 // of the chunk; its size while that is read
	ext    int    // bytes of extension of this chunk
	exts   int    // and of the whole body
	// The trailer section, and where its present line begins.
	section []byte
	line    int
	trailer []Field
}

// reset prepares d for the next body, keeping its room.
func (d *dechunker) reset() {
	*d = dechunker{section: d.section[:0], trailer: d.trailer[:0]}
}

func (d *dechunker) done() bool { return d.state == chunksDone }

// decode takes from src and puts what it means into dst until src is used up,
// dst is full at a data byte, or the body is over. dst may be the same memory
// as src: nothing is put down before it was taken.
func (d *dechunker) decode(dst, src []byte) (put, took int, err error) {
	for took < len(src) && d.state != chunksDone {
		switch d.state {
		case inData:
			n := min(len(dst)-put, len(src)-took)
			if n == 0 {
				return put, took, nil
			}
			if uint64(n) > d.rest {
				n = int(d.rest)
			}
			copy(dst[put:put+n], src[took:])
			put, took = put+n, took+n
			if d.rest -= uint64(n); d.rest == 0 {
				d.state = inDataCR
			}
			continue
		case inTrailer:
			n, err := d.takeTrailer(src[took:])
			took += n
			if err != nil {
				return put, took, err
			}
			continue
		}
		if err := d.framing(src[took]); err != nil {
			return put, took, err
		}
		took++
	}
	return put, took, nil
}

// framing takes one byte from around the data of a chunk.
func (d *dechunker) framing(c byte) error {
	switch d.state {
	case inSize:
		return d.size(c)
	case inExt:
		return d.extension(c)
	case inSizeLF:
		if c != '\n' {
			return errChunkSize
		}
		d.state = inData
		if d.rest == 0 {
			d.state = inTrailer
		}
	case inDataCR:
		if c != '\r' {
			return errChunkEnd
		}
		d.state = inDataLF
	case inDataLF:
		if c != '\n' {
			return errChunkEnd
		}
		d.state, d.digits, d.ext = inSize, 0, 0
	}
	return nil
}

func (d *dechunker) size(c byte) error {
	if v := hexValue[c]; v >= 0 {
		if d.digits++; d.digits > maxChunkDigits {
			return errChunkSize
		}
		d.rest = d.rest<<4 | uint64(v)
		return nil
	}
	if d.digits == 0 || d.rest > math.MaxInt64 {
		return errChunkSize
	}
	switch c {
	case '\r':
		d.state = inSizeLF
	case ';':
		d.state = inExt
		return d.extension(c)
	default:
		return errChunkSize
	}
	return nil
}

func (d *dechunker) extension(c byte) error {
	if c == '\r' {
		d.state = inSizeLF
		return nil
	}
	d.ext++
	d.exts++
	if d.ext > maxChunkExt || d.exts > maxBodyExt || c < 0x20 && c != '\t' || c == 0x7f {
		return errChunkExt
	}
	return nil
}

// takeTrailer takes from src up to the end of a line.
func (d *dechunker) takeTrailer(src []byte) (n int, err error) {
	n = len(src)
	i := bytes.IndexByte(src, '\n')
	if i >= 0 {
		n = i + 1
	}
	if len(d.section)+n > maxTrailer {
		return 0, errTrailerSize
	}
	d.section = append(d.section, src[:n]...)
	if i < 0 {
		return n, nil
	}
	line := d.section[d.line:]
	d.line = len(d.section)
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return n, errLineEnd
	}
	if line = line[:len(line)-2]; len(line) == 0 {
		d.state = chunksDone
		return n, nil
	}
	f, err := parseField(line)
	if err != nil {
		return n, err
	}
	if forbiddenTrailer(f.Name) {
		return n, errTrailerField
	}
	d.trailer = append(d.trailer, f)
	return n, nil
}

// forbiddenTrailer tells the fields that frame a message, route it, or belong
// to the connection: after the body they could only deceive.
func forbiddenTrailer(name []byte) bool {
	for _, s := range [...]string{
		"content-length", "transfer-encoding", "host", "connection", "keep-alive",
		"proxy-connection", "upgrade", "te", "trailer",
	} {
		if equalFold(name, s) {
			return true
		}
	}
	return false
}

// hexValue holds the value of every hexadecimal digit and -1 for all else.
var hexValue = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range int8(10) {
		t['0'+i] = i
	}
	for i := range int8(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()
