package proxy

import (
	"io"
	"sync"
)

// memoryBody is a response body that is in memory whole.
type memoryBody struct {
	all  []byte
	read int
}

func (b *memoryBody) Read(p []byte) (int, error) {
	if b.read == len(b.all) {
		return 0, io.EOF
	}
	n := copy(p, b.all[b.read:])
	b.read += n
	return n, nil
}

func (b *memoryBody) Buffered() ([]byte, bool) { return b.all[b.read:], true }
func (b *memoryBody) Close() error             { return nil }

// requestBody is a request's body on its way to a backend: counted, and ended
// where the limit is.
type requestBody struct {
	from  io.Reader
	limit int64 // 0: none
	read  int64
	over  bool
	copy  *mirrorCopy // takes what is read, until it wants no more
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.read += int64(n)
	if b.limit > 0 && b.read > b.limit {
		b.over = true
		return 0, errBodyTooLarge
	}
	if b.copy != nil && !b.copy.add(p[:n], err == io.EOF) {
		b.copy = nil
	}
	return n, err
}

// buffers are for bodies that pass through.
var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// copyBody copies until src ends, each piece as it comes.
func copyBody(dst io.Writer, src io.Reader) (written int64, err error) {
	if wt, ok := src.(io.WriterTo); ok {
		return wt.WriteTo(dst)
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			m, werr := dst.Write((*buf)[:n])
			written += int64(m)
			if werr != nil {
				return written, werr
			}
		}
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

// Text is a body of a string, and its length.
func Text(s string) (Body, int64) { return &memoryBody{all: raw(s)}, int64(len(s)) }
