package listen

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// outcome is what a guard made of a stream of bytes.
type outcome struct {
	messages []string // complete ones
	rest     string   // what of an incomplete one was let through
	v        *Violation
}

func (o outcome) String() string {
	if o.v != nil {
		return fmt.Sprintf("%d complete, %q let through, %d %s", len(o.messages), o.rest, o.v.Status, o.v.Reason)
	}
	return fmt.Sprintf("%d complete, %q let through", len(o.messages), o.rest)
}

func (o outcome) same(p outcome) bool {
	if len(o.messages) != len(p.messages) || o.rest != p.rest || o.v != p.v {
		return false
	}
	for i := range o.messages {
		if o.messages[i] != p.messages[i] {
			return false
		}
	}
	return true
}

// run feeds the pieces of a stream to a guard as a connection does.
func run(pieces ...[]byte) (o outcome) {
	g := guard{maxHead: defaultMaxHead}
	g.next()
	var held, message []byte
	for _, p := range pieces {
		held = append(held, p...)
		for len(held) > 0 {
			n, v := g.feed(held)
			message = append(message, held[:n]...)
			held = held[n:]
			if v != nil {
				o.v, o.rest = v, string(message)
				return o
			}
			if !g.done() {
				break
			}
			o.messages = append(o.messages, string(message))
			message = message[:0]
			g.next()
		}
	}
	o.rest = string(message)
	return o
}

// bytewise feeds one byte at a time.
func bytewise(b []byte) outcome {
	pieces := make([][]byte, len(b))
	for i := range b {
		pieces[i] = b[i : i+1]
	}
	return run(pieces...)
}

func TestGuardVerdicts(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range corpus() {
		if seen[c.name] {
			t.Errorf("two cases are called %q", c.name)
		}
		seen[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			whole := run([]byte(c.raw))
			status := 0
			if whole.v != nil {
				status = whole.v.Status
			}
			if status != c.status || len(whole.messages) != c.complete {
				t.Fatalf("%q\n got %v\nwant %d complete, then %d", clip(c.raw), whole, c.complete, c.status)
			}
			if whole.v != nil && whole.rest != "" && !strings.HasPrefix(c.name, "chunk") && !strings.HasPrefix(c.name, "trailer") {
				t.Fatalf("%q: %q of a refused head is let through", clip(c.raw), whole.rest)
			}
			if got := bytewise([]byte(c.raw)); !got.same(whole) {
				t.Fatalf("%q\nwhole: %v\nby bytes: %v", clip(c.raw), whole, got)
			}
			if len(c.raw) > 4096 {
				return
			}
			for i := range len(c.raw) {
				if got := run([]byte(c.raw[:i]), []byte(c.raw[i:])); !got.same(whole) {
					t.Fatalf("%q\nwhole: %v\nsplit at %d: %v", clip(c.raw), whole, i, got)
				}
			}
		})
	}
	if len(seen) < 200 {
		t.Errorf("the corpus has only %d cases", len(seen))
	}
}

func clip(s string) string {
	if len(s) > 400 {
		return s[:400] + "…"
	}
	return s
}

// FuzzGuard checks that the verdict does not depend on how the bytes are split,
// and that net/http reads what the guard lets through as the same messages.
func FuzzGuard(f *testing.F) {
	for _, c := range corpus() {
		if len(c.raw) < 2048 {
			f.Add([]byte(c.raw), uint(len(c.raw)/2))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint) {
		whole := run(b)
		if got := bytewise(b); !got.same(whole) {
			t.Fatalf("whole: %v\nby bytes: %v", whole, got)
		}
		if len(b) > 0 {
			i := int(at % uint(len(b)))
			if got := run(b[:i], b[i:]); !got.same(whole) {
				t.Fatalf("whole: %v\nsplit at %d: %v", whole, i, got)
			}
		}
		if v := whole.v; v != nil && whole.rest != "" && !strings.Contains(whole.rest, "\r\n\r\n") {
			t.Fatalf("%q of a refused head is let through", whole.rest)
		}
		for _, m := range whole.messages {
			sameInNetHTTP(t, m)
			sameInFasthttp(t, m)
		}
	})
}

// sameInFasthttp checks that fasthttp, which reads the messages in production,
// finds the same end.
func sameInFasthttp(t *testing.T, m string) {
	t.Helper()
	line, _, _ := strings.Cut(strings.TrimPrefix(m, "\r\n"), "\r\n")
	part := strings.Split(line, " ")
	r := bufio.NewReaderSize(strings.NewReader(m), 64<<10)
	var req fasthttp.Request
	if err := req.Header.Read(r); err != nil {
		if strings.Contains(err.Error(), "trailer") || strings.Contains(err.Error(), "uri") {
			return // it is stricter there
		}
		t.Fatalf("fasthttp refuses %q: %v", m, err)
	}
	if string(req.Header.Method()) != part[0] || string(req.Header.RequestURI()) != part[1] {
		t.Fatalf("fasthttp reads %q as %s %s", m, req.Header.Method(), req.Header.RequestURI())
	}
	if err := req.ContinueReadBody(r, 0, false); err != nil {
		if strings.Contains(err.Error(), "trailer") || strings.Contains(err.Error(), "hex num") {
			return // it is stricter there, too
		}
		t.Fatalf("fasthttp cannot read the body of %q: %v", m, err)
	}
	if n, _ := io.Copy(io.Discard, r); n > 0 {
		t.Fatalf("fasthttp leaves %d bytes of %q", n, m)
	}
}

func sameInNetHTTP(t *testing.T, m string) {
	t.Helper()
	b := bytes.TrimPrefix([]byte(m), []byte("\r\n"))
	line, _, _ := bytes.Cut(b, []byte("\r\n"))
	part := strings.Split(string(line), " ")
	r := bufio.NewReader(bytes.NewReader(b))
	req, err := http.ReadRequest(r)
	if err != nil {
		if !excusable(part[1], err) {
			t.Fatalf("net/http refuses %q: %v", m, err)
		}
		return
	}
	if req.Method != part[0] || req.RequestURI != part[1] || req.Proto != part[2] {
		t.Fatalf("net/http reads %q as %s %s %s", m, req.Method, req.RequestURI, req.Proto)
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		t.Fatalf("net/http cannot read the body of %q: %v", m, err)
	}
	if n, _ := io.Copy(io.Discard, r); n > 0 {
		t.Fatalf("net/http leaves %d bytes of %q", n, m)
	}
}

// excusable are refusals of net/http that are about paths and not framing:
// percent-encoding is judged by the routing, and trailers by their names.
func excusable(target string, err error) bool {
	e := err.Error()
	return strings.Contains(e, "invalid URL escape") || strings.Contains(e, "invalid URI") ||
		strings.Contains(e, "bad trailer key") || strings.Contains(e, "first path segment") ||
		strings.Contains(e, "parse ") && strings.ContainsAny(target, "%\\^{}|\"<>`")
}

func TestCleanAgreesWithTable(t *testing.T) {
	var b [24]byte
	for at := range b {
		for v := range 256 {
			for i := range b {
				b[i] = "aaa~ !\xfe\x20"[i%6]
			}
			b[at] = byte(v)
			for _, c := range []struct {
				cls   uint8
				least uint64
			}{{clsValue, ' '}, {clsTarget, '!'}} {
				if c.cls == clsTarget && v == '#' {
					continue
				}
				if c.cls == clsTarget {
					for i := range b {
						if b[i] == ' ' && i != at {
							b[i] = '!'
						}
					}
				}
				if got, want := clean(b[:], c.cls, c.least), allOf(b[:], c.cls); got != want {
					t.Fatalf("clean(%q, %d) = %v", b[:], c.cls, got)
				}
			}
		}
	}
}

const typicalGet = "GET /api/orders/42?full=1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: bench/1.0 (linux; x86_64)\r\n" +
	"Accept: application/json\r\nAccept-Encoding: gzip\r\nX-User-ID: 1234567\r\nConnection: keep-alive\r\n\r\n"

func BenchmarkGuardGet(b *testing.B) {
	raw := []byte(typicalGet)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	g := guard{maxHead: defaultMaxHead}
	for b.Loop() {
		g.next()
		if n, v := g.feed(raw); n != len(raw) || v != nil {
			b.Fatal(n, v)
		}
	}
}

func TestGuardDoesNotAllocate(t *testing.T) {
	raw := []byte(typicalGet)
	g := guard{maxHead: defaultMaxHead}
	if n := testing.AllocsPerRun(100, func() {
		g.next()
		_, _ = g.feed(raw)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
