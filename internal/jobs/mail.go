package jobs

import (
	"context"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
)

// MailConfig is how e-mails are sent.
type MailConfig struct {
	Address string // host:port of an SMTP server; STARTTLS is used where it is offered
	From    string // "hello@example.com" or "Example <hello@example.com>"
}

// A Mailer sends e-mails through an SMTP server.
type Mailer struct {
	host   string
	port   int
	from   *netmail.Address
	domain string
}

// NewMailer returns a mailer. It connects only to send.
func NewMailer(cfg MailConfig) (*Mailer, error) {
	host, port, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("smtp: %w", err)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 || host == "" {
		return nil, fmt.Errorf("smtp: %q is no host:port", cfg.Address)
	}
	from, err := netmail.ParseAddress(cfg.From)
	if err != nil {
		return nil, fmt.Errorf("from: %q: %w", cfg.From, err)
	}
	return &Mailer{host: host, port: n, from: from, domain: from.Address[strings.LastIndexByte(from.Address, '@')+1:]}, nil
}

// Welcome sends a WelcomeEmail. Its Message-ID is made of the job's key: an
// e-mail that arrives twice, since the worker ended before it could note that it
// was sent, is the same one.
func (m *Mailer) Welcome(ctx context.Context, job Job, args WelcomeEmail) error {
	msg := mail.NewMsg()
	msg.FromMailAddress(m.from)
	if err := msg.To(recipient(args.Email)); err != nil {
		return Permanent(err)
	}
	msg.Subject("Welcome")
	msg.SetDate()
	msg.SetMessageIDWithValue(fmt.Sprintf("%s.%s@%s", args.Kind(), job.Key(), m.domain))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834, section 5
	name := args.Name
	if name == "" {
		name = "there"
	}
	msg.SetBodyString(mail.TypeTextPlain, fmt.Sprintf("Hello %s,\n\nyour account is ready. Welcome!\n", name))
	return m.send(ctx, msg)
}

// recipient is an address with its domain in ASCII: in another script it would be
// refused by servers without SMTPUTF8 (RFC 6531), which for the name before the @
// cannot be helped.
func recipient(email string) string {
	at := strings.LastIndexByte(email, '@')
	if domain, err := idna.Lookup.ToASCII(email[at+1:]); err == nil {
		return email[:at+1] + domain
	}
	return email
}

func (m *Mailer) send(ctx context.Context, msg *mail.Msg) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dial := func(dialing context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(dialing, network, address)
		if err == nil { // the client itself heeds ctx only until it is connected
			context.AfterFunc(ctx, func() { conn.Close() })
		}
		return conn, err
	}
	client, err := mail.NewClient(m.host, mail.WithPort(m.port), mail.WithTLSPolicy(mail.TLSOpportunistic),
		mail.WithTimeout(Timeout/2), mail.WithDialContextFunc(dial))
	if err != nil {
		return err
	}
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return err
	}
	err = client.SendWithSMTPClient(conn, msg)
	// Once the server has taken the e-mail, a farewell that fails must not have it
	// sent again.
	_ = client.CloseWithSMTPClient(conn)
	var refused *mail.SendError
	if errors.As(err, &refused) && refused.Reason == mail.ErrSMTPRcptTo && !refused.IsTemp() {
		return Permanent(err) // there is no such recipient
	}
	return err
}
