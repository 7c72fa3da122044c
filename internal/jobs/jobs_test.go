package jobs

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

func fix(user string) Order { return Order{Args: CacheFix{User: user, Version: 1}} }

func noted(b *book) Handlers {
	return Handlers{CacheFix: func(_ context.Context, job Job, args CacheFix) error {
		b.note(job, args.User)
		return nil
	}}
}

func TestDone(t *testing.T) {
	forStores(t, func(t *testing.T, s *store) {
		b := newBook()
		w, _ := work(t, WorkerConfig{Shards: []Source{s}, Handlers: noted(b)})
		for i := range 20 {
			ids, err := s.enqueue(true, fix(fmt.Sprint("u", i)), fix(fmt.Sprint("v", i)))
			must(t, err)
			if len(ids) != 2 || ids[0] == ids[1] {
				t.Fatalf("ids %v", ids)
			}
		}
		eventually(t, "40 jobs were done", func() bool { return b.distinct() == 40 })
		eventually(t, "they are counted", func() bool {
			return strings.Contains(metricsOf(w), `jobs_total{kind="cache_fix",outcome="done"} 40`)
		})
		if n := b.times("u7"); n != 1 {
			t.Errorf("u7 was done %d times", n)
		}
	})
}

func TestRolledBack(t *testing.T) {
	forStores(t, func(t *testing.T, s *store) {
		b := newBook()
		work(t, WorkerConfig{Shards: []Source{s}, Handlers: noted(b)})
		_, err := s.enqueue(false, fix("gone"))
		must(t, err)
		_, err = s.enqueue(true, fix("kept")) // a later job, so the first would have been done
		must(t, err)
		eventually(t, "the later job is done", func() bool { return b.times("kept") == 1 })
		if b.times("gone") != 0 {
			t.Error("a job of a transaction that was rolled back was done")
		}
	})
}

func TestLater(t *testing.T) {
	forStores(t, func(t *testing.T, s *store) {
		b := newBook()
		work(t, WorkerConfig{Shards: []Source{s}, Handlers: noted(b)})
		due := time.Now().Add(2 * time.Second)
		_, err := s.enqueue(true, Order{Args: CacheFix{User: "later"}, After: due}, fix("now"))
		must(t, err)
		eventually(t, "the job that is due is done", func() bool { return b.times("now") == 1 })
		eventually(t, "the other one as well", func() bool { return b.times("later") == 1 })
		if early := time.Until(due); early > 0 {
			t.Errorf("it was done %v early", early)
		}
	})
}

// TestPoisoned has a job that always fails, one that panics, one that hangs and
// one that is refused for good: all are dead letters in the end, the others of
// their queue are done meanwhile, and a dead letter that is put back is done.
func TestPoisoned(t *testing.T) {
	forStores(t, func(t *testing.T, s *store) {
		b := newBook()
		broken := true
		handlers := Handlers{CacheFix: func(ctx context.Context, job Job, args CacheFix) error {
			b.note(job, args.User)
			switch {
			case !broken:
			case args.User == "fails":
				return fmt.Errorf("attempt %d failed", job.Attempt)
			case args.User == "panics":
				panic("out of order")
			case args.User == "hangs":
				<-ctx.Done()
				return ctx.Err()
			case args.User == "refused":
				return Permanent(errors.New("never"))
			}
			return nil
		}}
		w, stop := work(t, WorkerConfig{
			Shards: []Source{s}, Handlers: handlers, Concurrency: 4,
			Timeout: 100 * time.Millisecond, Lease: time.Second, Backoff: time.Microsecond,
		})
		_, err := s.enqueue(true, fix("fails"), fix("panics"), fix("hangs"), fix("refused"))
		must(t, err)
		_, err = s.enqueue(true, fix("good"))
		must(t, err)
		eventually(t, "the good job is done", func() bool { return b.times("good") == 1 })
		var list []DeadLetter
		eventually(t, "four dead letters", func() bool {
			list, err = s.dead(0, 10)
			must(t, err)
			return len(list) == 4
		})
		for user, n := range map[string]int{"fails": MaxAttempts, "panics": MaxAttempts, "hangs": MaxAttempts, "refused": 1} {
			if got := b.times(user); got != n {
				t.Errorf("%s was tried %d times, want %d", user, got, n)
			}
		}
		wantDead(t, list, "fails", "attempt 20 failed", MaxAttempts)
		wantDead(t, list, "panics", "out of order", MaxAttempts)
		wantDead(t, list, "hangs", "context deadline exceeded", MaxAttempts)
		wantDead(t, list, "refused", "never", 1)
		metrics := metricsOf(w)
		for _, want := range []string{`jobs_total{kind="cache_fix",outcome="failed"} 57`, `jobs_total{kind="cache_fix",outcome="dead"} 4`} {
			if !strings.Contains(metrics, want) {
				t.Errorf("no %s in\n%s", want, metrics)
			}
		}
		eventually(t, "the depth shows them", func() bool {
			return strings.Contains(metricsOf(w), `jobs_depth{kind="cache_fix",state="dead"} 4`)
		})
		stop()

		if page, err := s.dead(list[1].ID, 1); err != nil || len(page) != 1 || page[0].ID != list[2].ID {
			t.Errorf("the page after the second: %v, %v", page, err)
		}
		broken = false
		must(t, s.requeue(list[0].ID))
		if err := s.requeue(list[0].ID); !errors.Is(err, ErrNotDead) {
			t.Errorf("requeued twice: %v", err)
		}
		if err := s.requeue(1 << 40); !errors.Is(err, ErrNotDead) {
			t.Errorf("no such job: %v", err)
		}
		before := b.distinct()
		work(t, WorkerConfig{Shards: []Source{s}, Handlers: handlers})
		eventually(t, "three dead letters are left", func() bool {
			left, err := s.dead(0, 10)
			must(t, err)
			return len(left) == 3 && b.times(userOf(list[0])) == list[0].Attempts+1
		})
		if b.distinct() != before {
			t.Error("the job that was put back has another key")
		}
	})
}

var userField = regexp.MustCompile(`"user": ?"(\w+)"`)

func userOf(d DeadLetter) string {
	m := userField.FindSubmatch(d.Args)
	if m == nil {
		return ""
	}
	return string(m[1])
}

func wantDead(t *testing.T, list []DeadLetter, user, message string, attempts int) {
	t.Helper()
	for _, d := range list {
		if userOf(d) != user {
			continue
		}
		if !strings.Contains(d.Error, message) || d.Attempts != attempts || d.Kind != "cache_fix" || d.Queue != "cache" || d.Died.IsZero() || d.Shard != "s1" {
			t.Errorf("%s: %+v", user, d)
		}
		return
	}
	t.Errorf("%s is not among the dead letters %v", user, list)
}

func TestRefused(t *testing.T) {
	image := picture(t, 4, 4)
	cases := []struct {
		order Order
		want  string // "" where it is taken
	}{
		{Order{Args: WelcomeEmail{User: "u", Email: "a@b.example", Name: "Zoë"}}, ""},
		{Order{Args: CacheFix{User: "u"}, Queue: "mail"}, ""},
		{Order{Args: CacheFix{User: "u"}, Queue: "post"}, `there is no queue "post"`},
		{Order{}, "arguments are missing"},
		{Order{Args: WelcomeEmail{User: "u", Email: "a@b.example\r\nBcc: c@d.example"}}, "email has control characters"},
		{Order{Args: WelcomeEmail{User: "u", Email: "nobody"}}, "email is no e-mail address"},
		{Order{Args: WelcomeEmail{User: "u", Email: "A <a@b.example>"}}, "email is no e-mail address"},
		{Order{Args: WelcomeEmail{User: "u", Email: "a@b.example", Name: "a\x00b"}}, "name has control characters"},
		{Order{Args: WelcomeEmail{User: "u", Email: "a@b.example", Name: "\xff"}}, "name is not UTF-8"},
		{Order{Args: WelcomeEmail{User: "u", Email: "a@b.example", Name: strings.Repeat("x", 1001)}}, "more than 1000 bytes"},
		{Order{Args: WelcomeEmail{User: "../u", Email: "a@b.example"}}, "user is no id"},
		{Order{Args: WelcomeEmail{Email: "a@b.example"}}, "user is no id"},
		{Order{Args: Avatar{User: "u", Image: image}}, ""},
		{Order{Args: Avatar{User: "u"}}, "image is empty"},
		{Order{Args: Avatar{User: "u", Image: image, Version: -1}}, "version is negative"},
		{Order{Args: Avatar{User: "u", Image: image, Gone: true}}, "image comes with word"},
		{Order{Args: Avatar{User: "u", Gone: true}}, ""},
		{Order{Args: Analytics{Day: "0000-01-01", Event: "e"}}, "day is no date"},
		{Order{Args: Avatar{User: "u", Image: []byte("<svg/>")}}, "image is no JPEG"},
		{Order{Args: Avatar{User: "u", Image: image[:20]}}, "image cannot be read"},
		{Order{Args: Avatar{User: "u", Image: hugePNG(40_000, 40_000)}}, "pixels"},
		{Order{Args: Avatar{User: "u", Image: append([]byte("GIF89a"), make([]byte, MaxImageBytes)...)}}, "bytes, more than"},
		{Order{Args: Analytics{Day: "2026-11-24", Event: "user.created"}}, ""},
		{Order{Args: Analytics{Day: "2026-11-31", Event: "user.created"}}, "day is no date"},
		{Order{Args: Analytics{Day: "2026-11-24", Event: "User created"}}, "event is no name"},
		{Order{Args: Analytics{Region: strings.Repeat("x", 65), Day: "2026-11-24", Event: "e"}}, "region has more than"},
		{Order{Args: CacheFix{User: "u", Version: -1}}, "version is negative"},
	}
	forStores(t, func(t *testing.T, s *store) {
		var taken int
		for _, c := range cases {
			_, err := s.enqueue(true, fix("beside"), c.order)
			switch {
			case c.want == "":
				must(t, err)
				taken++
			case err == nil || !strings.Contains(err.Error(), c.want):
				t.Errorf("%+.80v: %v, want %q", c.order, err, c.want)
			}
		}
		depths, err := s.storage().depth(ctx)
		must(t, err)
		var n int64
		for _, d := range depths {
			n += d.n
		}
		if n != int64(2*taken) {
			t.Errorf("%d jobs are stored, want %d: with a job that is refused none is", n, 2*taken)
		}
	})
}

func TestWorkerRefused(t *testing.T) {
	s := openSQLite(t, t.TempDir()+"/s1.db")
	h := noted(newBook())
	for _, c := range []struct {
		cfg  WorkerConfig
		want string
	}{
		{WorkerConfig{Shards: []Source{s}, Handlers: h, Queues: []string{"cache", "post"}}, `there is no queue "post"`},
		{WorkerConfig{Shards: []Source{s}, Handlers: h, Queues: []string{"cache", "cache"}}, "given twice"},
		{WorkerConfig{Shards: []Source{s}, Handlers: h, Queues: []string{"mail"}}, "nothing is configured that does welcome_email"},
		{WorkerConfig{Handlers: h}, "has shards"},
		{WorkerConfig{Shards: []Source{s}, Handlers: h, Concurrency: -1}, "concurrency -1"},
		{WorkerConfig{Shards: []Source{s}, Handlers: h, Timeout: time.Minute, Lease: time.Minute}, "no longer than the time-out"},
		{WorkerConfig{Shards: []Source{s}}, ""},
	} {
		_, err := NewWorker(c.cfg)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.cfg.Queues, err, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ kind, args, want string }{
		{"cache_fix", `{"user":"u","version":3}`, ""},
		{"analytics", `{"day":"2026-11-24","event":"e"}`, ""},
		{"cache_fix", `{"user":"u","vresion":3}`, "vresion"},
		{"cache_fix", `{"user":"u"} {}`, "something after"},
		{"cache_fix", `{"user":7}`, "arguments"},
		{"cache_fix", `{}`, "user is no id"},
		{"cache_fix", ``, "arguments"},
		{"caches", `{}`, `there is no kind "caches"`},
	} {
		args, err := Parse(c.kind, []byte(c.args))
		if c.want == "" && (err != nil || args.Kind() != c.kind) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: %v, %v; want %q", c.kind, c.args, args, err, c.want)
		}
	}
}

func TestWait(t *testing.T) {
	for _, c := range []struct {
		attempt  int
		random   float64
		from, to time.Duration
	}{
		{1, 0, 750 * time.Millisecond, 750 * time.Millisecond},
		{1, 0.999999, 1249 * time.Millisecond, 1250 * time.Millisecond},
		{2, 0.5, 2 * time.Second, 2 * time.Second},
		{5, 0.5, 16 * time.Second, 16 * time.Second},
		{11, 0.5, longest, longest},
		{1000, 0.5, longest, longest},
		{0, 0.5, time.Second, time.Second},
	} {
		if got := wait(time.Second, c.attempt, c.random); got < c.from || got > c.to {
			t.Errorf("attempt %d, random %g: %v, want from %v to %v", c.attempt, c.random, got, c.from, c.to)
		}
	}
}

func metricsOf(w *Worker) string {
	var b strings.Builder
	WriteMetrics(&b, w)
	return b.String()
}
