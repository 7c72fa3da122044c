package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// says is a configuration that answers every request with a text.
func says(text string, more ...string) string {
	top := "listeners: [{address: \"127.0.0.1:0\"}]\nadmin: {address: \"127.0.0.1:0\"}\nshutdown: {grace: 0s}\n"
	if len(more) > 0 {
		top = strings.Join(more, "\n") + "\n"
	}
	return top + fmt.Sprintf("backends: {a: {kind: respond, body: %q}}\nroutes: [{match: /*, backend: a}]\n", text)
}

func TestReloadOnSignal(t *testing.T) {
	r := run(t, says("one"))
	url := "http://" + r.address("127.0.0.1:0")
	wantBody(t, url, 200, "one")
	r.write(says("two"))
	r.signals <- syscall.SIGHUP
	r.log.await(t, "reloaded", map[string]any{"why": "SIGHUP"})
	wantBody(t, url, 200, "two")
	r.signals <- syscall.SIGTERM
	r.exit(exitOK)
}

func TestReloadOnChange(t *testing.T) {
	for name, change := range map[string]func(r *running, text string){
		"renamed over": (*running).write,
		"in place":     func(r *running, text string) { must(r.t, os.WriteFile(r.path, []byte(text), 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, says("one"))
			url := "http://" + r.address("127.0.0.1:0")
			change(r, says("two"))
			r.log.await(t, "reloaded", map[string]any{"why": "the file changed", "generation": 2})
			wantBody(t, url, 200, "two")
		})
	}
}

func TestBadFileKeepsTheRunningGeneration(t *testing.T) {
	r := run(t, says("one"))
	url, admin := "http://"+r.address("127.0.0.1:0"), "http://"+r.address("admin")
	r.write(says("two") + "rotes: []\n")
	line := r.log.await(t, "reload failed; the running configuration stays", nil)
	fault := r.path + `:6:1: rotes: unknown key "rotes"; did you mean "routes"?`
	if got := fmt.Sprint(line["faults"]); got != "["+fault+"]" || line["level"] != "ERROR" || line["generation"] != 1.0 {
		t.Errorf("log line %v", line)
	}
	wantBody(t, url, 200, "one")
	if g := generation(t, admin); g.Number != 1 || g.Error == nil || g.Error.Faults[0] != fault || g.Reloads.Error != 1 {
		t.Errorf("/api/generation is %+v", g)
	}
	wantMetric(t, admin, `sluice_config_reloads_total{result="error"} 1`, `sluice_config_reloads_total{result="ok"} 0`, "sluice_generation 1")

	r.write(says("three"))
	r.log.await(t, "reloaded", nil)
	wantBody(t, url, 200, "three")
	if g := generation(t, admin); g.Number != 2 || g.Error != nil || g.Reloads.OK != 1 {
		t.Errorf("/api/generation is %+v", g)
	}
	wantMetric(t, admin, `sluice_config_reloads_total{result="error"} 1`, `sluice_config_reloads_total{result="ok"} 1`, "sluice_generation 2")

	must(t, os.Remove(r.path))
	r.log.await(t, "reload failed; the running configuration stays", map[string]any{
		"faults": "[cannot read " + r.path + ": no such file or directory]"})
	wantBody(t, url, 200, "three")
}

// Listeners that the file no longer has are closed, new ones are opened, and a
// change that cannot be carried out is not begun.
func TestReloadListeners(t *testing.T) {
	const off = `admin: {address: ""}`
	r := run(t, says("one", off, `listeners: [{address: "127.0.0.1:0"}]`))
	first := r.address("127.0.0.1:0")
	r.write(says("two", off, `listeners: [{address: "127.0.0.1:0"}, {address: "localhost:0"}]`))
	second := r.address("localhost:0")
	r.log.await(t, "reloaded", map[string]any{"generation": 2})
	wantBody(t, "http://"+first, 200, "two")
	wantBody(t, "http://"+second, 200, "two")

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	r.write(says("three", off, fmt.Sprintf(`listeners: [{address: "localhost:0"}, {address: %q}]`, taken.Addr())))
	r.log.await(t, "reload failed; the running configuration stays", map[string]any{
		"faults": fmt.Sprintf("[cannot listen on %s: address already in use; something else listens there]", taken.Addr())})
	wantBody(t, "http://"+first, 200, "two")
	wantBody(t, "http://"+second, 200, "two")

	r.write(says("four", off, `listeners: [{address: "localhost:0"}]`))
	r.log.await(t, "no longer listening", map[string]any{"listener": "127.0.0.1:0"})
	wantBody(t, "http://"+second, 200, "four")
	if c, err := net.Dial("tcp", first); err == nil {
		c.Close()
		t.Error("the removed listener still accepts")
	}
}

// A listener may be back at once: its address is still draining then.
func TestReloadListenerBack(t *testing.T) {
	spare, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := spare.Addr().String()
	must(t, spare.Close())
	const admin = `admin: {address: "127.0.0.1:0"}`
	without := says("without", admin, `listeners: [{address: "127.0.0.1:0"}]`)
	with := says("with", admin, fmt.Sprintf(`listeners: [{address: "127.0.0.1:0"}, {address: %q}]`, address))
	r := run(t, with)
	url := "http://" + r.address("admin") + "/api/reload"
	for i, text := range []string{without, with, without, with} {
		r.write(text)
		resp, err := http.Post(url, "", nil)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("reload %d: %s; log:\n%s", i, resp.Status, r.log)
		}
	}
	wantBody(t, "http://"+address, 200, "with")
}

func TestReloadAdmin(t *testing.T) {
	token := put(t, t.TempDir(), "token", "0123456789abcdef\n")
	r := run(t, says("one"))
	first := "http://" + r.address("admin")
	wantStatus(t, first+"/api/generation", "", 200)
	r.write(says("two", `admin: {address: "127.0.0.1:0", token_file: `+token+`}`, `listeners: [{address: "127.0.0.1:0"}]`))
	r.log.await(t, "reloaded", map[string]any{"generation": 2})
	wantStatus(t, first+"/api/generation", "", 401)
	wantStatus(t, first+"/api/generation", "0123456789abcdef", 200)
	r.write(says("three", `admin: {address: "localhost:0"}`, `listeners: [{address: "127.0.0.1:0"}]`))
	line := r.log.await(t, "admin listening", map[string]any{"listener": "localhost:0"})
	wantStatus(t, "http://"+line["address"].(string)+"/api/generation", "", 200)
}

// Secrets stay out of what the admin API shows.
func TestAdminConfigIsRedacted(t *testing.T) {
	r := run(t, says("hello")+"x-note: private\n")
	r.write(strings.Replace(says("hello"), "backend: a", `backend: a, request_headers: {set: {Authorization: "Bearer secret-1", X-Api-Key: secret-2, X-Plain: shown}}`, 1))
	r.log.await(t, "reloaded", nil)
	_, body := fetch(t, "http://"+r.address("admin")+"/api/config")
	if strings.Contains(body, "secret-") || !strings.Contains(body, "shown") || !strings.Contains(body, "redacted") {
		t.Errorf("/api/config is %s", body)
	}
}

// While files change nobody notices.
func TestReloadUnderLoad(t *testing.T) {
	r := run(t, says("0"))
	url := "http://" + r.address("127.0.0.1:0")
	var wg sync.WaitGroup
	var stop atomic.Bool
	for range 8 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: waitLimit}
			defer client.CloseIdleConnections()
			for !stop.Load() {
				resp, err := client.Get(url)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || len(body) == 0 {
					t.Errorf("status %d, %q, %v", resp.StatusCode, body, err)
				}
			}
		})
	}
	for i := range 20 {
		r.write(says(fmt.Sprint(i + 1)))
		r.signals <- syscall.SIGHUP
		r.log.await(t, "reloaded", map[string]any{"generation": i + 2})
	}
	// A change may have been seen twice, so that the last is yet to come.
	for end := time.Now().Add(waitLimit); time.Now().Before(end); {
		if _, body := fetch(t, url); strings.Contains(body, "20") {
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	wantBody(t, url, 200, "20")
}

// The configuration may lie behind the links of a Kubernetes config map.
func TestReloadConfigMap(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "..1/gw.yaml", says("one"))
	put(t, dir, "..2/gw.yaml", says("two"))
	must(t, os.Symlink("..1", filepath.Join(dir, "..data")))
	must(t, os.Symlink("..data/gw.yaml", filepath.Join(dir, "gw.yaml")))
	r := launch(t, "", nil, "run", "-config", filepath.Join(dir, "gw.yaml"))
	url := "http://" + r.address("127.0.0.1:0")
	r.log.await(t, "serving", nil)
	must(t, os.Symlink("..2", filepath.Join(dir, "..new")))
	must(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
	r.log.await(t, "reloaded", nil)
	wantBody(t, url, 200, "two")
}

func generation(t *testing.T, admin string) (g generationReport) {
	t.Helper()
	_, body := fetch(t, admin+"/api/generation")
	must(t, json.Unmarshal([]byte(body), &g))
	return g
}

func wantMetric(t *testing.T, admin string, lines ...string) {
	t.Helper()
	_, body := fetch(t, admin+"/metrics")
	for _, line := range lines {
		if !strings.Contains("\n"+body, "\n"+line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

func wantStatus(t *testing.T, url, token string, want int) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	must(t, err)
	req.Close = true
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != want {
		t.Errorf("GET %s: status %d, want %d", url, resp.StatusCode, want)
	}
}
