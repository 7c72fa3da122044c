package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/proxy/upstream"
)

// Targets come and go, by the file and by reloads, and no request is lost.
func TestDiscoveryUnderLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "targets.yaml")
	targets := []*counted{newCounted(t, "a", 200), newCounted(t, "b", 200), newCounted(t, "c", 200)}
	write := func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	item := func(i, weight int) string { return fmt.Sprintf("- {url: %q, weight: %d}", targets[i].url, weight) }
	write(item(0, 1))
	h := HTTP{Discovery: upstream.DiscoveryConfig{File: file, Refresh: 100 * time.Millisecond}, Breaker: breaker(5, time.Hour)}
	addr, p := run(t, h)
	attend(t, p)
	eventually(t, "the first target", func() bool { return status(ask(t, addr, plainGet)) == 200 })
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := ask(t, addr, plainGet); status(got) != 200 {
					t.Errorf("lost:\n%s", got)
					return
				}
			}
		})
	}
	for round, lines := range [][]string{{item(0, 1), item(1, 1)}, {item(1, 3), item(2, 1)}, {item(2, 1), item(0, 2)}, {item(0, 1)}} {
		write(lines...)
		reload(t, p, one(h))
		eventually(t, fmt.Sprint("round ", round), func() bool {
			info := p.gen.Load().Backends()[0]
			if len(info.Targets) != len(lines) {
				return false
			}
			for _, at := range info.Targets {
				if !slices.Contains(lines, fmt.Sprintf("- {url: %q, weight: %d}", at.URL, at.Weight)) {
					return false
				}
			}
			return true
		})
	}
	close(stop)
	wg.Wait()
	idle(t, p)
}

// A generation that was replaced opens nothing any more, and gives back what it
// has just once.
func TestDiscoveryAfterSwap(t *testing.T) {
	a, b := newCounted(t, "a", 200), newCounted(t, "b", 200)
	h := to(a.url)
	h.Discovery = upstream.DiscoveryConfig{File: filepath.Join(t.TempDir(), "none.yaml"), Refresh: time.Hour}
	addr, p := run(t, h)
	old := p.gen.Load().backends["up"].Backend.(*httpBackend)
	before := old.pool.Load()
	reload(t, p, one(h))
	old.discovered([]upstream.Found{{URL: b.url, Weight: 1}})
	old.Close()
	if old.pool.Load() != before {
		t.Error("an old generation took in what was discovered")
	}
	for range 2 { // over one connection: the pool was not released for the new generation
		if got := ask(t, addr, plainGet); last(got) != "a" {
			t.Errorf("got\n%s", got)
		}
		idle(t, p)
	}
	if s := p.gen.Load().Backends()[0].Targets[0].Connections; s.Dials != 1 || s.Reuses != 1 {
		t.Errorf("connections: %+v", s)
	}
}

// What the file names and discovery finds as well is one target, as the file
// has it; another weight keeps what is known of a target.
func TestDiscoveryBesidesTargets(t *testing.T) {
	a, b := newCounted(t, "a", 200), newCounted(t, "b", 500)
	h := to(a.url)
	h.Discovery = upstream.DiscoveryConfig{File: filepath.Join(t.TempDir(), "none.yaml"), Refresh: time.Hour}
	h.Breaker, h.Health = breaker(1, time.Hour), unwatched()
	addr, p := run(t, h)
	backend := p.gen.Load().backends["up"].Backend.(*httpBackend)
	backend.discovered([]upstream.Found{{URL: b.url, Weight: 1}, {URL: a.url, Weight: 7}})
	for range 2 {
		ask(t, addr, plainGet)
	}
	attempts := fmt.Sprintf(`sluice_attempts_total{backend="up",target=%q,outcome="5xx"}`, b.url)
	if n := count(p, attempts); n != "1" {
		t.Errorf("%q attempts are counted", n)
	}
	backend.discovered([]upstream.Found{{URL: b.url, Weight: 9}, {URL: a.url, Weight: 7}})
	info := p.gen.Load().Backends()[0].Targets
	if len(info) != 2 || info[0].Weight != 1 || info[1].Weight != 9 || info[1].Breaker != "open" || info[1].Available {
		t.Errorf("targets: %+v", info)
	}
	reload(t, p, one(h))
	if n := len(p.gen.Load().Backends()[0].Targets); n != 2 {
		t.Errorf("%d targets after a reload", n)
	}
	if n := count(p, attempts); n != "1" {
		t.Errorf("%q attempts are counted after a reload", n)
	}
	p.gen.Load().backends["up"].Backend.(*httpBackend).discovered(nil)
	if n := count(p, attempts); n != "" {
		t.Errorf("a target that is gone still has %s attempts", n)
	}
	idle(t, p)
}
