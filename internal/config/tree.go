package config

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

const (
	maxDepth   = 64      // nesting of lists and mappings
	maxAliased = 100_000 // nodes that aliases and merges may add to a file
)

type nodeKind int

const (
	scalarNode nodeKind = iota
	mappingNode
	listNode
)

const (
	strTag   = "!!str"
	intTag   = "!!int"
	floatTag = "!!float"
	boolTag  = "!!bool"
	nullTag  = "!!null"
	timeTag  = "!!timestamp"
)

// node is a YAML node with aliases, merges and environment variables put in.
type node struct {
	kind      nodeKind
	tag       string // scalars: what it was resolved to
	value     string // scalars
	env       string // scalars: as written, where variables were put in
	line, col int
	keys      []*node // mappings: parallel to items
	items     []*node
	bad       bool // already reported; decode nothing
}

func (n *node) isNull() bool { return n.kind == scalarNode && n.tag == nullTag }

func (n *node) child(key string) *node {
	for i, k := range n.keys {
		if k.value == key {
			return n.items[i]
		}
	}
	return nil
}

// builder makes nodes of yaml.Nodes. It goes on past small faults and stops at
// the first fatal one.
type builder struct {
	doc     *Document
	env     func(string) (string, bool)
	open    []*yaml.Node // aliased nodes under construction, against cycles
	aliased int
	fatal   *Fault
}

func (b *builder) stop(y *yaml.Node, path, message string) {
	b.fatal = &Fault{File: b.doc.name, Line: y.Line, Column: y.Column, Path: path, Message: message}
}

// fault reports once: what an alias repeats was reported where it is defined.
func (b *builder) fault(y *yaml.Node, path, format string, args ...any) {
	if len(b.open) > 0 {
		b.doc.tainted = append(b.doc.tainted, path)
		return
	}
	b.doc.fault(&node{line: y.Line, col: y.Column}, path, format, args...)
}

func (b *builder) build(y *yaml.Node, path string, depth int) *node {
	n := &node{line: y.Line, col: y.Column}
	if len(b.open) > 0 {
		b.aliased++
	}
	switch {
	case b.fatal != nil:
		return n
	case depth > maxDepth:
		b.stop(y, "", fmt.Sprintf("nested more than %d levels deep", maxDepth))
		return n
	case b.aliased > maxAliased:
		b.stop(y, path, fmt.Sprintf("aliases expand to more than %d values", maxAliased))
		return n
	}
	switch y.Kind {
	case yaml.AliasNode:
		return b.alias(y, path, depth)
	case yaml.MappingNode:
		n.kind = mappingNode
		b.mapping(n, y, path, depth)
	case yaml.SequenceNode:
		n.kind = listNode
		for i, item := range y.Content {
			n.items = append(n.items, b.build(item, Join(path, i), depth+1))
		}
	default:
		b.scalar(n, y, path)
	}
	if y.Style&yaml.TaggedStyle != 0 && !slices.Contains(tags[n.kind], y.ShortTag()) {
		b.fault(y, path, "unknown tag %s", y.ShortTag())
		n.bad = true
	}
	return n
}

var tags = map[nodeKind][]string{
	scalarNode:  {strTag, intTag, floatTag, boolTag, nullTag, timeTag},
	mappingNode: {"!!map"},
	listNode:    {"!!seq"},
}

func (b *builder) alias(y *yaml.Node, path string, depth int) *node {
	if slices.Contains(b.open, y.Alias) {
		b.stop(y, path, fmt.Sprintf("the anchor &%s contains itself", y.Value))
		return &node{bad: true}
	}
	b.open = append(b.open, y.Alias)
	n := b.build(y.Alias, path, depth)
	b.open = b.open[:len(b.open)-1]
	n.line, n.col = y.Line, y.Column
	return n
}

func (b *builder) scalar(n *node, y *yaml.Node, path string) {
	n.tag, n.value = y.ShortTag(), y.Value
	if n.tag == "!!merge" {
		n.tag = strTag
	}
	value, whole, problem := expand(y.Value, b.env)
	if problem != "" {
		b.fault(y, path, "%s", problem)
		n.bad = true
		return
	}
	if value == y.Value {
		return
	}
	n.value, n.env = value, y.Value
	if plain := y.Style == 0; plain && whole {
		n.tag = resolve(value)
	}
}

func (b *builder) mapping(n *node, y *yaml.Node, path string, depth int) {
	var merges []*yaml.Node
	lines := make(map[string]int, len(y.Content)/2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		at := *key
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			b.fault(&at, path, "a key must be text, not a list or a mapping")
			continue
		}
		if key.Value == "<<" && key.ShortTag() == "!!merge" {
			merges = append(merges, value)
			continue
		}
		sub := Join(path, key.Value)
		if line, have := lines[key.Value]; have {
			b.fault(&at, sub, "duplicate key %q; it is already set in line %d", clip(key.Value), line)
			continue
		}
		lines[key.Value] = at.Line
		n.keys = append(n.keys, &node{value: key.Value, tag: strTag, line: at.Line, col: at.Column})
		n.items = append(n.items, b.build(value, sub, depth+1))
	}
	for _, m := range merges {
		b.merge(n, m, path, depth)
	}
}

// merge adds what `<<: *base` or `<<: [*a, *b]` brings; keys already there win.
func (b *builder) merge(n *node, y *yaml.Node, path string, depth int) {
	if y.Kind == yaml.SequenceNode {
		for _, item := range y.Content {
			if item.Kind == yaml.SequenceNode {
				b.fault(item, path, "<< takes a mapping or a list of mappings")
				continue
			}
			b.merge(n, item, path, depth)
		}
		return
	}
	from := b.build(y, path, depth+1)
	if from.kind != mappingNode {
		if b.fatal == nil && !from.bad {
			b.fault(y, path, "<< takes a mapping or a list of mappings")
		}
		return
	}
	have := make(map[string]bool, len(n.keys))
	for _, k := range n.keys {
		have[k.value] = true
	}
	for i, k := range from.keys {
		if !have[k.value] {
			n.keys, n.items = append(n.keys, k), append(n.items, from.items[i])
		}
	}
}

// resolve types what a variable holds as YAML would a plain scalar, except
// that nothing but the empty one is null.
func resolve(s string) string {
	switch s {
	case "":
		return nullTag
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return boolTag
	}
	var n yaml.Node
	if strings.ContainsAny(s, "\n\r:#,[]{}&*!|>'\"%@`") || yaml.Unmarshal([]byte(s), &n) != nil ||
		len(n.Content) != 1 || n.Content[0].Kind != yaml.ScalarNode || n.Content[0].Value != s {
		return strTag
	}
	if tag := n.Content[0].ShortTag(); tag == intTag || tag == floatTag {
		return tag
	}
	return strTag
}
