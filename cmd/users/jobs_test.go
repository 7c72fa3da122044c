package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/pgtest"
	"github.com/sluice-edge/sluice/internal/redistest"
	"github.com/sluice-edge/sluice/internal/smtptest"
)

// background runs the program until the test's end, or stop.
func background(t *testing.T, args ...string) (log *journal, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log = newJournal()
	p := &program{out: io.Discard, err: log, env: os.LookupEnv}
	ended := make(chan int, 1)
	go func() { ended <- p.run(ctx, args) }()
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		select {
		case code := <-ended:
			if code != exitOK {
				t.Errorf("users %v: exit code %d, log:\n%s", args, code, log)
			}
		case <-time.After(patience):
			t.Errorf("users %v does not end; log:\n%s", args, log)
		}
	}
	t.Cleanup(stop)
	return log, stop
}

// signUp creates a user, and returns once that is acknowledged.
func signUp(t *testing.T, base, email string) {
	t.Helper()
	client := http.Client{Timeout: patience}
	resp, err := client.Post(base+"/api/users", "application/json", strings.NewReader(fmt.Sprintf(`{"name":"Ada","email":%q,"region":"eu-west"}`, email)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 201 {
		t.Fatalf("%s: %s", resp.Status, body)
	}
}

func metricsAt(t *testing.T, base string) string {
	t.Helper()
	client := http.Client{Timeout: patience}
	resp, err := client.Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func arrive(t *testing.T, sink *smtptest.Sink, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	if !sink.Await(ctx, func(list []smtptest.Message) bool { return len(list) >= n }) {
		t.Fatalf("%d e-mails have arrived, want %d", len(sink.Messages()), n)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// TestJobsEmbedded has one process do everything: the users, in SQLite files, and
// the jobs. An e-mail that nobody takes is a dead letter, which can be listed and
// tried again while the service runs.
func TestJobsEmbedded(t *testing.T) {
	sink := smtptest.Start(t)
	path := write(t, fmt.Sprintf("users: {listen: \"127.0.0.1:0\", data_dir: %q, jobs: {smtp: %q, from: \"hello@sluice.example\"}}\n", t.TempDir(), sink.Addr))
	log, stop := background(t, "run", "-config", path)
	base := "http://" + log.await(t, "serving")["address"].(string)
	signUp(t, base, "ada@example.com")
	arrive(t, sink, 1)
	if m := sink.Messages()[0]; m.To[0] != "ada@example.com" || !strings.Contains(m.Body, "Hello Ada") {
		t.Errorf("%+v", m)
	}
	signUp(t, base, "nobody@example.com")
	until(t, "the e-mail that nobody takes is dead", func() bool {
		return strings.Contains(metricsAt(t, base), `jobs_total{kind="welcome_email",outcome="dead"} 1`)
	})
	until(t, "both are counted", func() bool {
		return strings.Contains(metricsAt(t, base), `jobs_total{kind="analytics",outcome="done"} 2`)
	})
	var lines []string
	until(t, "it is listed", func() bool { // the shard is told after the metrics are
		code, out, stderr := command(t, "jobs", "list", "-config", path)
		if code != exitOK {
			t.Fatalf("jobs list: exit code %d, %s", code, stderr)
		}
		lines = strings.Split(strings.TrimSpace(out), "\n")
		return len(lines) == 2
	})
	if !strings.Contains(lines[1], "no such mailbox") {
		t.Errorf("jobs list: %q", lines)
	}
	shard, id := strings.Fields(lines[1])[0], strings.Fields(lines[1])[1]
	code, out, stderr := command(t, "jobs", "requeue", "-config", path, shard, id)
	if code != exitOK || out != "1 jobs of shard "+shard+" are tried again\n" {
		t.Fatalf("jobs requeue: exit code %d, %s%s", code, out, stderr)
	}
	until(t, "it is dead again", func() bool {
		return strings.Contains(metricsAt(t, base), `jobs_total{kind="welcome_email",outcome="dead"} 2`)
	})
	stop()
	code, _, stderr = command(t, "jobs", "requeue", "-config", path, shard, "999")
	if code != exitFailure || !strings.Contains(stderr, "not among the dead letters") {
		t.Errorf("requeue of what is not there: exit code %d, %s", code, stderr)
	}
}

// TestJobsApart has a service that does no jobs, and workers that do nothing
// else: a user is created before its e-mail is sent.
func TestJobsApart(t *testing.T) {
	sink := smtptest.Start(t)
	server := pgtest.Start(t, pgtest.Options{}).Primary
	path := write(t, fmt.Sprintf(`users:
  listen: "127.0.0.1:0"
  mode: postgres
  shards: [{name: s1, primary: %q}, {name: s2, primary: %q}]
  jobs: {workers: 0, smtp: %q, from: "hello@sluice.example"}
`, server.URL(server.Database(t)), server.URL(server.Database(t)), sink.Addr))
	log, _ := background(t, "run", "-config", path)
	base := "http://" + log.await(t, "serving")["address"].(string)
	const n = 8
	for i := range n {
		signUp(t, base, fmt.Sprintf("u%d@example.com", i))
	}
	if got := len(sink.Messages()); got != 0 {
		t.Errorf("%d e-mails have been sent, and there is no worker", got)
	}
	work, stop := background(t, "worker", "-config", path, "-queues", "mail", "-concurrency", "2", "-listen", "127.0.0.1:0")
	metrics := "http://" + work.await(t, "metrics")["address"].(string)
	arrive(t, sink, n)
	until(t, "the worker counts them", func() bool {
		return strings.Contains(metricsAt(t, metrics), fmt.Sprintf(`jobs_total{kind="welcome_email",outcome="done"} %d`, n))
	})
	until(t, "the counters are left to others", func() bool {
		return strings.Contains(metricsAt(t, metrics), fmt.Sprintf(`jobs_depth{kind="analytics",state="available"} %d`, n))
	})
	stop()
	rest, _ := background(t, "worker", "-config", path, "-queues", "analytics", "-listen", "127.0.0.1:0")
	metrics = "http://" + rest.await(t, "metrics")["address"].(string)
	until(t, "others do them", func() bool {
		return strings.Contains(metricsAt(t, metrics), `jobs_depth{kind="analytics",state="available"} 0`)
	})
	if len(sink.Distinct()) != n {
		t.Errorf("%d e-mails, want %d", len(sink.Distinct()), n)
	}
}

// request sends one request, and returns the answer's body where it has the
// status that is wanted.
func request(t *testing.T, method, url, kind string, body []byte, status int) string {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	client := http.Client{Timeout: patience}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s %s: %s, want %d: %s %v", method, url, resp.Status, status, text, err)
	}
	return string(text)
}

// entry is the version and the kind of what is cached of a user.
func entry(server *redistest.Server, id string) string {
	return server.Do("EVAL", "return {ok = string.sub(redis.call('GET', KEYS[1]) or '', 1, 3)}", "1", "sluice:u:"+id)
}

// TestLostInvalidation has Redis fail under a write, and the service end before
// Redis is back with what it had: nobody is left who knows that the entry is old
// but a job, which somebody else does.
func TestLostInvalidation(t *testing.T) {
	for name, worker := range map[string]string{"worker": "worker", "run": "run"} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
			database := pgtest.Start(t, pgtest.Options{}).Primary
			file := func(workers int) string {
				return write(t, fmt.Sprintf(`
redis: {addresses: [%q]}
users:
  listen: "127.0.0.1:0"
  mode: postgres
  shards: [{name: s1, primary: %q}]
  cache: {local_ttl: 0s}
  jobs: {workers: %d}
`, server.Address, database.URL("postgres"), workers))
			}
			log, stop := background(t, "run", "-config", file(0))
			base := "http://" + log.await(t, "serving")["address"].(string)
			signUp(t, base, "ada@example.com")
			list := request(t, "GET", base+"/api/users", "", nil, 200)
			id := regexp.MustCompile(`"id":"([^"]+)"`).FindStringSubmatch(list)[1]
			until(t, "the user is cached", func() bool {
				request(t, "GET", base+"/api/users/"+id, "", nil, 200)
				return entry(server, id) == "+1 u"
			})
			server.Kill()
			request(t, "PATCH", base+"/api/users/"+id, "application/merge-patch+json", []byte(`{"name":"Grace"}`), 200)
			stop()
			server.RestartWithData()
			if got := entry(server, id); got != "+1 u" {
				t.Fatalf("redis has %q", got)
			}
			args := []string{worker, "-config", file(2)}
			if worker == "worker" {
				args = append(args, "-queues", "cache")
			}
			background(t, args...)
			until(t, "what is old has gone", func() bool { return entry(server, id) == "+2 t" })
		})
	}
}

// TestAvatarWorker has an image uploaded to a service that makes none, and made by
// a worker.
func TestAvatarWorker(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "avatars")
	path := write(t, fmt.Sprintf("users: {listen: \"127.0.0.1:0\", data_dir: %q, jobs: {workers: 0, avatars: %q}}\n", t.TempDir(), dir))
	log, _ := background(t, "run", "-config", path)
	base := "http://" + log.await(t, "serving")["address"].(string)
	signUp(t, base, "ada@example.com")
	list := request(t, "GET", base+"/api/users", "", nil, 200)
	id := regexp.MustCompile(`"id":"([^"]+)"`).FindStringSubmatch(list)[1]
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 100, 50))); err != nil {
		t.Fatal(err)
	}
	request(t, "PUT", base+"/api/users/"+id+"/avatar", "image/png", picture.Bytes(), 202)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the service has a folder that is the workers': %v", err)
	}
	background(t, "worker", "-config", path, "-queues", "images")
	until(t, "the images are there", func() bool {
		_, small := os.Stat(filepath.Join(dir, id, "64.jpg"))
		_, large := os.Stat(filepath.Join(dir, id, "256.jpg"))
		return small == nil && large == nil
	})
}

func TestJobsUsage(t *testing.T) {
	path := write(t, "users: {data_dir: "+t.TempDir()+", jobs: {}}\n")
	none := write(t, "users: {data_dir: "+t.TempDir()+"}\n")
	bad := write(t, "users: {jobs: {smtp: nowhere, from: x}}\n")
	for _, c := range []struct{ args, want string }{
		{"worker -config " + path + " -concurrency 0", "-concurrency is at least 1"},
		{"worker -config " + path + " -queues mails", `there is no queue "mails"`},
		{"worker -config " + path + " -queues mail", "nothing is configured that does welcome_email"},
		{"worker -config " + path + " -queues images", "nothing is configured that does avatar"},
		{"worker -config " + path + " -queues cache", "nothing is configured that does cache_fix"},
		{"worker -config " + none, "has no users.jobs"},
		{"worker -config " + bad, "users.jobs.smtp: "},
		{"jobs", "list or requeue is missing"},
		{"jobs burn", `there is no "burn"`},
		{"jobs requeue -config " + path + " s1", "needs SHARD and the ids"},
		{"jobs requeue -config " + path + " s9 1", `there is no shard "s9"`},
		{"jobs requeue -config " + path + " s1 x", `"x" is no id`},
	} {
		code, _, stderr := command(t, strings.Fields(c.args)...)
		if code == exitOK || !strings.Contains(stderr, c.want) {
			t.Errorf("users %s: exit code %d, %q, want %q", c.args, code, stderr, c.want)
		}
	}
	if code, _, stderr := command(t, "jobs", "requeue", "-config", path, "s9", "1"); code != exitUsage {
		t.Errorf("a shard that there is not: exit code %d, %q", code, stderr)
	}
}

// TestTurnedAway has a server that answers, and knows no such database: that is said.
func TestTurnedAway(t *testing.T) {
	database := pgtest.Start(t, pgtest.Options{}).Primary
	path := write(t, fmt.Sprintf("users: {mode: postgres, shards: [{name: s1, primary: %q}]}\n", database.URL("nowhere")))
	code, _, stderr := command(t, "shards", "-config", path)
	if code != exitFailure || !strings.Contains(stderr, `users: no map of the shards can be read: the primary of shard s1 cannot be reached: `) ||
		!strings.Contains(stderr, `database "nowhere" does not exist`) {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}
