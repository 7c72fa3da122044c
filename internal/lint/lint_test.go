package lint

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestModule holds every file of the module to the rules.
func TestModule(t *testing.T) {
	root := os.DirFS(moduleRoot(t))
	packages := map[string]bool{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(root, name)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		packages[path.Dir(name)] = true
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		faults, err := examine(name, src)
		for _, fault := range faults {
			t.Error(fault)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range packages {
		if why := known(dir); why != "" {
			t.Errorf("%s: %s", dir, why)
		}
	}
	if len(packages) < 5 {
		t.Errorf("found only the packages %v", packages)
	}
}

// enter leaves out what is not of this module.
func enter(root fs.FS, dir string) error {
	if dir == "." {
		return nil
	}
	base := path.Base(dir)
	if base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	if _, err := fs.Stat(root, path.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = up
	}
}

// TestGraph holds the table itself to the design: leaves import nothing of
// ours, and no arrow leads to what does not exist in it or back.
func TestGraph(t *testing.T) {
	for _, leaf := range []string{
		"routing", "limiter", "edgecache", "health", "proxy/upstream",
		"internal/shard", "internal/jobs", "internal/auth", "internal/listen", "internal/config",
	} {
		if to, ok := arrows[leaf]; !ok || len(to) > 0 {
			t.Errorf("%s is a leaf, and has arrows to %v", leaf, to)
		}
	}
	for from, list := range arrows {
		for _, to := range list {
			if _, ok := arrows[to]; !ok {
				t.Errorf("%s has an arrow to %s, which is not in the graph", from, to)
			}
			if slices.Contains(arrows[to], from) {
				t.Errorf("%s and %s import each other", from, to)
			}
		}
	}
}

// TestRules shows each rule a file that breaks it, and one that does not.
func TestRules(t *testing.T) {
	long := strings.Repeat("\n", maxLines+1)
	for _, c := range []struct {
		file, src string
		want      string // of the only fault; "" for none
	}{
		{"proxy/a.go", `package proxy; import _ "` + module + `/routing"`, ""},
		{"proxy/a.go", `package proxy; import _ "` + module + `/internal/config"`, "no such arrow"},
		{"routing/a.go", `package routing; import _ "` + module + `/proxy"`, "no such arrow"},
		{"routing/a_test.go", `package routing_test; import _ "` + module + `/routing"`, ""},
		{"routing/a_test.go", `package routing_test; import _ "` + module + `/proxy"`, "no such arrow"},
		{"routing/a_test.go", `package routing_test; import _ "` + module + `/internal/wiretest"`, ""},
		{"routing/a.go", `package routing; import _ "` + module + `/internal/wiretest"`, "is for tests"},
		{"routing/a.go", `package routing; import _ "net/http/httptest"`, "is for tests"},
		{"routing/a_test.go", `package routing; import _ "net/http/httptest"`, ""},
		{"internal/wiretest/a.go", `package wiretest; import _ "testing"`, ""},
		{"routing/a.go", `package routing; func init() {}`, "func init"},
		{"routing/a.go", `package routing; type t struct{}; func (t) init() {}`, ""},
		{"proxy/a.go", `package proxy; import "github.com/valyala/fasthttp"; var c fasthttp.HostClient`, "fasthttp.HostClient"},
		{"proxy/a.go", `package proxy; import f "github.com/valyala/fasthttp"; var c = f.Client{}`, "fasthttp.Client"},
		{"proxy/a.go", `package proxy; import "github.com/valyala/fasthttp"; var s fasthttp.Server`, ""},
		{"proxy/a_test.go", `package proxy; import "github.com/valyala/fasthttp"; var c fasthttp.HostClient`, ""},
		{"proxy/a_test.go", "package proxy\nimport \"time\"\nfunc f() { time.Sleep(1) }", "time.Sleep"},
		{"proxy/a_test.go", "package proxy\nimport \"time\"\nfunc f() { time.Sleep(1) } // lint:sleep ", "time.Sleep"},
		{"proxy/a_test.go", "package proxy\nimport \"time\"\nfunc f() { time.Sleep(1) } // lint:sleep nothing tells when", ""},
		{"proxy/a.go", "package proxy\nimport \"time\"\nfunc f() { time.Sleep(1) }", ""},
		{"proxy/a.go", "package proxy" + long, "lines"},
		{"proxy/a_test.go", "package proxy" + long, ""},
	} {
		faults, err := examine(c.file, []byte(c.src))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.want == "" && len(faults) > 0, c.want != "" && len(faults) != 1:
			t.Errorf("%s: %.80q: %q", c.file, c.src, faults)
		case c.want != "" && !strings.Contains(faults[0], c.want):
			t.Errorf("%s: %.80q: %q does not say %q", c.file, c.src, faults[0], c.want)
		}
	}
	for dir, want := range map[string]bool{
		"proxy": true, "internal/wiretest": true, "internal/surprise": false, "pkg/proxy": false, "internal/util": false, "proxy/helpers": false,
	} {
		if why := known(dir); (why == "") != want {
			t.Errorf("%s: %q", dir, why)
		}
	}
}
