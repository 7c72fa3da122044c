package redistest_test

import (
	"net"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/redistest"
)

func TestLife(t *testing.T) {
	s := redistest.Start(t)
	s.Do("SET", "a", "1")
	if got := s.Do("EXISTS", "a"); got != ":1" {
		t.Errorf("EXISTS after SET: %s", got)
	}
	first := s.Pid()
	s.RestartWithData()
	if got := s.Do("EXISTS", "a"); got != ":1" {
		t.Errorf("EXISTS after a restart with data: %s", got)
	}
	if s.Pid() == first {
		t.Error("the same process after a restart")
	}
	s.Flush()
	if got := s.Do("EXISTS", "a"); got != ":0" {
		t.Errorf("EXISTS after a flush: %s", got)
	}
	s.Do("SET", "a", "1")
	s.Restart()
	if got := s.Do("EXISTS", "a"); got != ":0" {
		t.Errorf("EXISTS after an empty restart: %s", got)
	}
	s.Kill()
	if c, err := net.Dial("tcp", s.Address); err == nil {
		c.Close()
		t.Error("a killed server takes connections")
	}
	s.Restart()
	s.Do("PING")
}

func TestStop(t *testing.T) {
	s := redistest.Start(t)
	s.Stop()
	c, err := net.Dial("tcp", s.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 7)
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(answer); err == nil {
		t.Errorf("a stopped server answers %q", answer[:n])
	}
	s.Continue()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(answer); err != nil || string(answer[:n]) != "+PONG\r\n" {
		t.Errorf("it answers %q, %v when it goes on", answer[:n], err)
	}
	s.Stop() // the end of the test must do away with a stopped one
}

func TestCrashKeepsAppendOnly(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s.Do("SET", "a", "1")
	s.Kill()
	s.RestartWithData()
	if got := s.Do("EXISTS", "a"); got != ":1" {
		t.Errorf("EXISTS after a crash: %s", got)
	}
}
