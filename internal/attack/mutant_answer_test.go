package attack_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// testMutantAnswers has the upstream answer with what comes of the cases' answers
// by a few random edits. A client must get a refusal, a response that visibly
// breaks off, or just what net/http reads; and the next client its own.
func testMutantAnswers(t *testing.T, e *env, themes map[string][]attack) {
	var seeds []string
	for _, theme := range order(themes) {
		for _, a := range themes[theme] {
			if s := a.scripts["/public/x"]; s.raw != "" && len(s.raw) < 2000 && !s.echo {
				seeds = append(seeds, s.raw)
			}
		}
	}
	n, seed := mutants(500)
	t.Logf("%d mutants of seed %d", n, seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range n {
		raw := mutate(r, seeds)
		e.begin(map[string]script{"/hasty/x": {raw: raw, close: r.IntN(8) > 0}})
		if err := errors.Join(e.bears(raw), e.calm()); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// bears asks for raw and compares what the client gets with the reference.
func (e *env) bears(raw string) error {
	c, err := e.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	c.send("GET /hasty/x HTTP/1.1\r\nHost: edge.test\r\n\r\n")
	r, err := c.response(false)
	switch {
	case cutOff(err):
		return nil
	case err != nil:
		return err
	case r.status == 502 || r.status == 504:
		return c.over(r)
	}
	status, body, err := referenceAnswer(raw)
	if err != nil {
		return fmt.Errorf("RISKY: the client got %d %q, while the reference says %w", r.status, r.body, err)
	}
	if r.status != status || r.body != body {
		return fmt.Errorf("SMUGGLED: the client got %d %q, and the reference %d %q", r.status, r.body, status, body)
	}
	return c.over(r)
}

// referenceAnswer is how net/http reads a whole response, without those that are
// interim.
func referenceAnswer(raw string) (status int, body string, err error) {
	b := bufio.NewReader(strings.NewReader(raw))
	for {
		r, err := http.ReadResponse(b, nil)
		if err != nil {
			return 0, "", err
		}
		if r.StatusCode < 200 {
			continue
		}
		all, err := io.ReadAll(r.Body)
		return r.StatusCode, string(all), err
	}
}
