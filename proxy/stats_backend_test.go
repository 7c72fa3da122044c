package proxy

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/routing"
)

// Backends that a reload drops leave no series, however many there are in the
// life of a process.
func TestRetiredBackend(t *testing.T) {
	slow := newSilent(t)
	quick := origin(t, func(w http.ResponseWriter, r *http.Request) {})
	h := to("http://127.0.0.1:1", quick) // nobody is there: a retry
	h.Concurrency = limiter.Concurrency{Max: 10}
	h.Retry = Retry{Attempts: 2, On: []string{"connect"}, Budget: 1}
	h.Balance = routing.Balance{Policy: "round_robin"}
	late := hedged(time.Millisecond, slow.url, quick)
	late.Retry.Budget = 1
	spec := Spec{
		Backends: backends(map[string]any{"gone": h, "late": late, "stays": to(quick)}),
		Routes: []Route{
			{Name: "gone", Match: routing.Match{Path: "/*"}, Backend: "gone"},
			{Name: "late", Match: routing.Match{Path: "/late"}, Backend: "late"},
			{Name: "stays", Match: routing.Match{Path: "/stays"}, Backend: "stays"},
		},
	}
	addr, p := serveProxy(t, spec)
	for _, path := range []string{"/", "/late", "/stays"} {
		if got := status(ask(t, addr, strings.Replace(plainGet, "/", path, 1))); got != 200 {
			t.Fatalf("%s: %d", path, got)
		}
	}
	idle(t, p)
	series := func(backend string) (lines []string) {
		var b bytes.Buffer
		p.stats.set.WritePrometheus(&b)
		for line := range strings.Lines(b.String()) {
			if strings.Contains(line, `backend="`+backend+`"`) {
				lines = append(lines, line)
			}
		}
		return lines
	}
	for line, backend := range map[string]string{
		`sluice_retries_total{backend="gone",reason="connect"} 1`:  "gone",
		`sluice_queue_seconds_count{backend="gone"} 0`:             "gone",
		`sluice_shed_total{backend="gone",reason="full"} 0`:        "gone",
		`sluice_hedges_total{backend="late",outcome="won"} 1`:      "late",
		`sluice_attempt_duration_seconds_count{backend="stays"} 1`: "stays",
	} {
		if all := strings.Join(series(backend), ""); !strings.Contains(all, line+"\n") {
			t.Errorf("there is no %s in\n%s", line, all)
		}
	}
	spec.Backends, spec.Routes = backends(map[string]any{"stays": to(quick)}), spec.Routes[2:]
	reload(t, p, spec)
	for _, name := range []string{"gone", "late"} {
		if left := series(name); len(left) > 0 {
			t.Errorf("of %s there are still\n%s", name, strings.Join(left, ""))
		}
	}
	if len(series("stays")) == 0 {
		t.Error("what stays has lost its series")
	}
}
