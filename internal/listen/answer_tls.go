package listen

import (
	"bytes"
	"sync"
)

// Answers reports whether Answer may be called.
func (t *TLSConn) Answers() bool { return !t.raw.Load() }

// Answer is Conn.Answer: body is encrypted from where it is, and what comes of it
// is sent in as few system calls as gatherings have room for, not one a record.
func (t *TLSConn) Answer(head, body []byte) error {
	t.hushed = true
	t.socket.gather()
	err := t.writeHead(head)
	if err == nil && len(body) > 0 {
		_, err = t.tls.Write(body)
	}
	if sent := t.socket.send(); err == nil {
		err = sent
	}
	return err
}

// writeHead writes a head, and what follows it there, with what is said to clients
// that come by TLS (see Server.handle).
func (t *TLSConn) writeHead(head []byte) error {
	field := t.s.limits.Load().hsts
	end := bytes.Index(head, []byte("\r\n\r\n"))
	if field == "" || end < 0 || says(head[:end], hstsField) {
		_, err := t.tls.Write(head)
		return err
	}
	b := make([]byte, 0, len(head)+len(hstsField)+len(field)+4)
	b = append(append(b, head[:end]...), "\r\n"+hstsField+": "...)
	b = append(append(b, field...), head[end:]...)
	_, err := t.tls.Write(b)
	return err
}

// says reports whether a head has a field of that name.
func says(head []byte, name string) bool {
	for line := range bytes.Lines(head) {
		if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return true
		}
	}
	return false
}

const (
	// gatherUpTo is how many bytes of records are sent together: 64 KiB and a
	// head, in the small records that a connection begins with.
	gatherUpTo = 72 << 10
	maxRecord  = 17 << 10
)

var gatherings = sync.Pool{New: func() any { b := make([]byte, 0, gatherUpTo+maxRecord); return &b }}

// A gathering has records that are to be sent together. Others may write to the
// connection meanwhile: goodbyes, new keys.
type gathering struct {
	mu  sync.Mutex
	all *[]byte // nil: each is sent at once
}

func (s *socket) gather() {
	s.records.mu.Lock()
	s.records.all = gatherings.Get().(*[]byte)
	s.records.mu.Unlock()
}

// Write sends a record, or has it wait for others.
func (s *socket) Write(p []byte) (int, error) {
	s.records.mu.Lock()
	defer s.records.mu.Unlock()
	all := s.records.all
	if all == nil {
		return s.c.Write(p)
	}
	*all = append(*all, p...)
	if len(*all) < gatherUpTo {
		return len(p), nil
	}
	_, err := s.c.Write(*all)
	*all = (*all)[:0]
	return len(p), err
}

// send sends what waits, and has nothing wait any more.
func (s *socket) send() (err error) {
	s.records.mu.Lock()
	defer s.records.mu.Unlock()
	all := s.records.all
	s.records.all = nil
	if len(*all) > 0 {
		_, err = s.c.Write(*all)
	}
	*all = (*all)[:0]
	gatherings.Put(all)
	return err
}
