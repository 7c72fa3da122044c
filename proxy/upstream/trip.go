package upstream

import "golang.org/x/sys/unix"

// A trip is the state of one conn.roundTrip.
type trip struct {
	out, in []byte
	sent    int
	got     int
	err     error
	stage   int
}

const (
	tripCheck = iota
	tripSend
	tripReceive
)

// roundTrip writes out and does the first read of the answer into in.
//
// On a used connection it reads before it writes too, where EAGAIN is the good
// result: anything else means that the target closed the connection or spoke
// out of turn, and roundTrip returns errUnquiet with nothing sent. This costs
// no system call, because the read that net.Conn would do right after the
// write, almost always in vain, is left out instead. Leaving it out takes the
// runtime's readiness to have been reset before the write, or the edge of the
// answer could be lost; hence all steps are one RawConn.Read.
func (c *conn) roundTrip(out, in []byte) (got, sent int, err error) {
	c.trip = trip{out: out, in: in, stage: tripSend}
	if c.used {
		c.trip.stage = tripCheck
	}
	err = c.raw.Read(c.step)
	t := &c.trip
	if err == nil {
		err = t.err
	}
	t.out, t.in = nil, nil
	return t.got, t.sent, err
}

func (c *conn) tripStep(fd uintptr) bool {
	t := &c.trip
	switch t.stage {
	case tripCheck:
		// A byte is enough to see, and nothing is lost: the connection is closed.
		if _, err := read(fd, t.in[:1]); err != unix.EAGAIN {
			t.err = errUnquiet
			return true
		}
		t.stage = tripReceive
		return !c.tripSend(fd) && c.tripRead(fd)
	case tripSend:
		// On a new connection nobody looked before, so the answer may be there
		// already and its edge gone.
		t.stage = tripReceive
		c.tripSend(fd)
	}
	return c.tripRead(fd)
}

// tripSend reports whether all went out. When not, an answer may yet be there
// to read, like a 413 before the target closed.
func (c *conn) tripSend(fd uintptr) bool {
	t := &c.trip
	for {
		n, err := rawWrite(fd, t.out)
		if err == unix.EINTR {
			continue
		}
		if n > 0 {
			t.sent = n
		}
		if err != nil && err != unix.EAGAIN {
			return false
		}
		break
	}
	if t.sent == len(t.out) {
		return true
	}
	n, err := c.nc.Write(t.out[t.sent:])
	t.sent += n
	return err == nil
}

// tripRead reports whether the read is over, with bytes, the end or an error.
func (c *conn) tripRead(fd uintptr) bool {
	t := &c.trip
	n, err := read(fd, t.in)
	if err == unix.EAGAIN {
		return false
	}
	t.got, t.err = max(n, 0), err
	return true
}

// read is read(2) into p; the end of the stream is 0 bytes without an error.
func read(fd uintptr, p []byte) (int, error) {
	for {
		n, err := rawRead(fd, p)
		if err != unix.EINTR {
			return n, err
		}
	}
}
