package upstream

import (
	"io"
	"slices"
	"sync"
)

// An upload is a request body on its way into a stream. The stream's side reads
// it from a goroutine of its own that may outlast the call, so what it is given
// is copied under a lock, and nothing once the upload has stopped.
//
// What the stream takes has been written to the link when it comes for more: so
// between two reads the target's time to take it runs.
type upload struct {
	s    *stream
	body io.Reader // nil when all is in data
	rest int64     // of body, -1 for unknown

	mu      sync.Mutex
	cond    sync.Cond
	data    []byte // read and not yet taken
	atHand  []byte // the beginning of the body, which data was at first
	end     error  // what comes behind data, once body is at its end
	wanted  bool   // the stream has asked: before that body is not touched
	reading bool   // the goroutine is inside body.Read
	stopped bool   // the stream takes no more
	done    chan struct{}
}

func newUpload(s *stream) *upload {
	u := &upload{s: s, body: s.Request.Body, rest: s.Request.ContentLength}
	u.cond.L = &u.mu
	return u
}

// Read is the stream's.
func (u *upload) Read(p []byte) (int, error) {
	u.s.write.set(0)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.wanted = true
	for len(u.data) == 0 && u.end == nil && !u.stopped {
		u.cond.Broadcast()
		u.cond.Wait()
	}
	if u.stopped {
		return 0, errClosed
	}
	n := copy(p, u.data)
	if n > 0 {
		u.s.writing()
	}
	if u.data = u.data[n:]; len(u.data) > 0 {
		return n, nil
	}
	u.cond.Broadcast()
	return n, u.end
}

// Close is the stream's as well: it takes no more.
func (u *upload) Close() error {
	u.s.write.set(0)
	u.stop()
	return nil
}

// stop wakes both sides. Like all methods that a call uses it does nothing for
// a request without a body, which has no upload.
func (u *upload) stop() {
	if u == nil {
		return
	}
	u.mu.Lock()
	u.stopped = true
	u.mu.Unlock()
	u.cond.Broadcast()
}

// again makes an upload that a stream is done with good for another, and
// reports whether it can: the body is at hand, or nobody has asked for it.
func (u *upload) again() bool {
	if u == nil {
		return true
	}
	u.mu.Lock()
	lost := u.wanted && u.done != nil
	u.mu.Unlock()
	if lost {
		return false
	}
	u.finish()
	u.mu.Lock()
	u.data, u.stopped, u.done = u.atHand, false, nil
	u.mu.Unlock()
	return true
}

// sent reports whether the stream has taken all, or could.
func (u *upload) sent() bool {
	if u == nil {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.end == io.EOF && (len(u.data) == 0 || !u.stopped)
}

// finish stops the upload and waits for its goroutine. It says stop before it
// looks whether the goroutine is in Body.Read, which does so the other way
// round.
func (u *upload) finish() {
	u.stop()
	if u == nil || u.done == nil {
		return
	}
	u.mu.Lock()
	reading := u.reading
	u.mu.Unlock()
	if reading && u.s.Interrupt != nil {
		u.s.Interrupt()
	}
	<-u.done
}

// fill reads a body at hand, up to maxAtHand of it.
func (u *upload) fill() error {
	size := maxAtHand
	if u.rest >= 0 {
		size = int(min(u.rest, maxAtHand))
	}
	for len(u.data) < size && u.end == nil {
		u.data = slices.Grow(u.data, min(size-len(u.data), 4096))
		n, err := u.next(u.data[len(u.data):min(cap(u.data), size)])
		u.data = u.data[:len(u.data)+n]
		if err != nil && err != io.EOF {
			return err
		}
		u.end = err
	}
	u.atHand = u.data
	return nil
}

// next reads at least one byte, or the end, which is io.EOF, or an error.
func (u *upload) next(p []byte) (int, error) {
	if u.body == nil || u.rest == 0 {
		return 0, u.over(io.EOF)
	}
	if u.rest > 0 && int64(len(p)) > u.rest {
		p = p[:u.rest]
	}
	n, err := readSome(u.body, p)
	if u.rest > 0 {
		u.rest -= int64(n)
	}
	if u.rest == 0 {
		err = io.EOF // whatever more there may be
	}
	return n, u.over(err)
}

// over makes of the end of the body what it means.
func (u *upload) over(err error) error {
	if err == io.EOF && u.rest > 0 {
		return errShortBody
	}
	if err == io.EOF && u.rest < 0 {
		u.s.addTrailer()
	}
	return err
}

// start has a goroutine read what is not at hand of the body, but not before
// the stream asks for it, and reports whether there is one.
func (u *upload) start() bool {
	if u == nil || u.end != nil {
		return false
	}
	u.done = make(chan struct{})
	go u.run()
	return true
}

func (u *upload) run() {
	defer close(u.done)
	buf := sendBuffers.Get().(*[sendBuffer]byte)
	defer sendBuffers.Put(buf)
	for u.await() {
		n, err := u.next(buf[:])
		u.put(buf[:n], err)
	}
}

// await waits until the stream has taken all there is, and reports whether
// there is more to read.
func (u *upload) await() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for !u.stopped && (len(u.data) > 0 || u.end == nil && !u.wanted) {
		u.cond.Wait()
	}
	u.reading = !u.stopped && u.end == nil
	return u.reading
}

func (u *upload) put(data []byte, err error) {
	u.mu.Lock()
	u.reading = false
	u.data, u.end = data, err
	if err != nil && err != io.EOF && !u.stopped {
		u.s.bodyFailed(err)
	}
	u.mu.Unlock()
	u.cond.Broadcast()
}
