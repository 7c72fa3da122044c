package phases

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// A Phase is one file of deploy/phases.
type Phase struct {
	Name  string // "3-cache"
	Title string // the comment at the file's beginning
	File  string
	Specs []Spec // what is run, in turn; clients connect to the last
}

// A Spec is one process of a phase.
type Spec struct {
	Name     string // "s1-replica-1"
	Kind     string // postgres | redis | gateway | users | worker
	Variable string // by which others know its address; empty: nobody asks it
	Of       string // postgres: the primary of this replica
	Config   string // gateway, users, worker: their file
}

// A need is one of a file's x-processes.
type need struct {
	Run      string `yaml:"run"`
	Name     string `yaml:"name"`
	File     string `yaml:"file"`
	Replicas int    `yaml:"replicas"`
}

// Load reads a phase; nil where the file is a part of another.
func Load(file string) (*Phase, error) {
	file, err := filepath.Abs(file) // processes run elsewhere
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Needs *[]need `yaml:"x-processes"`
	}
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if doc.Needs == nil {
		return nil, nil
	}
	p := &Phase{Name: strings.TrimSuffix(filepath.Base(file), ".yaml"), File: file, Title: title(raw)}
	front := Spec{Name: "gateway", Kind: "gateway", Config: file}
	for _, n := range *doc.Needs {
		specs, err := n.specs(filepath.Dir(file))
		if err != nil {
			return nil, fmt.Errorf("%s: x-processes: %w", file, err)
		}
		p.Specs = append(p.Specs, specs...)
		if n.Run == "gateway" {
			front.Name = "edge"
		}
	}
	p.Specs = append(p.Specs, front)
	return p, p.distinct()
}

// title is the first paragraph of the comment at the beginning, without
// "Phase 3:".
func title(raw []byte) string {
	var words []string
	for line := range bytes.Lines(raw) {
		text, ok := strings.CutPrefix(string(line), "#")
		if !ok || strings.TrimSpace(text) == "" {
			break
		}
		words = append(words, strings.Fields(text)...)
	}
	if len(words) > 2 && words[0] == "Phase" && strings.HasSuffix(words[1], ":") {
		words = words[2:]
	}
	return strings.TrimSuffix(strings.Join(words, " "), ".")
}

// specs are the processes that a need comes to.
func (n need) specs(dir string) ([]Spec, error) {
	name := strings.ToLower(strings.ReplaceAll(n.Name, "_", "-"))
	s := Spec{Name: name, Kind: n.Run, Variable: n.Name}
	if n.Name == "" {
		return nil, fmt.Errorf("one of kind %s has no name", n.Run)
	}
	switch n.Run {
	case "redis":
		return []Spec{s}, nil
	case "postgres":
		list := []Spec{s}
		for i := range n.Replicas {
			list = append(list, Spec{Name: fmt.Sprintf("%s-replica-%d", name, i+1), Kind: n.Run,
				Variable: fmt.Sprintf("%s_REPLICA_%d", n.Name, i+1), Of: name})
		}
		return list, nil
	case "gateway", "users", "worker":
		s.Config = filepath.Join(dir, n.File)
		if info, err := os.Stat(s.Config); err != nil || info.IsDir() {
			return nil, fmt.Errorf("%s has no file %q", n.Name, n.File)
		}
		return []Spec{s}, nil
	}
	return nil, fmt.Errorf("nobody knows how to run %q", n.Run)
}

func (p *Phase) distinct() error {
	seen := map[string]bool{}
	for _, s := range p.Specs {
		if seen[s.Name] {
			return fmt.Errorf("%s: x-processes: two are named %s", p.File, s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

// All reads the phases of a folder, in the order of their names.
func All(dir string) ([]*Phase, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var list []*Phase
	for _, file := range files {
		p, err := Load(file)
		if err != nil {
			return nil, err
		}
		if p != nil {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("there are no phases in %s", dir)
	}
	return list, nil
}

// Primaries are the names of the databases that are no replicas.
func (p *Phase) Primaries() []string {
	var names []string
	for _, s := range p.Specs {
		if s.Primary() {
			names = append(names, s.Name)
		}
	}
	return names
}

// Primary says whether it is a database that takes writes.
func (s Spec) Primary() bool { return s.Kind == "postgres" && s.Of == "" }
