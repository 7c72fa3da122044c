package config

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func load1(t *testing.T, text string) (root, map[string]any, *Document) {
	t.Helper()
	d, err := Parse("g.yaml", []byte(text), environment)
	if err != nil {
		t.Fatal(err)
	}
	cfg, kinds := compose(d)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	return cfg, kinds, d
}

const whole = `
x-base: &base
  timeout: 3s
listeners:
  - address: ":${PORT}"
    protocols: [http1, h2c]
    port: ${PORT}
server: {max_body_bytes: 8MiB, min_body_rate: 1KiB/s, idle_timeout: 1m30s, skew: -1s, wait: 5s,
         budget: 10%, load: 2, max_connections: 1_000, merge_slashes: true, min_version: 1.20}
trusted_proxies: [10.0.0.0/8, "::1/128"]
backends:
  orders:
    <<: *base
    targets:
      - http://127.0.0.1:9001
      - {url: "http://127.0.0.1:9002", weight: 2}
  one:
    targets: http://127.0.0.1:9001
    policy: maglev
    names: all
    timeout: null
  assets: {kind: files, root: ./public, code: 308}
routes:
  - name: a
    match: /api/*
    cache: true
    on: [connect, 502]
  - <<: [*base, {name: shadowed, backend: merged}]
    name: b
    priority: 7
    match:
      path: /b
      methods: [GET, NO]
      headers: {X-Count: 12, X-Set: "${NUM}", X-Yes: "${YES}", X-Null: "${NULL}", X-Flow: "${FLOW}"}
      range: [a, g]
    cache: {ttl: 5s}
users:
  mode: embedded
redis: {password: "${PASSWORD}", url: "redis://u:pw@h/0", password_file: "${HOST}.txt", db: 3}
claims: {a: [1, 2.5, true, x, null], b: {c: d}}
`

func TestDecode(t *testing.T) {
	cfg, kinds, d := load1(t, whole)
	want := server{MaxBody: 8 << 20, MinRate: 1024, Idle: 90 * time.Second, Skew: -time.Second, Wait: 5 * time.Second,
		Budget: 0.1, Load: 2, MaxConns: 1000, Merge: true, Version: "1.20"}
	if cfg.Server != want {
		t.Errorf("server = %+v", cfg.Server)
	}
	if l := cfg.Listeners[0]; l.Address != ":8080" || l.Port != 8080 || len(l.Protocols) != 2 {
		t.Errorf("listener = %+v", l)
	}
	if cfg.Trusted[0] != netip.MustParsePrefix("10.0.0.0/8") {
		t.Errorf("trusted = %v", cfg.Trusted)
	}
	orders, one := kinds["orders"].(*httpKind), kinds["one"].(*httpKind)
	if orders.Targets[0].URL.Host != "127.0.0.1:9001" || orders.Targets[0].Weight != 1 || orders.Targets[1].Weight != 2 || orders.Policy != "round_robin" {
		t.Errorf("orders = %+v", orders)
	}
	if len(one.Targets) != 1 || one.Policy != "maglev" || kinds["assets"].(*filesKind).Root != "./public" {
		t.Errorf("kinds = %+v", kinds)
	}
	if cfg.Backends["orders"].Budget != 3*time.Second || cfg.Backends["orders"].Kind != "http" {
		t.Errorf("backend = %+v", cfg.Backends["orders"])
	}
	a, b := cfg.Routes[0], cfg.Routes[1]
	if a.Match.Path != "/api/*" || !a.Cache.On || !reflect.DeepEqual(a.Retry, []string{"connect", "502"}) {
		t.Errorf("route a = %+v", a)
	}
	if b.Name != "b" || b.Backend != "merged" || b.Timeout != 3*time.Second || b.Priority != 7 || b.Cache.TTL != 5*time.Second || b.Match.Range != [2]string{"a", "g"} {
		t.Errorf("route b = %+v", b)
	}
	headers := map[string]string{"X-Count": "12", "X-Set": "12345", "X-Yes": "true", "X-Null": "null", "X-Flow": "[a, b]"}
	if !reflect.DeepEqual(b.Match.Headers, headers) {
		t.Errorf("headers = %v", b.Match.Headers)
	}
	claims := map[string]any{"a": []any{int64(1), 2.5, true, "x", nil}, "b": map[string]any{"c": "d"}}
	if !reflect.DeepEqual(cfg.Claims, claims) {
		t.Errorf("claims = %v", cfg.Claims)
	}
	if !d.Has("backends.orders.targets[1].weight") || d.Has("backends.orders.policy") {
		t.Error("Has")
	}
}

func TestDefaultsStay(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "~", "server:\n", "server: {idle_timeout: null, max_body_bytes: }", "server:\n  load: ${EMPTY}\n  budget: ${NONE:-}\n  merge_slashes: \"${EMPTY}\"", "{}"} {
		cfg, _, _ := load1(t, text)
		if !reflect.DeepEqual(cfg, defaults()) {
			t.Errorf("%q: %+v", text, cfg)
		}
	}
}

// Defaults may be shared between decodes, so a decode must not write into them.
func TestPointersAreCopied(t *testing.T) {
	shared := &redis{URL: "kept", DB: 1}
	cfg := root{Redis: shared, Listeners: []listener{{Address: "old", Port: 1}}}
	d, _ := Parse("g.yaml", []byte("redis: {db: 2}\nlisteners: [{address: new}]"), nil)
	d.Decode(&cfg)
	if shared.DB != 1 || cfg.Redis.DB != 2 || cfg.Redis.URL != "kept" {
		t.Errorf("shared %+v, decoded %+v", shared, cfg.Redis)
	}
	if !reflect.DeepEqual(cfg.Listeners, []listener{{Address: "new"}}) {
		t.Errorf("listeners %+v", cfg.Listeners)
	}
}

func TestFaultByPath(t *testing.T) {
	d, err := Parse("g.yaml", []byte("routes:\n  - name: a\n    match: {path: /x}\nbackends:\n  a.b: {kind: http}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("no such backend")
	d.Fault("routes[0].match.path", cause)
	d.Fault("routes[0].match.headers.X", errors.New("ancestor"))
	d.Fault("routes[7]", errors.New("list"))
	d.Fault(Join("backends", "a.b", "kind"), errors.New("quoted"))
	d.Fault("routes[0]", errors.Join(At("name", errors.New("one")), errors.New("two")))
	d.Fault("", errors.New("top"))
	d.Fault("nothing", nil)
	want := `g.yaml:1:1: top
g.yaml:2:3: routes[7]: list
g.yaml:2:5: routes[0]: two
g.yaml:2:11: routes[0].name: one
g.yaml:3:12: routes[0].match.headers.X: ancestor
g.yaml:3:19: routes[0].match.path: no such backend
g.yaml:5:15: backends["a.b"].kind: quoted`
	if got := d.Err().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !errors.Is(d.Err(), cause) {
		t.Error("the cause is lost")
	}
}

func TestPathsAndKeys(t *testing.T) {
	_, _, d := load1(t, whole)
	if got := strings.Join(Paths(d), " "); !strings.Contains(got, "backends.assets.root backends.one") || !strings.Contains(got, "routes[1].match.headers.X-Flow") {
		t.Errorf("Paths: %s", got)
	}
	keys, used := Keys(root{}, options), map[string]bool{}
	for _, k := range Used(d) {
		used[k] = true
	}
	var missing []string
	for _, k := range keys {
		if !used[k] {
			missing = append(missing, k)
		}
		delete(used, k)
	}
	if want := []string{"backends.*.note"}; !reflect.DeepEqual(missing, want) {
		t.Errorf("keys the sample leaves out: %v", missing)
	}
	if len(used) > 0 {
		t.Errorf("used but not in Keys: %v", used)
	}
}

func TestDefaultDrift(t *testing.T) {
	if got := DefaultDrift(defaults()); got != nil {
		t.Error(got)
	}
	cfg := defaults()
	cfg.Server.Idle = time.Second
	want := []string{`server.idle_timeout: the tag says "75s", the value is 1s`}
	if got := DefaultDrift(&cfg); !reflect.DeepEqual(got, want) {
		t.Error(got)
	}
}

func TestRedact(t *testing.T) {
	_, _, d := load1(t, whole)
	got := string(Redact(d))
	for _, secret := range []string{"hunter2", ":pw@", "db: 3"} {
		if strings.Contains(got, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	for _, line := range []string{"password: redacted", "url: redis://u:redacted@h/0", "password_file: edge.txt", "db: redacted",
		"port: 8080", `X-Yes: "true"`, "x-base:\n    timeout: redacted", "timeout: null", "merge_slashes: true"} {
		if !strings.Contains(got, line) {
			t.Errorf("%q is missing in\n%s", line, got)
		}
	}
}

func TestJoinAndSteps(t *testing.T) {
	for path, parts := range map[string][]any{
		"a.b[3].c":      {"a", "b", 3, "c"},
		`["a b"].x`:     {"a b", "x"},
		`h[""]["]"][0]`: {"h", "", "]", 0},
		`m["q\"\\"]`:    {"m", `q"\`},
		"X-Y./api/*":    {"X-Y", "/api/*"},
	} {
		if got := Join("", parts...); got != path {
			t.Errorf("Join = %s, want %s", got, path)
		}
		if got := steps(path); !reflect.DeepEqual(got, parts) {
			t.Errorf("steps(%s) = %v", path, got)
		}
	}
}
