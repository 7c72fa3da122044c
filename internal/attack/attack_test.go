// Package attack_test attacks the built gateway from outside, byte by byte, with
// an upstream that records all it gets.
package attack_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
)

// ownPrefix is where the harness's own requests go.
const ownPrefix = "/public/harness/"

// An attack is one case.
type attack struct {
	name    string
	raw     string // what the client sends, where that is one piece
	gone    bool   // it does not wait, so the upstream may get that later
	scripts map[string]script
	run     func(*env) error
}

// An env is what a case runs in.
type env struct {
	origin *origin
	addr   string
	from   string // the client's address
	cases  int
}

func (e *env) dial() (*client, error) { return dial(e.addr, e.from) }

// begin gives the next case a client address of its own. By it the upstream
// knows what an earlier case asked, whose client has left, and which comes late.
func (e *env) begin(scripts map[string]script) {
	e.cases++
	e.from = "127.0.0.1"
	if runtime.GOOS == "linux" { // others have just the one
		e.from = fmt.Sprintf("127.%d.%d.%d", 1+e.cases>>16, e.cases>>8&0xff, e.cases&0xff)
	}
	e.origin.mark(e.from, scripts)
}

// TestAttacks runs all cases, one after the other, so that whatever the
// upstream reads belongs to one.
func TestAttacks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the gateway and takes half a minute")
	}
	o, err := newOrigin()
	if err != nil {
		t.Fatal(err)
	}
	g, err := startGateway(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.stop)
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Error(err)
		}
	})
	e := &env{origin: o, addr: g.addr}
	themes := map[string][]attack{
		"line": lines(), "target": targets(), "host": hosts(), "name": names(), "value": values(),
		"length": lengths(), "coding": codings(), "chunk": chunks(), "trailer": trailers(), "pipeline": pipelines(),
		"hop": hops(), "expect": expects(), "spoof": spoofs(), "path": paths(), "limit": limits(),
		"file": files(), "answer": answers(), "after": leftovers(), "upgrade": upgrades(),
	}
	inspect(t, themes)
	for _, theme := range order(themes) {
		t.Run(theme, func(t *testing.T) {
			for _, a := range themes[theme] {
				began := time.Now()
				judge(t, theme+"/"+a.name, e.try(a))
				if d := time.Since(began); d > 3*time.Second {
					t.Logf("%s/%s took %s", theme, a.name, d)
				}
			}
			if err := g.complaints(); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("mutants", func(t *testing.T) {
		testMutants(t, e, themes)
		testMutantAnswers(t, e, themes)
		if err := g.complaints(); err != nil {
			t.Fatal(err)
		}
	})
}

// inspect holds the corpus itself to its size and to one name a case.
func inspect(t *testing.T, themes map[string][]attack) {
	t.Helper()
	used := map[string]bool{}
	for theme, attacks := range themes {
		for _, a := range attacks {
			key := theme + "/" + a.name
			if used[key] {
				t.Errorf("%s: two cases of one name", key)
			}
			used[key] = true
		}
	}
	for key := range known {
		if !used[key] {
			t.Errorf("known: no case has the name %q", key)
		}
	}
	if t.Logf("%d cases", len(used)); len(used) < 550 {
		t.Errorf("only %d cases", len(used))
	}
}

func order(themes map[string][]attack) (names []string) {
	for name := range themes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func judge(t *testing.T, key string, err error) {
	t.Helper()
	reason, isKnown := known[key]
	switch {
	case err == nil && isKnown:
		t.Errorf("%s passes now: take it out of known", key)
	case err != nil && isKnown && os.Getenv("ATTACK_ALL") == "":
		t.Logf("%s: known, %s", key, reason)
	case err != nil:
		t.Errorf("%s: %v", key, err)
	}
}

// try runs one case, and what must hold after every one: the upstream read
// nothing malformed and is left with nothing half, and a good request is
// answered.
func (e *env) try(a attack) error {
	e.begin(a.scripts)
	if err := a.run(e); err != nil {
		return err
	}
	before := len(e.origin.whole())
	if err := e.calm(); err != nil {
		return err
	}
	if late := e.origin.whole()[before:]; len(late) > 0 && !a.gone {
		return fmt.Errorf("SMUGGLED: afterwards the upstream got %q", late)
	}
	return nil
}

// calm wants nothing malformed or half at the upstream, and a good request
// answered.
func (e *env) calm() error {
	if err := e.origin.settle(); err != nil {
		return err
	}
	if err := e.alive(); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	return e.origin.settle()
}

// alive has a new client make a good request.
func (e *env) alive() error {
	c, err := e.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.sentinel()
}

// sentinel makes a good request on c and wants its own answer: no other request
// of this run has the same target.
func (c *client) sentinel() error {
	c.sentinels++
	target := fmt.Sprintf("%s%s/%d", ownPrefix, c.LocalAddr(), c.sentinels)
	c.send("GET " + target + " HTTP/1.1\r\nHost: edge.test\r\n\r\n")
	r, err := c.response(false)
	switch {
	case err != nil:
		return fmt.Errorf("a good request: %w", err)
	case r.status != 200 || r.body != "GET "+target+"\n":
		return fmt.Errorf("SMUGGLED: a good request was answered %d %q", r.status, r.body)
	}
	return nil
}

// get is a good head without its end; more lines may follow.
const get = "GET /public/x HTTP/1.1\r\nHost: edge.test\r\n"

// post is the same for a request with a body.
const post = "POST /public/x HTTP/1.1\r\nHost: edge.test\r\n"

// evil is what is hidden where only a misreading finds it.
const evil = "GET /admin/smuggled HTTP/1.1\r\nHost: edge.test\r\n\r\n"
