package upstream

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawRead and rawWrite make their system call without telling Go's scheduler,
// which otherwise takes the processor away from a call that lasts longer than
// 20 µs, as a write over loopback does on a busy machine: that costs two
// switches of threads, and keeps the scheduler's monitor from resting. The
// sockets do not block. The calls are those of sockets, which in the kernel are
// shorter ways than those of files.
func rawRead(fd uintptr, p []byte) (int, error) {
	return raw(unix.SYS_RECVFROM, fd, p, 0)
}

func rawWrite(fd uintptr, p []byte) (int, error) {
	return raw(unix.SYS_SENDTO, fd, p, unix.MSG_NOSIGNAL)
}

func raw(call, fd uintptr, p []byte, flags uintptr) (int, error) {
	n, _, errno := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// received is how many bytes have come on the connection in its life, and how
// many of them nobody has read yet.
func (c *conn) received() (all, unread uint64) {
	c.raw.Control(func(fd uintptr) {
		// In this order unread is not more than what belongs to all, or else the
		// relay could seem to be over too early.
		if n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
			unread = uint64(n)
		}
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			all = info.Bytes_received
		}
	})
	return all, unread
}
