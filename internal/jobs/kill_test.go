package jobs

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sluice-edge/sluice/internal/smtptest"
)

// A workerSpec tells a worker in a process of its own what to do.
type workerSpec struct {
	Store       string // as in store.env
	SMTP        string
	Concurrency int
}

// workerProcess is main of such a process: it works until SIGTERM.
func workerProcess(text string) int {
	fail := func(err error) int { fmt.Fprintln(os.Stderr, "worker:", err); return 1 }
	var spec workerSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return fail(err)
	}
	source, err := sourceOf(spec.Store)
	if err != nil {
		return fail(err)
	}
	mailer, err := NewMailer(MailConfig{Address: spec.SMTP, From: "Sluice <hello@sluice.example>"})
	if err != nil {
		return fail(err)
	}
	w, err := NewWorker(WorkerConfig{
		Shards: []Source{source}, Handlers: Handlers{Welcome: mailer.Welcome}, Concurrency: spec.Concurrency,
		Timeout: 5 * time.Second, Lease: 6 * time.Second, Backoff: 10 * time.Millisecond,
	})
	if err != nil {
		return fail(err)
	}
	running, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println("working")
	if err := w.Run(running); err != nil {
		return fail(err)
	}
	return 0
}

func sourceOf(env string) (Source, error) {
	kind, at, _ := strings.Cut(env, " ")
	if kind == "sqlite" {
		db, err := sql.Open("sqlite", SQLiteName(at))
		if err != nil {
			return nil, err
		}
		return NewSQLite(db, Config{Shard: "s1"})
	}
	pool, err := pgxpool.New(context.Background(), at)
	if err != nil {
		return nil, err
	}
	return NewPostgres(pool, Config{Shard: "s1"})
}

// spawn starts a worker process, which dies with the test at the latest.
func spawn(t *testing.T, spec workerSpec) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(spec)
	must(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "JOBS_TEST_WORKER="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the worker process has ended")
	}
	return cmd
}

// TestKilled kills worker processes in the middle of jobs, when e-mails have
// arrived whose arrival no worker has noted: in the end every e-mail has
// arrived, and each that came twice came with the same Message-ID.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for leases to end")
	}
	forStores(t, func(t *testing.T, s *store) {
		const n, kills = 60, 3
		sink := smtptest.Start(t)
		hold := make(chan struct{})
		sink.Judge(func(smtptest.Message) error { <-hold; return nil })
		letGo := func() { close(hold) }
		defer func() { letGo() }()
		orders := make([]Order, n)
		for i := range orders {
			orders[i] = Order{Args: WelcomeEmail{User: fmt.Sprint("u", i), Email: fmt.Sprintf("u%d@users.example", i)}}
		}
		_, err := s.enqueue(true, orders...)
		must(t, err)
		bounded, cancel := context.WithTimeout(ctx, 2*waitLimit)
		defer cancel()
		spec := workerSpec{Store: s.env, SMTP: sink.Addr, Concurrency: 4}
		for round := 1; round <= kills; round++ {
			worker := spawn(t, spec)
			// Four more are in its hands: they have arrived, and wait for their answer.
			if !sink.Await(bounded, func(m []smtptest.Message) bool { return len(m) >= 4*round }) {
				t.Fatalf("round %d: only %d e-mails arrived", round, len(sink.Messages()))
			}
			must(t, worker.Process.Kill())
			_ = worker.Wait()
		}
		letGo()
		letGo = func() {}
		last := spawn(t, spec)
		if !allArrived(bounded, sink, n) {
			t.Fatalf("%d of %d e-mails arrived", len(sink.Distinct()), n)
		}
		eventually(t, "every job is done", func() bool {
			list, err := s.storage().depth(ctx)
			must(t, err)
			return len(list) == 0
		})
		must(t, last.Process.Signal(syscall.SIGTERM))
		if err := last.Wait(); err != nil {
			t.Errorf("the last worker: %v", err)
		}
		byUser, twice := map[string]string{}, 0
		for _, m := range sink.Messages() {
			if was, ok := byUser[m.To[0]]; ok && was != m.ID {
				t.Errorf("%s got two e-mails, %s and %s", m.To[0], was, m.ID)
			}
			byUser[m.To[0]] = m.ID
		}
		for _, times := range sink.Distinct() {
			if times > 1 {
				twice++
			}
		}
		if len(byUser) != n || len(sink.Distinct()) != n {
			t.Errorf("%d users got %d e-mails, want %d and as many", len(byUser), len(sink.Distinct()), n)
		}
		if twice != 4*kills {
			t.Errorf("%d e-mails came more than once, want the %d that were under way: the workers were not killed in the middle", twice, 4*kills)
		}
	})
}

func allArrived(ctx context.Context, sink *smtptest.Sink, n int) bool {
	return sink.Await(ctx, func(list []smtptest.Message) bool {
		ids := map[string]bool{}
		for _, m := range list {
			ids[m.ID] = true
		}
		return len(ids) >= n
	})
}
