package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// waitLimit bounds every wait of a test; none is expected to last.
const waitLimit = 20 * time.Second

// A running is the program at work in this process.
type running struct {
	t       *testing.T
	path    string // of its configuration
	signals chan os.Signal
	log     *journal
	out     *journal
	code    chan int
}

// launch runs the program with args, over a file of that text where it is not
// empty.
func launch(t *testing.T, text string, env map[string]string, args ...string) *running {
	t.Helper()
	r := &running{
		t: t, path: filepath.Join(t.TempDir(), "gw.yaml"),
		signals: make(chan os.Signal, 4), log: newJournal(), out: newJournal(), code: make(chan int, 1),
	}
	if text != "" {
		must(t, os.WriteFile(r.path, []byte(text), 0o600))
		args = append(args, "-config", r.path)
	}
	p := &program{out: r.out, err: r.log, signals: r.signals, env: func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.code <- p.run(args)
	}()
	t.Cleanup(func() {
		for range 2 { // the second one is not waited for if the first suffices
			select {
			case r.signals <- syscall.SIGTERM:
			case <-ended:
			}
		}
		<-ended
	})
	return r
}

// run starts `gateway run` and waits until it serves.
func run(t *testing.T, text string) *running {
	t.Helper()
	r := launch(t, text, nil, "run")
	r.log.await(t, "serving", nil)
	return r
}

// address is where a configured address really listens; "admin" is the admin
// listener's.
func (r *running) address(listener string) string {
	r.t.Helper()
	if listener == "admin" {
		return r.log.await(r.t, "admin listening", nil)["address"].(string)
	}
	return r.log.await(r.t, "listening", map[string]any{"listener": listener})["address"].(string)
}

// write replaces the configuration as careful editors do.
func (r *running) write(text string) {
	r.t.Helper()
	next := r.path + ".next"
	must(r.t, os.WriteFile(next, []byte(text), 0o600))
	must(r.t, os.Rename(next, r.path))
}

// exit waits for the end and compares the exit code.
func (r *running) exit(want int) {
	r.t.Helper()
	select {
	case code := <-r.code:
		if code != want {
			r.t.Errorf("exit code %d, want %d; log:\n%s", code, want, r.log)
		}
	case <-time.After(waitLimit):
		r.t.Fatalf("the program does not end; log:\n%s", r.log)
	}
}

// fetch is the body of a GET, by a connection of its own.
func fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	client := http.Client{Timeout: waitLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(data)
}

// wantBody compares a GET's status and body.
func wantBody(t *testing.T, url string, status int, body string) {
	t.Helper()
	if s, b := fetch(t, url); s != status || b != body {
		t.Errorf("GET %s: %d %q, want %d %q", url, s, b, status, body)
	}
}

// A journal keeps what a program writes, for many goroutines.
type journal struct {
	mu   sync.Mutex
	more *sync.Cond
	text bytes.Buffer
}

func newJournal() *journal {
	j := &journal{}
	j.more = sync.NewCond(&j.mu)
	return j
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.more.Broadcast()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// await waits for a log line of that message and those attributes, and returns
// the last one.
func (j *journal) await(t *testing.T, message string, attrs map[string]any) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	defer context.AfterFunc(ctx, j.more.Broadcast)()
	j.mu.Lock()
	defer j.mu.Unlock()
	for ctx.Err() == nil {
		if line := find(j.text.String(), message, attrs); line != nil {
			return line
		}
		j.more.Wait()
	}
	t.Fatalf("no %q with %v in the log:\n%s", message, attrs, j.text.String())
	return nil
}

// find returns the last line of a log with a message and attributes.
func find(log, message string, attrs map[string]any) (found map[string]any) {
	for text := range strings.Lines(log) {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) != nil || line["msg"] != message {
			continue
		}
		same := true
		for key, want := range attrs {
			same = same && fmt.Sprint(line[key]) == fmt.Sprint(want)
		}
		if same {
			found = maps.Clone(line)
		}
	}
	return found
}
