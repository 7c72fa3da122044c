// Package lint holds the module to the import graph of CONTRIBUTING.md and to
// the rules beside it. It has tests only.
package lint

import (
	"path"
	"slices"
	"strings"
)

const module = "github.com/sluice-edge/sluice"

// arrows is the import graph: a package and those of ours that it may import. A
// package that is not in it may not exist.
var arrows = map[string][]string{
	"cmd/gateway": {
		"proxy", "internal/listen", "internal/admin", "internal/users", "internal/users/service", "internal/config", "internal/redislink", "cmd/gateway/echo",
		"routing", "limiter", "edgecache", "health", "proxy/upstream", "internal/auth", // the rooms that it constructs
	},
	"cmd/gateway/echo":   {},
	"cmd/users":          {"internal/users", "internal/users/service", "internal/shard", "internal/jobs", "internal/config", "internal/redislink"},
	"proxy":              {"routing", "limiter", "edgecache", "health", "proxy/upstream", "internal/auth"},
	"internal/users":     {"internal/shard", "internal/jobs"},
	"internal/redislink": {"internal/config"},
	"internal/users/service": {
		"internal/users", "internal/users/sqlite", "internal/users/postgres", "internal/users/cache",
		"internal/users/session", "internal/shard", "internal/jobs",
	},
	"internal/users/sqlite":    {"internal/users", "internal/shard", "internal/jobs"},
	"internal/users/postgres":  {"internal/users", "internal/shard", "internal/jobs"},
	"internal/users/cache":     {"internal/users"},
	"internal/users/session":   {"internal/users"},
	"internal/users/storetest": {"internal/users"}, // tests alone
	"internal/admin":           {},
	"internal/lint":            {},

	"internal/listen": {"internal/listen/h2"}, // the wire format alone

	// The leaves.
	"routing":            {},
	"limiter":            {},
	"edgecache":          {},
	"health":             {},
	"proxy/upstream":     {},
	"internal/shard":     {},
	"internal/jobs":      {},
	"internal/auth":      {},
	"internal/listen/h2": {},
	"internal/attack":    {}, // tests alone
	"internal/pginstall": {},
	"internal/pgtest":    {"internal/pginstall"},
	"deploy":             {"internal/config", "internal/redislink", "internal/users/service"}, // tests alone
	"internal/config":    {},
}

// testArrows are those of tests alone.
var testArrows = map[string][]string{
	"internal/users/postgres": {"internal/users/cache"}, // the journal's run has a cache before the store
}

// allowed says why from may not import to, both import paths; "" if it may.
func allowed(from, to string, test bool) string {
	name, ours := strings.CutPrefix(to, module+"/")
	if !ours {
		if !test && !strings.HasSuffix(from, "test") && (to == "testing" || to == "net/http/httptest") {
			return to + " is for tests"
		}
		return ""
	}
	from = strings.TrimPrefix(from, module+"/")
	if from == name && test { // package x_test imports x
		return ""
	}
	if strings.HasSuffix(path.Base(name), "test") {
		if test {
			return ""
		}
		return name + " is for tests"
	}
	if test && slices.Contains(testArrows[from], name) {
		return ""
	}
	if !slices.Contains(arrows[from], name) {
		return from + " may not import " + name + ": there is no such arrow in CONTRIBUTING.md"
	}
	return ""
}

// known says why a package of ours may not exist; "" if it may.
func known(dir string) string {
	for _, name := range strings.Split(dir, "/") {
		if slices.Contains([]string{"pkg", "util", "utils", "common", "models", "helpers"}, name) {
			return "a folder named " + name + " says nothing of what it is for"
		}
	}
	if _, ok := arrows[dir]; ok || strings.HasSuffix(dir, "test") {
		return ""
	}
	return "the package is not in the import graph"
}
