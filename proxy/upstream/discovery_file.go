package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/fsnotify/fsnotify"
	"gopkg.in/yaml.v3"
)

const (
	fileQuiet   = 50 * time.Millisecond // without an event before a change counts
	fileMost    = time.Second           // after which it counts all the same
	maxFileSize = 4 << 20
)

// watch reads the file when something has happened in its folder: to itself, or
// to a link on the way to it, which is how a Kubernetes config map changes. It
// also looks every refresh, for what no event tells of.
func (d *Discovery) watch(ctx context.Context) error {
	var events chan fsnotify.Event
	var lost chan error
	w, err := fsnotify.NewWatcher()
	if err == nil {
		defer w.Close()
		events, lost = w.Events, w.Errors
	} else {
		d.log.Warn("discovery cannot watch; the file is read now and then", "file", d.cfg.File, "every", d.cfg.Refresh, "error", err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var read []byte     // with the good targets
	var first time.Time // event since the last look
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			if first.IsZero() {
				first = time.Now()
			}
			timer.Reset(min(fileQuiet, time.Until(first.Add(fileMost))))
			continue
		case <-lost: // events were
			timer.Reset(fileQuiet)
			continue
		case <-timer.C:
		}
		first = time.Time{}
		if w != nil {
			follow(w, d.cfg.File)
		}
		read = d.reread(read)
		timer.Reset(d.cfg.Refresh)
	}
}

// follow watches the folder that names the file and the one that holds it. What
// is not there yet is tried again with the next look.
func follow(w *fsnotify.Watcher, path string) {
	_ = w.Add(filepath.Dir(path))
	if real, err := filepath.EvalSymlinks(path); err == nil {
		_ = w.Add(filepath.Dir(real))
	}
}

// reread takes the file in where it is another than the one before.
func (d *Discovery) reread(before []byte) []byte {
	data, err := readFile(d.cfg.File)
	if err == nil && before != nil && bytes.Equal(data, before) {
		if d.State().Failing {
			d.take(d.targets, nil)
		}
		return before
	}
	var targets []Found
	if err == nil {
		targets, err = parseTargets(d.cfg.File, data)
	}
	if err != nil {
		d.take(nil, err)
		return before
	}
	d.take(targets, nil)
	return data
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if len(data) > maxFileSize {
		err = fmt.Errorf("%s: more than %d bytes", path, maxFileSize)
	}
	return data, err
}

// parseTargets reads a list of targets, or a mapping whose only key `targets`
// has one. The error has a line for each fault, as file:line: what is wrong.
func parseTargets(path string, data []byte) ([]Found, error) {
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&doc); err != nil {
		if err == io.EOF {
			return nil, fmt.Errorf("%s: no targets", path)
		}
		return nil, fmt.Errorf("%s: %w", path, err) // yaml.v3 says the line
	}
	if decoder.Decode(new(yaml.Node)) != io.EOF {
		return nil, fmt.Errorf("%s: more than one document", path)
	}
	list := doc.Content[0]
	if list.Kind == yaml.MappingNode && len(list.Content) == 2 && list.Content[0].Value == "targets" {
		list = list.Content[1]
	}
	r := &targetReader{path: path, lines: map[string]int{}}
	if list.Kind != yaml.SequenceNode {
		return nil, r.fault(list, "expected a list of targets")
	}
	var targets []Found
	var faults []error
	for _, n := range list.Content {
		f, err := r.target(n)
		targets, faults = append(targets, f), append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if len(targets) == 0 {
		return nil, r.fault(list, "no targets")
	}
	return targets, nil
}

type targetReader struct {
	path  string
	lines map[string]int // of each URL
}

func (r *targetReader) fault(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", r.path, n.Line, fmt.Sprintf(format, args...))
}

func (r *targetReader) target(n *yaml.Node) (Found, error) {
	f := Found{Weight: 1}
	switch n.Kind {
	case yaml.ScalarNode:
		f.URL = n.Value
	case yaml.MappingNode:
		if err := r.keys(n, &f); err != nil {
			return f, err
		}
	default:
		return f, r.fault(n, "expected a URL, or a mapping with url, weight and priority")
	}
	if _, err := newTarget(Config{URL: f.URL}); err != nil {
		return f, r.fault(n, "%v", err)
	}
	if line, ok := r.lines[f.URL]; ok {
		return f, r.fault(n, "%s is on line %d already", f.URL, line)
	}
	r.lines[f.URL] = n.Line
	return f, nil
}

func (r *targetReader) keys(n *yaml.Node, f *Found) error {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			return r.fault(key, "%s is there twice", key.Value)
		}
		seen[key.Value] = true
		var err error
		switch key.Value {
		case "url":
			f.URL = value.Value
		case "weight":
			f.Weight, err = r.number(value, "weight", 1, 1000)
		case "priority":
			f.Priority, err = r.number(value, "priority", 0, 100)
		default:
			err = r.fault(key, "unknown key %q; there are url, weight and priority", key.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *targetReader) number(n *yaml.Node, key string, least, most int) (int, error) {
	x, err := strconv.Atoi(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode || x < least || x > most {
		return 0, r.fault(n, "%s is a whole number from %d to %d", key, least, most)
	}
	return x, nil
}
