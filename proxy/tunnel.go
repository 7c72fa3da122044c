package proxy

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// runTunnel writes the 101 and passes bytes both ways until both sides have
// ended.
func (x *Exchange) runTunnel(c net.Conn) {
	if conn, ok := beneath(c).(interface{ Raw() }); ok {
		conn.Raw()
	}
	if x.conn != nil {
		x.conn.Detach() // half-closing is not leaving
	}
	r := &x.Response
	r.Header.Add("Connection", "Upgrade")
	if _, err := c.Write(appendHead(nil, r)); err != nil {
		x.err = err
		return
	}
	tunnels := x.gen.tunnels
	tunnels.Add(1)
	defer tunnels.Add(-1)
	x.requestIn.read, x.bytesOut = r.Tunnel(c)
}

// tunnel returns what joins the client to the upgraded connection of x's call.
// The tunnel ends when both sides have closed, one fails, or nothing has passed
// for idle.
func (x *Exchange) tunnel(idle time.Duration) func(net.Conn) (in, out int64) {
	up, early := x.answered().Upgraded()
	return func(client net.Conn) (in, out int64) {
		defer up.Close()
		t := &tunnel{idle: idle}
		t.last.Store(time.Now().UnixNano())
		if len(early) > 0 {
			n, err := client.Write(early)
			if out = int64(n); err != nil {
				return in, out
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { in = t.pass(up, client) })
		out += t.pass(client, up)
		wg.Wait()
		return in, out
	}
}

type tunnel struct {
	idle time.Duration
	last atomic.Int64 // when bytes passed, either way
	dead atomic.Bool
}

// pass copies until src ends, then half-closes dst; on any error it ends the
// whole tunnel.
func (t *tunnel) pass(dst, src net.Conn) (n int64) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		if t.idle > 0 {
			_ = src.SetReadDeadline(time.Now().Add(t.idle)) // fails with the Read that follows
		}
		m, err := src.Read(*buf)
		if m > 0 {
			t.last.Store(time.Now().UnixNano())
			if _, werr := dst.Write((*buf)[:m]); werr != nil {
				t.end(dst, src)
				return n
			}
			n += int64(m)
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && t.alive():
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			t.end(dst, src)
			return n
		default:
			t.closeWrite(dst, src)
			return n
		}
	}
}

// alive reports whether the other direction keeps the tunnel open.
func (t *tunnel) alive() bool {
	return !t.dead.Load() && time.Since(time.Unix(0, t.last.Load())) < t.idle
}

// closeWrite passes on that no more will come.
func (t *tunnel) closeWrite(dst, src net.Conn) {
	if c, ok := beneath(dst).(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		return
	}
	t.end(dst, src)
}

// end makes both directions stop at their next read.
func (t *tunnel) end(dst, src net.Conn) {
	t.dead.Store(true)
	past := time.Unix(1, 0)
	_ = dst.SetDeadline(past) // a closed one needs none
	_ = src.SetDeadline(past)
}
