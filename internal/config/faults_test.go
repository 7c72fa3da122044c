package config

import (
	"strings"
	"testing"
)

// Each case is a file and every fault it has, in order.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "listeners:\n  - adress: :80\n", `
g.yaml:2:5: listeners[0].adress: unknown key "adress"; did you mean "address"?`},
		{"unknown key, no idea", "listeners:\n  - address: :80\n    zzz: 1\n", `
g.yaml:3:5: listeners[0].zzz: unknown key "zzz"; the keys here are address, port and protocols`},
		{"spelled otherwise", "server: {maxConnections: 1}", `
g.yaml:1:10: server.maxConnections: unknown key "maxConnections"; did you mean "max_connections"?`},
		{"untagged", "server: {Hidden: x}", `
g.yaml:1:10: server.Hidden: unknown key "Hidden"; the keys here are budget, idle_timeout, load, max_body_bytes, max_connections, merge_slashes, min_body_rate, min_version, skew and wait`},
		{"duplicate", "server: {}\nroutes: []\nserver: {}\n", `
g.yaml:3:1: server: duplicate key "server"; it is already set in line 1`},
		{"list", "routes:\n  - match: {path: /, methods: GET}\n", `
g.yaml:2:31: routes[0].match.methods: expected a list, got the string "GET"; write [GET]`},
		{"list of odd", "routes: [{match: {path: /, methods: \"a,b\"}}]", `
g.yaml:1:37: routes[0].match.methods: expected a list, got the string "a,b"; write ["a,b"]`},
		{"mapping for list", "routes: {name: a}", `
g.yaml:1:9: routes: expected a list, got a mapping; write "- " before its first key`},
		{"mapping", "server: [1]\nbackends: 5\n", `
g.yaml:1:9: server: expected a mapping, got a list
g.yaml:2:11: backends: expected a mapping, got the number 5`},
		{"root", "- a\n", `
g.yaml:1:1: expected a mapping, got a list`},
		{"null element", "listeners: [~]\nroutes:\n  -\n", `
g.yaml:1:13: listeners[0]: expected a mapping, got nothing
g.yaml:3:4: routes[0]: expected a mapping, got nothing`},
		{"nothing where the key alone means something", "redis:\nroutes: [{match: {path: /}, cache: }]\n", `
g.yaml:1:7: redis: expected a mapping, got nothing; write {} for the defaults, or leave the key out
g.yaml:2:36: routes[0].cache: expected true, false or a mapping, got nothing; write {} for the defaults, or leave the key out`},
		{"bool", "server: {merge_slashes: yes}", `
g.yaml:1:25: server.merge_slashes: expected true or false, got the string "yes"`},
		{"string", "server: {min_version: true}\nroutes: [{name: [a]}]", `
g.yaml:1:23: server.min_version: expected a string, got true; write "true"
g.yaml:2:17: routes[0].name: expected a string, got a list`},
		{"ints", "server: {max_connections: \"5\"}\nroutes: [{priority: 1.5}, {priority: 010}, {priority: 99999999999999999999}]\nlisteners: [{address: a, port: 70000}, {address: a, port: -1}]", `
g.yaml:1:27: server.max_connections: expected a whole number, got the string "5"; remove the quotes
g.yaml:2:21: routes[0].priority: expected a whole number, got the number 1.5
g.yaml:2:38: routes[1].priority: expected a whole number, got the number 010; write 10, or 0o10 for octal
g.yaml:2:55: routes[2].priority: expected a whole number, got the number 99999999999999999999
g.yaml:3:32: listeners[0].port: too large: the number 70000
g.yaml:3:59: listeners[1].port: must be at least 0, got the number -1`},
		{"bounds", "server: {max_connections: 100001, load: 0.5, wait: 2m, max_body_bytes: 5}", `
g.yaml:1:27: server.max_connections: must be at most 100000, got the number 100001
g.yaml:1:41: server.load: must be at least 1, got the number 0.5
g.yaml:1:52: server.wait: must be at most 1m, got the string "2m"
g.yaml:1:72: server.max_body_bytes: must be at least 1KiB, got the number 5`},
		{"floats", "server: {load: .nan}\n---\n", `
g.yaml:2:1: a second YAML document begins here; a configuration is one document`},
		{"not a number", "server: {load: .nan}", `
g.yaml:1:16: server.load: expected a number, got the number .nan`},
		{"durations", "server:\n  idle_timeout: 30\n  wait: 2d\n  skew: 1 s\nroutes: [{timeout: -1s}, {timeout: 1.5}, {timeout: 0}]", `
g.yaml:2:17: server.idle_timeout: expected a duration such as 500ms, 30s or 1m30s, got the number 30 without a unit; write 30s if seconds are meant
g.yaml:3:9: server.wait: expected a duration such as 500ms, 30s or 1m30s, got the string "2d"; write 48h
g.yaml:4:9: server.skew: expected a duration such as 500ms, 30s or 1m30s, got the string "1 s"
g.yaml:5:20: routes[0].timeout: must be at least 0, got the string "-1s"
g.yaml:5:36: routes[1].timeout: expected a duration such as 500ms, 30s or 1m30s, got the number 1.5 without a unit`},
		{"sizes", "server: {max_body_bytes: 64k, min_body_rate: 240}", `
g.yaml:1:26: server.max_body_bytes: expected a size such as 512B, 64KiB or 8MiB, got the string "64k"; write 64KiB
g.yaml:1:46: server.min_body_rate: expected a rate such as 240B/s or 1KiB/s, got the number 240; write 240B/s`},
		{"more sizes", "server: {max_body_bytes: 9999999TiB, min_body_rate: 1kib/s}", `
g.yaml:1:26: server.max_body_bytes: expected a size such as 512B, 64KiB or 8MiB, got the string "9999999TiB", which is out of range
g.yaml:1:53: server.min_body_rate: expected a rate such as 240B/s or 1KiB/s, got the string "1kib/s"; write 1KiB/s`},
		{"percent", "server: {budget: 0.1}\n", `
g.yaml:1:18: server.budget: expected a percentage such as 10%, got the number 0.1; write 10%`},
		{"percent range", "server: {budget: 101%}\n", `
g.yaml:1:18: server.budget: must be at most 100%, got the string "101%"`},
		{"enum", "listeners: [{address: a, protocols: [http1, htp1, 7]}]", `
g.yaml:1:45: listeners[0].protocols[1]: expected http1, h2, h2c or h3, got the string "htp1"; did you mean "http1"?
g.yaml:1:51: listeners[0].protocols[2]: expected http1, h2, h2c or h3, got the number 7`},
		{"required", "listeners:\n  - port: 1\n  - address: ''\n  - {address: , port: 2}\n", `
g.yaml:2:5: listeners[0].address: missing key "address" (host:port)
g.yaml:3:14: listeners[1].address: must not be empty (host:port)
g.yaml:4:15: listeners[2].address: must not be empty (host:port)`},
		{"text", "trusted_proxies: [10.0.0.0/33, {}]", `
g.yaml:1:19: trusted_proxies[0]: netip.ParsePrefix("10.0.0.0/33"): prefix length out of range
g.yaml:1:32: trusted_proxies[1]: expected text, got a mapping`},
		{"short forms", "routes:\n  - match: [a]\n    cache: false\n  - match: /x\n    cache: 5\n", `
g.yaml:2:12: routes[0].match: expected text or a mapping, got a list
g.yaml:3:12: routes[0].cache: leave it out instead
g.yaml:5:12: routes[1].cache: expected true, false or a mapping, got the number 5`},
		{"array", "routes: [{match: {path: /, range: [a]}}]", `
g.yaml:1:35: routes[0].match.range: expected a list of 2, got 1`},
		{"validate", "routes:\n  - match: api\n  - match:\n      path: b\n      methods: [GET, put]\n", `
g.yaml:2:12: routes[0].match.path: "api" does not begin with a slash
g.yaml:4:13: routes[1].match.path: "b" does not begin with a slash
g.yaml:5:22: routes[1].match.methods[1]: methods are upper case`},
		{"validate after a fault", "routes:\n  - match: {pth: /a, methods: [get]}\n  - match: {path: [], methods: [get]}\n", `
g.yaml:2:13: routes[0].match.pth: unknown key "pth"; did you mean "path"?
g.yaml:2:32: routes[0].match.methods[0]: methods are upper case
g.yaml:3:19: routes[1].match.path: expected a string, got a list
g.yaml:3:33: routes[1].match.methods[0]: methods are upper case`},
		{"kinds", "backends:\n  a: {knd: files, targets: [http://a]}\n  b: {kind: file, root: x}\n  c: {kind: files, rot: x}\n  d:\n", `
g.yaml:2:7: backends.a.knd: unknown key "knd"; did you mean "kind"?
g.yaml:3:13: backends.b.kind: unknown kind "file"; did you mean "files"?
g.yaml:4:20: backends.c.rot: unknown key "rot"; did you mean "root"?
g.yaml:5:5: backends.d.targets: missing key "targets"`},
		{"inside a kind of files", "backends: {a: {kind: files, root: x, code: 200}}", `
g.yaml:1:44: backends.a.code: expected 301 or 308, got the number 200`},
		{"inside a kind", "backends:\n  a:\n    targets:\n      - {url: http://a, wieght: 2}\n      - nonsense\n    policy: maglef\n", `
g.yaml:4:25: backends.a.targets[0].wieght: unknown key "wieght"; did you mean "weight"?
g.yaml:5:9: backends.a.targets[1]: a target is a URL such as http://127.0.0.1:9001
g.yaml:6:13: backends.a.policy: expected round_robin, least_request or maglev, got the string "maglef"; did you mean "maglev"?`},
		{"raw", "users: {mode: embeded}", `
g.yaml:1:15: users.mode: expected embedded or postgres, got the string "embeded"; did you mean "embedded"?`},
		{"secret", "redis: {password: true, db: hunter2}", `
g.yaml:1:19: redis.password: expected a string, got another value; write it in quotes
g.yaml:1:29: redis.db: expected a whole number, got another value`},
		{"tags", "server: !thing {}\nroutes: !!binary aGk=\nlisteners: [{address: !!str 5}]", `
g.yaml:1:9: server: unknown tag !thing
g.yaml:2:9: routes: unknown tag !!binary`},
		{"keys", "[a]: 1\n? {b: 1}\n: 2\n", `
g.yaml:1:1: a key must be text, not a list or a mapping
g.yaml:2:3: a key must be text, not a list or a mapping`},
		{"merge", "server:\n  <<: 5\n", `
g.yaml:2:7: server: << takes a mapping or a list of mappings`},
		{"merged list", "server:\n  <<: [{load: 2}, [a], 7]\n", `
g.yaml:2:19: server: << takes a mapping or a list of mappings
g.yaml:2:24: server: << takes a mapping or a list of mappings`},
		{"key by alias", "x-k: &k server\n*k : 5\n", `
g.yaml:2:6: server: expected a mapping, got the number 5`},
		{"odd quantities", "server: {max_body_bytes: [1], min_body_rate: 5parsec, idle_timeout: true, budget: 5, load: \"2\"}", `
g.yaml:1:26: server.max_body_bytes: expected a size such as 512B, 64KiB or 8MiB, got a list
g.yaml:1:46: server.min_body_rate: expected a rate such as 240B/s or 1KiB/s, got the string "5parsec"
g.yaml:1:69: server.idle_timeout: expected a duration such as 500ms, 30s or 1m30s, got true
g.yaml:1:83: server.budget: expected a percentage such as 10%, got the number 5; write 5%
g.yaml:1:92: server.load: expected a number, got the string "2"; remove the quotes`},
		{"words alone", "backends: {a: {targets: [http://a], names: al}, b: {targets: [http://a], names: [al]}, c: {targets: [http://a], names: none}}", `
g.yaml:1:44: backends.a.names: expected all, none or a list, got the string "al"; write [al] where a list of one is meant; did you mean "all"?`},
		{"URL", "backends: {a: {targets: [{url: 'http://[::1'}]}}", `
g.yaml:1:32: backends.a.targets[0].url: not a URL: missing ']' in host`},
		{"merged faults", "x-a: &a {naem: x}\nroutes:\n  - <<: *a\n    match: /\n", `
g.yaml:1:10: routes[0].naem: unknown key "naem"; did you mean "name"?`},
	} {
		t.Run(c.name, func(t *testing.T) { wantFaults(t, c.text, c.want) })
	}
}

func wantFaults(t *testing.T, text, want string) {
	t.Helper()
	d, err := Parse("g.yaml", []byte(text), environment)
	if err == nil {
		compose(d)
		err = d.Err()
	}
	if err == nil {
		t.Fatal("no fault")
	}
	if got, want := err.Error(), strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSyntaxFaults(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"tab", "server:\n\tload: 1\n", "g.yaml:2:1: not valid YAML: a tab in the indentation; use spaces"},
		{"indentation", "a:\n  b: 1\n c: 2\nd: 3\n", "g.yaml:3:2: not valid YAML: did not find expected key"},
		{"open bracket", "a: 1\nb: [1, 2\nc: 3\nd: 4\n", "g.yaml:2:1: not valid YAML: did not find expected ',' or ']'"},
		{"open quote", "a: 1\nb: \"x\nc: 3\nd: 4\n", "g.yaml:2:1: not valid YAML: found unexpected end of stream"},
		{"colon", "a: 1\nb: c: d\n", "g.yaml:2:1: not valid YAML: mapping values are not allowed in this context"},
		{"anchor", "a: 1\nb:\n  c: *nope\nd: 2\n", "g.yaml:3:3: not valid YAML: unknown anchor 'nope' referenced"},
		{"control", "a: 1\nb: \x01\nc: 2\n", "g.yaml:2:1: not valid YAML: control characters are not allowed"},
		{"not UTF-8", "a: 1\nb: \xff\xfe\n", "g.yaml:2:1: not valid YAML: invalid leading UTF-8 octet"},
		{"documents", "a: 1\n---\nb: 2\n", "g.yaml:2:1: a second YAML document begins here; a configuration is one document"},
		{"cycle", "a: &a\n  b: *a\n", "g.yaml:2:6: a.b.b: the anchor &a contains itself"},
		{"deep", strings.Repeat("[", 100) + strings.Repeat("]", 100), "g.yaml:1:66: nested more than 64 levels deep"},
	} {
		t.Run(c.name, func(t *testing.T) { wantFaults(t, c.text, c.want) })
	}
}

func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 10; i++ {
		p, q := string(rune('0'+i)), string(rune('0'+i-1))
		b.WriteString("x-" + p + ": &a" + p + " [" + strings.Repeat("*a"+q+", ", 9) + "*a" + q + "]\n")
	}
	d, err := Parse("g.yaml", []byte(b.String()), nil)
	if d != nil || err == nil || !strings.Contains(err.Error(), "aliases expand to more than 100000 values") {
		t.Error(err)
	}
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct{ text, want, fault string }{
		{"${HOST}:${PORT}", "edge:8080", ""},
		{`"${HOST}"`, "edge", ""},
		{"'${HOST}'", "edge", ""},
		{"$${HOST}", "${HOST}", ""},
		{"a$HOST$1$$", "a$HOST$1$$", ""},
		{"$1-${HOST}-$$${PORT}", "$1-edge-$${PORT}", ""},
		{"${NOPE:-x}-${EMPTY:-y}", "x-y", ""},
		{`"${NOPE:-}"`, "", ""},
		{"${NOPE:-${EMPTY:-x}}", "x", ""},
		{"${HOST:-${EMPTY:-x}}", "edge", ""},
		{"a${HOST:-${NOPE}}z", "aedgez", ""},
		{"${NOPE:-http://${HOST}:${PORT}}/", "http://edge:8080/", ""},
		{"${NOPE:-$${HOST}}", "${HOST}", ""},
		{"${NOPE:-${FLOW:-x}}", "[a, b]", ""},
		{"${EVIL}", "x\nadmin: {address: evil}", ""},
		{"${FLOW}", "[a, b]", ""},
		{"${NUM}", "12345", ""},
		{"*a # ${NOPE}", "${HOST}", ""},
		{"${NOPE}", "", "g.yaml:3:16: server.min_version: the environment variable NOPE is not set; set it, or write ${NOPE:-default}"},
		{"a-${1}", "", `g.yaml:3:16: server.min_version: "${1}" is neither ${NAME} nor ${NAME:-default}; write $${ for a literal ${`},
		{"${EMPTY:-${NOPE}}", "", "g.yaml:3:16: server.min_version: the environment variable NOPE is not set; set it, or write ${NOPE:-default}"},
		{"${NOPE:-${HOST}", "", `g.yaml:3:16: server.min_version: "${NOPE:-${HOST}" is neither ${NAME} nor ${NAME:-default}; write $${ for a literal ${`},
		{"${HOST", "", `g.yaml:3:16: server.min_version: "${HOST" is neither ${NAME} nor ${NAME:-default}; write $${ for a literal ${`},
	} {
		text := "x-a: &a $${HOST}\nserver:\n  min_version: " + c.text + "\n"
		if c.fault != "" {
			wantFaults(t, text, c.fault)
			continue
		}
		cfg, _, _ := load1(t, text)
		if cfg.Server.Version != c.want {
			t.Errorf("%s = %q, want %q", c.text, cfg.Server.Version, c.want)
		}
	}
	wantFaults(t, "server: {max_connections: \"${HOST}\", load: \"8${HOST}\"}", `
g.yaml:1:27: server.max_connections: expected a whole number, got the string "edge" (from ${HOST})
g.yaml:1:44: server.load: expected a number, got the string "8edge" (from 8${HOST})`)
	wantFaults(t, "server: {load: ${HOST}}", `g.yaml:1:1: not valid YAML: did not find expected ',' or '}'; between { } or [ ], "${NAME}" needs quotes`)
	wantFaults(t, "${HOST}: 1", `
g.yaml:1:1: ${HOST}: unknown key "${HOST}"; the keys here are backends, claims, listeners, redis, routes, server, trusted_proxies and users`)
}
