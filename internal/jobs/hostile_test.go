package jobs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestHung has a job that heeds nothing. It holds up neither its queue, of one job
// at a time, nor the worker's end.
func TestHung(t *testing.T) {
	forStores(t, func(t *testing.T, s *store) {
		forever := make(chan struct{})
		t.Cleanup(func() { close(forever) })
		b := newBook()
		_, stop := work(t, WorkerConfig{
			Shards: []Source{s}, Concurrency: 1, Timeout: 100 * time.Millisecond, Lease: time.Hour,
			Handlers: Handlers{CacheFix: func(_ context.Context, job Job, args CacheFix) error {
				b.note(job, args.User)
				if args.User == "hangs" {
					<-forever
				}
				return nil
			}},
		})
		_, err := s.enqueue(true, fix("hangs"))
		must(t, err)
		eventually(t, "it hangs", func() bool { return b.times("hangs") == 1 })
		_, err = s.enqueue(true, fix("next"))
		must(t, err)
		eventually(t, "the next one is done", func() bool { return b.times("next") == 1 })
		stop()
	})
}

// TestLeaseLost has a job outlast its lease and be done by another worker as well:
// both bring the same key, and what the first one says at last breaks nothing.
func TestLeaseLost(t *testing.T) {
	forStores(t, func(t *testing.T, s *store) {
		b, late := newBook(), make(chan struct{})
		var began atomic.Int32
		_, stop := work(t, WorkerConfig{
			Shards: []Source{s}, Timeout: 100 * time.Millisecond, Lease: 200 * time.Millisecond, Backoff: time.Microsecond,
			Handlers: Handlers{CacheFix: func(_ context.Context, job Job, args CacheFix) error {
				b.note(job, args.User)
				if began.Add(1) == 1 {
					<-late
					return errors.New("too late")
				}
				return nil
			}},
		})
		_, err := s.enqueue(true, fix("slow"))
		must(t, err)
		eventually(t, "another does it", func() bool { return b.times("slow") == 2 })
		close(late)
		_, err = s.enqueue(true, fix("next"))
		must(t, err)
		eventually(t, "the next one is done", func() bool { return b.times("next") == 1 })
		stop()
		if dead, err := s.dead(0, 10); err != nil || len(dead) != 0 {
			t.Errorf("dead: %v, %v", dead, err)
		}
		if b.distinct() != 2 {
			t.Errorf("%d keys, want one for each job", b.distinct())
		}
	})
}

// TestTablesLater has a worker come to a database where nobody has been.
func TestTablesLater(t *testing.T) {
	t.Parallel()
	url := database(t)
	pool := openPool(t, url)
	q, err := NewPostgres(pool, Config{Shard: "s1"})
	must(t, err)
	b := newBook()
	work(t, WorkerConfig{Shards: []Source{q}, Handlers: noted(b)})
	s := openPostgres(t, url)
	_, err = s.enqueue(true, fix("first"))
	must(t, err)
	eventually(t, "it is done", func() bool { return b.times("first") == 1 })
}

// A surly server speaks SMTP line by line: what it answers to a word it has from
// answers, "" for to hang up; 250 otherwise.
func surly(t *testing.T, answers map[string]string) (address string, taken *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan struct{})
	t.Cleanup(func() {
		ln.Close()
		<-ended
	})
	taken = new(atomic.Int32)
	go func() {
		defer close(ended)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			grumble(conn, answers, taken)
			conn.Close()
		}
	}()
	return ln.Addr().String(), taken
}

func grumble(conn net.Conn, answers map[string]string, taken *atomic.Int32) {
	_ = conn.SetDeadline(time.Now().Add(waitLimit))
	in := bufio.NewScanner(conn)
	body := false
	say := func(word, otherwise string) bool {
		answer, ok := answers[word]
		if !ok {
			answer = otherwise
		}
		if answer == "" {
			return false
		}
		_, err := fmt.Fprintf(conn, "%s\r\n", answer)
		return err == nil
	}
	for going := say("HELLO", "220 here"); going && in.Scan(); {
		word, _, _ := strings.Cut(strings.ToUpper(in.Text()), " ")
		switch {
		case body && in.Text() == ".":
			body = false
			going = say(".", "250 taken")
			if _, refused := answers["."]; !refused {
				taken.Add(1)
			}
		case body:
		case word == "DATA":
			going = say(word, "354 go on")
			body = true
		default:
			going = say(word, "250 fine")
		}
	}
}

// TestMailSurly has servers in trouble at every step. What was taken is not sent
// again, whatever comes after; what was refused is, unless it is the recipient.
func TestMailSurly(t *testing.T) {
	for name, c := range map[string]struct {
		answers map[string]string
		want    string // done | again | never
	}{
		"well":                        {nil, "done"},
		"hangs up after taking it":    {map[string]string{"QUIT": ""}, "done"},
		"a farewell that fails":       {map[string]string{"QUIT": "500 what"}, "done"},
		"does not serve":              {map[string]string{"HELLO": "554 no service"}, "again"},
		"speaks no SMTP":              {map[string]string{"HELLO": "what is this"}, "again"},
		"hangs up at once":            {map[string]string{"HELLO": ""}, "again"},
		"wants a login":               {map[string]string{"MAIL": "530 authentication required"}, "again"},
		"a mailbox that is busy":      {map[string]string{"RCPT": "450 busy"}, "again"},
		"a mailbox that is full":      {map[string]string{"RCPT": "452 full"}, "again"},
		"no such mailbox":             {map[string]string{"RCPT": "550 nobody"}, "never"},
		"does not want data":          {map[string]string{"DATA": "451 later"}, "again"},
		"takes it and refuses it":     {map[string]string{".": "554 spam"}, "again"},
		"takes it and falls over":     {map[string]string{".": ""}, "again"},
		"takes it, and is in trouble": {map[string]string{".": "452 disk full"}, "again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, taken := surly(t, c.answers)
			err := mailer(t, address).Welcome(ctx, Job{key: "K"}, WelcomeEmail{Email: "a@users.example"})
			got := "done"
			if err != nil {
				got = "again"
				if isPermanent(err) {
					got = "never"
				}
			}
			if got != c.want || (got == "done") != (taken.Load() == 1) {
				t.Errorf("%s, want %s: %v; %d taken", got, c.want, err, taken.Load())
			}
		})
	}
}

// TestScans refuses a JPEG that would have its decoder go over the pixels without
// end, and takes one whose scans are many but not too many.
func TestScans(t *testing.T) {
	var b bytes.Buffer
	must(t, jpeg.Encode(&b, halves(64, 64), nil))
	scan := b.Bytes()[bytes.Index(b.Bytes(), []byte("\xff\xda")) : b.Len()-2]
	with := func(n int) []byte {
		return append(bytes.Clone(b.Bytes()[:b.Len()-2]), bytes.Repeat(scan, n)...)
	}
	if err := CheckImage(with(maxScans - 1)); err != nil {
		t.Error(err)
	}
	if err := CheckImage(with(maxScans)); err == nil || !strings.Contains(err.Error(), "scans") {
		t.Errorf("%d scans: %v", maxScans+1, err)
	}
}

// TestAvatarInTime ends a decoder and a wait for a folder with their context.
func TestAvatarInTime(t *testing.T) {
	m, err := NewImages(t.TempDir())
	must(t, err)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := decode(ended, picture(t, 64, 64)); !errors.Is(err, context.Canceled) || isPermanent(err) {
		t.Errorf("decoding: %v", err)
	}
	avatar := Avatar{User: "u1", Version: 1, Image: picture(t, 64, 64)}
	must(t, m.Avatar(ctx, Job{}, avatar))
	dir, err := os.Open(filepath.Join(m.dir, "u1"))
	must(t, err)
	defer dir.Close()
	must(t, syscall.Flock(int(dir.Fd()), syscall.LOCK_EX)) // a worker that was stopped
	bounded, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if err := m.Avatar(bounded, Job{}, avatar); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a folder that is locked: %v", err)
	}
}

// TestAvatarGone removes images; an older version does not bring them back, and
// what a worker left that was killed goes with them.
func TestAvatarGone(t *testing.T) {
	m, err := NewImages(t.TempDir())
	must(t, err)
	image := picture(t, 64, 64)
	must(t, m.Avatar(ctx, Job{}, Avatar{User: "u1", Version: 1, Image: image}))
	must(t, os.WriteFile(filepath.Join(m.dir, "u1", ".new-123"), image, 0o600))
	must(t, m.Avatar(ctx, Job{}, Avatar{User: "u1", Version: 3, Gone: true}))
	must(t, m.Avatar(ctx, Job{}, Avatar{User: "u1", Version: 2, Image: image}))
	must(t, m.Avatar(ctx, Job{}, Avatar{User: "u2", Version: 1, Gone: true})) // never had any
	for _, user := range []string{"u1", "u2"} {
		left, err := os.ReadDir(filepath.Join(m.dir, user))
		must(t, err)
		if len(left) != 1 || left[0].Name() != ".version" {
			t.Errorf("%s has %v", user, left)
		}
	}
	must(t, m.Avatar(ctx, Job{}, Avatar{User: "u1", Version: 4, Image: image}))
	readImage(t, filepath.Join(m.dir, "u1", "64.jpg"))
}
