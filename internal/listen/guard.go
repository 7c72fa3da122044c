package listen

import (
	"bytes"
	"math"
)

const (
	maxMethod       = 32
	maxTarget       = 16 << 10
	maxFields       = 100
	maxField        = 16 << 10
	maxChunkDigits  = 16
	maxChunkExt     = 256
	maxMessageExt   = 16 << 10
	maxTrailer      = 8 << 10
	maxTrailerField = 32

	defaultMaxHead = 32 << 10
)

type phase uint8

const (
	inRequestLine phase = iota
	inFields
	inLength // a body that is counted off
	inChunkSize
	inChunkExt
	inChunkLF // the LF after a chunk's size
	inChunkData
	inChunkDataCR
	inChunkDataLF
	inTrailer
	atEnd // the message is complete
)

// guard is the strict pass over the bytes of requests (RFC 9112 with every
// leniency taken out). It does no I/O and keeps no bytes: those of a head or
// a trailer section are presented again, with more behind them, until the
// section is complete. It judges one message at a time.
type guard struct {
	maxHead int  // bytes, for the request line and all fields
	tls     bool // the listener's scheme is https

	phase   phase
	blank   bool // an empty line went before the request line
	http10  bool
	chunked bool
	hosts   uint8
	coding  *Violation // a transfer coding that is known but not spoken
	fields  int
	scan    int // where the search for the next line end goes on
	pos     int // where the current line begins

	hostAt, authorityAt span // within the head

	length int64 // Content-Length, -1 without
	left   int64 // bytes left of the body or the chunk
	digits int
	ext    int // bytes of extension in this chunk
	extAll int // and in the message

	headLen int
}

type span struct{ from, to int }

func (s span) of(b []byte) []byte { return b[s.from:s.to] }

// next makes the guard ready for the next message.
func (g *guard) next() {
	*g = guard{maxHead: g.maxHead, tls: g.tls, length: -1}
}

// done reports whether the current message has been seen to its end.
func (g *guard) done() bool { return g.phase == atEnd }

// inHead reports whether the header section is still incomplete.
func (g *guard) inHead() bool { return g.phase <= inFields }

// feed examines b and returns how many of its bytes may be passed on. The
// rest must be presented again. It goes no further than the end of the
// message; after a Violation it must not be called any more.
func (g *guard) feed(b []byte) (int, *Violation) {
	n := 0
	for {
		var k int
		var v *Violation
		switch {
		case g.phase == atEnd:
			return n, nil
		case g.phase <= inFields || g.phase == inTrailer:
			k, v = g.section(b[n:])
			if k == 0 {
				return n, v
			}
		case n == len(b):
			return n, nil
		case g.phase == inLength || g.phase == inChunkData:
			k = g.count(len(b) - n)
		default:
			k, v = g.chunk(b[n:])
		}
		n += k
		if v != nil {
			return n, v
		}
	}
}

// section examines the lines of a head or a trailer section that starts at
// b[0]; it returns its length once it is complete, and 0 before.
func (g *guard) section(b []byte) (int, *Violation) {
	if g.phase == inRequestLine && len(b) > g.pos && class[b[g.pos]]&clsToken == 0 && (b[g.pos] != '\r' || g.blank) {
		return 0, errMethod
	}
	for {
		i := bytes.IndexByte(b[g.scan:], '\n')
		if i < 0 {
			g.scan = len(b)
			return 0, g.partial(len(b))
		}
		line, v := g.line(b, g.scan+i)
		if v != nil {
			return 0, v
		}
		from := g.pos
		g.pos += len(line) + 2
		g.scan = g.pos
		if g.phase == inRequestLine {
			if v := g.requestLine(line, from); v != nil {
				return 0, v
			}
			if g.phase == inRequestLine && len(b) > g.pos && class[b[g.pos]]&clsToken == 0 {
				return 0, errMethod
			}
			continue
		}
		if len(line) == 0 {
			if v := g.sectionEnd(b); v != nil {
				return 0, v
			}
			return g.pos, nil
		}
		if v := g.field(line, from); v != nil {
			return 0, v
		}
	}
}

// line cuts the current line, whose LF is at lf, and checks its size and end.
func (g *guard) line(b []byte, lf int) ([]byte, *Violation) {
	if lf-g.pos > g.lineMax()+1 {
		return nil, g.lineTooLong()
	}
	if lf+1 > g.sectionMax() {
		return nil, g.sectionTooLong()
	}
	if lf == g.pos || b[lf-1] != '\r' {
		return nil, errLineEnd
	}
	return b[g.pos : lf-1], nil
}

// partial judges the size of a section of which n bytes are there and the
// current line is unfinished; what it refuses line would refuse as well.
func (g *guard) partial(n int) *Violation {
	if n-g.pos > g.lineMax()+1 {
		return g.lineTooLong()
	}
	if g.phase != inRequestLine && n > g.sectionMax() {
		return g.sectionTooLong()
	}
	return nil
}

func (g *guard) lineMax() int {
	if g.phase == inRequestLine {
		return min(maxTarget+maxMethod+len("  HTTP/1.1"), g.maxHead)
	}
	return maxField
}

func (g *guard) lineTooLong() *Violation {
	if g.phase == inRequestLine {
		return errTargetLong
	}
	return g.sectionTooLong()
}

func (g *guard) sectionMax() int {
	if g.phase == inTrailer {
		return maxTrailer
	}
	return g.maxHead
}

func (g *guard) sectionTooLong() *Violation {
	if g.phase == inTrailer {
		return errTrailerLarge
	}
	return errHeadLarge
}

func (g *guard) sectionEnd(b []byte) *Violation {
	if g.phase == inTrailer {
		g.phase = atEnd
		return nil
	}
	if v := g.headEnd(b); v != nil {
		return v
	}
	g.headLen = g.pos
	switch {
	case g.chunked:
		g.startChunk()
	case g.length > 0:
		g.left, g.phase = g.length, inLength
	default:
		g.phase = atEnd
	}
	return nil
}

// count takes up to n bytes of a body or a chunk's data.
func (g *guard) count(n int) int {
	if int64(n) < g.left {
		g.left -= int64(n)
		return n
	}
	n, g.left = int(g.left), 0
	if g.phase == inChunkData {
		g.phase = inChunkDataCR
	} else {
		g.phase = atEnd
	}
	return n
}

func (g *guard) startChunk() {
	g.phase, g.left, g.digits, g.ext = inChunkSize, 0, 0, 0
}

// chunk examines the bytes around chunk data (RFC 9112, section 7.1), up to
// where data or the trailer section begins.
func (g *guard) chunk(b []byte) (int, *Violation) {
	for i, c := range b {
		if v := g.chunkByte(c); v != nil {
			return i, v
		}
		if g.phase == inChunkData || g.phase == inTrailer {
			return i + 1, nil
		}
	}
	return len(b), nil
}

func (g *guard) chunkByte(c byte) *Violation {
	switch g.phase {
	case inChunkSize:
		return g.chunkSize(c)
	case inChunkExt:
		if c == '\r' {
			g.phase = inChunkLF
			return nil
		}
		g.ext++
		g.extAll++
		if class[c]&clsValue == 0 || g.ext > maxChunkExt || g.extAll > maxMessageExt {
			return errChunkExt
		}
	case inChunkLF:
		if c != '\n' {
			return errLineEnd
		}
		g.phase = inChunkData
		if g.left == 0 {
			g.phase, g.pos, g.scan, g.fields = inTrailer, 0, 0, 0
		}
	case inChunkDataCR:
		if c != '\r' {
			return errChunkEnd
		}
		g.phase = inChunkDataLF
	case inChunkDataLF:
		if c != '\n' {
			return errChunkEnd
		}
		g.startChunk()
	}
	return nil
}

func (g *guard) chunkSize(c byte) *Violation {
	d := int64(-1)
	switch {
	case '0' <= c && c <= '9':
		d = int64(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		d = int64(c|0x20-'a') + 10
	case g.digits > 0 && c == '\r':
		g.phase = inChunkLF
		return nil
	case g.digits > 0 && c == ';':
		g.phase = inChunkExt
		return nil
	}
	g.digits++
	if d < 0 || g.digits > maxChunkDigits || g.left > math.MaxInt64>>4 {
		return errChunkSize
	}
	g.left = g.left<<4 | d
	return nil
}
