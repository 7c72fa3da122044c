package deploy

import (
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

var (
	link    = regexp.MustCompile(`!?\[[^\]]*\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fences  = regexp.MustCompile("(?ms)^```.*?^```$")
)

// TestLinks holds that whatever a document of this repository links to in it
// exists.
func TestLinks(t *testing.T) {
	t.Parallel()
	documents, links := 0, 0
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && (strings.HasPrefix(e.Name(), ".git") || e.Name() == "testdata") {
			return fs.SkipDir
		}
		if err != nil || e.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		documents++
		for _, m := range link.FindAllStringSubmatch(fences.ReplaceAllString(read(t, path), ""), -1) {
			links++
			if why := dangling(t, path, m[1]); why != "" {
				t.Errorf("%s links to %s: %s", path, m[1], why)
			}
		}
		return nil
	})
	must(t, err)
	if documents < 6 || links < 20 {
		t.Errorf("only %d links of %d documents were read", links, documents)
	}
}

// dangling says what is wrong with a link; "" where it leads somewhere, or out of
// here.
func dangling(t *testing.T, from, to string) string {
	u, err := url.Parse(to)
	switch {
	case err != nil:
		return err.Error()
	case u.Scheme != "":
		return ""
	}
	target := from
	if u.Path != "" {
		target = filepath.Join(filepath.Dir(from), filepath.FromSlash(u.Path))
	}
	if _, err := os.Stat(target); err != nil {
		return "there is no such file"
	}
	if u.Fragment == "" || filepath.Ext(target) != ".md" {
		return ""
	}
	for _, m := range heading.FindAllStringSubmatch(read(t, target), -1) {
		if anchor(m[1]) == u.Fragment {
			return ""
		}
	}
	return "there is no such heading"
}

// anchor is how a heading is linked to.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		}
	}
	return b.String()
}

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// TestReadmeConfigs has the gateway check each configuration that the README
// shows.
func TestReadmeConfigs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(args ...string) {
		t.Helper()
		cmd := exec.Command(binary(t, "gateway"), args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("gateway %s: %s", strings.Join(args, " "), out)
		}
	}
	in("cert", "-dev", "dev")
	blocks := yamlBlock.FindAllStringSubmatch(read(t, "../README.md"), -1)
	for _, m := range blocks {
		must(t, os.WriteFile(filepath.Join(dir, "gateway.yaml"), []byte(m[1]), 0o600))
		in("check", "-config", "gateway.yaml")
	}
	if len(blocks) < 3 {
		t.Errorf("only %d configurations were found", len(blocks))
	}
}

var (
	keyCell = regexp.MustCompile(`(?m)^\| [^|]+ \| ([^|]*) \| [^|]+ \|$`)
	quote   = regexp.MustCompile("`([a-z_.]+)`")
)

// TestPatterns holds that every key in the README's table of patterns is one that
// config.example.yaml explains, which has all.
func TestPatterns(t *testing.T) {
	t.Parallel()
	var example any
	must(t, yaml.Unmarshal([]byte(read(t, "../config.example.yaml")), &example))
	known := map[string]bool{}
	note(known, "", example)
	_, section, found := strings.Cut(read(t, "../README.md"), "\n## Patterns")
	if !found {
		t.Fatal("the README has no patterns")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	n := 0
	for _, cell := range keyCell.FindAllStringSubmatch(section, -1) {
		for _, m := range quote.FindAllStringSubmatch(cell[1], -1) {
			if n++; !known[m[1]] {
				t.Errorf("no configuration has %s", m[1])
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d keys were read", n)
	}
}

// note adds the path of everything in a document, and each end of it: for a.b.c
// also b.c and c.
func note(known map[string]bool, path string, v any) {
	for end := path; end != ""; {
		known[end] = true
		_, end, _ = strings.Cut(end, ".")
	}
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			note(known, strings.TrimPrefix(path+"."+key, "."), value)
		}
	case []any:
		for _, value := range v {
			note(known, path, value)
		}
	}
}
