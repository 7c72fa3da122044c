package attack_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// limit bounds every wait of the harness.
const limit = 5 * time.Second

// A response is what a client read.
type response struct {
	status   int
	fields   []field
	trailers []string
	body     string
	close    bool // it said so
	interim  []int
	byEnd    bool // nothing but the connection's end frames it
}

func (r *response) get(name string) string { return (&request{fields: r.fields}).get(name) }

// A client is one raw connection to the gateway.
type client struct {
	net.Conn
	buf       []byte
	sentinels int
}

func dial(addr, from string) (*client, error) {
	d := net.Dialer{Timeout: limit, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("CRASH: %w", err)
	}
	return &client{Conn: c}, c.SetDeadline(time.Now().Add(limit))
}

// send writes s; that the gateway has closed already is no fault.
func (c *client) send(s string) { _, _ = io.WriteString(c.Conn, s) }

// more reads something. The error is io.EOF for an end, in whatever way.
func (c *client) more() error {
	piece := make([]byte, 32<<10)
	n, err := c.Read(piece)
	c.buf = append(c.buf, piece[:n]...)
	switch {
	case n > 0 || err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("HANG: nothing more came within %s; so far %.300q", limit, c.buf)
	}
	return io.EOF
}

// response reads one final response, strictly; head says that it has no body.
func (c *client) response(head bool) (*response, error) {
	var interim []int
	for {
		r, err := c.head()
		if err != nil {
			return nil, err
		}
		if r.status < 200 && r.status != 101 {
			for _, name := range []string{"Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive"} {
				if v := r.get(name); v != "" {
					return nil, fmt.Errorf("a %d with %s: %q", r.status, name, v)
				}
			}
			interim = append(interim, r.status)
			continue
		}
		r.interim = interim
		if head || r.status == 204 || r.status == 304 || r.status == 101 {
			return r, nil
		}
		return r, c.body(r)
	}
}

func (c *client) head() (*response, error) {
	for {
		lines, n, err := section(c.buf, 0)
		if err == errMore {
			if err = c.more(); err != nil {
				return nil, fmt.Errorf("no whole response head: %w after %.200q", err, c.buf)
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("RISKY: the client got %w", err)
		}
		c.buf = c.buf[n:]
		r := &response{}
		if len(lines) == 0 || len(lines[0]) < 12 || lines[0][:9] != "HTTP/1.1 " {
			return nil, fmt.Errorf("RISKY: the client got the status line %q", lines)
		}
		if r.status, err = strconv.Atoi(lines[0][9:12]); err != nil {
			return nil, fmt.Errorf("RISKY: the client got the status line %q", lines[0])
		}
		if r.fields, err = fieldsOf(lines[1:]); err != nil {
			return nil, fmt.Errorf("RISKY: the client got %w", err)
		}
		r.close = strings.EqualFold(r.get("Connection"), "close")
		return r, nil
	}
}

// body reads r's body; io.ErrUnexpectedEOF means that it was cut.
func (c *client) body(r *response) error {
	length, coding := r.get("Content-Length"), r.get("Transfer-Encoding")
	switch {
	case length != "" && coding != "" || coding != "" && coding != "chunked" || strings.Contains(length, "|"):
		return fmt.Errorf("RISKY: the client got the framing %q %q", length, coding)
	case coding == "":
		return c.plain(r, length)
	}
	for {
		body, trailer, n, err := dechunk(c.buf)
		r.body, r.trailers = body, trailer
		if err == nil {
			c.buf = c.buf[n:]
			return nil
		}
		if err != errMore {
			return fmt.Errorf("RISKY: the client got %w", err)
		}
		if err := c.more(); err == io.EOF {
			c.buf = nil
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
}

func (c *client) plain(r *response, length string) error {
	want, err := strconv.Atoi(length)
	if length == "" {
		r.byEnd, want, err = true, 1<<30, nil
	}
	if err != nil {
		return fmt.Errorf("RISKY: the client got Content-Length %q", length)
	}
	for len(c.buf) < want {
		if err := c.more(); err == io.EOF {
			r.body, c.buf = string(c.buf), nil
			if r.byEnd {
				return nil
			}
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
	r.body, c.buf = string(c.buf[:want]), bytes.Clone(c.buf[want:])
	return nil
}

// closed waits for the end, with nothing before it.
func (c *client) closed() error {
	for {
		if len(c.buf) > 0 {
			return fmt.Errorf("SMUGGLED: the client got more than it should: %.300q", c.buf)
		}
		if err := c.more(); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("the connection was not closed: %w", err)
		}
	}
}
