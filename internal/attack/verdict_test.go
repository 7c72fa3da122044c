package attack_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A check judges what the upstream got.
type check func(r request) error

// reject wants one error response of one of the statuses (400 if none is
// given), the connection closed behind it, and not a byte at the upstream.
func reject(name, raw string, statuses ...int) attack {
	if len(statuses) == 0 {
		statuses = []int{400}
	}
	return attack{name: name, raw: raw, run: func(e *env) error {
		if err := e.refused(raw, statuses); err != nil {
			return err
		}
		if got := e.origin.requests(); len(got) > 0 {
			return fmt.Errorf("SMUGGLED: refused, but the upstream got %q", linesOf(got))
		}
		return nil
	}}
}

func (e *env) refused(raw string, statuses []int) error {
	c, err := e.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	c.send(raw)
	r, err := c.response(false)
	if err != nil {
		return err
	}
	if !slices.Contains(statuses, r.status) {
		return fmt.Errorf("status %d, want %d; %.200q", r.status, statuses, r.body)
	}
	if !r.close {
		return errors.New("the refusal does not say Connection: close")
	}
	return c.closed()
}

// denied wants a request that is well framed refused, by default with 400, 403
// or 404, and not a byte at the upstream. The connection may go on.
func denied(name, raw string, statuses ...int) attack {
	if len(statuses) == 0 {
		statuses = []int{400, 403, 404}
	}
	return attack{name: name, raw: raw, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(raw)
		r, err := c.response(false)
		if err != nil {
			return err
		}
		if got := e.origin.requests(); len(got) > 0 {
			return fmt.Errorf("BYPASS: answered %d, and the upstream got %q", r.status, linesOf(got))
		}
		if !slices.Contains(statuses, r.status) {
			return fmt.Errorf("status %d, want %d; %.200q", r.status, statuses, r.body)
		}
		return c.over(r)
	}}
}

// over wants the connection closed if r said so, else fit for another request.
func (c *client) over(r *response) error {
	if r.close {
		return c.closed()
	}
	return c.sentinel()
}

// cut wants the same for a request whose head is good and whose body is not:
// the upstream never gets a whole request.
func cut(name, raw string, statuses ...int) attack {
	if len(statuses) == 0 {
		statuses = []int{400}
	}
	return attack{name: name, raw: raw, run: func(e *env) error {
		if err := e.refused(raw, statuses); err != nil {
			return err
		}
		for _, r := range e.origin.requests() {
			if r.whole {
				return fmt.Errorf("SMUGGLED: the upstream got a whole request: %q %q", r.raw, r.body)
			}
		}
		return nil
	}}
}

// forward wants the request answered by the upstream, which got exactly one
// that all checks agree with, and the connection fit for another.
func forward(name, raw string, checks ...check) attack {
	return attack{name: name, raw: raw, run: func(e *env) error { return e.forwarded(raw, checks) }}
}

func (e *env) forwarded(raw string, checks []check) error {
	c, err := e.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	c.send(raw)
	head := strings.HasPrefix(raw, "HEAD ")
	r, err := c.response(head)
	if err != nil {
		return err
	}
	if r.status != 200 {
		return fmt.Errorf("status %d, want 200; %.200q", r.status, r.body)
	}
	if err := e.one(r, head, checks); err != nil {
		return err
	}
	return c.over(r)
}

// one wants exactly one request at the upstream, whole, and r to be its answer.
func (e *env) one(r *response, head bool, checks []check) error {
	got := e.origin.requests()
	if len(got) != 1 || !got[0].whole {
		return fmt.Errorf("SMUGGLED: the upstream got %d requests: %q", len(got), linesOf(got))
	}
	if want := got[0].method + " " + got[0].target + "\n"; !head && r.body != want {
		return fmt.Errorf("SMUGGLED: answered %q, want %q", r.body, want)
	}
	for _, ok := range checks {
		if err := ok(got[0]); err != nil {
			return fmt.Errorf("WRONG: %w; upstream got %q", err, got[0].raw)
		}
	}
	return nil
}

func linesOf(rs []request) (lines []string) {
	for _, r := range rs {
		lines = append(lines, r.line)
	}
	return lines
}

// either wants a request refused, or forwarded as one of the checks allow.
func either(name, raw string, checks ...check) attack {
	return attack{name: name, raw: raw, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(raw)
		r, err := c.response(false)
		if err != nil {
			return err
		}
		if r.status >= 400 {
			if got := e.origin.requests(); len(got) > 0 {
				return fmt.Errorf("SMUGGLED: refused with %d, but the upstream got %q", r.status, linesOf(got))
			}
			return c.over(r)
		}
		if err := e.one(r, false, checks); err != nil {
			return err
		}
		return c.over(r)
	}}
}

// seq wants the statuses, one response each, in order; the targets at the
// upstream, in order, whole; then the end of the connection, or one that is fit
// for another request.
func seq(name, raw string, statuses []int, targets []string, end bool) attack {
	return attack{name: name, raw: raw, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(raw)
		if err := c.statuses(statuses); err != nil {
			return err
		}
		if err := e.targets(targets); err != nil {
			return err
		}
		if end {
			err = c.closed()
		} else {
			err = c.sentinel()
		}
		return errors.Join(err, e.targets(targets))
	}}
}

func (c *client) statuses(want []int) error {
	for i, status := range want {
		r, err := c.response(false)
		if err != nil {
			return fmt.Errorf("response %d: %w", i+1, err)
		}
		if r.status != status {
			return fmt.Errorf("response %d: status %d, want %d; %.200q", i+1, r.status, status, r.body)
		}
	}
	return nil
}

func (e *env) targets(want []string) error {
	got := e.origin.whole()
	if !slices.Equal(got, want) {
		return fmt.Errorf("SMUGGLED: the upstream got %q, want %q", got, want)
	}
	return nil
}

// Checks.

func line(want string) check {
	return func(r request) error {
		if r.line != want {
			return fmt.Errorf("request line %q, want %q", r.line, want)
		}
		return nil
	}
}

// has wants the values of name, joined by "|", to be value.
func has(name, value string) check {
	return func(r request) error {
		if got := r.get(name); got != value {
			return fmt.Errorf("%s: %q, want %q", name, got, value)
		}
		return nil
	}
}

// raws wants the head to hold a line, byte for byte.
func raws(text string) check {
	return func(r request) error {
		if !strings.Contains(r.raw, "\r\n"+text+"\r\n") {
			return fmt.Errorf("no line %q", text)
		}
		return nil
	}
}

// lacks wants none of the strings anywhere in the head.
func lacks(texts ...string) check {
	return func(r request) error {
		for _, text := range texts {
			if strings.Contains(strings.ToLower(r.raw), strings.ToLower(text)) {
				return fmt.Errorf("the upstream got %q", text)
			}
		}
		return nil
	}
}

func body(want string) check {
	return func(r request) error {
		if r.body != want {
			return fmt.Errorf("body %q, want %q", r.body, want)
		}
		return nil
	}
}

// cutOff reports whether err says that a response broke off.
func cutOff(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }

// wantEnd is nil for the end of a connection.
func wantEnd(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
