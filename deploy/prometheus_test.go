package deploy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestPrometheus has a real Prometheus scrape a real gateway by the example
// configuration, and sees HighErrorRate fire once requests fail, and end once
// they no longer do. Only times are shortened.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	prometheus := tool(t, "prometheus", "prometheus")
	plain, _, admin := observedGateway(t)
	dir := t.TempDir()
	quicken(t, "prometheus/prometheus.yml", filepath.Join(dir, "prometheus.yml"),
		`127\.0\.0\.1:9901`, strings.TrimPrefix(admin, "http://"), `_interval: 15s`, `_interval: 250ms`)
	quicken(t, "prometheus/rules.yaml", filepath.Join(dir, "rules.yaml"),
		`for: \w+`, `for: 1s`, `\[5m\]`, `[10s]`)
	addr := fmt.Sprint("127.0.0.1:", freePort(t))
	p := start(t, prometheus, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr, "--log.format=json")
	p.message(t, "Server is ready to receive web requests.", "msg")

	states := map[string]bool{}
	traffic(t, "it fires", plain+"/500", func() bool {
		state := alertState(t, addr, "HighErrorRate")
		states[state] = true
		return state == "firing"
	})
	if !states["pending"] && !states[""] {
		t.Errorf("states %v: it fired before anything had failed", states)
	}
	if state := alertState(t, addr, "GatewayDown"); state != "" {
		t.Errorf("GatewayDown is %s", state)
	}
	traffic(t, "it ends", plain+"/", func() bool { return alertState(t, addr, "HighErrorRate") == "" })
}

// quicken copies a file with replacements, each of which must find something.
func quicken(t *testing.T, from, to string, replacements ...string) {
	t.Helper()
	data, err := os.ReadFile(from)
	must(t, err)
	for i := 0; i < len(replacements); i += 2 {
		re := regexp.MustCompile(replacements[i])
		if !re.Match(data) {
			t.Fatalf("%s has no %s", from, re)
		}
		data = re.ReplaceAllLiteral(data, []byte(replacements[i+1]))
	}
	must(t, os.WriteFile(to, data, 0o600))
}

// traffic asks for a URL twenty times a second until ok holds.
func traffic(t *testing.T, what, url string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(waitLimit); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
		status(t, url)
	}
}

// alertState is pending, firing or "" as Prometheus at addr sees it.
func alertState(t *testing.T, addr, name string) string {
	t.Helper()
	client := http.Client{Timeout: waitLimit}
	resp, err := client.Get("http://" + addr + "/api/v1/alerts")
	must(t, err)
	defer resp.Body.Close()
	var answer struct {
		Status string
		Data   struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	must(t, json.NewDecoder(resp.Body).Decode(&answer))
	if answer.Status != "success" {
		t.Fatalf("prometheus says %q", answer.Status)
	}
	for _, a := range answer.Data.Alerts {
		if a.Labels["alertname"] == name {
			return a.State
		}
	}
	return ""
}
