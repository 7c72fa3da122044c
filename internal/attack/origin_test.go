package attack_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// A script is how the origin answers a request instead of with 200.
type script struct {
	raw   string
	early bool   // once the head is there
	close bool   // the connection, behind raw
	reset bool   // the same, with RST
	mute  bool   // says nothing and keeps the connection
	echo  bool   // from then on sends back what it reads
	late  string // sent once told, see origin.release
}

// An origin is a raw upstream that keeps what it reads and judges it strictly.
type origin struct {
	ln net.Listener

	mu      sync.Mutex
	scripts map[string]script // by the target without its query
	seen    []*request        // since mark
	client  string            // whose requests are looked for
	faults  []string
	conns   map[net.Conn]int // bytes that make no whole request yet
	gate    chan struct{}    // closed by release
	sent    chan struct{}    // has one when the late piece is out
	live    sync.WaitGroup
}

func newOrigin() (*origin, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{ln: ln, conns: map[net.Conn]int{}}
	o.mark("", nil)
	o.live.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			o.live.Go(func() { o.serve(c) })
		}
	})
	return o, nil
}

// stop ends all connections and waits for their goroutines.
func (o *origin) stop() {
	_ = o.ln.Close() // it is of no use any more
	o.mu.Lock()
	for c := range o.conns {
		_ = c.Close() // likewise
	}
	o.mu.Unlock()
	o.live.Wait()
}

func (o *origin) serve(c net.Conn) {
	o.mu.Lock()
	o.conns[c] = 0
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		delete(o.conns, c)
		o.mu.Unlock()
		_ = c.Close()
	}()
	var buf []byte
	var r *request
	piece := make([]byte, 32<<10)
	for {
		n, err := c.Read(piece)
		if err != nil {
			return
		}
		buf = append(buf, piece[:n]...)
		for len(buf) > 0 {
			done, stop, err := o.step(c, &r, &buf)
			o.mu.Lock()
			o.conns[c] = len(buf)
			if r != nil {
				o.conns[c]++
			}
			if err != nil && err != errMore {
				o.faults = append(o.faults, err.Error())
			}
			o.mu.Unlock()
			if stop || err != nil && err != errMore {
				return
			}
			if !done {
				break
			}
		}
	}
}

// step takes one head or one body from buf; done says that there may be more in
// it, stop that the connection is over.
func (o *origin) step(c net.Conn, at **request, buf *[]byte) (done, stop bool, err error) {
	if *at == nil {
		r, n, err := parseHead(*buf)
		if err != nil {
			return false, false, err
		}
		*at, *buf = r, (*buf)[n:]
		o.mu.Lock()
		o.seen = append(o.seen, r)
		o.mu.Unlock()
		if s := o.script(r); s != nil && s.early {
			if o.play(c, s) {
				return false, true, nil
			}
		}
	}
	r := **at // the original may be looked at already
	n, err := parseBody(&r, *buf)
	if err != nil {
		return false, false, err
	}
	o.mu.Lock()
	r.whole = true
	**at = r
	*at, *buf = nil, (*buf)[n:]
	text := fmt.Sprintf("%s %s\n", r.method, r.target)
	o.mu.Unlock()
	s := o.script(&r)
	switch {
	case s == nil:
		if r.method == "HEAD" {
			text = ""
		}
		_, err = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	case !s.early:
		stop = o.play(c, s)
	}
	if s != nil && s.echo {
		o.mu.Lock()
		o.conns[c] = 0 // no requests any more
		o.mu.Unlock()
		if _, err = c.Write(*buf); err == nil {
			_, _ = io.Copy(c, c) // its end is the tunnel's
		}
		*buf, stop = nil, true
	}
	return true, stop || err != nil, nil
}

func (o *origin) script(r *request) *script {
	path, _, _ := strings.Cut(r.target, "?")
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, ok := o.scripts[path]; ok {
		return &s
	}
	return nil
}

// play writes what s says and reports whether the connection is over.
func (o *origin) play(c net.Conn, s *script) (stop bool) {
	if s.mute {
		return false
	}
	if _, err := io.WriteString(c, s.raw); err != nil {
		return true
	}
	if s.late != "" {
		o.mu.Lock()
		gate, sent := o.gate, o.sent
		o.mu.Unlock()
		select {
		case <-gate:
		case <-time.After(limit):
		}
		_, _ = io.WriteString(c, s.late) // the gateway may have closed
		sent <- struct{}{}
	}
	if tcp, ok := c.(*net.TCPConn); ok && s.reset {
		_ = tcp.SetLinger(0) // it is closed either way
	}
	return s.close || s.reset
}

// release has the late piece of the case's script sent, and waits until the
// gateway's socket has it. It may be called once.
func (o *origin) release() error {
	o.mu.Lock()
	gate, sent := o.gate, o.sent
	o.mu.Unlock()
	close(gate)
	select {
	case <-sent:
		return nil
	case <-time.After(limit):
		return errors.New("the upstream had nothing to send late")
	}
}

// mark forgets what was seen, and sets whose requests are looked for and the
// scripts.
func (o *origin) mark(client string, scripts map[string]script) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen, o.faults, o.client, o.scripts = nil, nil, client, scripts
	o.gate, o.sent = make(chan struct{}), make(chan struct{}, 1)
}

// requests are those since mark, without the harness's own and those that the
// gateway says came from another case's client. Where it says nothing it has not
// seen the request, which is the worst there is.
func (o *origin) requests() (rs []request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.seen {
		client := r.get("X-Forwarded-For")
		other := strings.HasPrefix(client, "127.") && client != o.client
		if !other && !strings.HasPrefix(r.target, ownPrefix) {
			rs = append(rs, *r)
		}
	}
	return rs
}

// whole are the targets of those that came to their end.
func (o *origin) whole() (targets []string) {
	for _, r := range o.requests() {
		if r.whole {
			targets = append(targets, r.target)
		}
	}
	return targets
}

// settle waits until no open connection has half a request, and judges what
// came.
func (o *origin) settle() error {
	for end := time.Now().Add(limit); ; {
		o.mu.Lock()
		open, faults := 0, o.faults
		for _, n := range o.conns {
			if n > 0 {
				open++
			}
		}
		o.mu.Unlock()
		if len(faults) > 0 {
			return fmt.Errorf("RISKY: the upstream read %s", strings.Join(faults, "; "))
		}
		if open == 0 {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("HANG: a connection to the upstream stays with half a request")
		}
		time.Sleep(time.Millisecond) // lint:sleep the kernel does not tell when the other side will have closed
	}
}
