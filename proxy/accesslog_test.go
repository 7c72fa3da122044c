package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/VictoriaMetrics/metrics"
)

// logged is the one line that x leaves.
func logged(t *testing.T, x *Exchange, status int, took time.Duration) string {
	t.Helper()
	var out bytes.Buffer
	l := newAccessLog(&out, metrics.NewSet())
	l.add(x, status, took)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.run(ctx); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestAccessLogLine(t *testing.T) {
	x := exchangeOf("192.0.2.1", "", "Host: a\xffb", `User-Agent: say "hi"\`)
	x.gen.sampling = AccessLog{Enabled: true, Format: "json", Sample: 1}
	x.start = time.Date(2026, 11, 24, 3, 4, 5, 67_000_000, time.FixedZone("", 3600))
	x.route.name, x.backend, x.target, x.attempts = "r", "b", "http://t", 2
	x.Request.Target, x.bytesOut, x.requestIn.read = []byte("/p?secret=1"), 12, 3
	x.problem = "connection_refused"
	var got map[string]any
	if err := json.Unmarshal([]byte(logged(t, x, 502, 1500*time.Microsecond)), &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"time": "2026-11-24T02:04:05.067Z", "client_ip": "192.0.2.1", "method": "GET", "host": "a\ufffdb", "path": "/p", "status": 502.0,
		"bytes_in": 3.0, "bytes_out": 12.0, "duration_ms": 1.5, "route": "r", "backend": "b", "target": "http://t", "attempts": 2.0,
		"user_agent": `say "hi"\`, "error": "connection_refused", "request_id": string(x.id),
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	x.gen.sampling.Format = "text"
	if got, want := logged(t, x, 502, 0), "192.0.2.1 - - [24/Nov/2026:03:04:05 +0100] \"GET /p?secret=1 HTTP/1.1\" 502 12 \"-\" \"say \\\"hi\\\"\\\\\"\n"; got != want {
		t.Errorf("got  %s want %s", got, want)
	}
}

func TestAccessLogSamples(t *testing.T) {
	x := exchangeOf("192.0.2.1", "")
	x.gen.sampling = AccessLog{Enabled: true, Sample: 0}
	if got := logged(t, x, 200, 0); got != "" {
		t.Errorf("a sample of nothing left %s", got)
	}
	if got := logged(t, x, 500, 0); got == "" {
		t.Error("a failure left no line")
	}
	x.gen.sampling.Enabled = false
	if got := logged(t, x, 500, 0); got != "" {
		t.Errorf("a disabled log has %s", got)
	}
}

// full takes room bytes and no more.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	n := min(f.room, len(p))
	f.room -= n
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

// Lines that find no place are counted, one that is cut among them.
func TestAccessLogFull(t *testing.T) {
	x := exchangeOf("192.0.2.1", "")
	x.gen.sampling = AccessLog{Enabled: true, Sample: 1}
	line := len(logged(t, x, 200, 0))
	l := newAccessLog(&full{line * 3 / 2}, metrics.NewSet())
	for range 4 {
		l.add(x, 200, 0)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.run(ctx); err != nil {
		t.Fatal(err)
	}
	if got := l.dropped.Get(); got != 3 {
		t.Errorf("%d lines are counted as lost, want 3", got)
	}
}

func FuzzAppendJSON(f *testing.F) {
	f.Add("plain")
	f.Add("\x00\"\\\x7f\xff\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendJSON(nil, s), &got); err != nil {
			t.Fatalf("%q became %s: %v", s, appendJSON(nil, s), err)
		}
		if utf8.ValidString(s) && got != s {
			t.Fatalf("%q came back as %q", s, got)
		}
	})
}
