package deploy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/pgtest"
	"github.com/sluice-edge/sluice/internal/smtptest"
)

// foreign are made by Prometheus itself.
var foreign = []string{"up"}

const observed = `
listeners:
  - {address: "127.0.0.1:0", protocols: [http1, h2c]}
  - {address: "127.0.0.1:PORT", tls: {certificates: [{cert_file: "CERTS/server.pem", key_file: "CERTS/server-key.pem"}]}}
admin: {address: "127.0.0.1:0"}
shutdown: {grace: 0s, timeout: 5s}
backends:
  app:
    targets: ["http://ORIGIN"]
    breaker: {max_failures: 3}
    concurrency: {max: 100, queue: 10}
    health: {active: {path: /health}, passive: {consecutive_failures: 2}}
  pair: {targets: ["http://ORIGIN", "http://OTHER"], hedge: {after: 1ms}}
  half: {targets: ["http://ORIGIN", "http://127.0.0.1:1"], health: {passive: {consecutive_failures: 1}}}
  dead: {targets: ["http://127.0.0.1:1"]}
MORE_BACKENDS
routes:
  - {name: pair, match: /pair/*, backend: pair}
  - {name: half, match: /half/*, backend: half}
  - {name: app, match: /*, backend: app, mirror: {backend: app}}
  - {name: dead, match: /dead, backend: dead}
  - {name: cached, match: /cached, backend: app, cache: {ttl: {default: 1m}}}
  - {name: limited, match: /limited, backend: app, limits: [{name: few, key: ip, rate: 1/1m, burst: 2}]}
MORE_ROUTES
`

// withUsers adds the user service and its jobs.
const withUsers = `
  users:
    kind: users
    users:
      mode: postgres
      shards: [{name: s1, primary: "PRIMARY", replicas: ["REPLICA"]}]
      secret_file: "SECRET"
      jobs: {smtp: "MAIL", from: "hello@sluice.example"}
`

// origin answers /500 with 500 and all else with 200.
func origin(t testing.TB) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/500"):
			w.WriteHeader(500)
		case strings.HasSuffix(r.URL.Path, "/slow"):
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "hello\n")
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func observedGateway(t testing.TB, backends, routes string) (plain, secure, admin string) {
	t.Helper()
	certs := filepath.Join(t.TempDir(), "certs")
	out, err := exec.Command(binary(t, "gateway"), "cert", "-dev", certs).CombinedOutput()
	if err != nil {
		t.Fatalf("gateway cert: %v\n%s", err, out)
	}
	tlsAddr := fmt.Sprint("127.0.0.1:", freePort(t))
	g := gateway(t, strings.NewReplacer("ORIGIN", origin(t), "OTHER", origin(t), "MORE_BACKENDS", backends, "MORE_ROUTES", routes, "CERTS", certs, "127.0.0.1:PORT", tlsAddr).Replace(observed))
	plain = "http://" + g.message(t, "listening", "address", "listener", "127.0.0.1:0")
	return plain, "https://" + tlsAddr, "http://" + g.message(t, "admin listening", "address")
}

var metricName = regexp.MustCompile(`(?m)^[a-zA-Z_:][a-zA-Z0-9_:]*`)

// TestMetricsExist makes traffic of every sort through a real gateway, and holds
// that everything that a rule or the dashboard asks for is there to be scraped.
func TestMetricsExist(t *testing.T) {
	t.Parallel()
	want := wanted(t)
	servers := pgtest.Start(t, pgtest.Options{Replicas: 1})
	users := strings.NewReplacer("PRIMARY", servers.Primary.URL("postgres"), "REPLICA", servers.Replicas[0].URL("postgres"),
		"SECRET", secret(t), "MAIL", smtptest.Start(t).Addr).Replace(withUsers)
	plain, secure, admin := observedGateway(t, users, "  - {name: users, match: /api/users/*, backend: users}")
	client := http.Client{Timeout: waitLimit, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, // whose certificate it is does not matter here
	}}
	for range 20 {
		for _, url := range []string{plain + "/", plain + "/500", plain + "/half/", plain + "/pair/slow", plain + "/dead", plain + "/limited", plain + "/cached", plain + "/api/users/0199f7a0-0000-7000-8000-000000000000", secure + "/"} {
			resp, err := client.Get(url)
			must(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			must(t, err)
			resp.Body.Close()
		}
	}
	client.CloseIdleConnections()
	_, text := fetch(t, admin+"/metrics")
	live := map[string]bool{}
	for _, name := range metricName.FindAllString(text, -1) {
		live[name] = true
	}
	for _, name := range foreign {
		live[name] = true
	}
	for name, who := range want {
		if !live[name] {
			t.Errorf("no gateway has %s (%s)", name, who)
		}
	}
}

// tool is a program that a test needs: where it is missing the test fails in CI,
// and is skipped otherwise.
func tool(t testing.TB, name, install string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("there is no %s; Debian: apt-get install %s", name, install)
	default:
		t.Skipf("there is no %s; Debian: apt-get install %s (make alerts does so when root)", name, install)
	}
	return ""
}

// TestRules has promtool judge the rules by their unit tests.
func TestRules(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool", "prometheus")
	for _, args := range [][]string{
		{"check", "config", "prometheus/prometheus.yml"},
		{"test", "rules", "prometheus/rules_test.yaml", "prometheus/rules_slow_test.yaml"},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	// Every alert has a unit test that sees it fire: one that cannot is worse
	// than none.
	tests, err := os.ReadFile("prometheus/rules_test.yaml")
	must(t, err)
	alert := regexp.MustCompile(`(?m)^ +- alert: (\w+)`)
	rules, err := os.ReadFile("prometheus/rules.yaml")
	must(t, err)
	for _, m := range alert.FindAllSubmatch(rules, -1) {
		fires := regexp.MustCompile(`alertname: ` + string(m[1]) + `\s+exp_alerts:\s+(- |\[\{)`)
		oneLine := regexp.MustCompile(`alertname: ` + string(m[1]) + `, exp_alerts: \[\{`)
		if !fires.Match(tests) && !oneLine.Match(tests) {
			t.Errorf("no test sees %s fire", m[1])
		}
	}
}
