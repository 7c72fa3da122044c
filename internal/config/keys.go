package config

import (
	"fmt"
	"reflect"
	"slices"
)

// Keys returns every key path that the struct v's type has, sorted:
// "routes[].match.path", "backends.*.kind". A map of scalars is one key, and a
// type inside itself is not entered again.
func Keys(v any, o Options) []string {
	k := keys{Options: o, found: map[string]bool{}}
	k.walk(structOf(v), "", nil)
	out := make([]string, 0, len(k.found))
	for path := range k.found {
		out = append(out, path)
	}
	slices.Sort(out)
	return out
}

type keys struct {
	Options
	found map[string]bool
}

func (k *keys) walk(t reflect.Type, path string, in []reflect.Type) {
	if slices.Contains(in, t) || !(composite(t) || t.Kind() == reflect.Pointer) {
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		k.walk(t.Elem(), path, in)
	case reflect.Slice, reflect.Array:
		k.walk(t.Elem(), path+"[]", in)
	case reflect.Map:
		k.walk(t.Elem(), under(path, "*"), in)
	case reflect.Struct:
		k.fields(t, path, append(in, t))
	}
}

func (k *keys) fields(t reflect.Type, path string, in []reflect.Type) {
	if t == rawType {
		return
	}
	sh := shapeOf(t)
	variants := k.Variants[t]
	for _, f := range sh.fields {
		at := under(path, f.name)
		k.found[at] = true
		if v, ok := variants[f.name]; ok && f.typ == rawType {
			k.walk(structOf(v), at, in)
		} else {
			k.walk(f.typ, at, in)
		}
	}
	if sh.rest == nil {
		return
	}
	for _, v := range variants {
		k.walk(structOf(v), path, in)
	}
}

// DefaultDrift compares the default tags with the values that the struct v
// holds, and with what SetDefaults gives list elements, map values and
// pointers; it returns one line a difference. A test calls it with the default
// configuration.
func DefaultDrift(v any) []string {
	value := reflect.ValueOf(v)
	if value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	var out []string
	drift(value, "", nil, &out)
	return out
}

func drift(v reflect.Value, path string, in []reflect.Type, out *[]string) {
	t := v.Type()
	step, made := map[reflect.Kind]string{reflect.Slice: "[]", reflect.Array: "[]", reflect.Map: "*", reflect.Pointer: ""}[t.Kind()]
	if made {
		fresh := reflect.New(t.Elem()).Elem()
		if !slices.Contains(in, t) {
			prepare(fresh)
			drift(fresh, under(path, step), append(in, t), out)
		}
		return
	}
	if t.Kind() != reflect.Struct || slices.Contains(in, t) || !composite(t) || t == rawType {
		return
	}
	for _, f := range shapeOf(t).fields {
		at, have := under(path, f.name), v.FieldByIndex(f.index)
		if f.def != "" {
			compare(have, at, f, out)
		}
		drift(have, at, append(in, t), out)
	}
}

func compare(have reflect.Value, path string, f *field, out *[]string) {
	text := f.def
	if k := have.Kind(); k == reflect.String || takesText(f.typ) {
		text = fmt.Sprintf("%q", f.def)
	}
	d, err := Parse("default", []byte(text), nil)
	want := reflect.New(f.typ).Elem()
	if err == nil {
		d.value(d.root, want, place{spec: f})
		err = d.Err()
	}
	if err != nil {
		*out = append(*out, fmt.Sprintf("%s: the default %q cannot be decoded: %v", path, f.def, err))
	} else if !reflect.DeepEqual(want.Interface(), have.Interface()) && !(empty(want) && empty(have)) {
		*out = append(*out, fmt.Sprintf("%s: the tag says %q, the value is %v", path, f.def, have.Interface()))
	}
}
