package upstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseTargets(t *testing.T) {
	for in, want := range map[string]string{
		"- http://a:1\n- {url: 'https://b:2', weight: 3, priority: 1}\n- unix:/s\n": "http://a:1 1 0|https://b:2 3 1|unix:/s 1 0",
		"targets: [\"http://a:1\"]":                "http://a:1 1 0",
		"# nothing else\n- url: http://a:1\n":      "http://a:1 1 0",
		"":                                         "f: no targets",
		"# only a comment\n":                       "f: no targets",
		"[]":                                       "f:1: no targets",
		"targets: []":                              "f:1: no targets",
		"targets: x":                               "f:1: expected a list",
		"a: b":                                     "f:1: expected a list",
		"- http://a:1\n- ftp://b\n":                "f:2: upstream \"ftp://b\": scheme is not http, https or unix",
		"- http://a:1\n- x: 1\n":                   "f:2: unknown key \"x\"",
		"- http://a:1\n- [http://b:1]\n":           "f:2: expected a URL",
		"- http://a:1\n- *x\n":                     "f: yaml:",
		"- http://a:1\n---\n- http://b:1\n":        "f: more than one document",
		"- {url: 'http://a:1'}\n-\n  - x":          "f:3: expected a URL",
		"- {url: 'http://a:1', weight: 0}":         "f:1: weight is a whole number from 1 to 1000",
		"- {url: 'http://a:1', weight: 1.5}":       "f:1: weight",
		"- {url: 'http://a:1',\n   priority: -1}":  "f:2: priority is a whole number from 0 to 100",
		"- {weight: 1}":                            "f:1: upstream \"\"",
		"- http://a:1\n- http://b:1\n- http://a:1": "f:3: http://a:1 is on line 1 already",
		"- {url: 'http://a:1', url: 'http://b:1'}": "f:1: url is there twice",
		"- a\n- b\n":                               "f:1: upstream \"a\": no scheme; write http://a\nf:2: upstream \"b\"",
		"\t- a":                                    "f: yaml: ",
	} {
		var got string
		targets, err := parseTargets("f", []byte(in))
		if err != nil {
			got = err.Error()
		} else {
			var list []string
			for _, f := range targets {
				list = append(list, show(f))
			}
			got = strings.Join(list, "|")
		}
		if err == nil && got != want || !strings.HasPrefix(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzParseTargets(f *testing.F) {
	f.Add("- http://a:1\n- {url: 'https://b:2', weight: 3, priority: 1}\n")
	f.Add("targets: [&a x, *a]")
	f.Fuzz(func(t *testing.T, in string) {
		targets, err := parseTargets("f", []byte(in))
		if (err == nil) != (len(targets) > 0) {
			t.Errorf("%d targets, %v", len(targets), err)
		}
		for _, found := range targets {
			if _, err := newTarget(Config{URL: found.URL}); err != nil || found.Weight < 1 || found.Priority < 0 {
				t.Errorf("%+v: %v", found, err)
			}
		}
	})
}

// replace puts a file there as most programs do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestDiscoveryFile leaves the refresh out of it: what is seen is seen by
// events.
func TestDiscoveryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "targets.yaml")
	write(t, path, "- http://a:1\n")
	s := seek(t, DiscoveryConfig{File: path, Refresh: time.Hour}).run()
	s.want("http://a:1 1 0")
	write(t, path, "- http://a:1\n- {url: 'http://b:1', weight: 5}\n")
	s.want("http://a:1 1 0", "http://b:1 5 0")
	replace(t, path, "- http://b:1\n")
	s.want("http://b:1 1 0")
	replace(t, path, "- http://b:1\n- http//c\n")
	s.failing("targets.yaml:2: ")
	replace(t, path, "- http://b:1\n\n- http//c\n")
	s.failing("targets.yaml:3: ")
	for _, place := range []string{"targets.yaml:2:", "targets.yaml:3:"} {
		if n := s.logs.count(place); n != 1 {
			t.Errorf("%d log lines for the fault at %s", n, place)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.failing("no such file")
	s.quiet()
	write(t, path, "- http://b:1\n") // the same as before
	eventually(t, "works again", func() bool { return !s.State().Failing })
	s.quiet()
	replace(t, path, "- http://c:1\n")
	s.want("http://c:1 1 0")
}

// TestDiscoveryConfigMap swaps the link by which Kubernetes changes all files of
// a config map at once.
func TestDiscoveryConfigMap(t *testing.T) {
	dir := t.TempDir()
	fill := func(name, text string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "targets.yaml"), text)
	}
	link := func(to, name string) {
		tmp := filepath.Join(dir, "..tmp")
		if err := os.Symlink(to, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	fill("..1", "- http://a:1\n")
	link("..1", "..data")
	link(filepath.Join("..data", "targets.yaml"), "targets.yaml")
	s := seek(t, DiscoveryConfig{File: filepath.Join(dir, "targets.yaml"), Refresh: time.Hour}).run()
	s.want("http://a:1 1 0")
	for i, text := range []string{"http://b:1", "http://c:1", "http://d:1"} {
		name := "..next" + text[7:8]
		fill(name, "- "+text+"\n")
		link(name, "..data")
		s.want(text + " 1 0")
		if i == 0 {
			if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.quiet()
}

// TestDiscoveryFileLater starts without the file, and without its folder: the
// refresh finds them.
func TestDiscoveryFileLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	s := seek(t, DiscoveryConfig{File: filepath.Join(dir, "targets.yaml"), Refresh: fast}).run()
	s.failing("no such file")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "targets.yaml"), "- http://a:1\n")
	s.want("http://a:1 1 0")
	replace(t, filepath.Join(dir, "targets.yaml"), strings.Repeat("#", maxFileSize+1))
	s.failing("more than")
}

// TestDiscoveryKnown finds what was known already, of which nobody is told.
func TestDiscoveryKnown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "targets.yaml")
	write(t, path, "- http://a:1\n")
	s := seek(t, DiscoveryConfig{File: path, Refresh: time.Hour})
	s.targets = []Found{{URL: "http://a:1", Weight: 1}}
	s.run()
	eventually(t, "has looked", func() bool { return !s.State().Looked.IsZero() })
	s.quiet()
	if s.logs.count("discovery") > 0 {
		t.Error("the log says what was known")
	}
	replace(t, path, "- http://b:1\n")
	s.want("http://b:1 1 0")
}
