package proxy

import (
	"io"
	"os"
)

// A filePiece is a stretch of a file, with what goes before it.
type filePiece struct {
	head          []byte
	start, length int64
}

// A fileBody sends pieces of a file. It has exactly the length that was
// announced: a file that has become shorter ends it with io.ErrUnexpectedEOF.
type fileBody struct {
	file *os.File
	head []byte // of the present piece, still to be sent
	left int64  // of the present piece after it, from where the file stands
	rest []filePiece
}

// Read implements io.Reader.
func (b *fileBody) Read(p []byte) (int, error) {
	for {
		switch {
		case len(p) == 0:
			return 0, nil
		case len(b.head) > 0:
			n := copy(p, b.head)
			b.head = b.head[n:]
			return n, nil
		case b.left > 0:
			n, err := b.file.Read(p[:min(int64(len(p)), b.left)])
			b.left -= int64(n)
			if n > 0 {
				return n, nil
			}
			return 0, cutShort(err)
		case len(b.rest) == 0:
			return 0, io.EOF
		}
		if err := b.next(); err != nil {
			return 0, err
		}
	}
}

// WriteTo implements io.WriterTo. It hands the file itself to a w that reads
// for itself, as connections do with sendfile(2).
func (b *fileBody) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if len(b.head) > 0 {
			n, err := w.Write(b.head)
			written += int64(n)
			b.head = b.head[n:]
			if err != nil {
				return written, err
			}
		}
		n, err := b.writePiece(w)
		written += n
		if err != nil || len(b.rest) == 0 {
			return written, err
		}
		if err := b.next(); err != nil {
			return written, err
		}
	}
}

// writePiece writes what is left of the present piece.
func (b *fileBody) writePiece(w io.Writer) (written int64, err error) {
	if b.left == 0 {
		return 0, nil
	}
	from := &io.LimitedReader{R: b.file, N: b.left}
	if rf, ok := w.(io.ReaderFrom); ok {
		written, err = rf.ReadFrom(from)
	} else {
		buf := buffers.Get().(*[]byte)
		written, err = io.CopyBuffer(w, from, *buf)
		buffers.Put(buf)
	}
	b.left -= written
	if err == nil && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return written, err
}

func (b *fileBody) next() error {
	piece := b.rest[0]
	b.rest = b.rest[1:]
	b.head, b.left = piece.head, piece.length
	if b.left == 0 {
		return nil
	}
	_, err := b.file.Seek(piece.start, io.SeekStart)
	return err
}

// Close closes the file.
func (b *fileBody) Close() error { return b.file.Close() }

// cutShort is err, or what the end of a file means where more was announced.
func cutShort(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
