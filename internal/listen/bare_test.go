package listen

import (
	"net"
	"syscall"
	"testing"
)

// A bare client is a descriptor: it costs the process next to nothing.
func dialBare(t testing.TB, s *Server) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: s.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	return fd
}

func writeBare(fd int, s string) { _, _ = syscall.Write(fd, []byte(s)) } // the answer tells

func readBare(fd int) {
	var b [4096]byte
	_, _ = syscall.Read(fd, b[:]) // it is there or the count is wrong
}
