package jobs

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/sluice-edge/sluice/internal/smtptest"
)

func mailer(t testing.TB, address string) *Mailer {
	t.Helper()
	m, err := NewMailer(MailConfig{Address: address, From: "Sluice <hello@sluice.example>"})
	must(t, err)
	return m
}

func TestMail(t *testing.T) {
	sink := smtptest.Start(t)
	m := mailer(t, sink.Addr)
	job := Job{Shard: "s1", ID: 7, Attempt: 1, key: "KEY"}
	args := WelcomeEmail{User: "u1", Email: "zoe@users.example", Name: "Zoë"}
	must(t, m.Welcome(ctx, job, args))
	job.Attempt = 2
	must(t, m.Welcome(ctx, job, args))
	list := sink.Messages()
	if len(list) != 2 || len(sink.Distinct()) != 1 {
		t.Fatalf("two attempts at one job: %+v", list)
	}
	if got := list[0]; got.ID != "<welcome_email.KEY@sluice.example>" || got.To[0] != args.Email || got.Subject != "Welcome" || !strings.Contains(got.Body, "Zo=C3=AB") {
		t.Errorf("%+v", got)
	}
}

// TestMailOfAnotherScript: a server that knows nothing of other scripts gets the
// domain as the DNS has it.
func TestMailOfAnotherScript(t *testing.T) {
	sink := smtptest.Start(t)
	must(t, mailer(t, sink.Addr).Welcome(ctx, Job{key: "K"}, WelcomeEmail{Email: "zoe@bücher.example", Name: "Zoë"}))
	if list := sink.Messages(); len(list) != 1 || list[0].To[0] != "zoe@xn--bcher-kva.example" {
		t.Errorf("%+v", list)
	}
}

func TestMailRefused(t *testing.T) {
	sink := smtptest.Start(t)
	m := mailer(t, sink.Addr)
	if err := m.Welcome(ctx, Job{key: "K"}, WelcomeEmail{Email: "nobody@users.example"}); err == nil || !isPermanent(err) {
		t.Errorf("no such recipient: %v", err)
	}
	sink.Judge(func(smtptest.Message) error {
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "try later"}
	})
	if err := m.Welcome(ctx, Job{key: "K"}, WelcomeEmail{Email: "a@users.example"}); err == nil || isPermanent(err) {
		t.Errorf("a server in trouble: %v", err)
	}
	if err := mailer(t, "127.0.0.1:1").Welcome(ctx, Job{key: "K"}, WelcomeEmail{Email: "a@users.example"}); err == nil || isPermanent(err) {
		t.Errorf("no server: %v", err)
	}
	hold := make(chan struct{})
	defer close(hold)
	sink.Judge(func(smtptest.Message) error { <-hold; return nil })
	bounded, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := m.Welcome(bounded, Job{key: "K"}, WelcomeEmail{Email: "a@users.example"}); err == nil || time.Since(began) > waitLimit/2 {
		t.Errorf("a server that does not answer: %v after %v", err, time.Since(began))
	}
}

func TestMailerConfig(t *testing.T) {
	for _, c := range []struct{ address, from, want string }{
		{"localhost:25", "a@b.example", ""},
		{"localhost", "a@b.example", "smtp"},
		{":25", "a@b.example", "smtp"},
		{"localhost:0", "a@b.example", "smtp"},
		{"localhost:25", "a", "from"},
	} {
		_, err := NewMailer(MailConfig{Address: c.address, From: c.from})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
