package config

import (
	"reflect"
	"sort"
)

// Document is one parsed file and the faults found in it so far. It is not
// safe for concurrent use.
type Document struct {
	name    string
	root    *node
	faults  []Fault
	tainted []string        // paths whose value is not to be trusted
	used    map[string]bool // key paths that a decode has met, in the form of Keys
	shown   map[*node]bool  // scalars decoded into fields that are not secret
}

// Parse reads one YAML document. Scalars may name environment variables as
// ${NAME} or ${NAME:-default} ($${ is a literal ${); env looks them up, and a
// nil env knows none. Expansion follows YAML parsing, so a variable never adds
// structure; a plain scalar that is one reference is typed by what it expands
// to, so `port: ${PORT}` is a number and an empty one leaves the default. Where
// a number or a bool is expected, so is a quoted or composed one.
//
// The error is a *Faults where nothing can be decoded (syntax, several
// documents, runaway aliases). Smaller faults wait for Err.
func Parse(name string, data []byte, env func(string) (string, bool)) (*Document, error) {
	d := &Document{name: name, used: map[string]bool{}, shown: map[*node]bool{}}
	top, fatal := readYAML(name, data)
	if fatal == nil && top != nil {
		b := builder{doc: d, env: env}
		d.root = b.build(top, "", 0)
		fatal = b.fatal
	}
	if fatal != nil {
		d.faults = append(d.faults, *fatal)
		return nil, d.Err()
	}
	if d.root == nil {
		d.root = &node{kind: scalarNode, tag: nullTag, line: 1, col: 1}
	}
	return d, nil
}

// Decode decodes the document over what into, a pointer to a struct, already
// holds: absent keys and null leave it, lists and maps are replaced. Faults
// are collected for Err. Top-level keys that begin with "x-" are left alone,
// as a place for anchors.
func (d *Document) Decode(into any) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic("config: Decode needs a pointer to a struct")
	}
	d.value(d.root, v.Elem(), place{spec: &field{}})
}

// Fault reports a problem found after the decode at a path such as
// "routes[2].match.path" (see Join). It is placed at that node, or at its
// nearest ancestor in the file. Joined errors are reported one by one. A
// problem with a value that is already known to be faulty is dropped.
func (d *Document) Fault(path string, err error) {
	for _, e := range flatten(err) {
		at := path
		if sub := fieldOf(e); sub != "" {
			at = under(path, sub)
		}
		if d.isTainted(at) {
			continue
		}
		n := d.nearest(at)
		d.faults = append(d.faults, Fault{File: d.name, Line: n.line, Column: n.col, Path: at, Message: messageOf(e), Err: e})
	}
}

// Has reports whether the file sets the path.
func (d *Document) Has(path string) bool {
	_, ok := d.lookup(path)
	return ok
}

// Err returns nil, or a *Faults with every fault so far in the order of the file.
func (d *Document) Err() error {
	return sorted(d.faults)
}

// Paths returns every key path that the file sets, sorted: "routes[0].match.path".
func Paths(d *Document) []string {
	var out []string
	var walk func(n *node, path string)
	walk = func(n *node, path string) {
		for i, item := range n.items {
			at := Join(path, i)
			if n.kind == mappingNode {
				at = Join(path, n.keys[i].value)
				out = append(out, at)
			}
			walk(item, at)
		}
	}
	walk(d.root, "")
	sort.Strings(out)
	return out
}

// Used returns the key paths that decodes of the document have met, in the
// form of Keys: "routes[].match.path", "backends.*.kind". Comparing the two
// tells what a file leaves unmentioned.
func Used(d *Document) []string {
	out := make([]string, 0, len(d.used))
	for path := range d.used {
		out = append(out, path)
	}
	sort.Strings(out)
	return out
}
