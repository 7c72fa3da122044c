package config

import (
	"encoding"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"
)

var (
	rawType      = reflect.TypeFor[Raw]()
	durationType = reflect.TypeFor[time.Duration]()
	urlType      = reflect.TypeFor[url.URL]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	boolType     = reflect.TypeFor[boolUnmarshaler]()
)

type boolUnmarshaler interface{ UnmarshalYAMLBool(bool) error }
type validator interface{ Validate() error }
type defaulter interface{ SetDefaults() }

// field is what the tags of one struct field say.
type field struct {
	name      string
	index     []int
	typ       reflect.Type
	doc, def  string
	unit      string
	enum      []string
	min, max  string
	required  bool
	secret    bool
	oneOrMany bool
	words     []string // the only elements that may be written alone; nil: any
	negative  bool
}

// shape is what a mapping decoded into a struct may hold.
type shape struct {
	fields []*field
	rest   *field // the inline Raw, or nil
}

func (s *shape) field(name string) *field {
	for _, f := range s.fields {
		if f.name == name {
			return f
		}
	}
	return nil
}

func (s *shape) names() []string {
	out := make([]string, len(s.fields))
	for i, f := range s.fields {
		out[i] = f.name
	}
	return out
}

func shapeOf(t reflect.Type) *shape {
	s := &shape{}
	s.add(t, nil)
	return s
}

func (s *shape) add(t reflect.Type, index []int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, ok := sf.Tag.Lookup("yaml")
		if !ok || tag == "-" || (!sf.IsExported() && !sf.Anonymous) {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		at := append(append([]int{}, index...), sf.Index...)
		f := fieldOfTag(sf.Type, name, at, sf.Tag)
		switch {
		case options == "inline" && sf.Type == rawType:
			s.rest = f
			continue
		case options == "inline" && sf.Type.Kind() == reflect.Struct:
			s.add(sf.Type, at)
			continue
		case name == "" || !sf.IsExported():
			panic(fmt.Sprintf("config: %v.%s needs a name in its yaml tag", t, sf.Name))
		case s.field(name) != nil:
			panic(fmt.Sprintf("config: %v has two fields named %q", t, name))
		}
		s.fields = append(s.fields, f)
	}
}

func fieldOfTag(t reflect.Type, name string, index []int, tag reflect.StructTag) *field {
	f := &field{
		name: name, index: index, typ: t,
		doc: tag.Get("doc"), def: tag.Get("default"), unit: tag.Get("unit"),
		min: tag.Get("min"), max: tag.Get("max"),
		required: tag.Get("required") == "true", secret: tag.Get("secret") == "true",
		oneOrMany: tag.Get("oneOrMany") == "true", negative: tag.Get("negative") == "true",
	}
	if alone := tag.Get("oneOrMany"); alone != "" && alone != "true" {
		f.oneOrMany, f.words = true, strings.Split(alone, "|")
	}
	if enum, ok := tag.Lookup("enum"); ok {
		f.enum = strings.Split(enum, "|")
	}
	return f
}

// takesText reports whether a scalar of any type is for the type itself to read.
func takesText(t reflect.Type) bool {
	return t == urlType || reflect.PointerTo(t).Implements(textType)
}

func takesBool(t reflect.Type) bool { return reflect.PointerTo(t).Implements(boolType) }

// composite reports whether a mapping or list can be decoded into t, as it
// cannot into netip.Addr (no keys) or net.IP (bytes).
func composite(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		s := shapeOf(t)
		return len(s.fields) > 0 || s.rest != nil || !takesText(t)
	case reflect.Map, reflect.Array:
		return true
	case reflect.Slice:
		return t.Elem().Kind() != reflect.Uint8
	}
	return false
}

// prepare sets the defaults of a value that the decoder has made, inner
// structs first, and allocates it where it is a pointer.
func prepare(v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		prepare(v.Elem())
		return
	}
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && f.Kind() == reflect.Struct {
				prepare(f)
			}
		}
	}
	if d, ok := v.Addr().Interface().(defaulter); ok {
		d.SetDefaults()
	}
}
