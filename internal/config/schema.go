package config

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Options add to the types what only their user knows.
type Options struct {
	Title string
	// Variants gives the structs behind Raw fields, by the struct that holds
	// the Raw. Beside an inline Raw the names are the values of the
	// discriminator; otherwise they are the names of the Raw fields.
	Variants map[reflect.Type]map[string]any
	// Discriminator is the key that selects among an inline Raw's variants;
	// "kind" if empty.
	Discriminator string
}

func (o Options) discriminator() string {
	if o.Discriminator == "" {
		return "kind"
	}
	return o.Discriminator
}

// Schema returns the JSON Schema (draft 2020-12) of the struct v's type, ready
// for json.Marshal. It accepts what Decode accepts, except null in scalars and
// what Validate and UnmarshalText refuse.
func Schema(v any, o Options) map[string]any {
	s := schemer{Options: o, defs: map[string]any{}, names: map[reflect.Type]string{}}
	for name, pattern := range map[string]string{
		"env":      `\$\{`,
		"duration": `^-?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|^0$|\$\{`,
		"size":     `^[0-9]+ ?([KMGT]i?)?B?$|\$\{`,
		"byterate": `^[0-9]+ ?([KMGT]i?)?B/s$|^0$|\$\{`,
		"percent":  `^[0-9.]+ ?%$|\$\{`,
	} {
		s.defs[name] = object{"type": "string", "pattern": pattern}
	}
	out := s.object(structOf(v))
	out["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	out["patternProperties"] = object{"^x-": true}
	out["$defs"] = s.defs
	if o.Title != "" {
		out["title"] = o.Title
	}
	return out
}

func structOf(v any) reflect.Type {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

type object = map[string]any

type schemer struct {
	Options
	defs  object
	names map[reflect.Type]string
}

// of is the schema of a value of type t under the tags f.
func (s *schemer) of(t reflect.Type, f *field) object {
	if t.Kind() == reflect.Pointer {
		out := s.of(t.Elem(), f)
		if t = t.Elem(); t.Kind() == reflect.Struct && composite(t) {
			return object{"allOf": []any{out}, "not": object{"type": "null"}}
		}
		return out
	}
	text := object{"type": []string{"string", "number"}}
	var forms []any
	if takesText(t) {
		if !composite(t) {
			return text
		}
		forms = append(forms, text)
	}
	if takesBool(t) {
		forms = append(forms, object{"type": "boolean"})
	}
	var full object
	switch t.Kind() {
	case reflect.Struct:
		full = s.ref(t)
	case reflect.Map:
		full = object{"type": []string{"object", "null"}, "additionalProperties": s.of(t.Elem(), f)}
	case reflect.Slice, reflect.Array:
		item := s.of(t.Elem(), f)
		full = object{"type": []string{"array", "null"}, "items": item}
		if t.Kind() == reflect.Array {
			full["minItems"], full["maxItems"] = t.Len(), t.Len()
		}
		if f.words != nil {
			item = s.text(&field{enum: f.words})
		}
		if f.oneOrMany {
			forms = append(forms, item)
		}
	case reflect.Interface:
		return object{}
	default:
		full = s.scalar(t, f)
	}
	if len(forms) == 0 {
		return full
	}
	return object{"oneOf": append(forms, full)}
}

// ref puts named structs into $defs, which also ends recursive types.
func (s *schemer) ref(t reflect.Type) object {
	if t == rawType {
		return object{}
	}
	if t.Name() == "" {
		return s.object(t)
	}
	name, ok := s.names[t]
	if !ok {
		name = t.Name()
		if _, taken := s.defs[name]; taken {
			name = path.Base(t.PkgPath()) + "." + name
		}
		for i := 2; s.defs[name] != nil; i++ {
			name = t.Name() + strconv.Itoa(i)
		}
		s.names[t], s.defs[name] = name, object{}
		s.defs[name] = s.object(t)
	}
	return object{"$ref": "#/$defs/" + name}
}

func (s *schemer) object(t reflect.Type) object {
	sh := shapeOf(t)
	variants := s.Variants[t]
	props, required := object{}, []string{}
	for _, f := range sh.fields {
		if v, ok := variants[f.name]; ok && f.typ == rawType {
			props[f.name] = annotate(s.of(structOf(v), f), f)
		} else {
			props[f.name] = annotate(s.of(f.typ, f), f)
		}
		if f.required {
			required = append(required, f.name)
		}
	}
	out := object{"type": []string{"object", "null"}, "properties": props, "additionalProperties": false}
	if len(required) > 0 {
		out["type"], out["required"] = "object", required
	}
	if sh.rest != nil {
		delete(out, "additionalProperties")
		s.variants(out, sh, variants)
	}
	return out
}

// variants adds one if/then a kind, in the form that editors of draft 7 read
// as well: each `then` names the outer keys again, so that it can close the set.
func (s *schemer) variants(out object, sh *shape, variants map[string]any) {
	if len(variants) == 0 {
		return
	}
	key := s.discriminator()
	var kinds, all []any
	for _, kind := range sortedKeys(variants) {
		kinds = append(kinds, kind)
		inner := s.object(structOf(variants[kind]))
		for _, f := range sh.fields {
			inner["properties"].(object)[f.name] = true
		}
		when := object{"properties": object{key: object{"const": kind}}}
		if f := sh.field(key); f == nil || f.def != kind {
			when["required"] = []string{key}
		}
		all = append(all, object{"if": when, "then": inner})
	}
	if prop, ok := out["properties"].(object)[key].(object); ok {
		delete(prop, "type")
		prop["anyOf"] = []any{object{"enum": kinds}, object{"$ref": "#/$defs/env"}}
	}
	out["allOf"] = all
}

func sortedKeys(m map[string]any) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// annotate adds what an editor shows.
func annotate(o object, f *field) object {
	if f.doc != "" {
		o["description"] = f.doc
	}
	if f.def == "" {
		return o
	}
	var def any
	if k := f.typ.Kind(); k == reflect.String || takesText(f.typ) || yaml.Unmarshal([]byte(f.def), &def) != nil {
		def = f.def
	}
	o["default"] = def
	return o
}

func (s *schemer) scalar(t reflect.Type, f *field) object {
	ref := func(name string) object { return object{"$ref": "#/$defs/" + name} }
	switch {
	case t == durationType || f.unit == "byterate" || f.unit == "percent":
		name := f.unit
		if t == durationType {
			name = "duration"
		}
		return object{"anyOf": []any{object{"const": 0}, ref(name)}}
	case f.unit == "size":
		return object{"anyOf": []any{object{"type": "integer", "minimum": 0}, ref("size")}}
	}
	switch t.Kind() {
	case reflect.String:
		return s.text(f)
	case reflect.Bool:
		return object{"anyOf": []any{object{"type": "boolean"}, ref("env")}}
	case reflect.Float32, reflect.Float64:
		return object{"anyOf": []any{bounded(object{"type": "number"}, t, f), ref("env")}}
	}
	if f.enum != nil {
		var values []any
		for _, e := range f.enum {
			x, err := strconv.Atoi(e)
			if err != nil {
				panic(fmt.Sprintf("config: %q is no value for field %q", e, f.name))
			}
			values = append(values, x)
		}
		return object{"anyOf": []any{object{"enum": values}, ref("env")}}
	}
	n := object{"type": "integer"}
	if strings.HasPrefix(t.Kind().String(), "uint") {
		n["minimum"] = 0
	}
	return object{"anyOf": []any{bounded(n, t, f), ref("env")}}
}

func (s *schemer) text(f *field) object {
	o := object{"type": []string{"string", "number"}}
	if f.enum != nil {
		var values []any
		for _, e := range f.enum {
			values = append(values, e)
			if x, err := strconv.Atoi(e); err == nil {
				values = append(values, x)
			}
		}
		return object{"anyOf": []any{object{"enum": values}, object{"$ref": "#/$defs/env"}}}
	}
	if f.required {
		o["minLength"] = 1
	}
	return o
}

func bounded(o object, t reflect.Type, f *field) object {
	if f.min != "" {
		o["minimum"] = limit(f.min, t, f)
	}
	if f.max != "" {
		o["maximum"] = limit(f.max, t, f)
	}
	return o
}
