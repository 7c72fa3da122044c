package config

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// accepts is as much of JSON Schema as Schema makes use of.
func accepts(rootSchema object, schema, x any) bool {
	if b, ok := schema.(bool); ok {
		return b
	}
	s := schema.(object)
	is := func(sub any) bool { return accepts(rootSchema, sub, x) }
	count := func(list any) (n int) {
		for _, sub := range list.([]any) {
			if is(sub) {
				n++
			}
		}
		return n
	}
	for word, arg := range s {
		ok := true
		switch word {
		case "$ref":
			name, _ := strings.CutPrefix(arg.(string), "#/$defs/")
			ok = is(rootSchema["$defs"].(object)[name])
		case "type":
			types, many := arg.([]any)
			if !many {
				types = []any{arg}
			}
			ok = slices.ContainsFunc(types, func(t any) bool { return isType(t.(string), x) })
		case "enum":
			ok = slices.ContainsFunc(arg.([]any), func(e any) bool { return reflect.DeepEqual(e, x) })
		case "const":
			ok = reflect.DeepEqual(arg, x)
		case "oneOf":
			ok = count(arg) == 1
		case "anyOf":
			ok = count(arg) > 0
		case "allOf":
			ok = count(arg) == len(arg.([]any))
		case "not":
			ok = !is(arg)
		case "if":
			ok = !is(arg) || is(s["then"])
		case "pattern", "minLength":
			text, isText := x.(string)
			ok = !isText || word == "pattern" && regexp.MustCompile(arg.(string)).MatchString(text) ||
				word == "minLength" && float64(utf8.RuneCountInString(text)) >= arg.(float64)
		case "minimum", "maximum":
			n, isNumber := x.(float64)
			ok = !isNumber || word == "minimum" && n >= arg.(float64) || word == "maximum" && n <= arg.(float64)
		case "items", "minItems", "maxItems":
			ok = acceptsList(rootSchema, word, arg, x)
		case "properties", "additionalProperties", "required":
			ok = acceptsObject(rootSchema, s, word, x)
		case "then", "description", "default", "title", "$schema", "$defs", "patternProperties":
		default:
			panic("the schema uses " + word)
		}
		if !ok {
			return false
		}
	}
	return true
}

func isType(t string, x any) bool {
	switch x := x.(type) {
	case nil:
		return t == "null"
	case string:
		return t == "string"
	case bool:
		return t == "boolean"
	case float64:
		return t == "number" || t == "integer" && x == math.Trunc(x)
	case []any:
		return t == "array"
	}
	return t == "object"
}

func acceptsList(rootSchema object, word string, arg, x any) bool {
	list, ok := x.([]any)
	if !ok {
		return true
	}
	switch word {
	case "minItems":
		return float64(len(list)) >= arg.(float64)
	case "maxItems":
		return float64(len(list)) <= arg.(float64)
	}
	return !slices.ContainsFunc(list, func(item any) bool { return !accepts(rootSchema, arg, item) })
}

func acceptsObject(rootSchema, s object, word string, x any) bool {
	m, ok := x.(object)
	if !ok {
		return true
	}
	if word == "required" {
		return !slices.ContainsFunc(s[word].([]any), func(k any) bool { _, have := m[k.(string)]; return !have })
	}
	props, _ := s["properties"].(object)
	for k, v := range m {
		prop, known := props[k]
		switch {
		case known && word == "properties" && !accepts(rootSchema, prop, v):
			return false
		case known || word == "properties" || s["patternProperties"] != nil && strings.HasPrefix(k, "x-"):
		case !accepts(rootSchema, s[word], v):
			return false
		}
	}
	return true
}

func schemaOf(t *testing.T) object {
	t.Helper()
	text, err := json.Marshal(Schema(root{}, options))
	if err != nil {
		t.Fatal(err)
	}
	var out object
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func jsonOf(t *testing.T, text string) (out any) {
	t.Helper()
	var x any
	if err := yaml.Unmarshal([]byte(text), &x); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// The schema and the decoder have to agree on every sample.
func TestSchemaAgrees(t *testing.T) {
	schema := schemaOf(t)
	for _, c := range []struct {
		text string
		ok   bool
	}{
		{whole, true},
		{"{}", true},
		{"server:\n", true},
		{"server: {max_body_bytes: 2048, min_body_rate: 0, idle_timeout: 0, budget: 0}", true},
		{"server: {max_body_bytes: \"${NUM}KiB\", max_connections: \"${NUM}\"}", true},
		{"backends: {a: {targets: http://a}, b: {kind: files, root: x, note: y}}", true},
		{"backends: {a: {kind: http, targets: [http://a, {url: http://b}]}}", true},
		{"routes: [{match: {path: /x}, cache: true}, {match: /y, cache: {ttl: 1s}, on: [1, a]}]", true},
		{"backends: {a: {kind: files, root: x, code: 301}}", true},
		{"servr: {}", false},
		{"backends: {a: {kind: files, root: x, code: 302}}", false},
		{"backends: {a: {kind: files, root: x, code: \"301\"}}", false},
		{"server: 5", false},
		{"server: {idle_timeout: 30}", false},
		{"server: {idle_timeout: 30d}", false},
		{"server: {max_body_bytes: 64kib}", false},
		{"server: {min_body_rate: 64KiB}", false},
		{"server: {budget: 0.1}", false},
		{"server: {max_connections: -1}", false},
		{"server: {max_connections: \"5\"}", false},
		{"server: {merge_slashes: \"yes\"}", false},
		{"listeners: [{address: a, port: -1}]", false},
		{"listeners: [{port: 1}]", false},
		{"listeners: [{address: \"\"}]", false},
		{"listeners: [{address: a, protocols: [h9]}]", false},
		{"listeners: [{address: a, protocols: h2}]", false},
		{"backends: {a: {}}", false},
		{"backends: {a: {kind: files, targets: [http://a]}}", false},
		{"backends: {a: {kind: nope}}", false},
		{"backends: {a: {targets: http://a, root: x}}", false},
		{"backends: {a: {kind: files, root: x, extra: 1}}", false},
		{"routes: [{match: [a]}]", false},
		{"routes: [{match: {path: /x, range: [a]}}]", false},
		{"routes: [{match: /x, cache: 5}]", false},
		{"routes: [{match: /x, cache: {}}]", true},
		{"routes: [{match: /x, cache: }]", false},
		{"redis:\n", false},
		{"users: {mode: nope}", false},
		{"users: {made: embedded}", false},
	} {
		d, err := Parse("g.yaml", []byte(c.text), environment)
		if err == nil {
			compose(d)
			err = d.Err()
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: the decoder says %v", c.text, err)
		}
		text := strings.ReplaceAll(c.text, "timeout: null", "timeout: 0") // the schema has no null in scalars
		if got := accepts(schema, schema, jsonOf(t, text)); got != c.ok {
			t.Errorf("%s: the schema says %v", c.text, got)
		}
	}
}

func TestSchemaTexts(t *testing.T) {
	schema := schemaOf(t)
	if schema["title"] != "Sluice" || schema["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Error("title or $schema")
	}
	idle := schema["$defs"].(object)["server"].(object)["properties"].(object)["idle_timeout"].(object)
	if idle["default"] != "75s" || idle["description"] != "how long a silent connection lives" {
		t.Errorf("idle_timeout: %v", idle)
	}
	weight := schema["$defs"].(object)["target"].(object)["properties"].(object)["weight"].(object)
	if fmt.Sprint(weight["default"]) != "1" {
		t.Errorf("weight: %v", weight)
	}
}

type tree struct {
	Name     string `yaml:"name"`
	Children []tree `yaml:"children"`
	Next     *tree  `yaml:"next"`
}

func TestRecursiveType(t *testing.T) {
	type top struct {
		Tree tree `yaml:"tree"`
	}
	if got := Keys(top{}, Options{}); !reflect.DeepEqual(got, []string{"tree", "tree.children", "tree.name", "tree.next"}) {
		t.Error(got)
	}
	s := Schema(top{}, Options{})
	text, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(text), `"items":{"$ref":"#/$defs/tree"}`) {
		t.Errorf("%s %v", text, err)
	}
	if got := DefaultDrift(top{}); got != nil {
		t.Error(got)
	}
}
