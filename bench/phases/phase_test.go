package phases

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDeployed: every phase that is deployed can be read, says what it is, and
// its files use the addresses of what it lists.
func TestDeployed(t *testing.T) {
	all, err := All("../../deploy/phases")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
		if p.Title == "" || strings.Contains(p.Title, "Phase") {
			t.Errorf("the title of %s is %q", p.Name, p.Title)
		}
		used := ""
		for _, s := range p.Specs {
			if s.Config != "" {
				raw, err := os.ReadFile(s.Config)
				if err != nil {
					t.Fatal(err)
				}
				used += string(raw)
			}
		}
		for _, s := range p.Specs {
			if s.Variable != "" && s.Kind != "worker" && !regexp.MustCompile(`\$\{`+s.Variable+`\b`).MatchString(used) {
				t.Errorf("%s: nothing uses the address of %s", p.Name, s.Name)
			}
		}
		if front := p.Specs[len(p.Specs)-1]; front.Config != p.File || front.Kind != "gateway" {
			t.Errorf("%s: clients connect to %+v", p.Name, front)
		}
	}
	if want := "1-single 2-database 3-cache 4-replicas 5-shards 6-edge final"; strings.Join(names, " ") != want {
		t.Errorf("phases %v, not %s", names, want)
	}
}

func TestLoad(t *testing.T) {
	for _, c := range []struct{ text, want string }{ // the processes, or the error
		{"# Phase 3: a\n# phase.\n#\n# More.\nx-processes: []\n", "gateway"},
		{"x-processes: [{run: redis, name: REDIS}]", "redis gateway"},
		{"x-processes: [{run: postgres, name: S1, replicas: 2}]", "s1 s1-replica-1 s1-replica-2 gateway"},
		{"x-processes: [{run: gateway, name: GATEWAY_1, file: x.yaml}]", "gateway-1 edge"},
		{"x-processes: [{run: users, name: APP_1, file: x.yaml}, {run: worker, name: WORKER_1, file: x.yaml}]", "app-1 worker-1 gateway"},
		{"x-processes: [{run: users, name: APP_1, file: y.yaml}]", `error: APP_1 has no file "y.yaml"`},
		{"x-processes: [{run: users, name: APP_1}]", `error: APP_1 has no file ""`},
		{"x-processes: [{run: mysql, name: DB}]", `error: nobody knows how to run "mysql"`},
		{"x-processes: [{run: redis}]", "error: one of kind redis has no name"},
		{"x-processes: [{run: redis, name: R}, {run: redis, name: R}]", "error: two are named r"},
		{"x-processes: {", "error: yaml"},
		{"routes: []", "none"},
	} {
		file := filepath.Join(t.TempDir(), "x.yaml")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := Load(file)
		got := "none"
		if p != nil && err == nil {
			var names []string
			for _, s := range p.Specs {
				names = append(names, s.Name)
			}
			got = strings.Join(names, " ")
		}
		if want, failing := strings.CutPrefix(c.want, "error: "); failing {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not say %q", c.text, err, want)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%s: %s, %v", c.text, got, err)
		}
		if strings.HasPrefix(c.text, "#") && (p.Title != "a phase" || p.Name != "x") {
			t.Errorf("%+v", p)
		}
	}
	p, err := Load("../../deploy/phases/4-replicas.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Primaries(), []string{"s1"}) {
		t.Errorf("primaries %v", p.Primaries())
	}
	if s := p.Specs[1]; s.Of != "s1" || s.Variable != "S1_REPLICA_1" || s.Primary() {
		t.Errorf("%+v", s)
	}
}

func TestStat(t *testing.T) {
	s, err := parseStat("42 (a (b) c) S 7 42 42 0 -1 4194560 100 0 0 0 1200 34 5 6 20 0 1 0 100 1000 10")
	if err != nil || s.parent != 7 || s.own != 12340*time.Millisecond || s.reaped != 110*time.Millisecond {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := parseStat("42 (sleep) S 7"); err == nil {
		t.Error("half a line is taken")
	}
}
