// Package smtptest is an SMTP server for tests: a real one, on loopback, that
// keeps what it is sent.
package smtptest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// A Message is an e-mail that was accepted.
type Message struct {
	To      []string // of the envelope
	ID      string   // its Message-ID
	Subject string
	Body    string
}

// A Sink keeps e-mails. Its methods may be called from any goroutine.
type Sink struct {
	// Addr is where it listens.
	Addr string

	mu       sync.Mutex
	more     *sync.Cond
	messages []Message
	judge    func(Message) error
}

// Start runs a sink until the end of the test.
func Start(t testing.TB) *Sink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Sink{Addr: ln.Addr().String()}
	s.more = sync.NewCond(&s.mu)
	server := smtp.NewServer(s)
	server.Domain, server.ReadTimeout, server.WriteTimeout = "localhost", time.Minute, time.Minute
	server.MaxMessageBytes, server.MaxRecipients = 1<<20, 10
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(ln) // it says that it was closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return s
}

// Judge has every e-mail asked about once it has arrived and is kept: an error
// becomes the answer to the client, which may be an *smtp.SMTPError. It may
// wait.
func (s *Sink) Judge(f func(Message) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judge = f
}

// Messages returns all that has been kept, in the order in which it came.
func (s *Sink) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

// Distinct counts the messages by their Message-ID: how often each has come.
func (s *Sink) Distinct() map[string]int {
	times := map[string]int{}
	for _, m := range s.Messages() {
		times[m.ID]++
	}
	return times
}

// Await waits until enough says so of what has been kept, or ctx is done.
func (s *Sink) Await(ctx context.Context, enough func([]Message) bool) bool {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.more.Broadcast()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !enough(s.messages) {
		if ctx.Err() != nil {
			return false
		}
		s.more.Wait()
	}
	return true
}

// NewSession is for the server.
func (s *Sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{sink: s}, nil }

type session struct {
	sink *Sink
	to   []string
}

func (s *session) Mail(string, *smtp.MailOptions) error { s.to = nil; return nil }
func (s *session) Reset()                               { s.to = nil }
func (s *session) Logout() error                        { return nil }

// Rcpt knows nobody whose name begins with "nobody".
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	parsed, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		return err
	}
	body, err := io.ReadAll(parsed.Body)
	if err != nil {
		return err
	}
	m := Message{
		To: s.to, ID: parsed.Header.Get("Message-Id"), Subject: parsed.Header.Get("Subject"), Body: string(body),
	}
	s.sink.mu.Lock()
	s.sink.messages = append(s.sink.messages, m)
	judge := s.sink.judge
	s.sink.more.Broadcast()
	s.sink.mu.Unlock()
	if judge == nil {
		return nil
	}
	return judge(m)
}
