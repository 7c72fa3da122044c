package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A httpCall is one request of the command http.
type httpCall struct {
	interim                              func(code int) // of each interim answer
	spoken                               *protocol
	events                               *events
	addr, host, method, path, body, save string
	background, hold, tell               string
	fields, trailers                     [][2]string
	unknownLength, expect, cut           bool
}

func (s *stage) parseCall(ts *testscript.TestScript, args []string) (*httpCall, error) {
	c := &httpCall{addr: ts.Getenv("GATEWAY"), spoken: s.spoken, events: &s.events}
	flags := map[string]*bool{"-chunked": &c.unknownLength, "-expect": &c.expect, "-cut": &c.cut}
	texts := map[string]*string{"-host": &c.host, "-d": &c.body, "-o": &c.save, "-bg": &c.background, "-hold": &c.hold, "-tell": &c.tell}
	lists := map[string]*[][2]string{"-H": &c.fields, "-T": &c.trailers}
	var rest []string
	for ; len(args) > 0; args = args[1:] {
		name := args[0]
		switch {
		case !strings.HasPrefix(name, "-"):
			rest = append(rest, name)
			continue
		case flags[name] != nil:
			*flags[name] = true
			continue
		case name == "-admin":
			c.addr, c.spoken = ts.Getenv("ADMIN"), plainHTTP1
			continue
		case len(args) < 2:
			return c, errUsage
		case texts[name] != nil:
			*texts[name] = args[1]
		case lists[name] != nil:
			name, value, _ := strings.Cut(args[1], ":")
			to := lists[args[0]]
			*to = append(*to, [2]string{name, strings.TrimSpace(value)})
		default:
			return c, errUsage
		}
		args = args[1:]
	}
	if len(rest) != 2 {
		return c, errUsage
	}
	if c.save != "" {
		c.save = ts.MkAbs(c.save)
	}
	c.method, c.path = rest[0], rest[1]
	return c, nil
}

// httpSend is: http [OPTION…] METHOD PATH. Its standard output is the status,
// the header in alphabetical order with the trailer behind it, an empty line and
// the body; before that, interim statuses. It fails where the answer did not
// come over the protocol that is spoken, or holds what that forbids. Options:
//
//	-admin           ask the admin listener
//	-host NAME       another Host
//	-H 'Name: value' a field, -T 'Name: value' a trailer field; there may be more
//	-d BODY          a body, with its length unless -chunked
//	-hold EVENT      its last byte is sent when EVENT happens
//	-expect          wait for 100 (Continue) before it is sent
//	-tell NAME       NAME0 happens with the head of the answer, NAME1 with the
//	                 first empty line of its body, and so on
//	-cut             the body of the answer has to break off
//	-o FILE          where to the body goes
//	-bg NAME         go on meanwhile, until join NAME
func httpSend(s *stage, ts *testscript.TestScript, args []string) error {
	c, err := s.parseCall(ts, args)
	if err != nil {
		return err
	}
	if c.background != "" {
		s.start(c.background, c.run)
		return nil
	}
	got := c.run()
	fmt.Fprint(ts.Stdout(), got.out)
	return got.err
}

// run makes the call for a script.
func (c *httpCall) run() outcome {
	var out bytes.Buffer
	c.interim = func(code int) { fmt.Fprintln(&out, code, http.StatusText(code)) }
	r, body, err := c.do()
	if err != nil {
		return outcome{err: err}
	}
	printHead(&out, r)
	if c.save != "" {
		return outcome{out.String(), os.WriteFile(c.save, body, 0o644)}
	}
	out.WriteByte('\n')
	out.Write(body)
	return outcome{out: out.String()}
}

// do makes the call over a connection of its own.
func (c *httpCall) do() (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if c.interim != nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			c.interim(code)
			return nil
		}})
	}
	req, err := c.request(ctx)
	if err != nil {
		return nil, nil, err
	}
	transport := c.spoken.transport()
	transport.DisableKeepAlives = true
	defer transport.CloseIdleConnections()
	r, err := transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer r.Body.Close()
	if c.tell != "" {
		c.events.happen(c.tell + "0")
	}
	body, err := c.read(r.Body)
	switch {
	case c.cut && err == nil:
		return r, body, fmt.Errorf("the body came to an end: %q", body)
	case !c.cut && err != nil:
		return r, body, err
	}
	return r, body, c.spoken.examine(r)
}

// plainCall is a GET over HTTP/1.1.
func plainCall(addr, path string) *httpCall {
	return &httpCall{spoken: plainHTTP1, addr: addr, method: "GET", path: path}
}

func (c *httpCall) request(ctx context.Context) (*http.Request, error) {
	var body io.Reader = strings.NewReader(c.body)
	if c.hold != "" {
		body = c.holdBody()
	} else if c.unknownLength || len(c.trailers) > 0 {
		body = io.MultiReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, c.spoken.scheme+"://"+c.addr+c.path, body)
	if err != nil {
		return nil, err
	}
	req.Host = c.host
	for _, f := range c.fields {
		req.Header.Add(f[0], f[1])
	}
	if c.expect {
		req.Header.Set("Expect", "100-continue")
	}
	if c.hold != "" && !c.unknownLength {
		req.ContentLength = int64(len(c.body))
	}
	for _, f := range c.trailers {
		if req.Trailer == nil {
			req.Trailer = http.Header{}
		}
		req.Trailer.Add(f[0], f[1])
	}
	return req, nil
}

// A heldBody is a body whose last part waits for an event, or for nobody to
// want it any more.
type heldBody struct {
	io.Reader
	closed chan struct{}
	close  sync.Once
}

func (c *httpCall) holdBody() *heldBody {
	last := len(c.body) - 1
	b := &heldBody{closed: make(chan struct{})}
	b.Reader = io.MultiReader(strings.NewReader(c.body[:last]), waitingReader(func() error {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-c.events.channel(c.hold):
			return io.EOF // on with what follows
		case <-b.closed:
			return net.ErrClosed
		case <-timer.C:
			return errImpatient
		}
	}), strings.NewReader(c.body[last:]))
	return b
}

func (b *heldBody) Close() error {
	b.close.Do(func() { close(b.closed) })
	return nil
}

// A waitingReader has nothing to read but its end.
type waitingReader func() error

func (r waitingReader) Read([]byte) (int, error) { return 0, r() }

// read reads a body, and tells of its empty lines as they come.
func (c *httpCall) read(from io.Reader) (body []byte, err error) {
	if c.tell == "" {
		return io.ReadAll(from)
	}
	told, piece := 0, make([]byte, 1024)
	for err == nil {
		var n int
		n, err = from.Read(piece)
		body = append(body, piece[:n]...)
		for ; told < bytes.Count(body, []byte("\n\n")); told++ {
			c.events.happen(fmt.Sprint(c.tell, told+1))
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return body, err
}

func printHead(out *bytes.Buffer, r *http.Response) {
	fmt.Fprintln(out, r.Status)
	for _, header := range []http.Header{r.Header, r.Trailer} {
		var lines []string
		for name, values := range header {
			for _, v := range values {
				lines = append(lines, name+": "+v)
			}
		}
		slices.Sort(lines)
		for _, l := range lines {
			fmt.Fprintln(out, l)
		}
	}
	if r.ContentLength >= 0 {
		fmt.Fprintf(out, "(length %d)\n", r.ContentLength)
	}
}
