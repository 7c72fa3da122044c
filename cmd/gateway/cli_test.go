package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/internal/config"
)

// command runs the program to its end.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	p := &program{out: &out, err: &err, env: func(string) (string, bool) { return "", false }}
	code = p.run(args)
	return code, out.String(), err.String()
}

// expect runs the program and compares all that it says. Request ids differ
// from run to run and are taken out.
func expect(t *testing.T, args []string, code int, stdout, stderr string) {
	t.Helper()
	c, out, errs := command(t, args...)
	out = regexp.MustCompile(`\b[0-9a-f]{32}\b`).ReplaceAllString(out, "ID")
	if c != code {
		t.Errorf("exit code %d, want %d", c, code)
	}
	for _, s := range []struct{ name, got, want string }{{"stdout", out, stdout}, {"stderr", errs, stderr}} {
		if got, want := strings.TrimSpace(s.got), strings.TrimSpace(s.want); got != want {
			t.Errorf("%s of gateway %s:\n%s\nwant:\n%s", s.name, strings.Join(args, " "), got, want)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, ".", "gw.yaml", "routes: [{match: /, backend: a}]\nbackends: {a: {kind: respond}}\n")
	for _, c := range []struct {
		args string
		want string
	}{
		{"frobnicate", `there is no command "frobnicate"`},
		{"-config gw.yaml", "a command comes first, such as gateway run -config gw.yaml"},
		{"run", "run needs -config FILE"},
		{"check", "check needs -config FILE"},
		{"check gw.yaml", `check does not take "gw.yaml"`},
		{"check -config gw.yaml more", `check does not take "more"`},
		{"check -conf gw.yaml", "check: flag provided but not defined: -conf"},
		{"explain -config gw.yaml", "explain needs a URL"},
		{"explain /", "explain needs -config FILE"},
		{"explain -config gw.yaml -ip 300.1.1.1 /", `explain: "300.1.1.1" is no IP address`},
		{"explain -config gw.yaml -H nonsense /", `explain: invalid value "nonsense" for flag -H: a header is written as 'Name: value'`},
		{"explain -config gw.yaml http://example.com:99999/", `explain: "example.com:99999" is no host, with a port or without, that a request may name`},
		{"explain -config gw.yaml http://u@example.com?a", `explain: "u@example.com" is no host, with a port or without, that a request may name`},
		{"explain -config gw.yaml example.com", `explain: "example.com" is neither http://host/path nor /path`},
		{"test -config gw.yaml", "test needs a file of cases"},
		{"cert", "cert needs -dev DIR"},
		{"cert -dev x a/b", `cert: "a/b" is neither a host name nor an address`},
		{"version now", `version does not take "now"`},
	} {
		expect(t, strings.Fields(c.args), exitUsage, "", "gateway: "+c.want+"; see gateway help")
	}
	expect(t, []string{"help"}, exitOK, usage, "")
	expect(t, []string{"check", "-h"}, exitOK, usage, "")
	expect(t, []string{"check", "-config", "none.yaml"}, exitFailure, "", "gateway: cannot read none.yaml: no such file or directory")
	expect(t, []string{"run", "-config", "none.yaml"}, exitFailure, "", "gateway: cannot read none.yaml: no such file or directory")
	expect(t, []string{"test", "-config", "gw.yaml", "none.yaml"}, exitFailure, "", "gateway: cannot read none.yaml: no such file or directory")
}

// What a room says of its own keys is placed at those keys.
func TestCheckPlacesFaults(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, ".", "gw.yaml", `backends:
  up:
    targets: ["http://127.0.0.1:1"]
    health: {active: {path: /h, expect: [99]}}
    balance: {policy: ring_hash, hash: "cooky:x"}
routes: [{match: "/*", backend: up}]
`)
	expect(t, []string{"check", "-config", "gw.yaml"}, exitFailure, "", `
gw.yaml:4:42: backends.up.health.active.expect[0]: "99" is neither a status from 200 to 599 nor a range such as 200-299
gw.yaml:5:40: backends.up.balance.hash: "cooky:x" is no part of a request: it is one of ip, host, path, route, header:NAME, cookie:NAME, query:NAME, jwt:CLAIM, tls:subject or tls:san`)
}

func TestVersion(t *testing.T) {
	code, out, _ := command(t, "version")
	if code != exitOK || !regexp.MustCompile(`^sluice \S+ go1\.\S+ \w+/\w+\n$`).MatchString(out) {
		t.Errorf("exit code %d, %q", code, out)
	}
}

const faulty = `listners:
  - address: ":8080"
admin: {address: ":9901"}
trusted_proxies: [10.0.0.1/8, nonsense]
server: {max_header_bytes: 12parsecs, header_timeout: 10}
access_log: {format: xml, sample: 2}
backends:
  orders:
    targets: ["http://127.0.0.1:9001", "ftp://x", {url: "http://127.0.0.1:9001/x", weight: 0}]
    timeuots: {connect: 1s}
    retry: {attempts: 0, on: [404]}
    fallback: {backend: nowhere}
  b: {kind: filez, root: /}
routes:
  - match: /api/*
    backend: order
  - match: {path: "re:(", methods: [GET]}
    backend: orders
  - match: /x
    rewrite: {strip_prefix: api, replace: {from: "re:("}}
`

const faults = `
gw.yaml:1:1: listners: unknown key "listners"; did you mean "listeners"?
gw.yaml:3:18: admin.address: :9901 is reachable from elsewhere: set admin.token_file, or listen on 127.0.0.1
gw.yaml:4:19: trusted_proxies[0]: 10.0.0.1/8 has bits beyond its length; the range is 10.0.0.0/8
gw.yaml:4:31: trusted_proxies[1]: "nonsense" is neither an address nor a range such as 10.0.0.0/8
gw.yaml:5:28: server.max_header_bytes: expected a size such as 512B, 64KiB or 8MiB, got the string "12parsecs"
gw.yaml:5:55: server.header_timeout: expected a duration such as 500ms, 30s or 1m30s, got the number 10 without a unit; write 10s if seconds are meant
gw.yaml:6:22: access_log.format: expected json or text, got the string "xml"
gw.yaml:6:35: access_log.sample: must be at most 1, got the number 2
gw.yaml:9:40: backends.orders.targets[1].url: upstream "ftp://x": scheme is not http, https or unix
gw.yaml:9:57: backends.orders.targets[2].url: upstream "http://127.0.0.1:9001/x": want no more than scheme, host and port
gw.yaml:9:92: backends.orders.targets[2].weight: must be at least 1, got the number 0
gw.yaml:10:5: backends.orders.timeuots: unknown key "timeuots"; did you mean "timeouts"?
gw.yaml:11:23: backends.orders.retry.attempts: must be at least 1, got the number 0
gw.yaml:11:31: backends.orders.retry.on[0]: "404" is none of connect, reset, timeout and the statuses from 500 to 599
gw.yaml:12:25: backends.orders.fallback.backend: no backend is named "nowhere"
gw.yaml:13:13: backends.b.kind: no backend kind "filez", only files, http, redirect, respond, users
gw.yaml:16:14: routes[0].backend: no backend is named "order"; did you mean "orders"?
gw.yaml:17:19: routes[1].match.path: error parsing regexp: missing closing ): ` + "`(`" + `
gw.yaml:19:5: routes[2]: a backend is missing
gw.yaml:20:29: routes[2].rewrite.strip_prefix: "api" does not begin with a slash
gw.yaml:20:50: routes[2].rewrite.replace.from: error parsing regexp: missing closing ): ` + "`(`" + `
`

func TestCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, ".", "gw.yaml", faulty)
	expect(t, []string{"check", "-config", "gw.yaml"}, exitFailure, "", faults)
	expect(t, []string{"run", "-config", "gw.yaml"}, exitFailure, "", faults)

	put(t, ".", "gw.yaml", "routes: [{match: /, backend: a}]\nbackends: {a: {kind: respond}}\n")
	expect(t, []string{"check", "-config", "gw.yaml"}, exitOK, "gw.yaml: ok (1 listener, 1 backend, 1 route)", "")
}

// Each case is one fault, on top of a file that is sound.
func TestCheckFaults(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, ".", "short", "0123456789\n")
	put(t, ".", "token", "0123456789abcdef\n")
	f := func(text, want string) {
		t.Helper()
		put(t, ".", "gw.yaml", "backends: {a: {kind: respond}}\nroutes: [{match: /, backend: a}]\n"+text+"\n")
		if want != "" {
			expect(t, []string{"check", "-config", "gw.yaml"}, exitFailure, "", "gw.yaml:3:"+want)
			return
		}
		expect(t, []string{"check", "-config", "gw.yaml"}, exitOK, "gw.yaml: ok (1 listener, 1 backend, 1 route)", "")
	}
	f(`listeners: []`, `12: listeners: without a listener nobody can connect; leave the key out for :8080`)
	f(`listeners: [{}]`, `13: listeners[0].address: missing key "address" (host:port; an empty host is every address, port 0 a free one)`)
	f(`listeners: [{address: "8080"}]`, `23: listeners[0].address: "8080" is not host:port`)
	f(`listeners: [{address: ":80800"}]`, `23: listeners[0].address: ":80800" has no port from 0 to 65535`)
	f(`listeners: [{address: ":80"}, {address: ":80"}]`, `41: listeners[1].address: listeners[0] has the address :80 already`)
	f(`listeners: [{address: ":80", protocols: [h9]}]`, `42: listeners[0].protocols[0]: expected http1, h2 or h2c, got the string "h9"; did you mean "h2"?`)
	f(`listeners: [{address: ":80", protocols: []}]`, `41: listeners[0].protocols: a listener needs a protocol; leave the key out for HTTP/1.1 and HTTP/2`)
	f(`admin: {address: "127.0.0.1:8080"}`, ``)
	f(`admin: {address: ":8080"}`, `18: admin.address: listeners[0] has the address :8080 already`+"\n"+
		`gw.yaml:3:18: admin.address: :8080 is reachable from elsewhere: set admin.token_file, or listen on 127.0.0.1`)
	f(`admin: {address: "0.0.0.0:9901", token_file: none}`, `46: admin.token_file: cannot read none: no such file or directory`)
	f(`admin: {address: "0.0.0.0:9901", token_file: short}`, `46: admin.token_file: short holds 10 bytes; a token has at least 16`)
	f(`admin: {address: "0.0.0.0:9901", token_file: token}`, ``)
	f(`admin: {address: "[::1]:9901"}`, ``)
	f(`admin: {address: ""}`, ``)
	f(`shutdown: {grace: -1s}`, `19: shutdown.grace: must be at least 0s, got the string "-1s"`)
	f(`server: {max_connections: 0}`, `27: server.max_connections: must be at least 1, got the number 0`)
	f(`x-anything: {goes: here}`, ``)
	f(`tracing: {}`, `1: tracing: unknown key "tracing"; the keys here are access_log, admin, backends, cache, listeners, paths, redis, routes, server, shutdown and trusted_proxies`)
	f(`redis: {}`, `8: redis.addresses: missing key "addresses" (host:port of the server, of the sentinels of master_name, or of some nodes of a cluster)`)
	put(t, ".", "gw.yaml", "")
	expect(t, []string{"check", "-config", "gw.yaml"}, exitFailure, "",
		`gw.yaml:1:1: routes: missing key "routes" (which requests go to which backend; the most specific match wins, whatever the order)`)
}

func TestSchema(t *testing.T) {
	code, out, _ := command(t, "schema")
	var schema struct {
		Schema     string                     `json:"$schema"`
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal([]byte(out), &schema); err != nil || code != exitOK || schema.Schema == "" || schema.Properties["routes"] == nil {
		t.Errorf("exit code %d, error %v, %d properties", code, err, len(schema.Properties))
	}
	if got := config.DefaultDrift(defaults()); len(got) > 0 {
		t.Errorf("the schema's defaults are not the defaults:\n%s", strings.Join(got, "\n"))
	}
}

// What `schema -example` prints is what runs without a file, and is sound.
func TestSchemaExample(t *testing.T) {
	t.Chdir(t.TempDir())
	code, out, _ := command(t, "schema", "-example")
	if code != exitOK || out != string(defaultYAML) {
		t.Errorf("exit code %d, %d bytes", code, len(out))
	}
	put(t, ".", "gw.yaml", out)
	expect(t, []string{"check", "-config", "gw.yaml"}, exitOK, "gw.yaml: ok (1 listener, 3 backends, 6 routes)", "")
}

// config.example.yaml is sound, leaves no key out, and says something about each.
func TestExampleFile(t *testing.T) {
	text, err := os.ReadFile("../../config.example.yaml")
	must(t, err)
	dir := t.TempDir()
	certify(t, dir)
	env := func(name string) (string, bool) { return dir, name == "SLUICE_PUBLIC" || name == "SLUICE_CERTS" }
	px, err := new(program).idle()
	must(t, err)
	s, err := build(px, source{"config.example.yaml", text}, env, 1, links{})
	must(t, err)
	s.gen.Close()
	used := config.Used(s.doc)
	for _, key := range config.Keys(File{}, options()) {
		if !slices.Contains(used, key) {
			t.Errorf("config.example.yaml does not mention %s", key)
			continue
		}
		if last := key[strings.LastIndexByte(key, '.')+1:]; !explained(string(text), last) {
			t.Errorf("config.example.yaml does not explain %s", key)
		}
	}
}

// The cases that the help shows can be read and leave no word of theirs out;
// those that deploy/README.md shows hold for config.example.yaml.
func TestExampleCases(t *testing.T) {
	_, shown, found := strings.Cut(usage, "words:\n\n")
	_, doc, err := readCases(source{"help", []byte(shown)}, nil)
	if !found || err != nil {
		t.Fatal(err)
	}
	for _, key := range config.Keys(Cases{}, config.Options{}) {
		if !slices.Contains(config.Used(doc), key) {
			t.Errorf("the help does not show %s", key)
		}
	}
	text, err := os.ReadFile("../../deploy/README.md")
	must(t, err)
	_, block, found := strings.Cut(string(text), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	if !found {
		t.Fatal("deploy/README.md shows no cases")
	}
	if _, err := os.Stat("/srv"); err != nil {
		t.Skip("no /srv here")
	}
	example, err := filepath.Abs("../../config.example.yaml")
	must(t, err)
	t.Chdir(t.TempDir())
	certify(t, "dev")
	expect(t, []string{"test", "-config", example, put(t, ".", "cases.yaml", block)}, exitOK, "ok: 2 cases", "")
}

// explained reports whether a line of a file sets the key and has a comment, at
// its end or above it.
func explained(text, key string) bool {
	sets := regexp.MustCompile(`^[\s-]*"?` + regexp.QuoteMeta(key) + `"?:`)
	above := false
	for line := range strings.Lines(text) {
		if sets.MatchString(line) && (above || strings.Contains(line, " # ")) {
			return true
		}
		above = strings.HasPrefix(strings.TrimSpace(line), "#")
	}
	return false
}

// The example says how to make what it names, so that
// `gateway check -config config.example.yaml` is something to try.
func TestExampleFileChecks(t *testing.T) {
	if _, err := os.Stat("/srv"); err != nil {
		t.Skip("no /srv here")
	}
	path, err := filepath.Abs(filepath.Join("..", "..", "config.example.yaml"))
	must(t, err)
	t.Chdir(t.TempDir())
	certify(t, "dev")
	expect(t, []string{"check", "-config", path}, exitOK, path+": ok (2 listeners, 7 backends, 6 routes)", "")
}
