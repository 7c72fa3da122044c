package config

import (
	"encoding/json"
	"errors"
	"testing"

	"gopkg.in/yaml.v3"
)

// FuzzParse: nothing panics, every fault has a place in the file, a redacted
// document is YAML again, and what decodes cleanly decodes the same twice.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		whole, "", "a: 1\n---\nb: 2\n", "server: {load: \"${PORT}\"}", "x: &a [*a]", "a: [1, 2\nb: 3", "\tserver: 1",
		"backends: {a: {kind: files, rot: x}}", "routes: [{<<: {name: a}, match: $${}]", "? [a]\n: b", "\xff\xfe", "server: {wait: 5d, budget: 0.1}",
		"trusted_proxies: [1.2.3.4/33]", "redis: {db: ${NULL}}", "claims: {a: 0x1F, b: .inf, c: 2020-01-01, d: !!str 5}", "%YAML 1.1\n---\na: b", "a: |\n  ${HOST}\n  b\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse("f.yaml", data, environment)
		if err != nil {
			wantPlaces(t, err)
			return
		}
		compose(d)
		first := d.Err()
		wantPlaces(t, first)
		var back yaml.Node
		if out := Redact(d); yaml.Unmarshal(out, &back) != nil {
			t.Errorf("Redact made no YAML: %q", out)
		}
		for _, p := range Paths(d) {
			if !d.Has(p) {
				t.Errorf("the document has no %s", p)
			}
		}
		cfg, _ := compose(d)
		if again := d.Err(); (first == nil) != (again == nil) || first != nil && first.Error() != again.Error() {
			t.Errorf("decoded twice: %v, then %v", first, again)
		}
		if _, err := json.Marshal(cfg.Claims); err != nil {
			t.Error(err)
		}
	})
}

func wantPlaces(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var all *Faults
	if !errors.As(err, &all) || len(all.List) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	for _, f := range all.List {
		if f.File != "f.yaml" || f.Line < 1 || f.Column < 1 || f.Message == "" {
			t.Errorf("no place or no message: %+v", f)
		}
	}
}
