package main

import (
	"regexp"

	"gopkg.in/yaml.v3"

	"github.com/sluice-edge/sluice/internal/config"
)

// credential are the names of header fields whose values stay secret.
var credential = regexp.MustCompile(`(?i)^(proxy-)?authorization$|cookie|token|secret|password|api-?key`)

// redacted is the configuration as the admin API shows it: what the file sets,
// without secrets.
func redacted(doc *config.Document) any {
	var tree any
	if err := yaml.Unmarshal(config.Redact(doc), &tree); err != nil {
		return nil
	}
	return hideFields(tree, false)
}

// hideFields hides the credentials among header fields.
func hideFields(v any, fields bool) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if _, scalar := value.(string); scalar && fields && credential.MatchString(key) {
				v[key] = "redacted"
				continue
			}
			v[key] = hideFields(value, key == "headers" || key == "set" || key == "add")
		}
	case []any:
		for i := range v {
			v[i] = hideFields(v[i], false)
		}
	}
	return v
}
