package listen

import (
	"slices"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-edge/sluice/internal/listen/h2"
)

const (
	// h2Linger is how long a client may go on with a request that has been
	// answered: one that is told to stop at once may throw the answer away, as
	// curl does.
	h2Linger = time.Second

	// maxAnswered bounds those that go on. They are no open streams here, but
	// they are to the client, which has no more than that by right.
	maxAnswered = h2Streams
)

// h2Lingering is a stream that has been answered before the request's end, and
// not been reset yet.
type h2Lingering struct {
	id    uint32
	since int64 // on the server's clock
}

// linger closes a stream whose response has ended before the request has (RFC
// 9113, section 8.1). What still comes is passed over. With mu held.
func (h *h2Conn) linger(st *Stream) {
	if len(h.lingering) >= maxAnswered {
		h.stop(h.lingering[0].id)
		h.lingering = slices.Delete(h.lingering, 0, 1)
	}
	h.lingering = append(h.lingering, h2Lingering{st.id, h.s.now()})
	h.ignore(st.id)
	h.close(st, ErrClientGone)
	h.cancel(st, ErrClientGone)
}

// stop tells the client that the rest of a request is not needed. With mu held.
func (h *h2Conn) stop(id uint32) {
	h.out.buf = h2.AppendReset(h.out.buf, id, http2.ErrCodeNo)
	h.ignore(id) // again: others have been since
}

// stopLate stops the clients that have had their time. With mu held.
func (h *h2Conn) stopLate(now int64) {
	n := 0
	for n < len(h.lingering) && now-h.lingering[n].since > int64(h2Linger) {
		h.stop(h.lingering[n].id)
		n++
	}
	h.lingering = slices.Delete(h.lingering, 0, n)
}

// lingers reports whether a stream is one that lingers. With mu held.
func (h *h2Conn) lingers(id uint32) bool { return h.lingerer(id) >= 0 }

// lingered ends what may be lingering: the client has ended its side. With mu
// held.
func (h *h2Conn) lingered(id uint32) {
	if i := h.lingerer(id); i >= 0 {
		h.lingering = slices.Delete(h.lingering, i, i+1)
	}
}

func (h *h2Conn) lingerer(id uint32) int {
	return slices.IndexFunc(h.lingering, func(l h2Lingering) bool { return l.id == id })
}
