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
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// rawSend is: raw [-to ADDR] [-bg NAME] PLAYFILE WANTFILE. It plays one
// connection to the gateway and compares all that came back.
func rawSend(s *stage, ts *testscript.TestScript, args []string) error {
	if s.spoken.name != "http1" {
		return errors.New("raw speaks HTTP/1.1: it is for [http1]")
	}
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
	s.start(background, func() outcome { return outcome{err: s.rawPlay(addr, text[0], w)} })
	return nil
}

// An outcome is that of a command with -bg.
type outcome struct {
	out string
	err error
}

func (s *stage) start(name string, f func() outcome) {
	result := make(chan outcome, 1)
	s.background[name] = result
	go func() { result <- f() }()
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

// join is: join NAME. It waits for a raw -bg or http -bg, whose standard output
// it has.
func join(s *stage, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 || s.background[args[0]] == nil {
		return errUsage
	}
	got := <-s.background[args[0]]
	fmt.Fprint(ts.Stdout(), got.out)
	return got.err
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
		_, body, err := plainCall(ts.Getenv("ADMIN"), "/metrics").do()
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
