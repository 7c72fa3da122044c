package listen

import (
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const parks = true // readable waits

// watcher learns from an epoll instance of its own that clients have left.
// Connections are known to it by number: descriptors are used again.
type watcher struct {
	epoll *os.File // itself polled by the runtime, so that it holds no thread
	raw   syscall.RawConn

	mu    sync.Mutex
	conns map[uint64]*Conn
}

func newWatcher() (*watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	w := &watcher{epoll: os.NewFile(uintptr(fd), "epoll"), conns: make(map[uint64]*Conn)}
	w.raw, err = w.epoll.SyscallConn()
	return w, err
}

// run reports leaving clients until close.
func (w *watcher) run() {
	events := make([]unix.EpollEvent, 128)
	for {
		n := 0
		err := w.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
		if err != nil {
			return
		}
		for _, e := range events[:max(n, 0)] {
			w.mu.Lock()
			c := w.conns[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
			w.mu.Unlock()
			if c != nil {
				c.left()
			}
		}
	}
}

func (w *watcher) close() { _ = w.epoll.Close() } // run ends

// left tells the exchange, if it is still the one that was watched for.
func (c *Conn) left() {
	c.xmu.Lock()
	if c.watched && c.x != nil {
		c.x.Cancel(ErrClientGone)
	}
	c.xmu.Unlock()
}

// add watches c; the caller holds c.xmu.
func (w *watcher) add(c *Conn) bool {
	w.mu.Lock()
	w.conns[c.id] = c
	w.mu.Unlock()
	if !w.control(c, unix.EPOLL_CTL_ADD) {
		w.forget(c)
		return false
	}
	return true
}

// remove ends what add began; the caller holds c.xmu, c is not yet closed or
// was closed beneath, which ends it as well.
func (w *watcher) remove(c *Conn) {
	w.control(c, unix.EPOLL_CTL_DEL)
	w.forget(c)
}

func (w *watcher) forget(c *Conn) {
	w.mu.Lock()
	delete(w.conns, c.id)
	w.mu.Unlock()
}

func (w *watcher) control(c *Conn, op int) bool {
	event := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(uint32(c.id)), Pad: int32(uint32(c.id >> 32))}
	var failed error
	outer := w.raw.Control(func(epoll uintptr) {
		err := c.fd.Control(func(fd uintptr) {
			failed = unix.EpollCtl(int(epoll), op, int(fd), &event)
		})
		if err != nil {
			failed = err
		}
	})
	return outer == nil && failed == nil
}

// readable waits until c can be read: nil when there are bytes.
func (c *Conn) readable() error {
	var n int
	var fault error
	var one [1]byte
	err := c.fd.Read(func(fd uintptr) bool {
		for {
			n, _, fault = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if fault != unix.EINTR {
				return fault != unix.EAGAIN
			}
		}
	})
	switch {
	case err != nil:
		return err
	case fault != nil:
		return fault
	case n == 0:
		return io.EOF
	}
	c.first = one[0]
	return nil
}

// pending reports whether bytes wait to be read.
func (c *Conn) pending() bool {
	n := 0
	err := c.fd.Control(func(fd uintptr) {
		n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) // 0 where it fails
	})
	return err == nil && n > 0
}

// sent reports how many bytes wait for the client's acknowledgement, and how
// many it has acknowledged in all.
func (c *Conn) sent() (waiting int, acked uint64) {
	_ = c.fd.Control(func(fd uintptr) { // nothing waits on a closed connection
		waiting, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			acked = info.Bytes_acked
		}
	})
	return waiting, acked
}
