package attack_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
)

// testMutants sends what comes of the cases by a few random edits. What they are
// nobody knows, so only what holds for any bytes is judged: what reaches the
// upstream is well-formed, each answer belongs to its request, nothing hangs, and
// nobody else notices.
func testMutants(t *testing.T, e *env, themes map[string][]attack) {
	var seeds []string
	for _, theme := range order(themes) {
		if theme == "file" {
			continue // not answered by the upstream
		}
		for _, a := range themes[theme] {
			if a.raw != "" && len(a.raw) < 2000 {
				seeds = append(seeds, a.raw)
			}
		}
	}
	n, seed := mutants(1000)
	t.Logf("%d mutants of seed %d", n, seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range n {
		raw := mutate(r, seeds)
		e.begin(nil)
		if err := errors.Join(e.endures(raw), e.calm()); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// mutants says how many there are to be and of which seed; ATTACK_MUTANTS asks
// for a number of new ones.
func mutants(n int) (int, uint64) {
	if more, err := strconv.Atoi(os.Getenv("ATTACK_MUTANTS")); err == nil {
		return more, rand.Uint64()
	}
	return n, 1
}

// splinters are what edits put in: bytes and lines at which parsers differ.
var splinters = []string{
	"\r", "\n", "\r\n", "\r\n\r\n", "\n\n", " ", "\t", "\x00", "\x0b", "\x7f", "\x80", "\xff", ":", ",", ";", "/", "\\", "..", "%2f", "%5c", "%2e", "%00", "#", "?", "@", "[", "]", "0", "1", "9", "-", "+", "x", "_",
	"HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "http://edge.test", "Host: edge.test\r\n", "Content-Length: 5\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: identity\r\n", "Connection: close\r\n",
	"Connection: keep-alive\r\n", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "Expect: 100-continue\r\n", "Trailer: X\r\n", "TE: trailers\r\n", "X: 1\r\n", "0\r\n\r\n", "5\r\nhello\r\n", "5;x\r\nhello\r\n0\r\nX: 1\r\n\r\n", evil,
}

func mutate(r *rand.Rand, seeds []string) string {
	s := seeds[r.IntN(len(seeds))]
	for range 1 + r.IntN(3) {
		i := r.IntN(len(s) + 1)
		j := min(len(s), i+r.IntN(4))
		switch r.IntN(5) {
		case 0:
			s = s[:i] + s[j:]
		case 1:
			s = s[:i] + splinters[r.IntN(len(splinters))] + s[j:]
		case 2:
			s = s[:i] + splinters[r.IntN(len(splinters))] + s[i:]
		case 3:
			s = s[:j] + s[i:]
		case 4:
			other := seeds[r.IntN(len(seeds))]
			s = s[:i] + other[r.IntN(len(other)+1):]
		}
	}
	return s
}

// endures sends raw, ends its half, and wants each answer of the upstream to be
// that to the request in its place.
func (e *env) endures(raw string) error {
	c, err := e.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	c.send(raw)
	_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite() // the gateway may have reset it
	for err == nil {
		err = c.more()
	}
	if wantEnd(err) != nil {
		return err
	}
	asked := e.origin.requests()
	if err := explained(asked, reference(raw)); err != nil {
		return err
	}
	if strings.Contains(raw, "HEAD ") {
		return nil // only who knows which answers are to HEAD can tell them apart
	}
	var answered []string
	for len(c.buf) > 0 {
		before := len(c.buf)
		r, err := c.response(false)
		if err != nil && (before == len(c.buf) || !cutOff(err)) {
			return err
		}
		if r != nil && r.status == 200 && err == nil {
			answered = append(answered, strings.TrimSuffix(r.body, "\n"))
		}
	}
	for i, text := range answered {
		if i >= len(asked) || text != asked[i].method+" "+asked[i].target {
			return fmt.Errorf("SMUGGLED: answered %q, asked %q", answered, linesOf(asked))
		}
	}
	return nil
}

// reference is how net/http reads raw: where a request was let through, all
// before it was beyond doubt, so that every parser must see the same.
func reference(raw string) (seen []*http.Request) {
	b := bufio.NewReader(strings.NewReader(strings.TrimPrefix(raw, "\r\n")))
	for {
		r, err := http.ReadRequest(b)
		if err != nil {
			return seen
		}
		seen = append(seen, r)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return seen
		}
		if next, _ := b.Peek(2); string(next) == "\r\n" {
			_, _ = b.Discard(2) // it is there
		}
	}
}

// explained wants every request of the upstream to be one that the reference
// sees, in the same order. Those that were refused are missing.
func explained(asked []request, seen []*http.Request) error {
	at := 0
	for _, r := range asked {
		for at < len(seen) && !same(r, seen[at]) {
			at++
		}
		if at == len(seen) {
			return fmt.Errorf("SMUGGLED: nobody asked for %q", r.line)
		}
		at++
	}
	return nil
}

// same allows for what the gateway does to targets: absolute form, dot segments
// and a prefix may go.
func same(r request, seen *http.Request) bool {
	_, query, _ := strings.Cut(seen.RequestURI, "?")
	_, got, _ := strings.Cut(r.target, "?")
	return r.method == seen.Method && got == query
}
