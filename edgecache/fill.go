package edgecache

import (
	"errors"
	"io"
	"sync"
)

// A Fill is one fetch for a key, and everybody who waits for it. Who leads it
// runs the fetch in a goroutine of its own, which ends it with Keep, Finish,
// Release or Fail; all clients, the leader's too, are followers: Wait, then read.
type Fill struct {
	cache    *Cache
	key      Key
	Purges   uint64 // of the entry that it will make
	ready    chan struct{}
	mu       sync.Mutex
	decided  bool
	outcome  Outcome
	entry    *Entry // its content still to come, if outcome is Streaming
	err      error
	base     int64  // bytes of the content that are gone from data
	data     []byte // append only: who has a piece of it may read on
	ended    bool   // all of the content is here, or err says why not
	storing  bool
	put      func(*Entry) // stores what is whole
	stored   bool         // that has been done
	reserved int64
	limit    int64         // bytes up to which the content is stored
	wake     chan struct{} // closed at progress; nil: nobody waits
	readers  map[*Reader]struct{}
	waiting  int           // those who joined and have yet to say whether they read
	drained  chan struct{} // closed when a reader moves on; nil: the writer does not wait
	lent     io.Closer     // of a released response, for the leader
	left     bool          // the leader wants nothing lent any more
}

// An Outcome says what came of a fetch.
type Outcome uint8

const (
	// Streaming: the response will be stored; its content is arriving.
	Streaming Outcome = iota + 1
	// Validated: what was stored still holds, as Entry has it.
	Validated
	// FromShared: Entry is from the second level.
	FromShared
	// Spared: the origin failed, and Entry, which is stale, is there for that.
	Spared
	// Released: it cannot be stored, everybody fetches for himself.
	Released
	// Failed: there was no response.
	Failed
)

// lag is how much of a content that is not stored waits for its readers.
const lag = 1 << 20

// ErrNobody ends a fetch that nobody reads and that is not stored.
var ErrNobody = errors.New("edgecache: nobody reads this response any more")

// Join is the fetch that is under way for r, or a new one that the caller leads.
// Who has joined calls Leave once.
func (c *Cache) Join(r *Request) (f *Fill, lead bool) {
	s := &c.shards[r.Key[0]&63]
	s.mu.Lock()
	defer s.mu.Unlock()
	if f = s.fills[r.Key]; f != nil && f.admits(r) {
		return f, false
	}
	f = &Fill{cache: c, key: r.Key, ready: make(chan struct{}), Purges: c.Sequence(), waiting: 1}
	s.fills[r.Key] = f
	return f, true
}

// admits takes r among those who wait, unless f is known to bring what r does not
// select.
func (f *Fill) admits(r *Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.decided && (f.entry == nil || f.entry.Vary != "" && !f.entry.selected(r.Fields, nil)) {
		return false
	}
	if f.cache.Sequence() != f.Purges && !f.spared(&Resource{Text: string(r.Text)}) {
		return false // it was asked for before it was purged, or may have been
	}
	f.waiting++
	return true
}

// spared reports whether what f brings has not been purged meanwhile.
func (f *Fill) spared(r *Resource) bool {
	if !f.decided {
		return f.cache.purger.Spares(r, f.Purges)
	}
	return f.cache.purger.Verdict(r, f.entry) == Valid
}

// Leave tells that who joined either has its Reader or wants none.
func (f *Fill) Leave() {
	f.mu.Lock()
	f.waiting--
	f.moved()
	f.mu.Unlock()
}

// leave takes f out of the way of new requests.
func (f *Fill) leave() {
	s := &f.cache.shards[f.key[0]&63]
	s.mu.Lock()
	if s.fills[f.key] == f {
		delete(s.fills, f.key)
	}
	s.mu.Unlock()
}

// Ready is closed when it is known what becomes of f.
func (f *Fill) Ready() <-chan struct{} { return f.ready }

// Result is what became of f, once it is ready. The entry is for requests that select
// it; err is for Failed.
func (f *Fill) Result() (Outcome, *Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.outcome, f.entry, f.err
}

// Serves reports whether the entry of f may answer r.
func (f *Fill) Serves(r *Request, rules *Rules) bool {
	_, e, _ := f.Result()
	return e != nil && (e.Vary == "" || e.selected(r.Fields, nil)) && e.mayServe(r, rules)
}

func (f *Fill) decide(outcome Outcome, e *Entry, err error) {
	f.mu.Lock()
	f.decided, f.outcome, f.entry, f.err = true, outcome, e, err
	f.mu.Unlock()
	if outcome != Streaming {
		f.leave()
	}
	close(f.ready)
}

// Keep is for a response that will be stored: e is all but its content, of which
// at most limit bytes are stored. The whole is given to put, before anybody can
// know that he has all of it: who then asks again finds it stored. It is not ok
// where there is no memory for it; the fetch then is to be released.
func (f *Fill) Keep(e *Entry, limit int64, put func(*Entry)) bool {
	room := e.Length
	if room < 0 {
		room = min(16<<10, limit)
	}
	if !f.cache.Reserve(room) {
		return false
	}
	f.storing, f.reserved, f.limit, f.put = true, room, limit, put
	f.data = make([]byte, 0, room)
	f.readers = make(map[*Reader]struct{})
	f.decide(Streaming, e, nil)
	return true
}

// Stands is for an entry that is whole; how is Validated, FromShared or Spared.
func (f *Fill) Stands(e *Entry, how Outcome) { f.decide(how, e, nil) }

// Fail is for a fetch without a response, or one that broke in the midst of it.
func (f *Fill) Fail(err error) {
	f.mu.Lock()
	decided, streaming := f.decided, f.outcome == Streaming && !f.ended
	f.mu.Unlock()
	switch {
	case !decided:
		f.decide(Failed, nil, err)
	case streaming:
		f.Finish(err)
	}
}

// Release is for a response that will not be stored. It is lent to the leader,
// or closed where he has left.
func (f *Fill) Release(lent io.Closer) {
	f.mu.Lock()
	left := f.left
	if !left {
		f.lent = lent
	}
	f.mu.Unlock()
	f.decide(Released, nil, nil)
	if left {
		_ = lent.Close()
	}
}

// Take is the leader's: the response that was lent to him; nil for none.
func (f *Fill) Take() io.Closer {
	f.mu.Lock()
	defer f.mu.Unlock()
	lent := f.lent
	f.lent, f.left = nil, true
	return lent
}

// Abandon is the leader's, who leaves before he could Take.
func (f *Fill) Abandon() {
	if lent := f.Take(); lent != nil {
		_ = lent.Close()
	}
}

// Write takes a piece of the content. It waits while the response is not stored
// and its readers are far behind.
func (f *Fill) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.storing && f.base+int64(len(f.data)+len(b)) > f.limit {
		f.overflow()
	}
	if f.storing && !f.grow(len(b)) {
		f.overflow()
	}
	if !f.storing {
		if err := f.throttle(); err != nil {
			return 0, err
		}
	}
	data := append(f.data, b...) // which no reader sees yet
	if f.storing && f.entry.Length >= 0 && int64(len(data)) == f.entry.Length {
		f.store(data)
	}
	f.data = data
	f.wakeAll()
	return len(b), nil
}

// store stores data, which is whole; mu is held, but not while it does.
func (f *Fill) store(data []byte) {
	if f.stored {
		return
	}
	f.stored = true
	one := *f.entry
	one.Body, one.Length, one.Purges = trimmed(data), int64(len(data)), f.Purges
	f.mu.Unlock()
	defer f.mu.Lock()
	f.put(&one)
	f.leave()
}

// grow reserves what b more bytes need.
func (f *Fill) grow(n int) bool {
	need := len(f.data) + n
	if need <= cap(f.data) {
		return true
	}
	to := min(int64(max(2*cap(f.data), need)), f.limit)
	if !f.cache.Reserve(to - f.reserved) {
		return false
	}
	f.reserved = to
	next := make([]byte, len(f.data), to)
	copy(next, f.data)
	f.data = next
	return true
}

// overflow goes on without storing. Join takes the locks the other way round.
func (f *Fill) overflow() {
	f.storing = false
	f.cache.Return(f.reserved)
	f.reserved = 0
	f.mu.Unlock()
	f.leave()
	f.mu.Lock()
}

// throttle lets go of what all readers have, and waits until there is room.
func (f *Fill) throttle() error {
	for {
		if len(f.readers) == 0 && f.waiting == 0 {
			return ErrNobody
		}
		slowest := f.base + int64(len(f.data))
		if f.waiting > 0 {
			slowest = f.base
		}
		for r := range f.readers {
			slowest = min(slowest, r.at)
		}
		if gone := slowest - f.base; gone > 0 {
			f.data = append(make([]byte, 0, lag), f.data[gone:]...)
			f.base = slowest
		}
		if len(f.data) < lag {
			return nil
		}
		if f.drained == nil {
			f.drained = make(chan struct{})
		}
		drained := f.drained
		f.mu.Unlock()
		<-drained
		f.mu.Lock()
	}
}

// Storing reports whether the content is still being stored.
func (f *Fill) Storing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.storing
}

// Finish ends a content, and reports whether it was stored: without an error and
// within its limits.
func (f *Fill) Finish(err error) (stored bool) {
	f.mu.Lock()
	if size := f.base + int64(len(f.data)); err == nil && f.entry.Length >= 0 && size != f.entry.Length {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		// Before anybody can know: who then asks again does not join what has
		// failed. A whole one stays until it is stored.
		f.mu.Unlock()
		f.leave()
		f.mu.Lock()
	}
	if err == nil && f.storing {
		f.store(f.data)
	}
	f.ended, f.err = true, err
	f.cache.Return(f.reserved)
	f.reserved = 0
	f.wakeAll()
	stored = f.stored
	f.mu.Unlock()
	f.leave()
	return stored
}

func (f *Fill) wakeAll() {
	if f.wake != nil {
		close(f.wake)
		f.wake = nil
	}
}

// A Reader reads the content of a Fill while it arrives.
type Reader struct {
	fill *Fill
	at   int64 // the next byte
	end  int64 // where to stop; -1: at the end
	done <-chan struct{}
}

// ErrLeft is what reading ends with when done was closed.
var ErrLeft = errors.New("edgecache: the reader has gone")

// Reader reads the content from start on, to length bytes, or -1 for all, until
// done is closed. It is nil where the start is gone already.
func (f *Fill) Reader(start, length int64, done <-chan struct{}) *Reader {
	f.mu.Lock()
	defer f.mu.Unlock()
	if start < f.base {
		return nil
	}
	r := &Reader{fill: f, at: start, end: -1, done: done}
	if length >= 0 {
		r.end = start + length
	}
	f.readers[r] = struct{}{}
	return r
}

// next is what there is to read, waiting for it.
func (r *Reader) next() ([]byte, error) {
	f := r.fill
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if r.end >= 0 && r.at >= r.end {
			return nil, io.EOF
		}
		if at := r.at - f.base; at < int64(len(f.data)) {
			piece := f.data[at:len(f.data):len(f.data)]
			if r.end >= 0 && int64(len(piece)) > r.end-r.at {
				piece = piece[:r.end-r.at]
			}
			return piece, nil
		}
		if f.ended {
			if f.err != nil {
				return nil, f.err
			}
			return nil, io.EOF
		}
		if f.wake == nil {
			f.wake = make(chan struct{})
		}
		wake := f.wake
		f.mu.Unlock()
		select {
		case <-wake:
		case <-r.done:
			f.mu.Lock()
			return nil, ErrLeft
		}
		f.mu.Lock()
	}
}

func (r *Reader) advance(n int) {
	f := r.fill
	f.mu.Lock()
	r.at += int64(n)
	f.moved()
	f.mu.Unlock()
}

func (f *Fill) moved() {
	if f.drained != nil {
		close(f.drained)
		f.drained = nil
	}
}

// Read implements io.Reader.
func (r *Reader) Read(b []byte) (int, error) {
	piece, err := r.next()
	if err != nil {
		return 0, err
	}
	n := copy(b, piece)
	r.advance(n)
	return n, nil
}

// WriteTo implements io.WriterTo: pieces as they have come, uncopied.
func (r *Reader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		piece, err := r.next()
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		n, err := w.Write(piece[:min(len(piece), 256<<10)])
		written += int64(n)
		r.advance(n)
		if err != nil {
			return written, err
		}
	}
}

// Close ends reading.
func (r *Reader) Close() error {
	f := r.fill
	f.mu.Lock()
	delete(f.readers, r)
	f.moved()
	f.mu.Unlock()
	return nil
}
