package config

import (
	"encoding"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// place is where a value stands and what the tags around it ask of it.
type place struct {
	path    string // backends.orders.targets[0]
	generic string // backends.*.targets[]
	spec    *field
	secret  bool
	known   []string // keys of the mapping that somebody else decodes
}

func (p place) item(i int) place {
	return place{path: Join(p.path, i), generic: p.generic + "[]", spec: p.spec, secret: p.secret}
}

func (p place) entry(key string) place {
	return place{path: Join(p.path, key), generic: under(p.generic, "*"), spec: p.spec, secret: p.secret}
}

func (p place) field(f *field) place {
	return place{path: Join(p.path, f.name), generic: under(p.generic, f.name), spec: f, secret: p.secret || f.secret}
}

// value decodes n over v, which is addressable, and reports what is wrong.
func (d *Document) value(n *node, v reflect.Value, p place) {
	switch {
	case n.bad:
	case v.Type() == rawType:
		v.Set(reflect.ValueOf(Raw{doc: d, node: n, path: p.path, generic: p.generic, secret: p.secret}))
	case v.Kind() == reflect.Pointer:
		d.pointer(n, v, p)
	case n.isNull() && (v.Kind() != reflect.Struct || !composite(v.Type())):
		d.shown[n] = true // null leaves the default; for a struct it is no keys
	default:
		d.dispatch(n, v, p)
		if val, ok := v.Addr().Interface().(validator); ok {
			d.Fault(p.path, val.Validate())
		}
	}
}

// pointer decodes into a copy, since the pointee may belong to shared defaults. Of
// a struct that is there where its key is, nothing behind the key says neither.
func (d *Document) pointer(n *node, v reflect.Value, p place) {
	if n.isNull() && v.IsNil() {
		if t := v.Type().Elem(); t.Kind() == reflect.Struct && composite(t) {
			d.fault(n, p.path, "expected %s, got nothing; write {} for the defaults, or leave the key out", describe(t, p.spec))
		}
		return
	}
	fresh := reflect.New(v.Type().Elem())
	if v.IsNil() {
		prepare(fresh.Elem())
	} else {
		fresh.Elem().Set(v.Elem())
	}
	d.value(n, fresh.Elem(), p)
	v.Set(fresh)
}

func (d *Document) dispatch(n *node, v reflect.Value, p place) {
	if n.kind == scalarNode && d.short(n, v, p) {
		return
	}
	if t := v.Type(); takesText(t) && !composite(t) {
		d.expected(n, p, describe(t, p.spec))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, p)
	case reflect.Map:
		d.table(n, v, p)
	case reflect.Slice, reflect.Array:
		d.list(n, v, p)
	case reflect.Interface:
		if v.NumMethod() > 0 {
			panic(fmt.Sprintf("config: %s: cannot decode into %v", p.generic, v.Type()))
		}
		if x := d.generic(n, p); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		d.scalar(n, v, p)
	}
}

// short tries the scalar forms of types that read themselves.
func (d *Document) short(n *node, v reflect.Value, p place) bool {
	var err error
	switch into := v.Addr().Interface().(type) {
	case boolUnmarshaler:
		if n.tag == boolTag {
			err = into.UnmarshalYAMLBool(isTrue(n.value))
			break
		}
		text, ok := into.(encoding.TextUnmarshaler)
		if !ok || n.isNull() {
			return false
		}
		err = text.UnmarshalText([]byte(n.value))
	case encoding.TextUnmarshaler:
		if n.isNull() {
			return false
		}
		err = into.UnmarshalText([]byte(n.value))
	case *url.URL:
		var u *url.URL
		if u, err = url.Parse(n.value); err == nil {
			*into = *u
		} else if inner, ok := err.(*url.Error); ok {
			err = fmt.Errorf("not a URL: %w", inner.Err)
		}
	default:
		return false
	}
	d.shown[n] = !p.secret
	for _, e := range flatten(err) {
		message := messageOf(e)
		if p.secret {
			message = "not valid"
		}
		d.fault(n, under(p.path, fieldOf(e)), "%s", message)
	}
	return true
}

func (d *Document) mapping(n *node, v reflect.Value, p place) {
	s := shapeOf(v.Type())
	if n.kind != mappingNode && !n.isNull() {
		d.expected(n, p, describe(v.Type(), p.spec))
		return
	}
	names := append(s.names(), p.known...)
	for i, key := range n.keys {
		f := s.field(key.value)
		switch {
		case f != nil:
			at := p.field(f)
			d.used[at.generic] = true
			d.value(n.items[i], v.FieldByIndex(f.index), at)
		case s.rest != nil, slices.Contains(p.known, key.value):
		case p.path == "" && strings.HasPrefix(key.value, "x-"):
		default:
			d.unknown(key, p, names)
		}
	}
	if s.rest != nil {
		v.FieldByIndex(s.rest.index).Set(reflect.ValueOf(
			Raw{doc: d, node: n, path: p.path, generic: p.generic, secret: p.secret, known: names}))
	}
	d.required(n, v, p, s)
}

func (d *Document) required(n *node, v reflect.Value, p place, s *shape) {
	for _, f := range s.fields {
		at := Join(p.path, f.name)
		if !f.required || !empty(v.FieldByIndex(f.index)) || d.isTainted(at) {
			continue
		}
		if have := n.child(f.name); have == nil {
			d.fault(n, at, "missing key %q%s", f.name, explain(f))
		} else if have.isNull() || slices.Contains(sized, f.typ.Kind()) {
			d.fault(have, at, "must not be empty%s", explain(f))
		}
	}
}

func empty(v reflect.Value) bool {
	return v.IsZero() || ((v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0)
}

var sized = []reflect.Kind{reflect.String, reflect.Slice, reflect.Map}

func explain(f *field) string {
	if f.doc == "" {
		return ""
	}
	return " (" + f.doc + ")"
}

// table decodes a map; a key's value starts from its type's defaults.
func (d *Document) table(n *node, v reflect.Value, p place) {
	t := v.Type()
	if t.Key().Kind() != reflect.String {
		panic(fmt.Sprintf("config: %s: map keys must be strings", p.generic))
	}
	if n.kind != mappingNode {
		d.expected(n, p, describe(t, p.spec))
		return
	}
	out := reflect.MakeMapWithSize(t, len(n.keys))
	for i, key := range n.keys {
		item := reflect.New(t.Elem()).Elem()
		prepare(item)
		d.value(n.items[i], item, p.entry(key.value))
		out.SetMapIndex(reflect.ValueOf(key.value).Convert(t.Key()), item)
	}
	v.Set(out)
}

// list decodes a slice or an array, which replaces what was there.
func (d *Document) list(n *node, v reflect.Value, p place) {
	items, t := n.items, v.Type()
	single := n.kind != listNode
	if single && p.spec.words != nil && n.kind == scalarNode && n.env == "" && !slices.Contains(p.spec.words, n.value) {
		d.fault(n, p.path, "expected %s or a list, got %s; write [%s] where a list of one is meant%s",
			strings.Join(p.spec.words, ", "), got(n, p.secret), clip(flow(n)), DidYouMean(n.value, p.spec.words))
		return
	} else if single && p.spec.oneOrMany && !n.isNull() {
		items = []*node{n}
	} else if single || !composite(t) {
		d.expected(n, p, describe(t, p.spec))
		return
	}
	out := reflect.New(t).Elem()
	if t.Kind() == reflect.Slice {
		out.Set(reflect.MakeSlice(t, len(items), len(items)))
	} else if len(items) != t.Len() {
		d.fault(n, p.path, "expected a list of %d, got %d", t.Len(), len(items))
		return
	}
	for i, item := range items {
		prepare(out.Index(i))
		at := p.item(i)
		if single {
			at.path = p.path
		}
		if item.isNull() {
			d.expected(item, at, describe(t.Elem(), p.spec))
			continue
		}
		d.value(item, out.Index(i), at)
	}
	v.Set(out)
}

// generic decodes into any: bool, int64, float64, string, []any, map[string]any.
func (d *Document) generic(n *node, p place) any {
	switch n.kind {
	case mappingNode:
		out := make(map[string]any, len(n.keys))
		for i, key := range n.keys {
			out[key.value] = d.generic(n.items[i], p)
		}
		return out
	case listNode:
		out := make([]any, len(n.items))
		for i, item := range n.items {
			out[i] = d.generic(item, p)
		}
		return out
	}
	d.shown[n] = !p.secret
	switch n.tag {
	case boolTag:
		return isTrue(n.value)
	case nullTag:
		return nil
	case intTag:
		if i, _, ok := parseInt(n); ok {
			return i
		}
	case floatTag:
		if x, _, ok := parseFloat(n); ok {
			return x
		}
	}
	return n.value
}

// expected reports a value of the wrong type, with the likely remedy.
func (d *Document) expected(n *node, p place, what string) {
	hint := ""
	if strings.HasPrefix(what, "a list") && !n.isNull() {
		switch n.kind {
		case mappingNode:
			hint = `; write "- " before its first key`
		case scalarNode:
			if !p.secret {
				hint = "; write [" + clip(flow(n)) + "]"
			}
		}
	}
	d.fault(n, p.path, "expected %s, got %s%s", what, got(n, p.secret), hint)
}

// flow is a scalar as it would be written in a flow list.
func flow(n *node) string {
	if n.env != "" {
		return n.env
	}
	y := yaml.Node{Kind: yaml.ScalarNode, Value: n.value, Tag: n.tag}
	if strings.ContainsAny(n.value, ",[]{}\n") {
		y.Style = yaml.DoubleQuotedStyle
	}
	out, err := yaml.Marshal(&y)
	if err != nil {
		return n.value
	}
	return strings.TrimSpace(string(out))
}
