package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait; none is expected to last.
const patience = 20 * time.Second

// A journal is output that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newJournal() *journal { return &journal{more: make(chan struct{}, 1)} }

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	select {
	case j.more <- struct{}{}:
	default:
	}
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// await waits for a log line with that message.
func (j *journal) await(t *testing.T, message string) map[string]any {
	t.Helper()
	timeout := time.After(patience)
	for {
		for line := range strings.Lines(j.String()) {
			var entry map[string]any
			if json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == message {
				return entry
			}
		}
		select {
		case <-j.more:
		case <-timeout:
			t.Fatalf("no %q in the log:\n%s", message, j)
		}
	}
}

// write puts a file of that text somewhere.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// command runs the program to its end.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, err bytes.Buffer
	p := &program{out: &out, err: &err, env: func(string) (string, bool) { return "", false }}
	code = p.run(ctx, args)
	return code, out.String(), err.String()
}

func TestUsage(t *testing.T) {
	path := write(t, "users: {data_dir: "+t.TempDir()+", jobs: {}}\n")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"", exitUsage, "users: a command is missing; see users help\n"},
		{"frobnicate", exitUsage, "users: there is no command \"frobnicate\"; see users help\n"},
		{"run", exitUsage, "users: run needs -config FILE; see users help\n"},
		{"run -config FILE more", exitUsage, "users: run does not take \"more\"; see users help\n"},
		{"run -config /nowhere", exitFailure, "users: cannot read /nowhere: no such file or directory\n"},
		{"seed -config FILE -n -1", exitUsage, "users: seed: -n is a number of users up to 1000000000; see users help\n"},
		{"moves -config FILE -n -1", exitUsage, "users: moves: -n is at least 1, not -1; see users help\n"},
		{"jobs list -config FILE -n 0", exitUsage, "users: jobs list: -n is at least 1, not 0; see users help\n"},
		{"worker -config FILE -queues mial", exitUsage, "users: worker: there is no queue \"mial\", only [analytics cache images mail]; see users help\n"},
		{"move -config FILE 1", exitUsage, "users: move needs BUCKETS and SHARD, such as 0-99 s2; see users help\n"},
		{"move -config FILE 5-4096 s1", exitUsage, "users: \"5-4096\" is neither a bucket from 0 to 4095 nor a range of them; see users help\n"},
		{"move -config FILE 5 s1", exitFailure, "users: the shards of the embedded mode are files of one process: their buckets do not move\n"},
	} {
		code, _, stderr := command(t, strings.Fields(strings.ReplaceAll(c.args, "FILE", path))...)
		if code != c.code || stderr != c.want {
			t.Errorf("users %s: exit code %d, %q", c.args, code, stderr)
		}
	}
	for _, args := range []string{"help", "--help", "run -h", "jobs -h", "jobs --help", "jobs list -h"} {
		if code, out, _ := command(t, strings.Fields(args)...); code != exitOK || out != usage {
			t.Errorf("%s: exit code %d, %q", args, code, out)
		}
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string // after the file's name
	}{
		{`users:
  cache: {mode: sometimes}
  sharts: []
`, []string{`:2:17: users.cache.mode: expected off, ttl, event or write_through`, `:3:3: users.sharts: unknown key "sharts"; did you mean "shards"?`}},
		{`users:
  mode: postgres
  strategy: range
  secret_file: /nowhere
  shards:
    - {name: s1, primary: "mysql://x", range: [a]}
    - {name: s1, range: [a, b]}
`, []string{
			`:4:16: users.secret_file: cannot read /nowhere: no such file or directory`,
			`:6:27: users.shards[0].primary: it is no URL such as postgres://user@host:5432/database`,
			`:6:47: users.shards[0].range: a range has two ends, such as [a, g]`,
			`:7:14: users.shards[1].name: shards[0] has the name "s1" already`,
			`:7:7: users.shards[1].primary: mode postgres needs the address of the shard's primary`,
		}},
		{"# nothing\n", []string{`:1:1: users: missing key "users"`}},
		{"redis: {addresses: [\"127.0.0.1:1\"]}\n", []string{`:1:1: users: missing key "users"`}},
		{"users: {mode: postgres}\n", []string{`:1:8: users.shards: mode postgres needs a shard with its primary at least`}},
		{"users: {mode: distributed, shards: [{name: a, primary: \"postgres://h/d\"}, {name: b, primary: \"postgres://h/d\"}]}\n",
			[]string{`users.shards: mode distributed has one address`}},
		{"users: {shards: [{name: a, primary: \"postgres://h/d\"}]}\n", []string{`users.shards[0].primary: mode embedded keeps users in files`}},
		{"users: {strategy: geo, shards: [{name: a}, {name: b}]}\n", []string{`users.shards: `}},
	} {
		path := write(t, c.text)
		code, _, stderr := command(t, "run", "-config", path)
		for _, want := range c.want {
			if code != exitFailure || !strings.Contains(stderr, want) {
				t.Errorf("exit code %d, no %q in:\n%s", code, want, stderr)
			}
		}
	}
}

// TestSeedAndRun seeds twice, looks at the shards, and serves what is there.
func TestSeedAndRun(t *testing.T) {
	path := write(t, "users: {listen: \"127.0.0.1:0\", data_dir: "+t.TempDir()+"}\n")
	for _, n := range []string{"700", "1200"} {
		if code, _, stderr := command(t, "seed", "-config", path, "-n", n); code != exitOK || !strings.Contains(stderr, "100%  "+n+" of "+n+" users") {
			t.Fatalf("seed: exit code %d, %q", code, stderr)
		}
	}
	code, out, stderr := command(t, "shards", "-config", path)
	total := 0
	for _, line := range strings.Split(strings.TrimSpace(out), "\n")[1:] {
		var n int
		if err := json.Unmarshal([]byte(strings.Fields(line)[2]), &n); err != nil || n < 200 || strings.Fields(line)[1] != "1024" {
			t.Errorf("line %q", line)
		}
		total += n
	}
	if code != exitOK || total != 1200 {
		t.Errorf("shards: exit code %d, %d users\n%s%s", code, total, out, stderr)
	}

	ctx, stop := context.WithCancel(context.Background())
	log := newJournal()
	p := &program{out: io.Discard, err: log, env: os.LookupEnv}
	ended := make(chan int, 1)
	go func() { ended <- p.run(ctx, []string{"run", "-config", path}) }()
	defer stop()
	url := "http://" + log.await(t, "serving")["address"].(string)
	get := func(path, want string) {
		t.Helper()
		client := http.Client{Timeout: patience}
		resp, err := client.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %s, %v", path, resp.Status, body, err)
		}
	}
	get("/api/users?limit=1", `"email":"`)
	get("/api/users?q=abbott.ada.0@", `"email":"abbott.ada.0@example.com"`)
	get("/health", `"status":"ok"`)
	get("/ready", `"status":"ok"`)
	get("/metrics", `users_queries_total{shard="s1",role="primary",op="list"}`)
	stop()
	select {
	case code := <-ended:
		if code != exitOK {
			t.Errorf("exit code %d, log:\n%s", code, log)
		}
	case <-time.After(patience):
		t.Fatalf("it does not end; log:\n%s", log)
	}
}

// TestMalformed sends what is no request: it is answered like any other error.
func TestMalformed(t *testing.T) {
	log, _ := background(t, "run", "-config", write(t, "users: {listen: \"127.0.0.1:0\", data_dir: "+t.TempDir()+"}\n"))
	address := log.await(t, "serving")["address"].(string)
	for head, status := range map[string]int{
		"GET /ready HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 40<<10) + "\r\n\r\n":              431,
		"POST /api/users HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab":       400,
		"POST /api/users HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}":  415,
		"POST /api/users HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnot a length\r\n\r\n": 400,
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(conn, head) // the answer may come before the end
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%.60q: %v", head, err)
		}
		var problem struct{ Status int }
		err = json.NewDecoder(resp.Body).Decode(&problem)
		if err != nil || resp.StatusCode != status || problem.Status != status || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%.60q: %s, %v, %v", head, resp.Status, resp.Header, err)
		}
		conn.Close()
	}
}
