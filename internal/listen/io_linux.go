package listen

import (
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A transfer is one direction of a connection's system calls.
//
// They are made without telling Go's scheduler. The sockets do not block, but on
// a busy machine a write to one can take longer than the 20 µs after which the
// scheduler's monitor takes the processor away from whoever is in a system call,
// and has another thread go on; each time costs two switches of threads, and a
// monitor that finds such work does not rest. They are those of sockets, which
// in the kernel are shorter ways than those of files.
type transfer struct {
	p     []byte
	n     int
	errno syscall.Errno
	step  func(fd uintptr) bool // made once
}

func (c *Conn) initTransfers() {
	c.input.step, c.output.step = c.input.read, c.output.write
}

func (t *transfer) read(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.p))), uintptr(len(t.p)), 0, 0, 0)
		switch errno {
		case 0:
			t.n = int(n)
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.errno = errno
			return true
		}
	}
}

func (t *transfer) write(fd uintptr) bool {
	for t.n < len(t.p) {
		rest := t.p[t.n:]
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(rest))), uintptr(len(rest)), unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			t.n += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.errno = errno
			return true
		}
	}
	return true
}

// readSocket is TCPConn.Read.
func (c *Conn) readSocket(p []byte) (int, error) {
	t := &c.input
	t.p, t.n, t.errno = p, 0, 0
	err := c.fd.Read(t.step)
	t.p = nil
	switch {
	case err != nil:
		return 0, err
	case t.errno != 0:
		return 0, os.NewSyscallError("recvfrom", t.errno)
	case t.n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// readNow reads what has come, or nothing: then it returns os.ErrDeadlineExceeded.
func (c *Conn) readNow(p []byte) (int, error) {
	t := &c.input
	t.p, t.n, t.errno = p, 0, 0
	came := false
	err := c.fd.Read(func(fd uintptr) bool {
		came = t.read(fd)
		return true
	})
	t.p = nil
	switch {
	case err != nil:
		return 0, err
	case !came:
		return 0, os.ErrDeadlineExceeded
	case t.errno != 0:
		return 0, os.NewSyscallError("read", t.errno)
	case t.n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// write is TCPConn.Write.
func (c *Conn) write(p []byte) (int, error) {
	t := &c.output
	t.p, t.n, t.errno = p, 0, 0
	err := c.fd.Write(t.step)
	t.p = nil
	if err == nil && t.errno != 0 {
		err = os.NewSyscallError("sendto", t.errno)
	}
	return t.n, err
}
