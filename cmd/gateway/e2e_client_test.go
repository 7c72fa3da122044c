package main_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// rawSend is: raw [-to ADDR] [-bg NAME] PLAYFILE WANTFILE. It plays one
// connection to the gateway and compares all that came back.
func rawSend(s *stage, ts *testscript.TestScript, args []string) error {
	addr, background := ts.Getenv("GATEWAY"), ""
	for len(args) > 2 {
		switch args[0] {
		case "-to":
			addr = args[1]
		case "-bg":
			background = args[1]
		default:
			return errUsage
		}
		args = args[2:]
	}
	if len(args) != 2 {
		return errUsage
	}
	text := plays(ts.ReadFile(args[0]))
	if len(text) != 1 {
		return errors.New("a client has one connection")
	}
	w, err := parseWant(ts.ReadFile(args[1]))
	if err != nil {
		return err
	}
	if background == "" {
		return s.rawPlay(addr, text[0], w)
	}
	result := make(chan error, 1)
	s.background[background] = result
	go func() { result <- s.rawPlay(addr, text[0], w) }()
	return nil
}

// rawPlay plays p against addr. A gateway that has answered may refuse to take
// the rest: then the answer counts.
func (s *stage) rawPlay(addr string, p play, w want) error {
	conn, err := dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	heard := newTranscript()
	played := newActor(conn, heard, &s.events).perform(p)
	if err := w.check(heard); err != nil || errors.Is(played, errImpatient) {
		return errors.Join(played, err)
	}
	return nil
}

// rawJoin is: join NAME. It waits for a raw -bg.
func rawJoin(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 || s.background[args[0]] == nil {
		return errUsage
	}
	return <-s.background[args[0]]
}

var anotherAnswer = regexp.MustCompile(`HTTP/1\.1 [0-9]`)

// refuse is: refuse STATUS 'BYTES'. The gateway must answer just this, once, as
// a problem document, and close.
func refuse(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errUsage
	}
	request, err := unescape(args[1])
	if err != nil {
		return err
	}
	conn, err := dial(ts.Getenv("GATEWAY"))
	if err != nil {
		return err
	}
	defer conn.Close()
	heard := newTranscript()
	a := newActor(conn, heard, &s.events)
	if err := a.send(request); err != nil {
		return err
	}
	ended := a.direct("eof", "")
	got, _ := heard.now()
	head, rest, _ := strings.Cut(got, "\r\n\r\n")
	head = strings.ToLower(head) + "\r\n"
	switch {
	case ended != nil:
		return fmt.Errorf("the connection stays open: %w; got:\n%s", ended, visible(got))
	case !strings.HasPrefix(head, "http/1.1 "+args[0]+" "), anotherAnswer.MatchString(rest),
		!strings.Contains(head, "\r\ncontent-type: application/problem+json\r\n"),
		!strings.Contains(head, "\r\nproxy-status: sluice; error="),
		!strings.Contains(head, "\r\nconnection: close\r\n"),
		!strings.Contains(rest, `"status":`+args[0]):
		return fmt.Errorf("want one refusal with status %s, got:\n%s", args[0], visible(got))
	}
	return nil
}

// A httpCall is one request of the command http.
type httpCall struct {
	addr, host, method, path, body, save string
	fields                               [][2]string
}

func parseCall(ts *testscript.TestScript, args []string) (httpCall, error) {
	c := httpCall{addr: ts.Getenv("GATEWAY")}
	var rest []string
	for ; len(args) > 0; args = args[1:] {
		if !strings.HasPrefix(args[0], "-") {
			rest = append(rest, args[0])
			continue
		}
		if args[0] == "-admin" {
			c.addr = ts.Getenv("ADMIN")
			continue
		}
		if len(args) < 2 {
			return c, errUsage
		}
		switch args[0] {
		case "-to":
			c.addr = args[1]
		case "-host":
			c.host = args[1]
		case "-d":
			c.body = args[1]
		case "-o":
			c.save = ts.MkAbs(args[1])
		case "-H":
			name, value, _ := strings.Cut(args[1], ":")
			c.fields = append(c.fields, [2]string{name, strings.TrimSpace(value)})
		default:
			return c, errUsage
		}
		args = args[1:]
	}
	if len(rest) != 2 {
		return c, errUsage
	}
	c.method, c.path = rest[0], rest[1]
	return c, nil
}

// httpSend is: http [-admin | -to ADDR] [-host NAME] [-H 'Name: value']…
// [-d BODY] [-o FILE] METHOD PATH. Its standard output is the status, the
// header in alphabetical order, an empty line and the body.
func httpSend(s *stage, ts *testscript.TestScript, args []string) error {
	c, err := parseCall(ts, args)
	if err != nil {
		return err
	}
	r, body, err := c.do()
	if err != nil {
		return err
	}
	fmt.Fprintf(ts.Stdout(), "%s %s\n", r.Proto, r.Status)
	for _, header := range []http.Header{r.Header, r.Trailer} {
		var lines []string
		for name, values := range header {
			for _, v := range values {
				lines = append(lines, name+": "+v)
			}
		}
		slices.Sort(lines)
		for _, l := range lines {
			fmt.Fprintln(ts.Stdout(), l)
		}
	}
	if r.ContentLength >= 0 {
		fmt.Fprintf(ts.Stdout(), "(length %d)\n", r.ContentLength)
	}
	if c.save != "" {
		return os.WriteFile(c.save, body, 0o644)
	}
	fmt.Fprintf(ts.Stdout(), "\n%s", body)
	return nil
}

func (c httpCall) do() (*http.Response, []byte, error) {
	req, err := http.NewRequest(c.method, "http://"+c.addr+c.path, strings.NewReader(c.body))
	if err != nil {
		return nil, nil, err
	}
	req.Host = c.host
	for _, f := range c.fields {
		req.Header.Add(f[0], f[1])
	}
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	client := http.Client{Transport: transport, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	r, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return r, body, err
}

// metric is: metric REGEXP. The metrics must come to have a line that matches.
func metric(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errUsage
	}
	re, err := regexp.Compile("(?m)" + args[0])
	if err != nil {
		return err
	}
	return waitFor(func() error {
		_, body, err := httpCall{addr: ts.Getenv("ADMIN"), method: "GET", path: "/metrics"}.do()
		if err == nil && !re.Match(body) {
			err = fmt.Errorf("no metric matches %s:\n%s", re, body)
		}
		return err
	})
}

// webSocket is: ws PATH TEXT…. It expects every text back, and a clean close.
func webSocket(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	conn, r, err := openWebSocket(ts.Getenv("GATEWAY"), args[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, text := range args[1:] {
		if err := writeFrame(conn, frameText, []byte(text), true); err != nil {
			return err
		}
		if op, got, err := readFrame(r); err != nil || op != frameText || string(got) != text {
			return fmt.Errorf("sent %q, got frame %d %q: %v", text, op, got, err)
		}
	}
	if err := writeFrame(conn, frameClose, nil, true); err != nil {
		return err
	}
	if op, _, err := readFrame(r); err != nil || op != frameClose {
		return fmt.Errorf("closing: frame %d, %v", op, err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return fmt.Errorf("after the close: %v", err)
	}
	return nil
}

func openWebSocket(addr, path string) (net.Conn, *bufio.Reader, error) {
	conn, err := dial(addr)
	if err != nil {
		return nil, nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, nil, err
	}
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: ws.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", path, key)
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err == nil && (res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != acceptOf(key)) {
		err = errors.New("the handshake was answered " + strconv.Quote(res.Status))
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, r, nil
}

// certificate is: certificate HOST CAFILE. It writes one that no origin has.
func certificate(s *stage, ts *testscript.TestScript, args []string) error {
	_, ca, err := selfSigned(args[0])
	if err != nil {
		return err
	}
	return os.WriteFile(ts.MkAbs(args[1]), ca, 0o644)
}

// originTLS serves an origin under a new certificate for host and writes it to
// the file ca.
func (s *stage) originTLS(ts *testscript.TestScript, name, host, ca string) error {
	cert, pem, err := selfSigned(host)
	if err != nil {
		return err
	}
	if err := os.WriteFile(ts.MkAbs(ca), pem, 0o644); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.serveOrigin(ts, name, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}}))
	return nil
}
