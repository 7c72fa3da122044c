package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A play is what one side of a connection does, as a text of lines. A line is
// sent with CRLF behind it, or without where it ends in a backslash; \r \n \t \\
// and \xNN stand for bytes. Lines that follow each other are one write, so that
// nobody can answer between them. A line that begins with ! does something else:
//
//	!head         wait for a head (to an empty line)
//	!until TEXT   wait for TEXT
//	!read N       wait for N bytes
//	!eof          wait for the other side to close
//	!wait EVENT   wait for EVENT to happen
//	!event EVENT  let EVENT happen, as the script's command event does
//	!repeat N TEXT  send TEXT N times
//	!closewrite   close for writing
//	!close        close
//	!reset        close with a RST
//	!loop         begin again
//	!conn         what follows is for the next connection (of an upstream)
//
// What has been waited for is used up. The end of a play waits for the other
// side to close.
type play []string

// text is what the lines from the first to the next direction say, and the last
// of them.
func (p play) text(first int) (b []byte, last int, err error) {
	for last = first; ; last++ {
		line, err := lineBytes(p[last])
		if err != nil {
			return nil, last, err
		}
		b = append(b, line...)
		if last+1 == len(p) || strings.HasPrefix(p[last+1], "!") {
			return b, last, nil
		}
	}
}

// plays splits a text where it says !conn.
func plays(text string) []play {
	var all []play
	one := play{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "!conn" {
			all, one = append(all, one), play{}
			continue
		}
		one = append(one, line)
	}
	return append(all, one)
}

// An actor plays one side of a connection.
type actor struct {
	conn   net.Conn
	heard  *transcript
	used   int
	events *events
}

func newActor(conn net.Conn, heard *transcript, ev *events) *actor {
	a := &actor{conn: conn, heard: heard, events: ev}
	go func() {
		_, err := io.Copy(heard, conn)
		if err == nil {
			err = io.EOF
		}
		heard.end(err)
	}()
	return a
}

// errPlayed is the end of a play that closed its connection.
var errPlayed = errors.New("closed by the play")

// perform plays p.
func (a *actor) perform(p play) error {
	for i := 0; i < len(p); i++ {
		if !strings.HasPrefix(p[i], "!") {
			b, last, err := p.text(i)
			if err == nil {
				err = a.send(b)
			}
			if err != nil {
				return fmt.Errorf("sending from %q: %w", p[i], err)
			}
			i = last
			continue
		}
		if p[i] == "!loop" {
			i = -1
			continue
		}
		verb, arg, _ := strings.Cut(p[i][1:], " ")
		if err := a.direct(verb, arg); err == errPlayed {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", p[i], err)
		}
	}
	return nil
}

// send writes b; the other side has to take it.
func (a *actor) send(b []byte) error {
	if err := a.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := a.conn.Write(b)
	return err
}

func (a *actor) direct(verb, arg string) error {
	switch verb {
	case "head":
		return a.hear("\r\n\r\n")
	case "until":
		text, err := unescape(arg)
		if err != nil {
			return err
		}
		return a.hear(string(text))
	case "read":
		n, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		a.used += n
		return a.heard.until(patience, func(s string, _ error) bool { return len(s) >= a.used })
	case "eof":
		return a.heard.until(patience, func(_ string, ended error) bool { return ended != nil })
	case "wait":
		return a.events.wait(arg)
	case "event":
		a.events.happen(arg)
		return nil
	case "repeat":
		count, text, _ := strings.Cut(arg, " ")
		n, err := strconv.Atoi(count)
		if err != nil {
			return err
		}
		b, err := unescape(text)
		if err != nil {
			return err
		}
		return a.send(bytes.Repeat(b, n))
	case "closewrite":
		return a.conn.(interface{ CloseWrite() error }).CloseWrite()
	case "close":
		a.conn.Close()
		return errPlayed
	case "reset":
		if err := a.conn.(*net.TCPConn).SetLinger(0); err != nil {
			return err
		}
		a.conn.Close()
		return errPlayed
	}
	return errors.New("there is no such direction")
}

// hear waits for text beyond what has been used.
func (a *actor) hear(text string) error {
	return a.heard.until(patience, func(s string, _ error) bool {
		i := strings.Index(s[min(a.used, len(s)):], text)
		if i >= 0 {
			a.used += i + len(text)
		}
		return i >= 0
	})
}

// lineBytes is a line of a play as it is sent.
func lineBytes(line string) ([]byte, error) {
	if text, joined := strings.CutSuffix(line, `\`); joined && !strings.HasSuffix(text, `\`) {
		return unescape(text)
	}
	b, err := unescape(line)
	return append(b, "\r\n"...), err
}

// unescape replaces \r \n \t \\ and \xNN.
func unescape(s string) ([]byte, error) {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		i++
		switch {
		case i == len(s):
			return nil, fmt.Errorf("%q ends in a backslash", s)
		case s[i] == 'x' && i+2 < len(s):
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return nil, err
			}
			out = append(out, byte(n))
			i += 2
		default:
			j := strings.IndexByte(`rnt\`, s[i])
			if j < 0 {
				return nil, fmt.Errorf(`\%c in %q means nothing`, s[i], s)
			}
			out = append(out, "\r\n\t\\"[j])
		}
	}
	return out, nil
}

// A want is a text of lines as in a play, to compare with. … stands for
// anything within a line, a line of … alone for any lines. !closed at the end
// wants the connection closed after it, !open that it is not.
type want struct {
	pattern      *regexp.Regexp
	closed, open bool
}

func parseWant(text string) (want, error) {
	var w want
	b := strings.Builder{}
	b.WriteString(`\A`)
	for line := range strings.Lines(text) {
		switch line = strings.TrimSuffix(line, "\n"); line {
		case "!closed":
			w.closed = true
		case "!open":
			w.open = true
		case "…":
			b.WriteString(`(?s:.*?)`)
		default:
			parts := strings.Split(line, "…")
			for i, part := range parts {
				if i > 0 {
					b.WriteString(`[^\r\n]*`)
				}
				raw, err := unescape(part)
				if i == len(parts)-1 {
					raw, err = lineBytes(part)
				}
				if err != nil {
					return w, err
				}
				b.WriteString(quoteBytes(raw))
			}
		}
	}
	b.WriteString(`\z`)
	var err error
	w.pattern, err = regexp.Compile(b.String())
	return w, err
}

// quoteBytes is regexp.QuoteMeta for what may be no UTF-8.
func quoteBytes(raw []byte) string { return regexp.QuoteMeta(latin(string(raw))) }

// latin makes every byte a character of its own.
func latin(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}

// check waits until heard is as wanted.
func (w want) check(heard *transcript) error {
	err := heard.until(patience, func(s string, ended error) bool {
		return (!w.closed || ended != nil) && w.pattern.MatchString(latin(s))
	})
	got, ended := heard.now()
	if err != nil {
		return fmt.Errorf("%w (connection: %v); got:\n%s", err, ended, visible(got))
	}
	if !w.open {
		return nil
	}
	err = heard.until(100*time.Millisecond, func(_ string, ended error) bool { return ended != nil })
	if err == errImpatient {
		return nil
	}
	return fmt.Errorf("the connection was closed after:\n%s", visible(got))
}

// visible is s as the lines of a want.
func visible(s string) string {
	if len(s) > 4000 {
		s = s[:2000] + fmt.Sprintf(" …(%d bytes)… ", len(s)-4000) + s[len(s)-2000:]
	}
	q := strconv.QuoteToGraphic(s)
	q = q[1 : len(q)-1]
	return strings.ReplaceAll(strings.ReplaceAll(q, `\"`, `"`), `\r\n`, "\n")
}

// events are what a script tells those who wait for it.
type events struct {
	mu   sync.Mutex
	seen map[string]chan struct{}
}

func (e *events) channel(name string) chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen == nil {
		e.seen = map[string]chan struct{}{}
	}
	if e.seen[name] == nil {
		e.seen[name] = make(chan struct{})
	}
	return e.seen[name]
}

// happen lets go on who waits for name; it may happen more than once.
func (e *events) happen(name string) {
	c := e.channel(name)
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

func (e *events) wait(name string) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-e.channel(name):
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}
