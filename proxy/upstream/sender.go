package upstream

import (
	"io"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Where a sender is.
const (
	sendWriting = iota
	sendReading // maybe inside Body.Read
	sendLast    // writing the last bytes of the request
	sendDone    // the whole request is written
	sendFailed
)

const (
	sendBuffer     = 32 << 10
	lastWriteGrace = 10 * time.Millisecond
	chunkRoom      = len("7fff\r\n")           // before the data of a chunk
	chunkTail      = len("\r\n" + "0\r\n\r\n") // and after
)

var sendBuffers = sync.Pool{New: func() any { return new([sendBuffer]byte) }}

// A sender writes a request whose body is streamed, from a goroutine of its
// own, while the call reads the response.
type sender struct {
	state atomic.Int32 // one of the above
	wrote atomic.Bool  // at least one byte of the request
	stop  atomic.Bool  // no more writes, no more Body.Read

	running bool          // the goroutine was started and not waited for
	over    chan struct{} // it has returned
	run     func()        // it, made once
	rest    int64         // of the body, when its length is known

	err  error // of Request.Body; under Call.mu
	late bool  // the final head is read: err and the head's time are moot; under Call.mu
}

func (s *sender) reset() {
	s.state.Store(sendWriting)
	s.wrote.Store(false)
	s.stop.Store(false)
	s.err, s.late = nil, false
}

// sent notes the outcome of a request that was written without the goroutine.
func (s *sender) sent(n, all int) {
	if n > 0 {
		s.wrote.Store(true)
	}
	if n == all {
		s.state.Store(sendDone)
	} else {
		s.state.Store(sendFailed)
	}
}

func (s *sender) start(c *wire) {
	if s.over == nil {
		s.over = make(chan struct{}, 1)
		s.run = c.sendStream
	}
	s.running = true
	go s.run()
}

// answered is called when the final head is read. A request that is not
// written by then will not be: it reports whether it is.
func (s *sender) answered(c *wire) bool {
	if !s.running {
		return s.state.Load() == sendDone
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.late = true
	if state := s.state.Load(); state == sendDone || state == sendLast {
		return true
	}
	s.stop.Store(true)
	c.aborted = true
	c.conn.nc.SetWriteDeadline(past)
	return false
}

// finish waits for the goroutine, after doing what it can to end it, and
// reports whether the whole request is written.
func (s *sender) finish(c *wire) bool {
	if s.running {
		if !s.ends() {
			s.abort(c)
			<-s.over
		}
		s.running = false
	}
	return s.state.Load() == sendDone
}

// ends waits a moment for a goroutine that has no more to do than to return
// from its last write: a whole answer can be read before that happens, and to
// give up the connection for it would be a pity.
func (s *sender) ends() bool {
	for i := 0; i < 10 && s.state.Load() == sendLast; i++ {
		runtime.Gosched()
	}
	if s.state.Load() == sendLast {
		timer := time.NewTimer(lastWriteGrace)
		defer timer.Stop()
		select {
		case <-s.over:
			return true
		case <-timer.C:
		}
	}
	if s.state.Load() < sendDone {
		return false
	}
	<-s.over
	return true
}

// abort has the goroutine return. It says stop before it looks whether the
// goroutine is in Body.Read, which does so the other way round.
func (s *sender) abort(c *wire) {
	s.stop.Store(true)
	c.mu.Lock()
	c.abortLocked()
	c.mu.Unlock()
	if s.state.Load() == sendReading && c.Request.Interrupt != nil {
		c.Request.Interrupt()
	}
}

// sendStream is the goroutine: it writes the head and the body.
func (c *wire) sendStream() {
	s := &c.sender
	cn := c.conn // stays until finish has waited
	buf := sendBuffers.Get().(*[sendBuffer]byte)
	ok := c.write(cn, c.out, false)
	if ok && c.Request.ContentLength > 0 {
		ok = c.sendLength(cn, buf[:])
	} else if ok {
		ok = c.sendChunks(cn, buf[:])
	}
	sendBuffers.Put(buf)
	c.mu.Lock()
	if !s.late {
		// Now the target has its time to answer, also when it closed early.
		cn.head.set(c.until(c.pool.cfg.Header))
	}
	c.mu.Unlock()
	if ok {
		s.state.Store(sendDone)
	} else {
		s.state.Store(sendFailed)
	}
	s.over <- struct{}{}
}

// write reports whether b went out.
func (c *wire) write(cn *conn, b []byte, last bool) bool {
	s := &c.sender
	s.state.Store(sendWriting)
	if last {
		s.state.Store(sendLast)
	}
	if s.stop.Load() {
		return false
	}
	idle := c.pool.cfg.Idle
	if idle > 0 {
		cn.write.set(c.pool.t.now() + int64(idle))
	}
	n, err := cn.nc.Write(b)
	if idle > 0 {
		cn.write.set(0)
	}
	if n > 0 {
		s.wrote.Store(true)
	}
	return err == nil
}

func (c *wire) sendLength(cn *conn, buf []byte) bool {
	s := &c.sender
	for s.rest > 0 {
		n, err := c.readBody(buf[:min(int64(len(buf)), s.rest)])
		s.rest -= int64(n)
		if n > 0 && !c.write(cn, buf[:n], s.rest == 0) {
			return false
		}
		if err != nil && s.rest > 0 {
			c.bodyFailed(err)
			return false
		}
	}
	return true
}

func (c *wire) sendChunks(cn *conn, buf []byte) bool {
	data := buf[chunkRoom : len(buf)-chunkTail]
	for {
		n, err := c.readBody(data)
		if err != nil && err != io.EOF {
			c.bodyFailed(err)
			return false
		}
		b := chunk(buf, n)
		if err == io.EOF {
			b = c.appendLastChunk(b)
		}
		if !c.write(cn, b, err == io.EOF) {
			return false
		}
		if err == io.EOF {
			return true
		}
	}
}

// chunk frames the n bytes that lie at chunkRoom in buf.
func chunk(buf []byte, n int) []byte {
	if n == 0 {
		return buf[:0]
	}
	var digits [chunkRoom]byte
	size := append(strconv.AppendInt(digits[:0], int64(n), 16), "\r\n"...)
	start := chunkRoom - len(size)
	copy(buf[start:], size)
	return append(buf[start:chunkRoom+n], "\r\n"...)
}

// appendLastChunk ends a chunked body.
func (c *wire) appendLastChunk(b []byte) []byte {
	b = append(b, "0\r\n"...)
	if c.Request.Trailer != nil {
		b = appendFields(b, c.Request.Trailer())
	}
	return append(b, "\r\n"...)
}

// readBody reads at least one byte, or the end or an error.
func (c *wire) readBody(p []byte) (int, error) {
	s := &c.sender
	s.state.Store(sendReading)
	if s.stop.Load() {
		return 0, errClosed
	}
	return readSome(c.Request.Body, p)
}

// readSome reads at least one byte, or the end or an error.
func readSome(r io.Reader, p []byte) (int, error) {
	for range 100 {
		if n, err := r.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// bodyFailed has the call fail for the request's body.
func (c *wire) bodyFailed(err error) {
	if err == io.EOF {
		err = errShortBody
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.sender.late && !c.sender.stop.Load() {
		c.sender.err = err
		c.abortLocked()
	}
}

func (c *wire) sent() bool {
	state := c.sender.state.Load()
	return state == sendLast || state == sendDone
}
