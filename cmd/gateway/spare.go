package main

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	spareDescriptors = 8
	spareLook        = 20 * time.Millisecond
)

// A sparing listener keeps descriptors back, to accept connections with when the
// process has no other left: who asks the admin API then has reason to.
type sparing struct {
	*net.TCPListener
	mu     sync.Mutex
	kept   []*os.File
	closed bool
}

func listenSparing(address string) (*sparing, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &sparing{TCPListener: ln.(*net.TCPListener)}
	s.refill()
	return s, nil
}

// Accept is net.Listener's.
func (s *sparing) Accept() (net.Conn, error) {
	for {
		conn, err := s.TCPListener.Accept()
		switch {
		case err == nil:
			return &spared{Conn: conn, from: s}, nil
		case !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE):
			return nil, err
		case !s.waiting():
			time.Sleep(spareLook) // without descriptors the kernel says so before it waits
		case !s.give():
			return nil, err // the server tries again, after a while
		}
	}
}

// waiting reports whether a connection waits to be accepted.
func (s *sparing) waiting() bool {
	raw, err := s.SyscallConn()
	if err != nil {
		return true // Accept says what is wrong
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) // asked again where it fails
	})
	return err != nil || n > 0
}

// give frees one descriptor, if one is kept.
func (s *sparing) give() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.kept) - 1
	if last < 0 {
		return false
	}
	s.kept[last].Close()
	s.kept = s.kept[:last]
	return true
}

// refill keeps back what there is, up to the bound.
func (s *sparing) refill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.kept) < spareDescriptors && !s.closed {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return // the next connection that closes tries again
		}
		s.kept = append(s.kept, f)
	}
}

// Close is net.Listener's.
func (s *sparing) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for s.give() {
	}
	return s.TCPListener.Close()
}

// A spared connection gives its descriptor to those that are kept back, where
// one is missing.
type spared struct {
	net.Conn
	from *sparing
}

// Close is net.Conn's.
func (c *spared) Close() error {
	err := c.Conn.Close()
	c.from.refill()
	return err
}
