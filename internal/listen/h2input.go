package listen

import (
	"sync"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

const (
	h2SmallInput = 4 << 10
	h2LargeInput = 32 << 10 // takes any frame
)

var h2Inputs = sync.Pool{New: func() any { b := make([]byte, h2LargeInput); return &b }}

// h2Input is what has been read and not yet understood. It has a small buffer of
// its own, and borrows a large one for large frames.
type h2Input struct {
	buf      []byte
	from, to int
	own      []byte
	borrowed *[]byte
}

func (i *h2Input) bytes() []byte { return i.buf[i.from:i.to] }
func (i *h2Input) len() int      { return i.to - i.from }
func (i *h2Input) skip(n int)    { i.from += n }

// space is where to read to.
func (i *h2Input) space() []byte {
	if i.buf == nil {
		i.own = make([]byte, h2SmallInput)
		i.buf = i.own
	}
	if i.from == i.to {
		i.from, i.to = 0, 0
	}
	if i.to == len(i.buf) {
		i.to = copy(i.buf, i.buf[i.from:i.to])
		i.from = 0
	}
	return i.buf[i.to:]
}

// want makes room for n bytes from the first that is there.
func (i *h2Input) want(n int) {
	if n > len(i.buf) && i.borrowed == nil {
		i.borrowed = h2Inputs.Get().(*[]byte)
		i.to = copy(*i.borrowed, i.bytes())
		i.from, i.buf = 0, *i.borrowed
		return
	}
	if n > len(i.buf)-i.from {
		i.to = copy(i.buf, i.bytes())
		i.from = 0
	}
}

// giveBack returns the large buffer once it is empty.
func (i *h2Input) giveBack() {
	if i.borrowed == nil || i.len() > 0 {
		return
	}
	h2Inputs.Put(i.borrowed)
	i.from, i.to, i.buf, i.borrowed = 0, 0, i.own, nil
}

// next is the frame that comes next, as far as its header is there.
func (i *h2Input) next() (h2.Header, bool) {
	if i.len() < h2.HeaderLen {
		return h2.Header{}, false
	}
	return h2.Parse(i.buf[i.from:]), true
}
